"""audit.py as its users run it: what it prints and writes, and what it refuses."""

import csv
import os

import numpy as np
import pytest
import yaml
from PIL import Image
from scripts import call_script, contents, error_of, output_of, run_script
from toy_audit import draw, write_experiment
from toy_results import write_pair

SPOILED = [("Smiling", "Eyeglasses", "Young")] * 12
NETWORKS = {"classifier_path": "toy_audit:spoiled", "oracle_path": "toy_audit:oracle"}


def run(root, *exp_names, start=call_script, **flags):
    """(exit code, stdout, stderr) of audit.py. start: call_script, or run_script for a process of its own."""
    words = ["--output_path", root, "--exp_names", *exp_names]
    for name, value in flags.items():
        words += [f"--{name}", value]
    return start("audit.py", words)


def audited(root, *exp_names, **flags):
    out = output_of(run(root, *exp_names, **NETWORKS | flags))
    return out, *read(root, exp_names[0])


def read(root, exp_name):
    """(audit.yaml, the rows of attributes.csv) of an experiment."""
    folder = root / "Results" / exp_name / "audit"
    with open(folder / "attributes.csv", newline="") as file:
        return yaml.safe_load((folder / "audit.yaml").read_text()), list(csv.DictReader(file))


def refused(root, *exp_names, **flags):
    """The one line of an audit that must end with exit code 2 and write nothing."""
    line = error_of(run(root, *exp_names, **NETWORKS | flags))
    assert not list(root.rglob("audit*"))
    return line


def test_a_spoiled_classifier_is_found_out_and_a_clean_one_is_cleared(tmp_path):
    write_experiment(tmp_path, SPOILED)
    out, findings, rows = audited(tmp_path, "exp", start=run_script)
    assert "exp: Beside Smiling, the classifier uses Eyeglasses. Changing Eyeglasses (by" in out
    assert findings["verdict"] in out and all(limit in out for limit in findings["limits"])
    assert [row["attribute"] for row in rows] == ["Eyeglasses", "Smiling", "Young"]
    assert [row["named"] for row in rows] == ["True", "False", "False"] and rows[1]["asked"] == "True"
    assert list(rows[0]) == [name for name in findings["attributes"][0] if name != "examples"]
    for example in findings["attributes"][0]["examples"]:
        assert example["p"] > 0.9 > 0.1 + example["p_back"]
        assert (tmp_path / "Results/exp/audit" / example["picture"]).is_file()
    assert [float(row["score"]) for row in rows] == [row["score"] for row in findings["attributes"]]
    out, findings, rows = audited(tmp_path, "exp", classifier_path="toy_audit:clean")
    assert "No attribute beside Smiling was found to be used. Of those that changed in 12 images, one that" in out
    assert "by less than 0.22 in the mean" in out  # 0.78 ** 12 = 0.05
    assert rows[0]["attribute"] == "Smiling" and not any(row["named"] == "True" for row in rows)


def test_a_control_in_which_the_attribute_changes_as_often_clears_it(tmp_path):
    write_experiment(tmp_path, SPOILED)
    write_experiment(tmp_path, [("Eyeglasses",)] * 12, "other")
    out, findings, rows = audited(tmp_path, "exp", control="other")
    assert findings["control"] == "other" and "No attribute beside Smiling" in out
    glasses = rows[0]
    assert glasses["attribute"] == "Eyeglasses" and float(glasses["control"]) == 1 and float(glasses["excess"]) == 0
    write_experiment(tmp_path, [("Young",)] * 11, "eleven")
    out, findings, rows = audited(tmp_path, "exp", control="eleven")
    assert rows[0]["named"] == "True" and findings["images"] == 11
    assert "Of 12 images that were explained, 11 are looked at" in out


def test_each_of_several_experiments_is_audited_by_itself_whatever_data_it_is_of(tmp_path):
    write_experiment(tmp_path, SPOILED, "a", data_dir="one")
    write_experiment(tmp_path, [("Smiling",)] * 12, "b")
    for i in range(100, 110):
        write_pair(tmp_path, i, np.full((3, 24, 24), 90), np.full((3, 24, 24), 200), exp_name="c", target=1)
    out, *_ = audited(tmp_path, "a", "b", "c")
    assert "a: Beside Smiling" in out and "b: No attribute beside Smiling" in out and "c: Beside Smiling" in out
    assert [read(tmp_path, name)[0]["images"] for name in "abc"] == [12, 12, 10]


# -- without an oracle ---------------------------------------------------------------------------------------------


def mapped(root, **flags):
    """(stdout, audit.yaml) of an audit that has no attributes, and writes no table of them."""
    out = output_of(run(root, "exp", classifier_path="toy_audit:marked", **flags))
    assert not (root / "Results/exp/audit/attributes.csv").exists()
    return out, yaml.safe_load((root / "Results/exp/audit/audit.yaml").read_text())


def test_without_an_oracle_it_says_where(tmp_path):
    write_experiment(tmp_path, [("Smiling", "Mark")] * 12)
    audited(tmp_path, "exp")
    out, findings = mapped(tmp_path)
    assert findings["attributes"] == []
    assert findings["no_attributes"] == "neither the run nor --oracle_path names an oracle"
    assert "No oracle says what changed in 12 images. What changed more than the rest of the image: changing" in out
    places = {place["place"]: place for place in findings["places"]}
    assert places.keys() == {"bottom", "top left corner"} and places["top left corner"]["effect"] > 0.5
    with np.load(tmp_path / "Results/exp/audit/map.npz") as arrays:
        assert arrays["change"].shape == (16, 16) and arrays["found"][0, 0] and not arrays["found"][0, 5]
    with Image.open(tmp_path / "Results/exp/audit/map.png") as picture:
        assert picture.format == "PNG" and picture.width > 1000


@pytest.mark.parametrize("oracle, why", [("toy_audit:other", "Smiling"), ("nothing.pt", "nothing.pt")])
def test_a_runs_oracle_that_does_not_answer_leaves_the_map_alone_and_a_given_one_is_refused(tmp_path, oracle, why):
    write_experiment(tmp_path, [("Smiling", "Mark")] * 12)
    assert why in refused(tmp_path, "exp", oracle_path=oracle)
    (tmp_path / "Results/exp/flags.yaml").write_text(f"query_label: Smiling\noracle_path: '{oracle}'\n")
    out, findings = mapped(tmp_path)
    assert findings["no_attributes"] and "What changed more than the rest" in out


def test_what_no_attribute_names_is_found_in_the_map(tmp_path):
    write_experiment(tmp_path, [("Smiling", "Mark", "Young")] * 12)
    out, findings, rows = audited(tmp_path, "exp", classifier_path="toy_audit:marked")
    assert not any(row["named"] == "True" for row in rows)
    assert "uses what no attribute tells: changing the top left corner (1.6 % of the image) back lowers" in out
    used = {place["place"]: place["used"] for place in findings["places"]}
    assert used.pop("top left corner") and not any(used.values())


# -- whatever the experiments hold ---------------------------------------------------------------------------------


def test_a_classifier_of_a_thousand_classes_is_audited_by_the_probability_of_the_target(tmp_path):
    for i in range(12):
        write_pair(tmp_path, i, draw({"Eyeglasses"}), draw({"Smiling"}))  # class 999 becomes class 0
    folder = tmp_path / "Results/exp"
    (folder / "classes.txt").write_text("".join(f"class {k}\n" for k in range(1000)))
    (folder / "flags.yaml").write_text("task: classes\n")
    out, findings, rows = audited(tmp_path, "exp", classifier_path="toy_audit:Thousand")
    assert "exp: The classifier uses Smiling and Eyeglasses. Changing Smiling (by" in out
    assert findings["asked"] == "" and [row["asked"] for row in rows] == ["False"] * 3


def test_an_experiment_that_is_not_finished_is_audited_as_far_as_it_is(tmp_path):
    write_experiment(tmp_path, SPOILED)
    (tmp_path / "Results/exp/summary.yaml").unlink()
    out, findings, _ = audited(tmp_path, "exp")
    assert "The run is not finished" in out and not findings["finished"] and "Beside Smiling" in out


def test_few_images_are_said_to_be_too_few(tmp_path):
    write_experiment(tmp_path, SPOILED[:3])
    out, findings, rows = audited(tmp_path, "exp")
    assert "exp: 3 counterfactuals are too few to say what the classifier uses." in out
    assert rows[0]["attribute"] == "Eyeglasses" and rows[0]["named"] == "False"
    write_experiment(tmp_path, SPOILED[:1], "one")
    assert "one: 1 counterfactual is too few" in audited(tmp_path, "one")[0]


# -- refused, and replaced -----------------------------------------------------------------------------------------


REFUSALS = [
    ({"control": "none"}, "Results/none is not there"),
    ({"control": "exp"}, "--control exp is the experiment itself"),
    ({"classifier_path": "nothing.pt"}, "nothing.pt"),
    ({"oracle_path": "nothing.pt"}, "nothing.pt"),
    ({"query_label": "Bald"}, "--query_label Bald"),
    ({"data_dir": "nowhere"}, "--data_dir"),
    ({"split": "test"}, "--split test is of --data_dir"),
    ({"contrast_images": -1}, "--contrast_images -1"),
]


@pytest.mark.parametrize("flags, words", REFUSALS)
def test_what_cannot_be_audited_is_one_line(tmp_path, flags, words):
    write_experiment(tmp_path, SPOILED)
    assert words in refused(tmp_path, "exp", **flags)


def test_experiments_that_are_not_there_or_hold_no_images_are_one_line(tmp_path):
    write_experiment(tmp_path, SPOILED)
    assert "Results/none is not there; check --output_path" in refused(tmp_path, "exp", "none")
    (tmp_path / "Results/empty").mkdir()
    assert "empty holds no pairs that reached their target" in refused(tmp_path, "exp", "empty")
    write_experiment(tmp_path, SPOILED, "failed", reached=False)
    assert "failed holds no pairs that reached their target" in refused(tmp_path, "failed")
    assert "--exp_names must be given" in error_of(call_script("audit.py", {"output_path": tmp_path}))


def test_a_control_of_other_images_is_one_line(tmp_path):
    write_experiment(tmp_path, SPOILED, data_dir="one")
    write_experiment(tmp_path, SPOILED, "other", data_dir="another")
    assert "its --data_dir is another, not one" in refused(tmp_path, "exp", control="other")
    write_pair(tmp_path, 50, draw({}), draw({"Young"}), exp_name="later")
    assert "--control later has none of the images of exp" in refused(tmp_path, "exp", control="later")
    write_experiment(tmp_path, SPOILED, "sizes", data_dir="one")
    large = Image.new("RGB", (20, 20))
    for path in (tmp_path / "Results/sizes").rglob("CF/*.png"):
        large.save(path)
    assert "is not of the size of" in refused(tmp_path, "exp", control="sizes")


def test_a_folder_that_cannot_be_written_is_one_line_and_an_earlier_audit_stays(tmp_path):
    write_experiment(tmp_path, SPOILED)
    audited(tmp_path, "exp")
    before = contents(tmp_path)
    (tmp_path / "Results/exp/audit").rename(tmp_path / "aside")
    (tmp_path / "Results/exp/audit").write_text("")
    code, _, err = run(tmp_path, "exp", **NETWORKS)
    assert code == 2 and "audit is no folder; remove it" in err and "image" not in err  # no bar: nothing was done
    (tmp_path / "Results/exp/audit").unlink()
    (tmp_path / "aside").rename(tmp_path / "Results/exp/audit")
    audited(tmp_path, "exp")
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_one_line(tmp_path):
    write_experiment(tmp_path, SPOILED)
    (tmp_path / "Results/exp").chmod(0o555)
    try:
        assert "cannot be written (Permission denied)" in refused(tmp_path, "exp")
    finally:
        (tmp_path / "Results/exp").chmod(0o755)
