"""FR, bKL, L1 and COUT as their users run them."""

import numpy as np
import pandas as pd
import pytest
import torch
from toy_results import write_pair

import compute_COUT
import compute_FR
from models.judges import LOADERS


def test_fr_counts_all_and_bkl_and_l1_are_of_what_flipped(tmp_path, measure, refuse):
    assert "Results/exp is not there" in refuse(compute_FR)
    (tmp_path / "Results/exp").mkdir(parents=True)
    assert "records.csv does not exist" in refuse(compute_FR)
    rows = {"id": range(4), "label": [1, 1, 0, 0], "pred": [1, 0, 0, 0], "target": [0, 1, 1, 1]}
    rows |= {"cf_pred": [0, 1, 1, 0], "attempts": 1, "bkl": [0.1, 0.2, 0.3, 0.9], "l_1": [0.01, 0.02, 0.03, 0.5]}
    pd.DataFrame(rows).to_csv(tmp_path / "Results/exp/records.csv", index=False)
    found, out = measure(compute_FR)
    assert found["FR"]["value"] == 0.75 and found["FR"]["n"] == 4
    assert found["bKL"]["value"] == pytest.approx(0.2) and found["bKL"]["n"] == 3
    assert found["L1"]["value"] == pytest.approx(0.02) and "L1: 0.02 (n = 3 pairs that reached" in out
    pd.DataFrame(rows | {"cf_pred": [1, 0, 0, 0]}).to_csv(tmp_path / "Results/exp/records.csv", index=False)
    (tmp_path / "Results/exp/metrics.yaml").unlink()
    assert measure(compute_FR)[0].keys() == {"FR"}


def test_cout_is_of_correct_images_that_flipped_or_not(tmp_path, measure, monkeypatch):
    """A classifier that looks at the first pixel; of 16 pixels, four were changed, that one the most."""

    class FirstPixel(torch.nn.Module):
        attributes, image_size = ["Smiling"], None

        def forward(self, images):
            return 1000 * images[:, :, 0, 0].mean(1, keepdim=True)

    monkeypatch.setitem(LOADERS, "classifier", lambda *_: FirstPixel())
    path = tmp_path / "classifier.pt"
    path.write_bytes(b"any")
    x = np.full((3, 4, 4), 60)
    flipped, other = x.copy(), x.copy()
    flipped[:, 0] = [[200, 100, 90, 80]] * 3
    other[:, 1] = 80
    write_pair(tmp_path, 0, x, flipped, target=1)
    write_pair(tmp_path, 1, x, other, target=1, place="CC/ICF")
    write_pair(tmp_path, 2, x, other, target=1, place="IC/CCF")  # was wrong about the original: not counted
    found, _ = measure(compute_COUT, classifier_path=path, query_label="Smiling")
    # The first pixel goes in at step 2 of 50 (round(1/50 · 16) = 0), in a trapezoid of width 1/16.
    first = (-1 + 1) / 2 / 16 + 15 / 16
    assert found["COUT"]["n"] == 2 and found["COUT"]["value"] == pytest.approx((first - 1) / 2, abs=1e-6)
