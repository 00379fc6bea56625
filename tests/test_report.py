"""report.py: what its pages and its data say, whatever the experiments hold and are called. Without a browser."""

import json
import os
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from report_pages import NASTY, Page, figures, figures_of, index, refused, report, rows_of
from scripts import call_script, contents, error_of
from toy_report import write_experiment, write_names, write_runs
from toy_results import write_pair

from core.metrics.intervals import mean_interval, share_interval
from core.report.finding import percent, probability

PAGES = ("index.html", "failures.html")


# -- what it says --------------------------------------------------------------------------------------------------


def test_it_says_what_was_found_and_its_limits(tmp_path):
    write_experiment(tmp_path)  # 8 images: 4 does not flip; of the 7 others the oracle does not see 2 and 5
    said = figures_of(tmp_path)
    assert said["finding"] == (
        "Asked about Smiling, the classifier gave 7 of 8 images the other answer (88 %); an oracle, which guided "
        "nothing, saw the change in 5 of these 7; what changed with it most often was attribute 1, in 7 of 7."
    )
    low, high = map(percent, share_interval(7, 8))
    few = f"8 images are few: the share that flips lies between {low} and {high} (95 %)."
    assert said["limits"][0] == few and "2 of the 7 changes are not seen by the oracle" in said["limits"][1]
    page = Page(tmp_path / "report/index.html")
    assert said["finding"] in page.text and all(limit in page.text for limit in said["limits"])


def test_the_figures_are_means_over_flipped_and_over_all_images_with_their_intervals(tmp_path):
    table = write_experiment(tmp_path, n=40)
    said, reached = figures_of(tmp_path), table["cf_pred"] == table["target"]
    agrees = table["oracle_flip"] == 1
    expected = {"FR": (None, reached), "Oracle FR": (agrees[reached], agrees & reached)}
    for name, column in {"MNAC": "mnac", "L1": "l_1", "bKL": "bkl"}.items():
        expected[name] = (table[column][reached], table[column])
    assert said["metrics"].keys() == expected.keys() and "flipped" not in said["metrics"]["FR"]
    for name, values_of_kinds in expected.items():
        for kind, values in zip(("flipped", "all"), values_of_kinds, strict=True):
            if values is not None:
                entry = said["metrics"][name][kind]
                assert entry["value"] == pytest.approx(values.mean()) and entry["n"] == len(values)
                share = values.dtype == bool
                interval = share_interval(values.sum(), len(values)) if share else mean_interval(values)
                assert entry["interval"] == pytest.approx(interval)
    assert {(group["kind"], group["of"]): group["n"] for group in said["groups"]} == {
        ("by direction", "not Smiling → Smiling"): 30,
        ("by direction", "Smiling → not Smiling"): 10,
        ("by right and wrong", "the classifier was right"): 30,
        ("by right and wrong", "the classifier was wrong"): 10,
        ("by label", "not Smiling"): 20,
        ("by label", "Smiling"): 20,
    }


def test_every_image_has_a_card_with_its_pictures_and_every_address_leads_to_a_file(tmp_path):
    write_experiment(tmp_path, mask=True)
    folder = report(tmp_path, "exp")
    for name in PAGES:
        Page(folder / name).assert_whole()
        assert not [address for address in Page(folder / name).addresses if "//" in address]
    cards = Page(folder / "index.html").cards
    assert sorted(card["data-number"] for card in cards) == sorted(map(str, range(8)))
    assert len(list((folder / "pictures").iterdir())) == 8  # the differences: the images themselves are small
    drawn = Image.open(folder / "pictures/1-0000000-difference.png").convert("RGBA")
    assert drawn.getpixel((2, 2))[3] > 0 and drawn.getpixel((13, 2))[3] == 0  # the left half became brighter
    assert drawn.getpixel((2, 2))[0] > drawn.getpixel((2, 2))[2]


def test_failures_stand_on_a_page_of_their_own(tmp_path):
    write_experiment(tmp_path, mask=True)
    (tmp_path / "Results/exp/metrics.yaml").write_text("{}")
    folder = report(tmp_path, "exp")
    page = Page(folder / "failures.html")
    kinds = {}
    for card in page.cards:
        kinds.setdefault(card["id"].split("-")[0], set()).add(int(card["data-number"]))
    assert kinds == {"flip": {4}, "oracle": {2, 5}, "outside": set(range(8))}
    assert "exp: 1 of 8 images" in page.text and "not measured (compute_FVA.py does" in page.text
    rows = rows_of(folder)
    assert float(rows[0]["outside_mask"]) == 0.5 and rows[4]["failures"] == "flip outside"
    (tmp_path / "Results/exp/similarity.csv").write_text("id,cosine\n0000000,0.9\n0000001,0.4\n")
    cards = Page(report(tmp_path, "exp") / "failures.html").cards
    assert [card["id"] for card in cards if card["id"].startswith("identity")] == ["identity-e1-0000001"]


def test_large_images_get_small_copies_and_are_linked_as_they_are(tmp_path):
    write_experiment(tmp_path, n=2, size=300)
    folder = report(tmp_path, "exp")
    sizes = {path.name: Image.open(path).size for path in (folder / "pictures").iterdir()}
    assert set(sizes.values()) == {(128, 128)} and len(sizes) == 6
    assert "../Original/Correct/0000000.png" in Page(folder / "index.html").addresses


def test_attributes_stand_by_how_often_they_changed_against_the_labels_of_the_data(tmp_path):
    write_names(tmp_path / "data", ("Smiling", "Young", "Male"))
    write_experiment(tmp_path, flags={"data_dir": str(tmp_path / "data")})
    said = figures_of(tmp_path)["attributes"]
    assert [row["attribute"] for row in said] == ["Young", "Smiling", "Male"]
    young, smiling, male = said
    assert young["value"] == 1 and male["value"] == 0 and smiling["n"] == 7
    labels = np.array([[k >> a & 1 for a in range(3)] for k in range(6)])
    assert young["correlation_in_data"] == pytest.approx(np.corrcoef(labels.T)[0, 1])
    assert smiling["correlation_of_changes"] == 1


def test_a_thousand_images_are_drawn_from_and_the_figures_count_all(tmp_path):
    write_experiment(tmp_path, n=30)
    folder = report(tmp_path, "exp", gallery=10)
    page, said = Page(folder / "index.html"), figures(folder)
    assert 10 <= len(page.cards) <= 16 and "Here are 10 images" in page.text
    assert said["experiments"][0]["metrics"]["FR"]["all"]["n"] == 30 == len(said["images"])


def test_it_says_where_results_come_from(tmp_path):
    write_experiment(tmp_path, flags={"model_path": "my model.pt", "seed": 7})
    text = index(tmp_path, "exp").text
    assert "python main.py" in text and "--model_path 'my model.pt'" in text and "--seed 7" in text
    assert "sha256 0123456789ab" in text and "device, time, versions not recorded" in text
    run = {"images": 4, "seconds": 10.0, "device": "a <b>GPU", "memory_mib": 300, "versions": {"torch": "9.9"}}
    last = run | {"seconds": 6.0, "memory_mib": 200, "oracle_attributes": ["Old", "Smiling", "Hat"]}
    write_runs(tmp_path, "exp", run, last)
    said, text = figures_of(tmp_path), Page(tmp_path / "report/index.html").text
    assert "time 16.0 s for 8 images, 2 s each" in text and "versions torch 9.9" in text
    assert re.search(r"exp dime 13\.1 2 300 a <b>GPU ", text)
    assert {row["attribute"] for row in said["attributes"]} == {"Old", "Smiling", "Hat"}
    assert "are assumed" not in " ".join(said["limits"])


def test_probabilities_and_shares_are_not_rounded_to_certainty():
    assert [percent(share) for share in (0, 0.004, 0.5, 0.996, 1)] == ["0 %", "0.4 %", "50 %", "99.6 %", "100 %"]
    assert [probability(p) for p in (0.0, 0.42, 1.0)] == ["< 0.1 %", "42 %", "> 99.9 %"]


# -- whatever the experiments hold ---------------------------------------------------------------------------------


def test_names_are_shown_as_text_and_run_nothing(tmp_path):
    name = 'a "b" & <i>ü\'🦊#?%'
    write_names(tmp_path / "data", ("Smiling", NASTY, 'say "hi"'))
    flags = {"data_dir": str(tmp_path / "data"), "model_path": "<img src=x onerror=alert(1)>.pt"}
    write_experiment(tmp_path, name, flags=flags, image=['"><script>alert(2)</script>.jpg'] * 8)
    folder = report(tmp_path, name)
    for path in PAGES:
        page = Page(folder / path)
        page.assert_whole()
        assert page.of("script") == [{"src": "report.js", "defer": None}] and not page.of("i", **{"class": None})
        assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    text = Page(folder / "index.html").text
    assert NASTY in text and name in text and '"><script>alert(2)</script>.jpg' in text


def test_an_experiment_without_oracle_and_images(tmp_path):
    write_experiment(tmp_path, oracle=False, images=False)
    said, page = figures_of(tmp_path), Page(tmp_path / "report/index.html")
    assert "oracle" not in said["finding"] and "No verdict of an oracle is recorded" in " ".join(said["limits"])
    assert "no verdict of an oracle of attributes is recorded" in page.text
    assert "no verdict of an oracle is recorded" in Page(tmp_path / "report/failures.html").text
    assert len(page.cards) == 8 and not page.of("img") and "no images saved" in page.text
    assert "nobody can look at what changed" in " ".join(said["limits"])


def test_an_experiment_that_is_not_finished_and_chunks_that_are_not_merged(tmp_path):
    write_experiment(tmp_path)
    folder = tmp_path / "Results/exp"
    (folder / "summary.yaml").unlink()
    for name in ("records.csv", "flags.yaml"):
        (folder / name).rename(folder / f"chunk-0_num-chunks-2_{name}")
    said = figures_of(tmp_path)
    assert "not finished" in " ".join(said["limits"]) and said["metrics"]["FR"]["all"]["n"] == 8


NONE = [([0, 1, 0], "gave none of 3 images"), ([0], "did not give the only image")]


@pytest.mark.parametrize("cf_pred, gave", NONE)
def test_nothing_flipped(tmp_path, cf_pred, gave):
    write_experiment(tmp_path, n=len(cf_pred), cf_pred=cf_pred)
    said = figures_of(tmp_path)
    assert said["finding"] == f"Asked about Smiling, the classifier {gave} the other answer: nothing is explained."
    assert "flipped" not in said["metrics"]["L1"]


@pytest.mark.parametrize("seen", [True, False])
def test_one_image_is_singular(tmp_path, seen):
    oracle = {"oracle_pred": ["000"], "oracle_cf_pred": ["110" if seen else "011"], "oracle_flip": [int(seen)]}
    write_experiment(tmp_path, n=1, mnac=[2], **oracle)
    run = {"images": 1, "seconds": 3.0, "oracle_attributes": ["Smiling", "Young", "Male"]}
    write_runs(tmp_path, "exp", run)
    said, folder = figures_of(tmp_path), tmp_path / "report"
    saw = "did not see the change; what changed with it was Young and 1 other attribute."
    if seen:
        saw = "saw the change, too; what changed with it was Young."
    asked = "Asked about Smiling, the classifier gave the only image the other answer"
    assert said["finding"] == f"{asked}; an oracle, which guided nothing, {saw}"
    assert said["limits"][0].startswith("1 image is little: the share that flips lies between ")
    assert ("The change is not seen by the oracle, and may fool this classifier alone." in said["limits"]) != seen
    assert "The only image went one way, not Smiling → Smiling; the other is not known." in said["limits"]
    for name in PAGES:
        assert not re.search(r"\b1 (images|are|others|attributes|changes)\b", Page(folder / name).text)


def test_one_change_of_several_and_one_image_that_is_not_shown(tmp_path):
    write_experiment(tmp_path, "few", n=4)
    limits = figures_of(tmp_path, "few")["limits"]
    assert any(limit.startswith("1 of the 4 changes is not seen by") for limit in limits)
    write_experiment(tmp_path, "many", n=8)
    shown = r"Here is 1 image of each experiment, and its best and worst; (1 other is|2 others are) not"
    assert re.search(shown, index(tmp_path, "many", gallery=1).text)


def test_images_of_other_sizes_have_no_difference(tmp_path):
    write_experiment(tmp_path, n=2)
    write_pair(tmp_path, 0, np.zeros((3, 20, 20)), np.zeros((3, 16, 16)))
    page = index(tmp_path, "exp")
    assert len(page.cards) == 2 and sum("1-0000000-difference" in address for address in page.addresses) == 0
    assert sum("1-0000001-difference" in address for address in page.addresses) == 2


def test_a_question_about_a_thousand_classes(tmp_path):
    i = np.arange(300)
    classes = {"label": i, "pred": i, "target": i + 500, "cf_pred": i + 500, "image": [f"{k}.jpg" for k in i]}
    write_experiment(tmp_path, n=300, oracle=False, images=False, flags={"task": "classes"}, **classes)
    (tmp_path / "Results/exp/classes.txt").write_text("".join(f"<b>kind {k}\n" for k in range(1000)))
    said, text = figures_of(tmp_path), Page(tmp_path / "report/index.html").text
    assert said["finding"] == "The classifier gave 300 of 300 images the answer that was asked for (100 %)."
    assert "<b>kind 3 → <b>kind 503" in text and "by class: 288 smaller groups with 288 images in all" in text


def test_records_that_hold_the_least_and_no_flags(tmp_path):
    columns = ["id", "label", "pred", "target", "cf_pred", "attempts", "bkl", "l_1"]
    table, folder = write_experiment(tmp_path, n=3, images=False, oracle=False), tmp_path / "Results/exp"
    pd.DataFrame(table[columns]).to_csv(folder / "records.csv", index=False)
    (folder / "flags.yaml").unlink()
    page = index(tmp_path, "exp")
    assert len(page.cards) == 3 and "the command is not recorded" in page.text


def test_trajectories_are_a_strip_of_some_steps(tmp_path):
    write_experiment(tmp_path, n=2)
    (tmp_path / "x_t/exp/0000001").mkdir(parents=True)
    for step in range(30):
        Image.new("RGB", (16, 16)).save(tmp_path / f"x_t/exp/0000001/{step:04d}.png")
    steps = [a for a in index(tmp_path, "exp").addresses if "x_t/" in a]
    assert len(steps) == 12 and steps[0].endswith("/0000.png") and steps[-1].endswith("/0029.png")


# -- refused, and replaced -----------------------------------------------------------------------------------------


def test_what_cannot_be_reported_is_one_line(tmp_path):
    assert "Results/none is not there; check --output_path and --exp_name" in refused(tmp_path, "none")
    (tmp_path / "Results/empty").mkdir(parents=True)
    assert "holds no explained images; run main.py first" in refused(tmp_path, "empty")
    write_experiment(tmp_path, oracle_cf_pred=["01"] * 8)
    (tmp_path / "Results/exp/similarity.csv").write_text("x\n")
    assert "similarity.csv holds no cosines" in refused(tmp_path, "exp")
    (tmp_path / "Results/exp/similarity.csv").unlink()
    damaged = "records.csv has 001 and 01 as an oracle's decisions on image 0000000; remove"
    assert damaged in refused(tmp_path, "exp") and not (tmp_path / "report").exists()
    assert "--exp_names must be given" in error_of(call_script("report.py", {"output_path": tmp_path}))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    write_experiment(tmp_path)
    (tmp_path / "report").write_text("mine")
    assert "report is no folder; remove it" in refused(tmp_path, "exp")
    assert (tmp_path / "report").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_one_line(tmp_path):
    write_experiment(tmp_path)
    tmp_path.chmod(0o555)
    try:
        assert "report cannot be written (Permission denied)" in refused(tmp_path, "exp")
    finally:
        tmp_path.chmod(0o755)


def test_a_report_replaces_the_earlier_one_and_touches_nothing_else(tmp_path):
    write_experiment(tmp_path, "a")
    write_experiment(tmp_path, "b")
    before = contents(tmp_path)
    (report(tmp_path, "a") / "stale.txt").write_text("")
    folder = report(tmp_path, "b")
    assert not (folder / "stale.txt").exists() and "Report of b" in (folder / "index.html").read_text()
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"report"}


def test_the_same_results_give_the_same_report_and_one_that_fails_leaves_the_earlier_one(tmp_path):
    write_experiment(tmp_path, mask=True)
    first = contents(report(tmp_path, "exp"))
    assert contents(report(tmp_path, "exp")) == first and yaml.safe_load(json.dumps(figures(tmp_path / "report")))
    (tmp_path / "Original/Correct/0000000.png").write_bytes(b"no image")
    assert "0000000.png" in refused(tmp_path, "exp")
    assert contents(tmp_path / "report") == first and not list(tmp_path.glob(".*part"))
