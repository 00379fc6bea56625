"""sigma_L as its users run it."""

import os
from itertools import combinations

import numpy as np
import pytest
import torch
import yaml
from scripts import call_script, error_of, output_of, run_script
from toy_results import write_random_pairs

import compute_LPIPS
from core.results.layout import Layout
from core.results.reading import read_pairs


def lpips_vgg(weights_dir, a, b):
    """LPIPS (Zhang et al., 2018) written out: (3, H, W) in [-1, 1], twice -> a number."""
    import lpips

    trunk = torch.load(weights_dir / "hub/checkpoints/vgg16-397923af.pth")
    linear = torch.load(os.path.join(os.path.dirname(lpips.__file__), "weights/v0.1/vgg.pth"), map_location="cpu")
    mean, std = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x = (torch.stack([a, b]) - mean[:, None, None]) / std[:, None, None]
    index, distance = 0, 0.0
    for group, convolutions in enumerate((2, 2, 3, 3, 3)):
        if group:
            x, index = torch.nn.functional.max_pool2d(x, 2), index + 1
        for _ in range(convolutions):
            name = f"features.{index}"
            x = torch.nn.functional.conv2d(x, trunk[f"{name}.weight"], trunk[f"{name}.bias"], padding=1).relu()
            index += 2
        unit = x / x.square().sum(1, keepdim=True).sqrt()
        distance += ((unit[0] - unit[1]) ** 2 * linear[f"lin{group}.model.1.weight"][0]).sum(0).mean().item()
    return distance


def test_sigma_l_is_the_mean_lpips_between_runs_of_images_that_lie_alike(tmp_path, weights_dir):
    for seed in range(3):
        write_random_pairs(tmp_path, exp_name=f"run-{seed}", seed=seed)
    for kind in ("CF/0000003.png", "Info/0000003.txt"):  # of the last run, image 3 did not flip
        path = tmp_path / "Results/run-2/CC/ICF" / kind
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Results/run-2/CC/CCF" / kind).rename(path)
    expected = []
    runs = [read_pairs(Layout(tmp_path, f"run-{seed}"), reached=("CCF", "ICF")) for seed in range(3)]
    with torch.no_grad():
        for alike in zip(*runs, strict=True):
            if alike[0].id != "0000003":
                images = [pair.images()[1] for pair in alike]
                distances = [lpips_vgg(weights_dir, *two) for two in combinations(images, 2)]
                expected.append(np.mean(distances))
    flags = ["--output-path", tmp_path, *"--gpu -1 --exp-pattern run-{} --exp-values 0 1 2 --batch-size 2".split()]
    out = output_of(run_script("compute_LPIPS.py", flags, TORCH_HOME=str(weights_dir)))
    assert "5 images lie in the same folder of all of run-0, run-1, run-2" in out
    assert out.count("sigma_L: ") == 1 and "(n = 5 images of 3 runs" in out
    for seed in range(3):
        found = yaml.safe_load((tmp_path / f"Results/run-{seed}/metrics.yaml").read_text())["sigma_L"]
        assert found["value"] == pytest.approx(np.mean(expected), rel=1e-4)
        assert found["options"]["runs"] == ["run-0", "run-1", "run-2"] and "lpips" in found["versions"]


def test_sigma_l_needs_two_runs_with_an_image_in_common_and_values_a_place(tmp_path):
    write_random_pairs(tmp_path, exp_name="a", places=["CC/CCF"])
    write_random_pairs(tmp_path, exp_name="b", places=["CC/ICF"])
    none = dict.fromkeys(["c*", tmp_path / "Results/*", "**/*"], "names 0 runs")
    for pattern, words in (none | {"a": "names 1 runs", "*": "no image lies in the same"}).items():
        assert words in error_of(call_script(compute_LPIPS, {"output_path": tmp_path, "exp_pattern": pattern}))
    flags = {"output_path": tmp_path, "exp_pattern": "run-*", "exp_values": 1}
    line = error_of(call_script(compute_LPIPS, flags))
    assert "--exp_values fill the {} of --exp_pattern, but there is none in run-*" in line


def test_runs_of_different_sizes_are_refused(tmp_path, weights_dir, monkeypatch):
    for exp_name, size in (("a", 16), ("b", 32)):
        write_random_pairs(tmp_path, exp_name, size=size)
    monkeypatch.setenv("TORCH_HOME", str(weights_dir))
    line = error_of(call_script(compute_LPIPS, {"output_path": tmp_path, "exp_pattern": "*"}))
    assert "b/CC/CCF/CF/0000000.png is not of the size of" in line and "--image_size" in line
