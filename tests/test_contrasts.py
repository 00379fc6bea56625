"""Attributes with and without, on images as they are: the figures, the images, and what audit.py makes of them."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_audit_script import SPOILED, audited
from toy_audit import PATCHES, draw, write_experiment
from toy_results import write_pair

from core.audit.contrasts import RARE_BELOW, contrast_attributes
from core.audit.real_images import images_of_run
from core.running.run import read_run

# -- the figures ---------------------------------------------------------------------------------------------------


def test_a_contrast_is_what_switching_the_attribute_does_in_the_mean_whatever_p_depends_on():
    has = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)] * 20, bool)
    p = 0.1 + 0.5 * (has[:, 0] & has[:, 1]) + 0.2 * ~has[:, 2]
    contrasts = contrast_attributes(p, has)
    assert [each.value for each in contrasts] == pytest.approx([0.25, 0.25, -0.2])
    assert all(each.low <= each.value <= each.high and each.with_it == 80 for each in contrasts)


def test_attributes_that_go_together_do_not_take_each_others_part():
    rng = np.random.default_rng(0)
    glasses = rng.random(400) < 0.5
    grey = rng.random(400) < np.where(glasses, 0.7, 0.3)
    p, has = 0.4 * glasses + 0.05 * rng.random(400), np.stack([glasses, grey], 1)
    with_glasses, with_grey = contrast_attributes(p, has)
    assert with_glasses.value == pytest.approx(0.4, abs=0.01) and abs(with_grey.value) < 0.01


def test_the_intervals_hold_for_all_attributes_at_once_as_the_errors_are_of_different_sizes():
    rng, held = np.random.default_rng(0), 0
    truth = np.array([0.2, 0.0, 0.1, 0.0, 0.0])
    for _ in range(200):
        has = rng.random((200, 5)) < (0.5, 0.2, 0.5, 0.8, 0.5)
        p = 0.3 + has @ truth + rng.normal(size=200) * np.where(has[:, 1], 0.2, 0.02)
        held += all(c.low <= value <= c.high for c, value in zip(contrast_attributes(p, has), truth, strict=True))
    assert 0.91 <= held / 200 <= 0.995


def test_chance_alone_rarely_moves_p_with_any_of_many_rare_attributes():
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(100):
        p, has = (rng.random(600) < 0.5).astype(float), rng.random((600, 30)) < 0.04
        alarms += any(c and c.low * c.high > 0 for c in contrast_attributes(p, has))
    assert 1 <= alarms <= 12  # 5 % of 100, within three deviations


def test_what_is_too_rare_to_be_told_is_held_alike_all_the_same():
    rng = np.random.default_rng(0)
    rare = rng.random(400) < 0.03
    young = rng.random(400) < np.where(rare, 0.95, 0.1)
    noise = 0.1 * rng.random(400)
    contrasts = contrast_attributes(0.8 * rare + noise, np.stack([rare, young], 1))
    assert contrasts[0] is None and contrasts[1].low <= 0 <= contrasts[1].high
    mark = rng.random(400) < 0.5
    glasses = mark ^ (rng.random(400) < 0.01)
    young = rng.random(400) < np.where(mark, 0.8, 0.2)
    contrasts = contrast_attributes(0.8 * mark + noise, np.stack([mark, glasses, young], 1))
    assert contrasts[:2] == [None, None] and abs(contrasts[2].value) < 0.02


def test_nothing_is_said_of_what_is_rare_or_goes_with_another_and_nothing_at_all_of_few_images():
    rng = np.random.default_rng(0)
    has = rng.random((200, 4)) < 0.5
    has[:, 1] = np.arange(200) < RARE_BELOW - 1
    has[:, 3] = ~has[:, 2]
    p = 0.3 * has[:, 0]
    assert [each is None for each in contrast_attributes(p, has)] == [False, True, True, True]
    assert contrast_attributes(p[:40], rng.permuted(np.tile(np.arange(40) < 20, (16, 1)), axis=1).T) == [None] * 16
    assert contrast_attributes(p, has[:, :1])[0].value == pytest.approx(0.3)


# -- which images --------------------------------------------------------------------------------------------------


def write_pictures(folder, attributes):
    """A folder of pictures, k.png with the attributes[k]."""
    folder.mkdir(parents=True)
    for k, has in enumerate(attributes):
        Image.fromarray(np.uint8(draw(has)).transpose(1, 2, 0)).save(folder / f"{k:03d}.png")
    return folder


def shuffled(n, *names):
    """n sets of attributes, each attribute in every other one by chance."""
    coins = np.random.default_rng(0).random((n, len(names))) < 0.5
    return [{name for name, coin in zip(names, row, strict=True) if coin} for row in coins]


def test_they_are_the_runs_data_evenly_spaced_and_the_originals_where_that_is_gone(tmp_path):
    data = write_pictures(tmp_path / "data", [{"Smiling"}] * 9)
    write_experiment(tmp_path, SPOILED, data_dir=str(data), split="all")
    images = images_of_run(read_run(tmp_path, "exp"), 16, 5)
    assert images.source == f"all of {data}" and images.items == [0, 2, 4, 6, 8]
    assert np.array_equal(images.load(0), draw({"Smiling"}))
    assert len(images_of_run(read_run(tmp_path, "exp"), 16, 100).items) == 9
    data.rename(tmp_path / "gone")
    images = images_of_run(read_run(tmp_path, "exp"), 16, 100)
    assert images.source.startswith("the originals, as the run's data cannot be read: --data_dir")
    assert len(images.items) == 12
    write_pair(tmp_path, 12, draw({}), draw({}), "CC/ICF", target=1)
    assert len(images_of_run(read_run(tmp_path, "exp"), 16, 100).items) == 13
    assert np.array_equal(images.load(images.items[1]), draw(SPOILED[1]))


# -- what audit.py makes of them -----------------------------------------------------------------------------------


def test_what_no_counterfactual_changes_is_named_by_its_contrast(tmp_path):
    data = write_pictures(tmp_path / "data", shuffled(80, "Smiling", "Eyeglasses", "Young"))
    write_experiment(tmp_path, [("Smiling",)] * 12)
    out, findings, rows = audited(tmp_path, "exp", data_dir=data, split="all")
    assert "uses Eyeglasses. In 80 images as they are, Smiling is more probable with" in out
    assert findings["contrasted"] == 80 and findings["contrasted_source"] == f"all of {data}"
    glasses, *others = rows
    assert glasses["attribute"] == "Eyeglasses" and float(glasses["changed"]) == 0
    assert glasses["by_contrast"] == glasses["named"] == "True" and glasses["by_change"] == "False"
    assert float(glasses["contrast"]) > 0.5 and [row["named"] for row in others] == ["False", "False"]
    asked = next(row for row in rows if row["asked"] == "True")
    assert float(asked["contrast"]) > 0.1 and asked["by_contrast"] == "False"


def test_both_kinds_of_evidence_are_told_and_the_other_way_round_is_less(tmp_path):
    data = write_pictures(tmp_path / "data", shuffled(80, "Smiling", "Eyeglasses", "Young"))
    write_experiment(tmp_path, SPOILED)
    out, findings, rows = audited(tmp_path, "exp", data_dir=data, split="all")
    assert rows[0]["by_contrast"] == rows[0]["by_change"] == "True"
    assert findings["verdict"].count(" Changing Eyeglasses (by") == 1
    against = {"classifier_path": "toy_audit:against", "contrast_images": 70}
    out, findings, rows = audited(tmp_path, "exp", data_dir=data, split="all", **against)
    assert "In 70 images as they are, Smiling is less probable with Eyeglasses (by" in out
    assert float(rows[0]["contrast"]) < -0.3


def test_a_contrast_of_nothing_clears_what_the_counterfactuals_blame(tmp_path):
    data = write_pictures(tmp_path / "data", shuffled(200, "Smiling", "Young"))
    rows, columns = PATCHES["Young"]
    for i in range(24):
        counterfactual = draw({"Smiling"})
        counterfactual[:, rows, columns] = 255
        write_pair(tmp_path, i, draw({}), counterfactual, target=1)
    dazzled = {"classifier_path": "toy_audit:dazzled"}
    out, _, rows = audited(tmp_path, "exp", contrast_images=0, **dazzled)
    (young,) = [row for row in rows if row["attribute"] == "Young"]
    assert young["by_change"] == young["named"] == "True" and "--contrast_images is 0" in out
    out, _, rows = audited(tmp_path, "exp", data_dir=data, split="all", **dazzled)
    (young,) = [row for row in rows if row["attribute"] == "Young"]
    assert young["by_change"] == "True" and young["named"] == "False"
    assert "Not named, as images with and without hardly differ: Young." in out


def test_too_few_images_are_said_to_be_too_few(tmp_path):
    write_experiment(tmp_path, SPOILED)
    out, findings, rows = audited(tmp_path, "exp")
    assert "12 images (the originals, as the run's data cannot be read: the run names no --data_dir) cannot" in out
    assert all(row["contrast"] == "" for row in rows)


# -- labels --------------------------------------------------------------------------------------------------------


def test_labels_tell_what_the_oracle_does_not_see(tmp_path):
    """The labels are of the glasses, and the pictures' patch of youth is drawn by them."""
    coins = np.random.default_rng(1).random(80) < 0.5
    attributes = shuffled(80, "Smiling", "Eyeglasses")
    for has, coin in zip(attributes, coins, strict=True):
        has |= {"Young"} if "Eyeglasses" in has and not coin else set()
    data = write_pictures(tmp_path / "data", attributes)
    labels = [
        {"path": f"{k:03d}.png", "Young": int("Eyeglasses" in has), "Blond": int("Young" in has)}
        for k, has in enumerate(attributes)
    ]
    pd.DataFrame(labels).to_csv(data / "labels.csv", index=False)
    data = data / "labels.csv"
    write_experiment(tmp_path, [("Smiling",)] * 12)
    _, findings, rows = audited(tmp_path, "exp", data_dir=data, split="all")
    assert findings["labelled"] == ["Young"] and findings["contrasted"] == 80
    by_labels = {row["attribute"]: row["contrast"] for row in rows}
    assert by_labels["Young"] == by_labels["Eyeglasses"] == ""  # for the labels they are the same
    _, findings, rows = audited(tmp_path, "exp", data_dir=data, split="all", contrast_by="oracle")
    by_oracle = {row["attribute"]: row["contrast"] for row in rows}
    assert findings["labelled"] == [] and float(by_oracle["Eyeglasses"]) > 0.5 > abs(float(by_oracle["Young"]))
