"""The demos' tools: the picture of an experiment, the flags of the demos, and the faces' correlations."""

import subprocess
from itertools import product

import numpy as np
import pytest
from main_runs import explain, main_flags
from PIL import Image
from scripts import ROOT, error_of, output_of, run_script

from core.data.datasets import CELEBA_ATTRIBUTES
from core.metrics.correlations import train_correlations
from core.results.layout import Layout
from core.results.reading import read_pairs
from core.running.run import read_run
from demo.faces import face_of
from demo.sheet import draw_sheet


@pytest.fixture(scope="module")
def output(toy_files, tmp_path_factory):
    output_path = tmp_path_factory.mktemp("demo") / "out"
    explain(main_flags(toy_files, output_path))
    return output_path


def test_the_sheet_shows_original_noise_counterfactual_and_difference_of_every_image(output):
    sheet = np.array(draw_sheet(read_run(output, "exp"), ("no", "yes"), columns=3, tile=16)).astype(int)
    pairs = read_pairs(Layout(output, "exp"), reached=("CCF", "ICF"))
    assert len(pairs) == 8
    gap, margin, caption, head = 0, 4, 4, 5
    width, height = 4 * (16 + gap) + margin, 16 + caption + margin // 2
    assert sheet.shape[1] == margin + 3 * width and sheet.shape[0] == margin + head + 3 * height
    for n, pair in enumerate(pairs):
        x, y = margin + n % 3 * width, margin + head + n // 3 * height
        folder = pair.counterfactual.parent.parent
        noise, difference = (folder / part / f"{pair.id}.png" for part in ("Noise", "SM"))
        for k, path in enumerate([pair.original, noise, pair.counterfactual, difference]):
            tile = sheet[y : y + 16, x + k * 16 : x + (k + 1) * 16]
            assert (tile == np.array(Image.open(path).convert("RGB"))).all()


def test_a_sheet_of_some_rows_is_the_top_of_the_whole(output):
    whole, top = (np.array(draw_sheet(read_run(output, "exp"), ("no", "yes"), 3, 16, rows)) for rows in (0, 2))
    assert 0 < top.shape[0] < whole.shape[0] and (top == whole[: top.shape[0]]).all()
    assert top.shape[0] - 9 == 2 * (whole.shape[0] - 9) // 3  # below the head


def test_the_sheet_is_a_command(output, tmp_path):
    flags = {"output_path": output, "picture": tmp_path / "sheet.png", "rows": 1, "colours": 64}
    assert str(tmp_path / "sheet.png") in output_of(run_script("demo.sheet", flags))
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.width > 400 and 1 < len(sheet.convert("RGB").getcolors()) <= 64
    line = error_of(run_script("demo.sheet", {"output_path": tmp_path / "none", "picture": tmp_path / "x.png"}))
    assert "is not there" in line and not (tmp_path / "x.png").exists()


REACHING = [("--exp-name", "x"), ("--seed", "1", "--output_path=x"), ("--query_label", "3")]


DEMOS = [*product(["faces", "fashion"], REACHING), *product(["digits"], REACHING[:2])]


@pytest.mark.parametrize("script, flags", DEMOS)
def test_a_demo_refuses_flags_that_would_reach_one_of_its_steps(script, flags):
    done = subprocess.run(["bash", ROOT / f"demo/{script}.sh", *flags], capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and f"error: {flags[-1 if '=' in flags[-1] else 0]} would reach" in line
    assert "OUTPUT" in line and done.stdout == ""


def test_the_correlations_of_the_training_faces_need_no_face_drawn(tmp_path):
    labels = np.array([list(face_of(0, "train", k)[0].values()) for k in range(50)])
    flags = {"data_dir": tmp_path, "train": 0, "val": 0, "test": 1, "correlations": 50}
    assert run_script("demo.faces", flags)[0] == 0
    table = train_correlations(tmp_path)
    smiling, cheekbones = (list(CELEBA_ATTRIBUTES).index(name) for name in ("Smiling", "High_Cheekbones"))
    expected = np.corrcoef(labels[:, smiling], labels[:, cheekbones])[0, 1]
    assert table.loc["Smiling", "High_Cheekbones"] == pytest.approx(expected)
    assert tuple(table.columns) == CELEBA_ATTRIBUTES
    assert [path.name for path in (tmp_path / "img_align_celeba").iterdir()] == ["test_00000.jpg"]
