"""The compute_ scripts as their users run them."""

import os
import pickle
import re
import subprocess
import sys
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from pair_folders import Colours, flat, write_pair, write_random_pairs
from PIL import Image
from pytorch_fid import inception
from reference_weights import deterministic_array, deterministic_state
from test_project import parser_of
from torchvision.models import vgg
from weight_files import published
from workshop import ROOT, as_argv, environment

import compute_CD
import compute_COUT
import compute_FID
import compute_FR
import compute_FVA
import compute_LPIPS
import compute_metrics
import compute_MNAC
from core.datasets import CELEBA_ATTRIBUTES
from core.distributions import frechet_distance
from core.results import read_pairs
from guided_diffusion.script_util import run_script as guarded
from models.checkpoints import ModelError
from models.classifiers import build_classifier, classifier_checkpoint, load_classifier


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of every network, where the scripts and the libraries look for them."""
    root = tmp_path_factory.mktemp("weights")
    hub = root / "hub/checkpoints"
    hub.mkdir(parents=True)
    state = published("vggface2_resnet50_ft")
    (root / "resnet50_ft.pkl").write_bytes(pickle.dumps({name: t.numpy() for name, t in state.items()}, protocol=2))
    vgg16 = vgg.make_layers(vgg.cfgs["D"]).state_dict(prefix="features.")
    torch.manual_seed(0)
    torch.save({name: 0.1 * torch.randn_like(tensor) for name, tensor in vgg16.items()}, hub / "vgg16-397923af.pth")
    torch.save(inception_state(), hub / "pt_inception-2015-12-05-6726825d.pth")
    network = build_classifier("small_cnn", 40).eval()
    with torch.no_grad():  # answers that differ from picture to picture
        network.classifier.bias -= network(deterministic_array("pictures", (64, 3, 16, 16), 0.4)).mean(0)
    torch.save(classifier_checkpoint(network, "small_cnn", CELEBA_ATTRIBUTES, 16), root / "small.pt")
    return root


def inception_state():
    with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: {}):
        with mock.patch.object(torch.nn.Module, "load_state_dict", lambda *_: None):
            return deterministic_state(inception.fid_inception_v3())


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """run(module, flags) -> (what metrics.yaml says, stdout) of a script in this process, which must succeed."""

    def run(module, exp_name="exp", **flags):
        code, out, err = here(module, flags | {"output_path": tmp_path, "exp_name": exp_name}, monkeypatch, capsys)
        assert code == 0, err
        return yaml.safe_load((tmp_path / "Results" / exp_name / "metrics.yaml").read_text()), out

    return run


@pytest.fixture
def refuse(tmp_path, monkeypatch, capsys):
    """refuse(module, flags) -> the one line of a script that must end with exit code 2 and write nothing."""

    def run(module, **flags):
        code, _, err = here(module, flags | {"output_path": tmp_path, "exp_name": "exp"}, monkeypatch, capsys)
        lines = [line for line in err.splitlines() if "error:" in line]
        assert code == 2 and len(lines) == 1 and not list(tmp_path.rglob("metrics.yaml")), err
        return lines[0]

    return run


def here(module, flags, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [module.__name__, *as_argv(flags)])
    code = 0
    try:
        guarded(module.main, ModelError)
    except SystemExit as exit:
        code = exit.code
    return code, *capsys.readouterr()


@pytest.fixture
def colours(tmp_path, monkeypatch):
    """Flags for an oracle of three attributes, Smiling, Young and Male: the brightness of the three channels."""
    path = tmp_path / "oracle.pt"
    path.write_bytes(b"any")
    for module in (compute_MNAC, compute_CD):
        monkeypatch.setattr(module, "load_oracle", lambda path: Colours())
    return {"oracle_path": path, "query_label": "Smiling"}


# -- MNAC and the oracle's flip rate -------------------------------------------------------------------------


def test_mnac_and_oracle_fr_by_hand(tmp_path, run, colours):
    write_pair(tmp_path, 0, flat(0, 0, 0), flat(1, 1, 1))
    write_pair(tmp_path, 1, flat(0, 1, 0), flat(1, 1, 0), place="IC/CCF")
    write_pair(tmp_path, 2, flat(0, 1, 0), flat(0, 1, 1))
    write_pair(tmp_path, 3, flat(0, 1, 0), flat(0, 1, 0))
    write_pair(tmp_path, 4, flat(0, 0, 0), flat(1, 1, 1), place="CC/ICF")  # did not flip: not counted
    found, out = run(compute_MNAC, **colours)
    assert found["MNAC"]["value"] == 5 / 4 and found["MNAC"]["n"] == 4
    assert found["Oracle FR"]["value"] == 2 / 4
    assert 0 <= found["MNAC"]["interval"][0] < 5 / 4 < found["MNAC"]["interval"][1] <= 3
    assert "MNAC: 1.25 (n = 4 pairs that reached their target; 95 % in" in out and "Oracle FR: 0.5 (n = 4" in out
    assert run(compute_MNAC, **colours | {"query_label": 2})[0]["Oracle FR"]["value"] == 2 / 4
    assert run(compute_MNAC, **colours | {"query_label": "Young"})[0]["Oracle FR"]["value"] == 1 / 4


def test_identical_pairs_change_nothing(tmp_path, run, colours):
    for i in range(3):
        write_pair(tmp_path, i, flat(0, 1, i % 2), flat(0, 1, i % 2))
    found, _ = run(compute_MNAC, **colours)
    assert found["MNAC"]["value"] == found["Oracle FR"]["value"] == 0 and found["MNAC"]["interval"] == [0, 0]


def test_one_pair_has_a_value_and_no_interval(tmp_path, run, colours):
    write_pair(tmp_path, 0, flat(0, 0, 0), flat(1, 1, 0))
    found, out = run(compute_MNAC, **colours)
    assert found["MNAC"]["value"] == 2 and found["MNAC"]["interval"] is None
    assert "MNAC: 2 (n = 1 pairs that reached their target)" in out


def test_jpg_and_png_are_read_alike(tmp_path, run, colours):
    for i, suffixes in enumerate([("jpg", "png"), ("png", "jpeg"), ("jpg", "jpg")]):
        write_pair(tmp_path, i, flat(0, 0, 0), flat(1, 1, 0), suffixes=suffixes)
    assert run(compute_MNAC, **colours)[0]["MNAC"]["value"] == 2


@pytest.mark.parametrize("module", [compute_MNAC, compute_CD, compute_FVA, compute_COUT, compute_FID])
def test_folders_without_pairs_or_with_broken_ones_are_refused(tmp_path, refuse, module):
    flags = {"celeba_path": tmp_path} if module is compute_CD else {}
    assert "is not a folder" in refuse(module, **flags)
    (tmp_path / "Results/exp").mkdir(parents=True)
    assert "holds no" in refuse(module, **flags)
    write_pair(tmp_path, 0, flat(0, 0, 0), flat(1, 1, 1))
    (tmp_path / "Original/Correct/0000000.png").unlink()
    assert "CC/CCF/CF/0000000.png has no original" in refuse(module, **flags)


def test_a_corrupt_image_is_named(tmp_path, refuse, colours):
    write_random_pairs(tmp_path)
    broken = tmp_path / "Results/exp/CC/CCF/CF/0000003.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert f"{broken} cannot be read" in refuse(compute_MNAC, **colours)


def test_an_oracle_that_does_not_answer_is_refused(tmp_path, refuse, colours):
    write_pair(tmp_path, 0, flat(0, 0, 0), flat(1, 1, 1))
    assert "--query_label Bald" in refuse(compute_MNAC, **colours | {"query_label": "Bald"})


# -- CD ------------------------------------------------------------------------------------------------------


def write_celeba(root, attributes=("Smiling", "Young", "Male")):
    """Labels of four training images: Young goes with Smiling, Male does not."""
    (root / "img_align_celeba").mkdir(parents=True)
    rows = [(1, 1, 1), (1, 1, -1), (-1, -1, 1), (-1, -1, -1)]
    lines = [f"{i}.jpg,{','.join(map(str, row))}\n" for i, row in enumerate(rows)]
    (root / "list_attr_celeba.csv").write_text(f"image_id,{','.join(attributes)}\n" + "".join(lines))
    (root / "list_eval_partition.csv").write_text("image_id,partition\n0.jpg,0\n1.jpg,0\n2.jpg,0\n3.jpg,0\n")
    return root


def test_cd_by_hand(tmp_path, run, colours):
    # Changes of Smiling (1, 1, -1, -1), of Young (1, 0, -1, 0), of Male none: correlations 1, √½ and 0.
    for i, (x, counterfactual) in enumerate([("001", "111"), ("010", "110"), ("111", "001"), ("100", "000")]):
        write_pair(tmp_path, i, flat(*map(int, x)), flat(*map(int, counterfactual)))
    data = write_celeba(tmp_path / "celeba")
    found, out = run(compute_CD, celeba_path=data, **colours)
    assert found["CD"]["value"] == pytest.approx(1 - 0.5**0.5)
    assert re.search(r"Young +\+1\.00 in the data, \+0\.71 in the counterfactuals", out.split("expectation")[1])
    with Image.open(tmp_path / "Results/exp/CD.png") as chart:
        assert chart.format == "PNG" and chart.width > 500
    assert (data / "train_correlations.csv").exists()
    # Asked about Young: c = (1, 1, 0), r = (√½, 1, 0).
    assert run(compute_CD, celeba_path=data, **colours | {"query_label": 1})[0]["CD"]["value"] == pytest.approx(
        1 - 0.5**0.5
    )
    # Asked about Male, which never changes: every r counts as 0, and c = (0, 0, 1).
    assert run(compute_CD, celeba_path=data, **colours | {"query_label": "Male"})[0]["CD"]["value"] == 1


def test_cd_needs_data_with_the_oracles_attributes(tmp_path, refuse, colours):
    write_pair(tmp_path, 0, flat(0, 0, 0), flat(1, 1, 1))
    assert "--celeba_path must be given" in refuse(compute_CD, **colours)
    data = write_celeba(tmp_path / "celeba", ("Smiling", "Old", "Male"))
    assert "no labels of Young" in refuse(compute_CD, celeba_path=data, **colours)


# -- FR, bKL, L1 ---------------------------------------------------------------------------------------------


def test_fr_counts_all_and_bkl_and_l1_are_of_what_flipped(tmp_path, run, refuse):
    assert "records.csv does not exist" in refuse(compute_FR)
    (tmp_path / "Results/exp").mkdir(parents=True)
    rows = {"id": [0, 1, 2, 3], "label": [1, 1, 0, 0], "pred": [1, 0, 0, 0], "target": [0, 1, 1, 1],
            "cf_pred": [0, 1, 1, 0], "bkl": [0.1, 0.2, 0.3, 0.9], "l_1": [0.01, 0.02, 0.03, 0.5]}  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "Results/exp/records.csv", index=False)
    found, out = run(compute_FR)
    assert found["FR"]["value"] == 0.75 and found["FR"]["n"] == 4
    assert found["bKL"]["value"] == pytest.approx(0.2) and found["bKL"]["n"] == 3
    assert found["L1"]["value"] == pytest.approx(0.02) and "L1: 0.02 (n = 3 pairs that reached" in out
    pd.DataFrame(rows | {"cf_pred": [1, 0, 0, 0]}).to_csv(tmp_path / "Results/exp/records.csv", index=False)
    (tmp_path / "Results/exp/metrics.yaml").unlink()
    assert run(compute_FR)[0].keys() == {"FR"}


# -- COUT ----------------------------------------------------------------------------------------------------


def test_cout_is_of_correct_images_that_flipped_or_not(tmp_path, run, monkeypatch):
    """A classifier that looks at the first pixel; of 16 pixels, four were changed, that one the most."""

    class FirstPixel(torch.nn.Module):
        attributes, image_size = ["Smiling"], None

        def forward(self, images):
            return 1000 * images[:, :, 0, 0].mean(1, keepdim=True)

    monkeypatch.setattr(compute_COUT, "load_classifier", lambda *_: FirstPixel())
    path = tmp_path / "classifier.pt"
    path.write_bytes(b"any")
    x = np.full((3, 4, 4), 60)
    flipped, other = x.copy(), x.copy()
    flipped[:, 0] = [[200, 100, 90, 80]] * 3
    other[:, 1] = 80
    write_pair(tmp_path, 0, x, flipped, target=1)
    write_pair(tmp_path, 1, x, other, target=1, place="CC/ICF")
    write_pair(tmp_path, 2, x, other, target=1, place="IC/CCF")  # was wrong about the original: not counted
    found, _ = run(compute_COUT, classifier_path=path, query_label=0)
    # The first pixel goes in at step 2 of 50 (round(1/50 · 16) = 0), in a trapezoid of width 1/16.
    first = (-1 + 1) / 2 / 16 + 15 / 16
    assert found["COUT"]["n"] == 2 and found["COUT"]["value"] == pytest.approx((first - 1) / 2, abs=1e-6)


# -- with real networks of random weights --------------------------------------------------------------------


def assert_same(found, others, tolerance=1e-4):
    for name, metric in found.items():
        assert others[name]["n"] == metric["n"]
        assert others[name]["value"] == pytest.approx(metric["value"], rel=tolerance, abs=1e-6), name


def test_fva_is_1_of_identical_pairs_and_does_not_depend_on_batches(tmp_path, run, weights):
    write_random_pairs(tmp_path)
    for place, n in [("CC/CCF", 0), ("IC/CCF", 1), ("CC/CCF", 3)]:
        pixels = np.array(Image.open(tmp_path / f"Results/exp/{place}/CF/{n:07d}.png")).transpose(2, 0, 1)
        write_pair(tmp_path, n, pixels, pixels, place, exp_name="same")
        # The originals are shared, so that the same pictures are pairs of their own elsewhere.
        write_pair(tmp_path / "apart", n, pixels, pixels, place)
    flags = {"weights_path": weights / "resnet50_ft.pkl"}
    found, out = run(compute_FVA, exp_name="same", **flags)
    assert found["FVA"]["value"] == 1 and found["FS"]["value"] == pytest.approx(1, abs=1e-6)
    assert found["FVA"]["interval"] == [1, 1] and "FVA: 1 (n = 3 pairs that reached their target" in out
    write_random_pairs(tmp_path)
    whole, _ = run(compute_FVA, **flags)
    assert whole["FS"]["value"] < 0.99999
    single, _ = run(compute_FVA, **flags | {"batch_size": 1})
    assert_same(whole, single)
    assert single["FS"]["weights"]["weights_path"]["file"] == str(weights / "resnet50_ft.pkl")


@pytest.mark.parametrize(
    "module, flag",
    [(compute_FVA, "weights_path"), (compute_MNAC, "oracle_path"), (compute_COUT, "classifier_path")],
)
def test_missing_weights_are_named(tmp_path, refuse, module, flag):
    write_random_pairs(tmp_path)
    assert f"{tmp_path}/none does not exist" in refuse(module, **{flag: tmp_path / "none"})


def test_fid_is_of_pytorch_fids_activations_which_are_kept(tmp_path, run, weights, monkeypatch):
    write_random_pairs(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(weights))
    found, out = run(compute_FID, batch_size=4)
    library = inception.InceptionV3().eval()  # finds the weights in torch.hub's cache by itself
    pairs = read_pairs(tmp_path, "exp", reached=("CCF", "ICF"))
    with torch.no_grad():
        x, counterfactuals = (
            library((torch.stack(images) + 1) / 2)[0].flatten(1).numpy()
            for images in zip(*[pair.images() for pair in pairs], strict=True)
        )
    flipped = [pair.reached == "CCF" for pair in pairs]
    expected = frechet_distance(x, counterfactuals[flipped])
    assert found["FID"]["value"] == pytest.approx(expected, rel=1e-2) and found["FID"]["n"] == 4
    assert "against 6 originals; biased upwards by fewer than 2,048 images" in out and "KID: " in out
    kept = np.load(tmp_path / "Original/activations.npz")
    np.testing.assert_allclose(np.sort(kept["activations"], 0), np.sort(x, 0), rtol=1e-3, atol=1e-5)

    monkeypatch.setattr(compute_FID, "load_inception", lambda *_: None)  # not needed again
    again, _ = run(compute_FID, inception_path=weights / "hub/checkpoints/pt_inception-2015-12-05-6726825d.pth")
    assert again == {name: again[name] | {"value": found[name]["value"]} for name in found}


def test_fid_needs_two_counterfactuals_and_says_what_it_cannot_halve(tmp_path, run, refuse, monkeypatch):
    (tmp_path / "inception.pt").write_bytes(b"any")
    flags = {"inception_path": tmp_path / "inception.pt"}
    monkeypatch.setattr(compute_FID, "load_inception", lambda *_: lambda x: x.mean((2, 3)))
    write_random_pairs(tmp_path, places=["CC/CCF"])
    assert "holds 1 flipped counterfactuals" in refuse(compute_FID, **flags)
    write_random_pairs(tmp_path, places=["CC/CCF"] * 2)
    found, out = run(compute_FID, **flags)
    assert found["FID"]["value"] > 0 and found["FID"]["interval"] is None
    assert "sFID: undefined (n = 2" in out and "KID: undefined (n = 2" in out


@pytest.mark.parametrize("module, file, flag", [
    (compute_FID, "pt_inception-2015-12-05-6726825d.pth", "inception_path"),
    (compute_LPIPS, "vgg16-397923af.pth", "vgg_path"),
])  # fmt: skip
def test_offline_it_is_said_what_is_missing_and_where(tmp_path, monkeypatch, capsys, module, file, flag):
    for exp_name in ("exp", "exp-2"):
        write_random_pairs(tmp_path, exp_name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for name in ("https_proxy", "HTTPS_PROXY"):  # a download must fail at once, here and anywhere
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    which = {"exp_pattern": "exp*"} if module is compute_LPIPS else {"exp_name": "exp"}
    code, _, err = here(module, {"output_path": tmp_path} | which, monkeypatch, capsys)
    path = tmp_path / "cache/hub/checkpoints" / file
    assert code == 2 and f"{path} and cannot be downloaded" in err and f"give --{flag}" in err
    assert not path.exists()


def test_other_weights_of_inception_are_refused(tmp_path, refuse, weights):
    write_random_pairs(tmp_path)
    message = refuse(compute_FID, inception_path=weights / "small.pt")
    assert "is a small_cnn classifier, not pytorch-fid's Inception; check --inception_path" in message


# -- sigma_L -------------------------------------------------------------------------------------------------


def lpips_vgg(weights, a, b):
    """LPIPS (Zhang et al., 2018) written out: (3, H, W) in [-1, 1], twice -> a number."""
    import lpips

    trunk = torch.load(weights / "hub/checkpoints/vgg16-397923af.pth")
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


def test_sigma_l_is_the_mean_lpips_between_runs_of_images_that_lie_alike(tmp_path, weights):
    for seed in range(3):
        write_random_pairs(tmp_path, exp_name=f"run-{seed}", seed=seed)
    for kind in ("CF/0000003.png", "Info/0000003.txt"):  # of the last run, image 3 did not flip
        path = tmp_path / "Results/run-2/CC/ICF" / kind
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Results/run-2/CC/CCF" / kind).rename(path)
    expected = []
    with torch.no_grad():
        for i in (0, 1, 2, 4, 5):
            runs = [next(pair for pair in read_pairs(tmp_path, f"run-{seed}", reached=("CCF", "ICF"))
                         if pair.id == f"{i:07d}").images()[1] for seed in range(3)]  # fmt: skip
            pairs = [(runs[0], runs[1]), (runs[0], runs[2]), (runs[1], runs[2])]
            expected.append(np.mean([lpips_vgg(weights, *pair) for pair in pairs]))
    command = [sys.executable, ROOT / "compute_LPIPS.py", "--output-path", tmp_path, "--gpu", "-1",
               "--exp-pattern", "run-{}", "--exp-values", "0", "1", "2", "--batch-size", "2"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment(TORCH_HOME=str(weights)))
    assert done.returncode == 0, done.stderr
    assert "5 images lie in the same folder of all of run-0, run-1, run-2" in done.stdout
    assert done.stdout.count("sigma_L: ") == 1 and "(n = 5 images of 3 runs" in done.stdout
    for seed in range(3):
        found = yaml.safe_load((tmp_path / f"Results/run-{seed}/metrics.yaml").read_text())["sigma_L"]
        assert found["value"] == pytest.approx(np.mean(expected), rel=1e-4)
        assert found["options"]["runs"] == ["run-0", "run-1", "run-2"] and "lpips" in found["versions"]


def test_sigma_l_needs_two_runs_with_an_image_in_common(tmp_path, monkeypatch, capsys):
    write_random_pairs(tmp_path, exp_name="a", places=["CC/CCF"])
    write_random_pairs(tmp_path, exp_name="b", places=["CC/ICF"])
    for pattern, words in [("c*", "names 0 runs"), ("a", "names 1 runs"), ("*", "no image lies in the same")]:
        code, _, err = here(compute_LPIPS, {"output_path": tmp_path, "exp_pattern": pattern}, monkeypatch, capsys)
        assert code == 2 and words in err


# -- all of them ---------------------------------------------------------------------------------------------


def write_experiment(root, weights, exp_name="exp", seed=0):
    """A folder as main.py leaves it: pairs, records.csv, flags.yaml."""
    write_random_pairs(root, exp_name, seed)
    flags = {"query_label": "Smiling", "oracle_path": str(weights / "small.pt"), "data_dir": str(root / "celeba"),
             "classifier_path": str(weights / "small.pt"), "classifier_architecture": None}  # fmt: skip
    (root / "Results" / exp_name / "flags.yaml").write_text(yaml.safe_dump(flags))
    rows = {"id": range(6), "label": 1, "pred": [1, 0] * 3, "target": [0, 1] * 3, "cf_pred": [0, 1, 0, 1, 1, 0],
            "bkl": 0.5, "l_1": 0.1}  # fmt: skip
    pd.DataFrame(rows).to_csv(root / "Results" / exp_name / "records.csv", index=False)


def write_train_split(root):
    (root / "img_align_celeba").mkdir(parents=True)
    labels = np.where(deterministic_array("train.labels", (30, 40)).numpy() > 0, 1, -1)
    names = pd.Index([f"{i}.jpg" for i in range(30)], name="image_id")
    pd.DataFrame(labels, names, CELEBA_ATTRIBUTES).to_csv(root / "list_attr_celeba.csv")
    pd.DataFrame({"partition": 0}, names).to_csv(root / "list_eval_partition.csv")


def shell(script, *words, **extra):
    done = subprocess.run(
        ["bash", ROOT / script, *map(str, words)], capture_output=True, text=True, cwd="/",
        env=environment(PATH=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}", **extra),
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_everything_is_measured_by_one_command_and_laid_out(tmp_path, weights):
    write_experiment(tmp_path, weights)
    write_experiment(tmp_path, weights, "exp-2", seed=1)
    write_train_split(tmp_path / "celeba")
    code, out, err = shell(
        "compute_metrics.sh", tmp_path, "exp", "--weights-path", weights / "resnet50_ft.pkl", "--gpu", "-1",
        "--exp-pattern", "exp*", "--markdown", tmp_path / "table.md", TORCH_HOME=str(weights),
    )  # fmt: skip
    assert code == 0, err
    found = yaml.safe_load((tmp_path / "Results/exp/metrics.yaml").read_text())
    assert set(found) == {"FR", "bKL", "L1", "FVA", "FS", "MNAC", "Oracle FR", "CD", "COUT", "FID", "sFID", "KID",
                          "sigma_L"}  # fmt: skip
    assert "not computed" not in out and (tmp_path / "table.md").read_text() in out
    assert all(f"\n| {name} " in out for name in found)

    # The oracle's numbers, from its decisions on the folder.
    oracle = load_classifier(weights / "small.pt")
    before, after = [], []
    for pair in read_pairs(tmp_path, "exp"):
        for decisions, image in zip((before, after), pair.images(), strict=True):
            decisions.append((oracle(image[None]) > 0)[0].tolist())
    changed = np.array(before) != np.array(after)
    assert found["MNAC"]["value"] == changed.sum(1).mean() > 0
    assert found["Oracle FR"]["value"] == changed[:, CELEBA_ATTRIBUTES.index("Smiling")].mean()


def test_what_cannot_be_measured_is_said_and_the_rest_is(tmp_path, weights):
    write_experiment(tmp_path, weights)
    write_experiment(tmp_path, weights, "other")
    (tmp_path / "Results/other/records.csv").unlink()
    code, out, err = shell("compute_metrics.sh", tmp_path, "exp", "other", "--metrics", "FR,sigma_L")
    assert code == 0, err
    assert "| metric | exp" in out and re.search(r"\| FR ↑ +\| 0\.6667 \[.*\], n = 6 \| – +\|", out)
    reasons = [line for line in out.splitlines() if line.startswith("not computed: ")]
    assert len(reasons) == 2
    assert "FR, bKL, L1 of other: " in reasons[0] and "records.csv does not exist" in reasons[0]
    assert "sigma_L: give --exp_pattern" in reasons[1]


def test_nothing_to_measure_is_an_error(tmp_path, monkeypatch, capsys):
    flags = {"output_path": tmp_path, "exp_names": "none", "metrics": "FR"}
    code, out, err = here(compute_metrics, flags, monkeypatch, capsys)
    assert code == 2 and "not computed: FR, bKL, L1 of none" in out and "no metric of none" in err
    code, _, err = here(compute_metrics, flags | {"metrics": "FRR"}, monkeypatch, capsys)
    assert code == 2 and "--metrics FRR is unknown" in err


def test_compute_fid_takes_its_two_arguments(tmp_path, weights):
    write_random_pairs(tmp_path, exp_name="smile", places=["CC/CCF"] * 3)
    for words in ((), (tmp_path,), (tmp_path, "--gpu")):
        code, _, err = shell("compute-fid.sh", *words)
        assert code == 2 and "usage: compute-fid.sh OUTPUT_PATH EXPNAME" in err
    code, out, err = shell("compute-fid.sh", tmp_path, "smile", "--gpu", "-1", TORCH_HOME=str(weights))
    assert code == 0, err
    assert all(f"\n{name}: " in f"\n{out}" for name in ("FID", "sFID", "KID"))
    assert (tmp_path / "Results/smile/metrics.yaml").exists()


@pytest.mark.parametrize("words", [(), ("out",), ("out", "--gpu", "0"), ("--gpu", "0")])
def test_compute_metrics_says_how_it_is_used(words):
    code, _, err = shell("compute_metrics.sh", *words)
    assert code == 2 and "usage: compute_metrics.sh OUTPUT_PATH EXPNAME..." in err


def test_every_flag_of_a_script_can_be_given_to_the_command_of_all():
    own = {"help", "output_path", "exp_name", "seed"}
    for script, (_, handed_on) in compute_metrics.SCRIPTS.items():
        assert {action.dest for action in parser_of(script)._actions} - own == set(handed_on), script


PUBLISHED = {
    "compute_FVA.py": "--output-path --exp-name --gpu --weights-path",
    "compute_MNAC.py": "--output-path --exp-name --gpu --oracle-path",
    "compute_CD.py": "--output-path --exp-name --gpu --oracle-path --celeba-path",
    "compute_LPIPS.py": "--output-path --exp-pattern --exp-values --gpu",
}


@pytest.mark.parametrize("script", PUBLISHED)
def test_the_published_flags_are_taken_with_hyphens_and_underscores(script):
    known = {option for action in parser_of(script)._actions for option in action.option_strings}
    for flag in PUBLISHED[script].split():
        assert {flag, "--" + flag[2:].replace("-", "_")} <= known
