"""audit.py as its users run it: what it prints and writes, and what it refuses."""

import csv

import pytest
import yaml
from scripts import run_script
from toy_audit import write_experiment

SPOILED = [("Smiling", "Eyeglasses", "Young")] * 12
NETWORKS = {"classifier_path": "toy_audit:spoiled", "oracle_path": "toy_audit:oracle"}


def run(root, *exp_names, **flags):
    """(exit code, stdout, stderr) of audit.py."""
    words = ["--output_path", root, "--exp_names", *exp_names]
    for name, value in flags.items():
        words += [f"--{name}", value]
    return run_script("audit.py", words)


def audited(root, *exp_names, **flags):
    code, out, err = run(root, *exp_names, **NETWORKS | flags)
    assert code == 0, err
    return out, *read(root, exp_names[0])


def read(root, exp_name):
    """(audit.yaml, the rows of audit.csv) of an experiment."""
    folder = root / "Results" / exp_name
    with open(folder / "audit.csv", newline="") as file:
        return yaml.safe_load((folder / "audit.yaml").read_text()), list(csv.DictReader(file))


def refused(root, *exp_names, **flags):
    """The one line of an audit that must end with exit code 2 and write nothing."""
    code, _, err = run(root, *exp_names, **NETWORKS | flags)
    lines = [line for line in err.splitlines() if "error:" in line]
    assert code == 2 and len(lines) == 1 and not list(root.rglob("audit*")), err
    return lines[0]


def test_a_spoiled_classifier_is_found_out_and_a_clean_one_is_cleared(tmp_path):
    write_experiment(tmp_path, SPOILED)
    out, kept, rows = audited(tmp_path, "exp")
    assert "exp: Beside Smiling, the classifier uses Eyeglasses: changing Eyeglasses back alone, in 12 of" in out
    assert kept["verdict"] in out and all(limit in out for limit in kept["limits"])
    assert [row["attribute"] for row in rows] == ["Eyeglasses", "Smiling", "Young"]
    assert [row["named"] for row in rows] == ["True", "False", "False"] and rows[1]["asked"] == "True"
    assert rows[0].keys() == kept["attributes"][0].keys()
    assert [float(row["score"]) for row in rows] == [row["score"] for row in kept["attributes"]]
    out, kept, rows = audited(tmp_path, "exp", classifier_path="toy_audit:clean")
    assert "No attribute beside Smiling was found to be used (12 images; what lowers" in out
    assert rows[0]["attribute"] == "Smiling" and not any(row["named"] == "True" for row in rows)


def test_a_control_in_which_the_attribute_changes_as_often_clears_it(tmp_path):
    write_experiment(tmp_path, SPOILED)
    write_experiment(tmp_path, [("Eyeglasses",)] * 12, "other")
    out, kept, rows = audited(tmp_path, "exp", control="other")
    assert kept["control"] == "other" and "No attribute beside Smiling" in out
    glasses = rows[0]
    assert glasses["attribute"] == "Eyeglasses" and float(glasses["control"]) == 1 and float(glasses["excess"]) == 0
    write_experiment(tmp_path, [("Young",)] * 11, "eleven")
    out, kept, rows = audited(tmp_path, "exp", control="eleven")
    assert rows[0]["named"] == "True" and kept["images"] == 11 and "Of 12 images only 11" in out


def test_each_of_several_experiments_is_audited_by_itself(tmp_path):
    write_experiment(tmp_path, SPOILED, "a")
    write_experiment(tmp_path, [("Smiling",)] * 12, "b")
    out, *_ = audited(tmp_path, "a", "b")
    assert "a: Beside Smiling" in out and "b: No attribute beside Smiling" in out
    assert read(tmp_path, "a")[1] != read(tmp_path, "b")[1]


@pytest.mark.parametrize(
    "flags, words",
    [
        ({"control": "none"}, "--control none is not there"),
        ({"control": "exp"}, "--control exp is the experiment itself"),
        ({"classifier_path": "nothing.pt"}, "nothing.pt"),
        ({"oracle_path": "nothing.pt"}, "nothing.pt"),
        ({"query_label": "Bald"}, "--query_label Bald"),
    ],
)
def test_what_cannot_be_audited_is_one_line(tmp_path, flags, words):
    write_experiment(tmp_path, SPOILED)
    assert words in refused(tmp_path, "exp", **flags)
