"""MNAC, Oracle FR and CD as their users run them."""

import re

import pytest
from PIL import Image
from toy_celeba import write_celeba
from toy_results import flat, write_pair

import compute_CD
import compute_MNAC
from core.data.datasets import data_attributes


def test_mnac_and_oracle_fr_by_hand(tmp_path, measure, colour_oracle):
    write_pair(tmp_path, 0, flat(0, 0, 0), flat(1, 1, 1))
    write_pair(tmp_path, 1, flat(0, 1, 0), flat(1, 1, 0), place="IC/CCF")
    write_pair(tmp_path, 2, flat(0, 1, 0), flat(0, 1, 1))
    write_pair(tmp_path, 3, flat(0, 1, 0), flat(0, 1, 0))
    write_pair(tmp_path, 4, flat(0, 0, 0), flat(1, 1, 1), place="CC/ICF")  # did not flip: not counted
    found, out = measure(compute_MNAC, **colour_oracle)
    assert found["MNAC"]["value"] == 5 / 4 and found["MNAC"]["n"] == 4
    assert found["Oracle FR"]["value"] == 2 / 4
    assert 0 <= found["MNAC"]["interval"][0] < 5 / 4 < found["MNAC"]["interval"][1] <= 3
    assert "MNAC: 1.25 (n = 4 pairs that reached their target; 95 % in" in out and "Oracle FR: 0.5 (n = 4" in out
    for query, rate in (("Male", 2 / 4), ("Young", 1 / 4)):
        found, _ = measure(compute_MNAC, **colour_oracle | {"query_label": query})
        assert found["Oracle FR"]["value"] == rate


def test_identical_pairs_change_nothing_and_another_question_is_refused(tmp_path, measure, refuse, colour_oracle):
    for i in range(3):
        write_pair(tmp_path, i, flat(0, 1, i % 2), flat(0, 1, i % 2))
    assert "--query_label Bald" in refuse(compute_MNAC, **colour_oracle | {"query_label": "Bald"})
    found, _ = measure(compute_MNAC, **colour_oracle)
    assert found["MNAC"]["value"] == found["Oracle FR"]["value"] == 0 and found["MNAC"]["interval"] is None


def test_a_number_counts_the_attributes_of_the_data_whatever_the_oracles_order(tmp_path, measure, colour_oracle):
    write_pair(tmp_path, 0, flat(0, 0, 0), flat(1, 0, 0))
    of_celeba = colour_oracle | {"query_label": 31}  # Smiling, the oracle's first
    assert measure(compute_MNAC, **of_celeba)[0]["Oracle FR"]["options"]["query_label"] == "Smiling"
    data = write_lists(tmp_path / "celeba", ("Male", "Smiling", "Young"))
    (tmp_path / "Results/exp/flags.yaml").write_text(f"data_dir: {data}\nquery_label: '1'\n")
    found, _ = measure(compute_MNAC, oracle_path=colour_oracle["oracle_path"])
    assert found["Oracle FR"]["value"] == 1 and found["Oracle FR"]["options"]["query_label"] == "Smiling"
    for csv in data.glob("*.csv"):  # as CelebA ships its lists
        csv.unlink()
    (data / "list_attr_celeba.txt").write_text("1\nYoung Smiling\n0.jpg 1 -1\n")
    assert data_attributes(data) == ("Young", "Smiling")


def write_lists(root, attributes=("Smiling", "Young", "Male")):
    """The lists of four training images, without the images: Young goes with Smiling, Male does not."""
    labels = [(1, 1, 1), (1, 1, -1), (-1, -1, 1), (-1, -1, -1)]
    return write_celeba(root, {"train": 4}, attributes=attributes, labels=labels, images=False)


def test_cd_by_hand(tmp_path, measure, colour_oracle):
    # Changes of Smiling (1, 1, -1, -1), of Young (1, 0, -1, 0), of Male none: correlations 1, √½ and 0.
    for i, (x, counterfactual) in enumerate([("001", "111"), ("010", "110"), ("111", "001"), ("100", "000")]):
        write_pair(tmp_path, i, flat(*map(int, x)), flat(*map(int, counterfactual)))
    data = write_lists(tmp_path / "celeba")
    found, out = measure(compute_CD, celeba_path=data, **colour_oracle)
    assert found["CD"]["value"] == pytest.approx(1 - 0.5**0.5)
    assert found["CD"]["options"]["celeba_path"] == str(data)
    assert re.search(r"Young +\+1\.00 in the data, \+0\.71 in the counterfactuals", out.split("expectation")[1])
    with Image.open(tmp_path / "Results/exp/CD.png") as chart:
        assert chart.format == "PNG" and chart.width > 500
    assert (data / "train_correlations.csv").exists()
    # Asked about Young: c = (1, 1, 0), r = (√½, 1, 0).
    found, _ = measure(compute_CD, celeba_path=data, **colour_oracle | {"query_label": 1})
    assert found["CD"]["value"] == pytest.approx(1 - 0.5**0.5)
    # Asked about Male, which never changes: every r counts as 0, and c = (0, 0, 1).
    assert measure(compute_CD, celeba_path=data, **colour_oracle | {"query_label": "Male"})[0]["CD"]["value"] == 1


def test_cd_needs_data_with_the_oracles_attributes(tmp_path, refuse, colour_oracle):
    write_pair(tmp_path, 0, flat(0, 0, 0), flat(1, 1, 1))
    assert "--celeba_path must be given" in refuse(compute_CD, **colour_oracle)
    data = write_lists(tmp_path / "celeba", ("Smiling", "Old", "Male"))
    assert "no labels of Young" in refuse(compute_CD, celeba_path=data, **colour_oracle)
    (data / "list_eval_partition.csv").unlink()
    (data / "train_correlations.csv").unlink()
    assert f"--celeba_path {data} has neither" in refuse(compute_CD, celeba_path=data, **colour_oracle)
    assert "--celeba_path nowhere has neither" in refuse(compute_CD, celeba_path="nowhere", **colour_oracle)
