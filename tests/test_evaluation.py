"""What the compute_ scripts share: batches, kept activations, correlations of the data, reports."""

import argparse
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import yaml
from assertions import refusal
from PIL import Image
from toy_celeba import write_celeba
from toy_results import Colours, flat, write_pair, write_random_pairs

from core.metrics.activations import kept_activations
from core.metrics.correlations import train_correlations
from core.metrics.inference import in_batches, judge, read_batches, require_pairs, require_size, take_from_run
from core.metrics.metric import Metric, mean_of, merge_metrics, metrics_table, publish, read_metrics
from core.results.folder import read_flags, read_pairs
from guided_diffusion.errors import UserError

CPU = torch.device("cpu")


# -- batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 8])
def test_batches_hold_everything_once_and_in_order(batch_size):
    batches = list(read_batches(lambda i: (torch.tensor(i), torch.tensor([2 * i])), range(7), batch_size))
    assert [len(numbers) for numbers, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert torch.cat([numbers for numbers, _ in batches]).tolist() == list(range(7))
    assert torch.cat([doubles for _, doubles in batches]).flatten().tolist() == list(range(0, 14, 2))


def test_one_batch_is_read_ahead_and_no_more():
    read = []
    batches = read_batches(lambda i: (read.append(i), (torch.tensor(i),))[1], range(100), 5)
    next(batches)
    batches.close()
    assert set(read) <= set(range(10)) and set(range(5)) <= set(read)


def test_an_error_while_reading_is_told_as_it_is():
    def load(i):
        raise UserError("image 3 is gone")

    assert "image 3 is gone" in refusal(UserError, lambda: list(read_batches(load, range(4), 2)))


def test_images_of_several_sizes_are_refused(tmp_path):
    for i, size in enumerate((4, 8)):
        write_pair(tmp_path, i, flat(1, 1, 1, size=size), flat(0, 0, 0, size=size))
    pairs = read_pairs(tmp_path, "exp")
    message = refusal(UserError, lambda: judge(Colours(), pairs, 2, CPU))
    assert "4 x 4, 8 x 8" in message


def test_an_oracle_judges_alike_in_any_batch_and_order(tmp_path):
    write_random_pairs(tmp_path, places=["CC/CCF"] * 5)
    pairs = read_pairs(tmp_path, "exp")
    before, after = judge(Colours(), pairs, 5, CPU)
    for row, pair in enumerate(pairs):
        x, counterfactual = pair.images()
        assert before[row].tolist() == (x.mean((1, 2)) > 0).long().tolist()
        assert after[row].tolist() == (counterfactual.mean((1, 2)) > 0).long().tolist()
    assert (before != after).any()
    singly = judge(Colours(), pairs[::-1], 2, CPU)
    assert torch.equal(singly[0].flip(0), before) and torch.equal(singly[1].flip(0), after)


def test_functions_run_without_gradients():
    weight = torch.ones(1, requires_grad=True)
    (found,) = in_batches(lambda x: (x * weight,), lambda i: (torch.ones(1) * i,), range(3), 2, CPU, "")
    assert found.flatten().tolist() == [0, 1, 2] and not found.requires_grad


def test_a_network_of_another_size_is_refused(tmp_path):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0))
    network = Colours()
    require_size(network, read_pairs(tmp_path, "exp"), "oracle_path")
    network.image_size = 64
    message = refusal(UserError, require_size, network, read_pairs(tmp_path, "exp"), "oracle_path")
    assert "--oracle_path" in message and "64" in message and "has 4" in message


# -- the results folder --------------------------------------------------------------------------------------


def test_pairs_that_are_not_there_are_said(tmp_path):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0), place="CC/ICF")
    assert "reached their target" in refusal(UserError, require_pairs, tmp_path, "exp")
    assert len(require_pairs(tmp_path, "exp", reached=("CCF", "ICF"))) == 1


def test_a_pair_of_two_sizes_is_refused(tmp_path):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0, size=8))
    (pair,) = read_pairs(tmp_path, "exp")
    assert str(pair.counterfactual) in refusal(UserError, pair.images)


def test_an_unfinished_run_is_measured_but_not_in_silence(tmp_path, capsys):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0))
    experiment = tmp_path / "Results/exp"

    def said():
        assert len(require_pairs(tmp_path, "exp")) == 1
        return capsys.readouterr().err

    assert said() == ""  # not a folder of main.py's, which alone is known to be unfinished
    (experiment / "chunk-0_num-chunks-2_flags.yaml").write_text("seed: 4\n")
    (experiment / "chunk-0_num-chunks-2_summary.yaml").write_text("n: 1\n")
    assert f"{experiment} has no summary.yaml" in said()
    (experiment / "summary.yaml").write_text("n: 1\n")
    assert said() == ""


def test_info_is_read_back(tmp_path):
    write_pair(tmp_path, 0, flat(1, 1, 1), flat(0, 0, 0), target=1)
    (pair,) = read_pairs(tmp_path, "exp")
    assert pair.info() == {"label": 0, "pred": 0, "target": 1}
    info = tmp_path / "Results/exp/CC/CCF/Info/0000000.txt"
    for text in ("label: x\n", "label: 1\n"):
        info.write_text(text)
        assert str(info) in refusal(UserError, pair.info)
    info.unlink()
    assert str(info) in refusal(UserError, pair.info)


def test_flags_come_from_the_command_then_the_run_then_main(tmp_path):
    names = ("oracle_path", "query_label", "classifier_path", "celeba_path")

    def taken(**given):
        args = argparse.Namespace(**dict.fromkeys(names) | {"output_path": tmp_path, "exp_name": "exp"} | given)
        take_from_run(args, *names)
        return {name: getattr(args, name) for name in names}

    assert taken() == {"oracle_path": "models/oracle.pth", "query_label": "31", "celeba_path": None,
                       "classifier_path": "models/classifier.pth"}  # fmt: skip
    (tmp_path / "Results/exp").mkdir(parents=True)
    (tmp_path / "Results/exp/chunk-1_num-chunks-2_flags.yaml").write_text(
        yaml.safe_dump({"oracle_path": None, "query_label": "Young", "classifier_path": "a.pt", "data_dir": "d"})
    )
    (tmp_path / "Results/exp/chunk-2_num-chunks-2_flags.yaml").write_text("not read")
    assert taken(classifier_path="b.pt") == {
        "oracle_path": "models/oracle.pth", "query_label": "Young", "celeba_path": "d", "classifier_path": "b.pt",
    }  # fmt: skip


def test_damaged_flags_are_refused(tmp_path):
    (tmp_path / "Results/exp").mkdir(parents=True)
    path = tmp_path / "Results/exp/flags.yaml"
    for text in ("- a list", "a: b: c", ""):
        path.write_text(text)
        assert str(path) in refusal(UserError, read_flags, tmp_path, "exp")


# -- activations ---------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    write_random_pairs(tmp_path)
    return [pair.original for pair in read_pairs(tmp_path, "exp", reached=("CCF", "ICF"))]


class CountingNetwork:
    def __init__(self):
        self.seen = 0

    def __call__(self, x):
        self.seen += len(x)
        assert x.min() >= 0 and x.max() <= 1
        return x.mean((2, 3))


def test_activations_are_computed_once_until_an_image_changes(tmp_path, pictures):
    network, kept = CountingNetwork(), tmp_path / "kept.npz"

    def found(weights="a"):
        return kept_activations(kept, pictures, network, weights, 4, CPU, "")

    first = found()
    assert first.shape == (6, 3) and network.seen == 6
    assert np.array_equal(found(), first) and network.seen == 6
    pictures[2], pictures[3] = pictures[3], pictures[2]
    assert np.array_equal(found()[[0, 1, 3, 2]], first[:4]) and network.seen == 6
    Image.new("RGB", (16, 16), (255, 0, 0)).save(pictures[5])
    assert found()[5].tolist() == [1, 0, 0] and network.seen == 7
    found(weights="b")
    assert network.seen == 13
    kept.write_bytes(kept.read_bytes()[:100])
    found(weights="b")
    assert network.seen == 19 and not list(tmp_path.glob("*.part"))


def test_activations_are_found_where_none_can_be_kept(tmp_path, pictures):
    found = kept_activations(tmp_path / "absent/kept.npz", pictures, CountingNetwork(), "a", 4, CPU, "")
    assert found.shape == (6, 3)


# -- correlations of the data --------------------------------------------------------------------------------


def test_correlations_of_the_train_split_are_computed_once_a_folder(tmp_path):
    root = write_celeba(tmp_path, {"train": 20, "val": 5}, attributes=["Smiling", "Young", "Male"])
    labels = np.loadtxt(root / "list_attr_celeba.csv", delimiter=",", skiprows=1, usecols=(1, 2, 3))[:20]
    table = train_correlations(root)
    assert list(table.index) == list(table.columns) == ["Smiling", "Young", "Male"]
    np.testing.assert_allclose(table, np.corrcoef(labels.T))
    kept = root / "train_correlations.csv"
    np.testing.assert_array_equal(train_correlations(root), table)
    kept.write_text(",A,B\nA,1,0.5\nB,0.5,1\n")
    assert train_correlations(root).loc["A", "B"] == 0.5
    later = os.path.getmtime(kept) + 10
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


# -- reports -------------------------------------------------------------------------------------------------


def test_a_metric_is_one_line():
    assert Metric("FVA", 0.98333, 1234, "pairs", (0.9, 1.0)).line() == (
        "FVA: 0.9833 (n = 1,234 pairs; 95 % in 0.9 … 1)"
    )
    assert Metric("sFID", float("nan"), 2, "images").line() == "sFID: undefined (n = 2 images)"
    assert mean_of("FR", [True, False], "images").value == 0.5
    assert mean_of("FR", [True], "images").interval is None


def test_metrics_are_merged_with_what_made_them(tmp_path, capsys):
    (tmp_path / "Results/exp").mkdir(parents=True)
    weights = tmp_path / "oracle.pt"
    weights.write_bytes(b"weights")
    publish(tmp_path, "exp", [Metric("MNAC", 2.5, 4, "pairs", (2, 3)), Metric("FR", 1, 4, "images")])
    options = {"query_label": "Young"}
    publish(tmp_path, "exp", [Metric("MNAC", 3.5, 5, "pairs")], {"oracle_path": weights}, options, ("lpips",))
    assert capsys.readouterr().out.count("MNAC: ") == 2
    path = tmp_path / "Results/exp/metrics.yaml"
    found = yaml.safe_load(path.read_text())
    assert found == read_metrics(path) and "&" not in path.read_text()
    assert found["FR"]["value"] == 1 and found["FR"]["interval"] is None
    mnac = found["MNAC"]
    assert (mnac["value"], mnac["n"], mnac["of"]) == (3.5, 5, "pairs") and mnac["options"] == options
    sha256 = hashlib.sha256(b"weights").hexdigest()
    assert mnac["weights"] == {"oracle_path": {"file": str(weights), "sha256": sha256}}
    assert {"torch", "numpy", "scipy", "lpips"} <= mnac["versions"].keys()


def test_scripts_that_end_together_lose_no_metric(tmp_path, monkeypatch):
    (tmp_path / "Results/exp").mkdir(parents=True)

    def slowly(path):  # so that each would overwrite the others'
        found = read_metrics(path)
        time.sleep(0.02)
        return found

    monkeypatch.setattr("core.metrics.metric.read_metrics", slowly)
    names = [f"metric {i}" for i in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: merge_metrics(tmp_path, "exp", [Metric(name, 1, 1, "images")]), names))
    assert set(read_metrics(tmp_path / "Results/exp/metrics.yaml")) == set(names)


@pytest.mark.parametrize("text", ["a list\n- of", "- 1\n", "MNAC: 2\n", "\0"])
def test_another_metrics_file_is_refused(tmp_path, text):
    (tmp_path / "Results/exp").mkdir(parents=True)
    path = tmp_path / "Results/exp/metrics.yaml"
    path.write_text(text)
    assert str(path) in refusal(UserError, merge_metrics, tmp_path, "exp", [Metric("FR", 1, 1, "images")])
    assert path.read_text() == text


def test_the_table_has_a_column_for_each_experiment(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "Results" / name).mkdir(parents=True)
    merge_metrics(tmp_path, "one", [Metric("CD", 2.3, 1500, "pairs", (2, 2.5)), Metric("FR", 0.5, 4, "images")])
    merge_metrics(tmp_path, "two", [Metric("FR", 0.75, 8, "images")])
    lines = metrics_table(tmp_path, ["one", "two"]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["metric", "one", "two"] and set("".join(cells[1])) == {"-"}
    assert cells[2:] == [["FR ↑", "0.5, n = 4", "0.75, n = 8"], ["CD ↓", "2.3 [2, 2.5], n = 1,500", "–"]]
    assert len({len(line) for line in lines}) == 1
