"""What measures and shows the results of --task classes: the oracle, the compute_ scripts, the picture."""

import numpy as np
import pytest
import torch
import yaml
from main_runs import explain
from scripts import call_script, error_of, output_of
from test_scores import naive_cout
from toy_classes import ARCHITECTURE, BLUE, CHANNELS, GREEN, RED, class_flags, logits, unnamed, write_classifier

import compute_COUT
import compute_MNAC
from core.results.layout import Layout
from core.results.reading import read_pairs
from core.running.networks import class_predictor
from core.running.run import read_run
from demo.sheet import draw_sheet

flags = pytest.fixture(class_flags)


@pytest.fixture
def oracle(tmp_path):
    """An oracle that knows the classes in another order, and errs: it sees what is darkest."""
    path = write_classifier(tmp_path / "oracle.pt", ("blue", "red", "green"))
    contents = torch.load(path)
    contents["state_dict"]["scale"] *= -1
    torch.save(contents, path)
    return {"oracle_path": path, "oracle_architecture": ARCHITECTURE}


def darkest(image):
    """What the oracle sees, by the classifier's numbers."""
    return (BLUE, RED, GREEN)[image.mean((1, 2)).argmin()]


def test_an_oracle_of_classes_says_whether_the_target_was_reached_for_it_too(flags, oracle):
    records, out = explain(flags | oracle | {"target_label": "blue"})
    pairs = read_pairs(Layout(flags["output_path"], "exp"), reached=("CCF", "ICF"))
    for record, pair in zip(records.itertuples(), pairs, strict=True):
        before, after = map(darkest, pair.images())
        assert (record.oracle_pred, record.oracle_cf_pred) == (before, after)
        assert record.oracle_flip == int(before != BLUE == after)
    flipped = records["cf_pred"] == records["target"]
    share = records["oracle_flip"][flipped].mean()
    assert f"oracle flip rate {100 * share:.1f} %;" in out and "MNAC" not in out and "mnac" not in records
    summary = yaml.safe_load((flags["output_path"] / "Results/exp/summary.yaml").read_text())
    assert summary["oracle fr"] == pytest.approx(share, abs=1e-6) and "mnac" not in summary

    measuring = {"output_path": flags["output_path"], "oracle_architecture": ARCHITECTURE}
    out = output_of(call_script(compute_MNAC, measuring))
    assert "MNAC is of attributes" in out
    assert f"Oracle FR: {share:.4g} (n = {flipped.sum()} pairs" in out
    metrics = yaml.safe_load((flags["output_path"] / "Results/exp/metrics.yaml").read_text())
    assert metrics.keys() == {"Oracle FR"} and metrics["Oracle FR"]["options"] == {"classes": 3}
    (flags["output_path"] / "Results/exp/classes.txt").unlink()
    assert "has no classes.txt" in error_of(call_script(compute_MNAC, measuring))
    explain(flags | oracle | {"target_label": "blue"})
    assert call_script(compute_MNAC, measuring)[0] == 0


def test_an_oracle_may_know_more_classes_than_are_asked_about():
    network = unnamed(["black", "blue", "green"])
    predict = class_predictor(network, ("green", "blue"))
    images = torch.zeros(3, 3, 2, 2)
    images[[0, 1, 2], [0, 1, 2]] = 1
    assert predict(images).tolist() == [-1, 1, 0]


def test_cout_is_between_the_label_and_the_target(flags):
    records, _ = explain(flags | {"query_label": "red", "target_label": "blue"})
    given = {"output_path": flags["output_path"], "classifier_architecture": ARCHITECTURE}
    output_of(call_script(compute_COUT, given))

    def margin(image):
        p = logits(image[None]).softmax(1)[0]
        return p[BLUE] - p[RED]

    pairs = read_pairs(Layout(flags["output_path"], "exp"), classified=("CC",), reached=("CCF", "ICF"))
    values = [naive_cout(margin, *pair.images()) for pair in pairs]
    found = yaml.safe_load((flags["output_path"] / "Results/exp/metrics.yaml").read_text())["COUT"]
    assert found["n"] == len(values) == 3 and found["value"] == pytest.approx(np.mean(values), abs=1e-4)
    other = write_classifier(flags["output_path"].parent / "two.pt", ("red", "blue"))
    line = error_of(call_script(compute_COUT, given | {"classifier_path": other}))
    assert "two.pt has 2 classes, but the experiment 3" in line


def test_cd_is_refused_and_all_other_metrics_are_computed(flags, oracle):
    explain(flags | oracle)
    given = {"output_path": flags["output_path"], "exp_names": "exp", "metrics": "FR,MNAC,CD"}
    out = output_of(call_script("compute_metrics.py", given | {"oracle_architecture": ARCHITECTURE}))
    assert "not computed: CD of exp: CD is of attributes, but exp was run with --task classes" in out
    assert "| FR ↑ " in out and "| Oracle FR ↑ " in out and "MNAC ↓" not in out


def test_the_picture_names_the_classes(flags, monkeypatch):
    records, _ = explain(flags | {"query_label": "red", "target_label": "blue"})
    captions = []
    monkeypatch.setattr("demo.sheet.lay_out", lambda cells, *_: captions.extend(words for _, words in cells))
    draw_sheet(read_run(flags["output_path"], "exp"), ("no", "yes"))
    texts = ["".join(text for text, _ in words) for words in captions]
    for text, record in zip(texts, records.itertuples(), strict=True):
        after = f"blue: {100 * record.p_target:.0f} %"
        after = after if record.cf_pred == BLUE else f"{CHANNELS[record.cf_pred]} ({after})"
        assert text == f"red (blue: {100 * record.p_target_before:.0f} %) to {after}"
