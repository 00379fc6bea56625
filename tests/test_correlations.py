"""The correlations of the attributes of the data."""

import os

import numpy as np
from assertions import refusal
from toy_celeba import write_celeba

from core.metrics.correlations import train_correlations
from guided_diffusion.script.errors import UserError


def test_correlations_of_the_train_split_are_computed_once_a_folder(tmp_path):
    root = write_celeba(tmp_path, {"train": 20, "val": 5}, attributes=["Smiling", "Young", "Male"])
    labels = np.loadtxt(root / "list_attr_celeba.csv", delimiter=",", skiprows=1, usecols=(1, 2, 3))[:20]
    table = train_correlations(root)
    assert list(table.index) == list(table.columns) == ["Smiling", "Young", "Male"]
    np.testing.assert_allclose(table, np.corrcoef(labels.T))
    file = root / "train_correlations.csv"
    np.testing.assert_array_equal(train_correlations(root), table)
    file.write_text(",A,B\nA,1,0.5\nB,0.5,1\n")
    assert train_correlations(root).loc["A", "B"] == 0.5
    later = os.path.getmtime(file) + 10
    os.utime(root / "list_attr_celeba.csv", (later, later))
    np.testing.assert_array_equal(train_correlations(root), table)


def test_kept_correlations_serve_without_a_train_split(tmp_path):
    root = write_celeba(tmp_path, {"test": 3})
    assert "no images in its train split" in refusal(UserError, train_correlations, root)
    kept = root / "train_correlations.csv"
    kept.write_text(",A,B\nA,1,0\nB,0,1\n")
    assert train_correlations(root).shape == (2, 2)
    for text in ("", ",A,B\nA,1,0\n"):
        kept.write_text(text)
        assert str(kept) in refusal(UserError, train_correlations, root)
