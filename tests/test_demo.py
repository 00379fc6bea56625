"""The demos' tools: the picture of an experiment, and the weights as they are shipped."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scripts import ROOT, environment, run_script
from toy_celeba import write_celeba
from toy_networks import MODEL_FLAGS, write_weights

from core.data.datasets import CELEBA_ATTRIBUTES
from core.metrics.correlations import train_correlations
from core.results.folder import read_pairs
from demo.faces import face_of
from demo.sheet import draw_sheet


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    write_weights(root)
    flags = MODEL_FLAGS | {
        "data_dir": write_celeba(root / "data", {"val": 8}), "model_path": root / "ddpm.pt", "start_step": 2,
        "classifier_path": root / "classifier.pt", "classifier_architecture": "toy_networks:Brightness",
        "output_path": root / "out",
    }  # fmt: skip
    code, _, err = run_script("main.py", flags)
    assert code == 0, err
    return root / "out"


def test_the_sheet_shows_original_noise_counterfactual_and_difference_of_every_image(output):
    sheet = np.array(draw_sheet(output, "exp", ("no", "yes"), columns=3, tile=16)).astype(int)
    pairs = read_pairs(output, "exp", reached=("CCF", "ICF"))
    assert len(pairs) == 8
    gap, margin, caption, head = 0, 4, 4, 5
    width, height = 4 * (16 + gap) + margin, 16 + caption + margin // 2
    assert sheet.shape[1] == margin + 3 * width and sheet.shape[0] == margin + head + 3 * height
    for n, pair in enumerate(pairs):
        x, y = margin + n % 3 * width, margin + head + n // 3 * height
        folder = pair.counterfactual.parent.parent
        noise, difference = (folder / part / f"{pair.id}.png" for part in ("Noise", "SM"))
        shown = [pair.original, noise, pair.counterfactual, difference]
        for k, path in enumerate(shown):
            tile = sheet[y : y + 16, x + k * 16 : x + (k + 1) * 16]
            assert (tile == np.array(Image.open(path).convert("RGB"))).all()


def test_a_sheet_of_some_rows_is_the_top_of_the_whole(output):
    whole, top = (np.array(draw_sheet(output, "exp", ("no", "yes"), 3, 16, rows)) for rows in (0, 2))
    assert 0 < top.shape[0] < whole.shape[0] and (top == whole[: top.shape[0]]).all()
    assert top.shape[0] - 9 == 2 * (whole.shape[0] - 9) // 3  # below the head


def test_the_sheet_is_a_command(output, tmp_path):
    command = [sys.executable, "-m", "demo.sheet", "--output_path", output, "--picture"]
    small = [*command, tmp_path / "sheet.png", "--rows", "1", "--colours", "64"]
    done = subprocess.run(small, capture_output=True, text=True, env=environment(), cwd=ROOT)
    assert done.returncode == 0 and str(tmp_path / "sheet.png") in done.stdout
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.width > 400 and 1 < len(sheet.convert("RGB").getcolors()) <= 64
    nowhere = [*command[:4], tmp_path / "none", "--picture", tmp_path / "x.png"]
    failed = subprocess.run(nowhere, capture_output=True, text=True, env=environment(), cwd=ROOT)
    assert failed.returncode == 2 and "is not a folder" in failed.stderr and not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("script", ["faces", "fashion"])
@pytest.mark.parametrize("flags", [("--exp-name", "x"), ("--seed", "1", "--output_path=x"), ("--query_label", "3")])
def test_a_demo_refuses_flags_that_would_reach_one_of_its_steps(script, flags):
    done = subprocess.run(["bash", ROOT / f"demo/{script}.sh", *flags], capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and f"error: {flags[-1 if '=' in flags[-1] else 0]} would reach" in line
    assert "OUTPUT" in line and done.stdout == ""


def test_the_correlations_of_the_training_faces_need_no_face_drawn(tmp_path):
    labels = np.array([list(face_of(0, "train", k)[0].values()) for k in range(50)])
    command = [sys.executable, "-m", "demo.correlations", "--data_dir", tmp_path, "--train", "50"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    table = train_correlations(tmp_path)
    smiling, cheekbones = (list(CELEBA_ATTRIBUTES).index(name) for name in ("Smiling", "High_Cheekbones"))
    expected = np.corrcoef(labels[:, smiling], labels[:, cheekbones])[0, 1]
    assert table.loc["Smiling", "High_Cheekbones"] == pytest.approx(expected)
    assert tuple(table.columns) == CELEBA_ATTRIBUTES and [path.name for path in tmp_path.iterdir()] == [
        "train_correlations.csv"
    ]


def test_samples_of_shipped_weights_are_a_command_that_needs_no_flags(tmp_path):
    command = [sys.executable, "-m", "demo.samples", "--picture", tmp_path / "samples.png", "--count", "3"]
    few = [*command, "--timestep_respacing", "3", "--weights"]
    done = subprocess.run([*few, ROOT / "models/demo/fashion_ddpm.pt"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "samples.png").size == (3 * 34 + 2, 36)

    bare = torch.load(ROOT / "models/demo/fashion_ddpm.pt")
    torch.save(dict(bare), tmp_path / "bare.pt")
    done = subprocess.run([*few, tmp_path / "bare.pt"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "carries no flags" in done.stderr
