"""The picture of several experiments on the same drawn faces: what stands in which place."""

import numpy as np
import pytest
from PIL import Image
from scripts import as_argv, error_of, output_of, run_script
from test_truth import GAP, HEAD, MARGIN, SIZE, seen, tile, unchanged, write_run


@pytest.fixture(scope="module")
def two_experiments(tmp_path_factory):
    root = tmp_path_factory.mktemp("beside")
    write_run(root, [seen, seen], name="right")
    return write_run(root, [unchanged], name="idle")


def draw(root, *names, **flags):
    words = as_argv({"output_path": root, "picture": root / "beside.png", "tile": SIZE} | flags)
    return run_script("demo.beside", [*words, "--exp_names", *names])


def test_every_experiment_has_its_counterfactual_and_its_change_between_original_and_truth(two_experiments):
    output_of(draw(two_experiments, "right", "idle", columns=1))
    picture = two_experiments / "beside.png"
    original, right, change, idle, none, truth = (tile(picture, k) for k in range(6))
    paths = ("Original/Correct", "Results/right/CC/CCF/CF", "Results/idle/CC/CCF/CF")
    for shown, path in zip((original, right, idle), paths, strict=True):
        assert (shown == np.asarray(Image.open(two_experiments / path / "0000000.png"))).all()
    assert np.abs(truth - right).mean() < 3 < np.abs(truth - idle).max()  # but for the JPEG's encoding
    assert not none.any() and change.max() == 255 and (change[..., 0] == change[..., 1]).all()
    expected = np.abs(right - original).mean(2) * 255 / 64
    assert np.abs(change[..., 0] - expected.clip(0, 255)).max() < 1
    # The second face is of one experiment alone, so there is one row, and one cell in it.
    height = MARGIN + HEAD + SIZE + SIZE // 4 + MARGIN // 2
    assert Image.open(picture).size == (2 * MARGIN + 6 * (SIZE + GAP), height)


def test_what_cannot_be_drawn_is_one_line(two_experiments):
    for names, flags, words in (
        (("right", "none"), {}, "Results/none is not there"),
        (("right", "idle"), {"titles": "one"}, "--titles has 1 words; give one for each of 2 --exp_names"),
        (("right",), {"rows": 0}, "--rows 0 must be at least 1"),
    ):
        assert words in error_of(draw(two_experiments, *names, **flags))
