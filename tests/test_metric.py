"""Metrics: their lines, their files, their table."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from assertions import refusal

from core.metrics.metric import Metric, Source, mean_of, merge_metrics, metrics_table, publish, read_metrics
from core.results.layout import Layout
from guided_diffusion.script.errors import UserError


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
    layout = Layout(tmp_path, "exp")
    publish(layout, [Metric("MNAC", 2.5, 4, "pairs", (2, 3)), Metric("FR", 1, 4, "images")])
    options = {"query_label": "Young"}
    source = Source({"oracle_path": weights}, options, ("lpips",))
    publish(layout, [Metric("MNAC", 3.5, 5, "pairs", source=source)])
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
        list(pool.map(lambda name: merge_metrics(Layout(tmp_path, "exp"), [Metric(name, 1, 1, "images")]), names))
    assert set(read_metrics(tmp_path / "Results/exp/metrics.yaml")) == set(names)


@pytest.mark.parametrize("text", ["a list\n- of", "- 1\n", "MNAC: 2\n", "\0"])
def test_another_metrics_file_is_refused(tmp_path, text):
    (tmp_path / "Results/exp").mkdir(parents=True)
    path = tmp_path / "Results/exp/metrics.yaml"
    path.write_text(text)
    assert str(path) in refusal(UserError, merge_metrics, Layout(tmp_path, "exp"), [Metric("FR", 1, 1, "images")])
    assert path.read_text() == text


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
