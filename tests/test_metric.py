"""Metrics: their lines, their files, their table."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from assertions import refusal

from core.metrics.metric import Metric, Source, mean_of, merge_metrics, metrics_table, publish, read_metrics
from core.results.layout import Layout
from guided_diffusion.script.errors import UserError


@pytest.fixture
def layout(tmp_path):
    (tmp_path / "Results/exp").mkdir(parents=True)
    return Layout(tmp_path, "exp")


def test_a_metric_is_one_line():
    assert Metric("FVA", 0.98333, 1234, "pairs", (0.9, 1.0)).line() == (
        "FVA: 0.9833 (n = 1,234 pairs; 95 % in 0.9 … 1)"
    )
    assert Metric("sFID", float("nan"), 2, "images").line() == "sFID: undefined (n = 2 images)"
    assert mean_of("FR", [True, False], "images").value == 0.5
    assert mean_of("FR", [True] * 32, "images").interval == pytest.approx((0.025 ** (1 / 32), 1))
    assert mean_of("MNAC", [1], "images").interval is None


def test_metrics_are_merged_with_what_made_them(layout, tmp_path, capsys):
    weights = tmp_path / "oracle.pt"
    weights.write_bytes(b"weights")
    publish(layout, [Metric("MNAC", 2.5, 4, "pairs", (2, 3)), Metric("FR", 1, 4, "images")])
    options = {"query_label": "Young"}
    source = Source({"oracle_path": weights}, options, ("lpips",))
    publish(layout, [Metric("MNAC", 3.5, 5, "pairs", source=source)])
    assert capsys.readouterr().out.count("MNAC: ") == 2
    metrics = read_metrics(layout.metrics)
    assert "&" not in layout.metrics.read_text()
    assert metrics["FR"]["value"] == 1 and metrics["FR"]["interval"] is None
    mnac = metrics["MNAC"]
    assert (mnac["value"], mnac["n"], mnac["of"]) == (3.5, 5, "pairs") and mnac["options"] == options
    sha256 = hashlib.sha256(b"weights").hexdigest()
    assert mnac["weights"] == {"oracle_path": {"file": str(weights), "sha256": sha256}}
    assert {"torch", "numpy", "scipy", "lpips"} <= mnac["versions"].keys()


def test_scripts_that_end_together_lose_no_metric(layout, monkeypatch):
    def slowly(path):  # so that each would overwrite the others'
        metrics = read_metrics(path)
        time.sleep(0.02)
        return metrics

    monkeypatch.setattr("core.metrics.metric.read_metrics", slowly)
    names = [f"metric {i}" for i in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: merge_metrics(layout, [Metric(name, 1, 1, "images")]), names))
    assert set(read_metrics(layout.metrics)) == set(names)


@pytest.mark.parametrize("text", ["a list\n- of", "- 1\n", "MNAC: 2\n", "\0"])
def test_another_metrics_file_is_refused(layout, text):
    layout.metrics.write_text(text)
    message = refusal(UserError, merge_metrics, layout, [Metric("FR", 1, 1, "images")])
    assert str(layout.metrics) in message and layout.metrics.read_text() == text


def test_the_table_has_a_column_for_each_experiment(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "Results" / name).mkdir(parents=True)
    cd = Metric("CD", 2.3, 1500, "pairs", (2, 2.5))
    merge_metrics(Layout(tmp_path, "one"), [cd, Metric("FR", 0.5, 4, "images")])
    merge_metrics(Layout(tmp_path, "two"), [Metric("FR", 0.75, 8, "images")])
    lines = metrics_table(tmp_path, ["one", "two"]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["metric", "one", "two"] and set("".join(cells[1])) == {":", "-"}
    assert cells[2:] == [["FR ↑", "0.5, n = 4", "0.75, n = 8"], ["CD ↓", "2.3 [2, 2.5], n = 1,500", "–"]]
    assert len({len(line) for line in lines}) == 1


def test_a_share_of_all_has_an_interval_and_equal_numbers_have_none():
    low, high = mean_of("FR", np.ones(32, bool), "images").interval
    assert 0.88 < low < 0.9 and high == 1
    assert mean_of("MNAC", np.zeros(32), "images").interval is None
    assert mean_of("MNAC", np.arange(32), "images").interval is not None
