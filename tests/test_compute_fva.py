"""FVA and FS as their users run them."""

import numpy as np
import pytest
from PIL import Image
from toy_results import write_pair, write_random_pairs

import compute_FVA
from core.results.layout import Layout
from core.results.reading import read_similarities


def assert_same(found, others, tolerance=1e-4):
    for name, metric in found.items():
        assert others[name]["n"] == metric["n"]
        assert others[name]["value"] == pytest.approx(metric["value"], rel=tolerance, abs=1e-6), name


def test_fva_is_1_of_identical_pairs_and_does_not_depend_on_batches(tmp_path, measure, weights_dir):
    write_random_pairs(tmp_path)
    for place, n in [("CC/CCF", 0), ("IC/CCF", 1), ("CC/CCF", 3)]:
        pixels = np.array(Image.open(tmp_path / f"Results/exp/{place}/CF/{n:07d}.png")).transpose(2, 0, 1)
        write_pair(tmp_path, n, pixels, pixels, place, exp_name="same")
        # The originals are shared, so that the same pictures are pairs of their own elsewhere.
        write_pair(tmp_path / "apart", n, pixels, pixels, place)
    flags = {"weights_path": weights_dir / "resnet50_ft.pkl"}
    found, out = measure(compute_FVA, exp_name="same", **flags)
    assert found["FVA"]["value"] == 1 and found["FS"]["value"] == pytest.approx(1, abs=1e-6)
    assert found["FVA"]["interval"] == pytest.approx([0.025 ** (1 / 3), 1])
    assert "FVA: 1 (n = 3 pairs that reached their target" in out
    write_random_pairs(tmp_path)
    whole, _ = measure(compute_FVA, **flags)
    assert whole["FS"]["value"] < 0.99999
    single, _ = measure(compute_FVA, **flags | {"batch_size": 1})
    assert_same(whole, single)
    assert single["FS"]["weights"]["weights_path"]["file"] == str(weights_dir / "resnet50_ft.pkl")
    cosines = read_similarities(Layout(tmp_path, "exp"))
    assert list(cosines) == ["0000000", "0000001", "0000003", "0000004"]
    assert np.mean(list(cosines.values())) == pytest.approx(single["FS"]["value"], abs=1e-5)
