"""The benchmark of the audit: the planted shortcuts, the rendered truth, and how audits score by it."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from assertions import refusal
from PIL import Image
from scripts import call_script, fork_script, output_of

from benchmarks import audit, runs
from benchmarks.audit_table import metrics_of, table_of_methods
from benchmarks.planted import (
    ASKED,
    MARK,
    MARK_PLACE,
    PROPERTIES,
    SHORTCUTS,
    SIZE,
    Renderings,
    choose_from_pool,
    held_out_face,
    pool_face,
)
from benchmarks.scoring import (
    CASE,
    CONTRAST,
    by_contrasts,
    by_counterfactuals,
    collect,
    place_of_largest,
    probabilities,
    rank_correlation,
    rendered_changes,
    score_audit,
    score_places,
)
from core.data.datasets import CELEBA_ATTRIBUTES
from core.results.records import write_yaml
from guided_diffusion.pixels import from_uint8
from guided_diffusion.script.errors import UserError
from models.classifiers import build_classifier, classifier_checkpoint, load_classifier

COUNT = 200


def agreement(table):
    """Of a training set: the share of the smiling that have the shortcut, and of the others that have it not."""
    on = table["path"].str.startswith("on/")
    return on[table[ASKED] == 1].mean(), (~on[table[ASKED] == 0]).mean()


@pytest.mark.parametrize("level", [50, 70, 100])
def test_a_training_set_has_each_face_once_and_the_shortcut_at_the_level(tmp_path, level):
    table = pd.read_csv(choose_from_pool(tmp_path, COUNT, level, 0))
    assert sorted(table["path"].str[-9:]) == [f"{k:05d}.png" for k in range(COUNT)]
    assert agreement(table) == pytest.approx((level / 100,) * 2, abs=0.01)
    assert table[ASKED].tolist() == [pool_face(k).properties[ASKED] for k in range(COUNT)]
    assert table["partition"].value_counts().to_dict() == {0: 180, 1: 20}


def test_levels_of_a_seed_differ_in_few_faces_and_seeds_in_many(tmp_path):
    sets = [(60, 0), (70, 0), (60, 1)]
    low, high, other = (pd.read_csv(choose_from_pool(tmp_path, COUNT, *each))["path"] for each in sets)
    assert (low != high).mean() == pytest.approx(0.1, abs=0.01) and (low != other).mean() > 0.3


def test_in_the_pool_no_attribute_goes_with_the_smile():
    faces = pd.DataFrame([pool_face(k).properties for k in range(1000)]).astype(float)
    correlation = faces.drop(columns=ASKED).corrwith(faces[ASKED]).abs()
    assert correlation.max() < 0.12  # High_Cheekbones: 0.4 in the demo's faces


def test_a_property_is_switched_alone():
    face = next(face for face in map(held_out_face, range(99)) if face.properties["Bald"])
    off = face.switched(MARK, False)
    changed = (np.asarray(off.draw()) != np.asarray(off.switched(MARK, True).draw())).any(2)
    assert changed[MARK_PLACE, MARK_PLACE].all() and changed.sum() == 36
    blue, yellow = (np.asarray(face.switched("Backdrop", on).draw()) for on in (False, True))
    assert (blue != yellow)[2:6, -6:].all() and (blue == yellow)[28:44, 24:40].all()  # a corner, and the face
    blond = face.switched("Blond_Hair", True)
    assert blond.properties["Blond_Hair"] and not blond.properties["Bald"]
    assert (np.asarray(blond.draw()) != np.asarray(face.draw())).any()
    assert blond.toggled("Blond_Hair").properties["Blond_Hair"] is False


def test_half_of_the_held_out_faces_have_each_shortcut():
    shares = pd.DataFrame([held_out_face(k).properties for k in range(audit.HELD_OUT)])[list(SHORTCUTS)].mean()
    assert shares.between(0.4, 0.6).all()


def made_up_renderings(count=3):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 1 + len(PROPERTIES), SIZE, SIZE, 3), dtype=np.uint8)
    return Renderings(pixels[:, 0], pixels[:, 1:], rng.random((count, len(PROPERTIES))) < 0.5)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "last.pt"
    torch.save(classifier_checkpoint(build_classifier("tiny_cnn", 1), "tiny_cnn", (ASKED,), SIZE), path)
    return path


def test_the_truth_is_the_mean_of_p_with_the_property_minus_without(tmp_path, weights):
    renderings = made_up_renderings()
    table = rendered_changes(tmp_path / "changes.csv", weights, renderings).set_index("property")
    assert tuple(table.index) == PROPERTIES
    classifier, number = load_classifier(weights).eval(), PROPERTIES.index(MARK)

    def p(image):
        with torch.no_grad():
            return float(torch.sigmoid(classifier(from_uint8(torch.from_numpy(image).permute(2, 0, 1)[None]))))

    gains = [
        (p(original) - p(toggled[number])) * (1 if has[number] else -1)
        for original, toggled, has in zip(renderings.originals, renderings.toggled, renderings.has, strict=True)
    ]
    assert table.loc[MARK, "change"] == pytest.approx(np.mean(gains), abs=2e-6)
    assert table.loc[MARK, "low"] <= table.loc[MARK, "change"] <= table.loc[MARK, "high"]
    assert probabilities(weights, renderings.originals)[0] == pytest.approx(p(renderings.originals[0]), abs=1e-6)
    (tmp_path / "changes.csv").write_text("property,change\nMark,7\n")
    assert rendered_changes(tmp_path / "changes.csv", weights, None)["change"].tolist() == [7]  # it is kept


# -- scoring audits ----------------------------------------------------------------------------------------------


def changes_of(**changes):
    return pd.DataFrame({"property": PROPERTIES, "change": [changes.get(name, 0.0) for name in PROPERTIES]})


def audit_of(contrasts=None, **scores):
    """An attributes.csv in which these attributes beside the asked one are named, by their scores.

    contrasts: attribute -> its contrast, which names it as well.
    """
    contrasts = contrasts or {}
    table = pd.DataFrame({"attribute": CELEBA_ATTRIBUTES})
    table["score"], table["contrast"] = (table["attribute"].map(each) for each in (scores, contrasts))
    others = table["attribute"] != ASKED
    by = {"by_change": table["score"].notna() & others, "by_contrast": table["contrast"].notna() & others}
    table = table.fillna({"score": 0.0}).assign(**by, asked=~others)
    table["score_low"], table["certain"] = table["score"] / 2, table["score"]
    table["contrast_low"] = table["contrast_high"] = table["contrast"]
    table["named"] = table["by_change"] | table["by_contrast"]
    return table.sort_values("score", ascending=False, kind="stable")


def test_a_perfect_audit_scores_as_such_and_a_wrong_one_does_not():
    changes = changes_of(Smiling=0.6, Eyeglasses=-0.3)
    scores = score_audit(audit_of(Smiling=0.6, Eyeglasses=0.3), changes, "Eyeglasses")
    assert scores["first"] == "Eyeglasses" and scores["false_alarms"] == 0
    assert scores["score"] == 0.3 and scores["rank_correlation"] == pytest.approx(1)
    assert (scores["asked_change"], scores["shortcut_change"]) == (0.6, -0.3)
    scores = score_audit(audit_of(Bald=0.6, Eyeglasses=0.3), changes, "Eyeglasses")
    assert scores["first"] == "Bald" and scores["false_alarms"] == 1 and scores["rank_correlation"] < 0.7
    assert scores["without_influence"] == 1
    scores = score_audit(audit_of(Smiling=0.6, Attractive=0.5), changes, MARK)  # which no drawing shows
    assert scores["first"] is None and np.isnan(scores["score"])


def test_counterfactuals_and_contrasts_are_scored_each_by_itself():
    changes = changes_of(Smiling=0.6, Eyeglasses=-0.3, Bald=0.2)
    audit = audit_of({ASKED: 0.7, "Eyeglasses": -0.25, "Bald": 0.1}, Smiling=0.6, Bald=0.2)
    scores = score_audit(by_counterfactuals(audit), changes, "Eyeglasses")
    assert scores["first"] == "Bald" and scores["score"] == 0
    scores = score_audit(by_contrasts(audit), changes, "Eyeglasses")
    assert scores["first"] == "Eyeglasses" and scores["score"] == 0.25
    assert scores["rank_correlation"] == pytest.approx(1)


def test_truths_that_are_too_small_have_no_order():
    score, used = np.array([0.5, 0.0, 0.0, 0.0]), np.array([0.4, 0.0, 0.002, 0.009])
    assert rank_correlation(score, used) == pytest.approx(1)
    assert rank_correlation(score, 10 * used) < 0.8
    assert rank_correlation(score[1:], used[1:]) == 0


def test_scores_that_chance_may_have_count_as_nothing():
    changes = changes_of(Smiling=0.6)
    audit = audit_of({ASKED: 0.5, "Bald": 0.1}, Smiling=0.6, Male=0.2)
    audit.loc[audit["attribute"] == "Male", "score_low"] = -0.1
    audit.loc[audit["attribute"] == "Bald", "contrast_low"] = -0.1
    for table in (by_counterfactuals(audit), by_contrasts(audit)):
        assert table["score"].gt(0).sum() == 2 and table["certain"].gt(0).sum() == 1
        assert score_audit(table, changes, "Bald")["rank_correlation"] == pytest.approx(1)


def marked_renderings():
    """Originals that are black, which MARK alone changes."""
    originals = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    toggled = np.repeat(originals[:, None], len(PROPERTIES), 1)
    toggled[:, PROPERTIES.index(MARK), MARK_PLACE, MARK_PLACE] = 200
    return Renderings(originals, toggled, np.zeros((2, len(PROPERTIES)), bool))


def test_the_map_is_largest_at_the_mark_or_elsewhere_or_nowhere():
    for elsewhere, block in ((0.5, 1), (2.0, 3)):
        change = np.zeros((SIZE, SIZE))
        change[:8, :8] = 1.0
        change[40:48, 24:40] = elsewhere
        place = place_of_largest(change, MARK, marked_renderings())
        assert place["block"] == block and place["share"] == pytest.approx(1 / change.mean())
    place = place_of_largest(np.zeros((SIZE, SIZE)), MARK, marked_renderings())
    assert place["block"] > 1 and place["share"] == 0


def test_a_place_is_named_where_one_that_is_used_holds_the_mark():
    corner, bottom = [0, 0, 0.2, 0.1], [0.2, 0.6, 0.9, 1]
    for used, named in ([True, True], True), ([True, False], False), ([], False):
        places = [{"box": box, "used": each} for box, each in zip((bottom, corner), used, strict=False)]
        expected = {"place_named": named, "places_used": sum(used)}
        assert score_places(places, MARK, marked_renderings()) == expected


def write_experiment(root, shortcut, level, seed, change, score):
    name = f"{shortcut}-{level}-{seed}"
    experiment, classifier = root / "explained/Results" / f"{name}-dime", root / "classifiers" / name
    for folder in (experiment, classifier):
        folder.mkdir(parents=True)
    changes_of(**{ASKED: 0.5, shortcut: change}).to_csv(classifier / "changes.csv")
    (experiment / "audit").mkdir()
    scores = {ASKED: 0.5} | ({shortcut: score} if score else {})
    table = audit_of({shortcut: change} if change > 0.5 else {}, **scores)
    table.to_csv(experiment / "audit/attributes.csv")
    places = [{"box": [0, 0, 0.2, 0.1], "used": seed == 1}]
    write_yaml(experiment / "audit/audit.yaml", {"places": places, "colours": []})
    original, counterfactual = root / "explained/Original/Correct/0.png", experiment / "CC/CCF/CF/0.png"
    for path, colour in ((original, 0), (counterfactual, 9)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIZE, SIZE), (colour,) * 3).save(path)
    case = {"shortcut": shortcut, "level": level, "seed": seed, "method": "dime", "images": 2}
    write_yaml(experiment / CASE, case)
    rows = {"id": [0, 1], "image": "a", "label": 1, "pred": 1, "target": 0, "cf_pred": [0, 1], "attempts": 1}
    pd.DataFrame(rows | {"bkl": 0.0, "l_1": 0.0}).to_csv(experiment / "records.csv", index=False)


@pytest.mark.slow
def test_the_summary_is_of_all_classifiers_in_the_folder(tmp_path):
    for seed in (0, 1):
        write_experiment(tmp_path, "Eyeglasses", 50, seed, 0.0, 0.2 * seed)  # the second names it, but is clean
        write_experiment(tmp_path, "Eyeglasses", 90, seed, 0.4, 0.1 + 0.2 * seed)
        write_experiment(tmp_path, "Blond_Hair", 100, seed, 0.8, 0.0)
    (experiment,) = tmp_path.glob("explained/Results/Blond_Hair-100-0-dime")
    records = pd.read_csv(experiment / "records.csv")
    records.assign(cf_pred=1).to_csv(experiment / "records.csv", index=False)
    shutil.rmtree(experiment / "audit")  # of what has not flipped there is no audit
    rows = collect(tmp_path, marked_renderings())
    assert len(rows) == 6 + 5 and rows["share"].eq(1).sum() == 5

    def metrics_by(method):
        return {metric.name: metric for metric in metrics_of(rows[rows["method"] == method])}

    metrics = metrics_by("dime")
    assert metrics["flipped"].value == pytest.approx(0.5 * 5 / 6)
    assert (metrics["named first"].value, metrics["named first"].n) == (0.5, 4)
    assert metrics["named first, Eyeglasses"].value == 1 and metrics["named first, Blond_Hair"].value == 0
    assert metrics["AUROC, Eyeglasses"].value == 0.75  # of 0.1 and 0.3 against 0 and 0.2
    assert "AUROC, Blond_Hair" not in metrics  # there is no clean one
    assert (metrics["false alarms"].value, metrics["false alarms"].n) == (0.5, 2)
    assert metrics["slope of the shortcut"].value < 1 and metrics["rank correlation of the shortcut"].value < 1
    assert metrics["named first by the whole audit"].value == 0.75  # the second bald one by its contrast
    assert metrics["false alarms of places"].value == 0.5
    by_contrast = metrics_by(CONTRAST)
    assert (by_contrast["named first"].value, by_contrast["named first"].n) == (pytest.approx(1 / 3), 3)
    assert by_contrast["false alarms"].value == 0 and "flipped" not in by_contrast
    text = table_of_methods(rows)
    assert "| dime" in text.splitlines()[0] and "| contrast" in text.splitlines()[0]
    assert "| false alarms ↓" in text and "| flipped ↑" in text
    assert "| false alarms ↓" not in table_of_methods(rows[rows["level"] != 50])


# -- the command -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["shortcuts Beard", "methods magic", "levels 40", "levels 62.5", "images 0"])
def test_what_cannot_be_is_refused_by_name(words):
    command = f"--output_path out --{words}".replace("Beard", "Mark,Beard").split()
    assert f"--{words}" in refusal(UserError, lambda: audit.choose(audit.create_argparser().parse_args(command)))


def test_a_part_of_the_grid_can_be_chosen():
    words = "--output_path out --shortcuts Mark,Eyeglasses --levels 50,100 --seeds 3 --methods maskdime"
    plantings, methods = audit.choose(audit.create_argparser().parse_args(words.split()))
    assert [each.name for each in plantings] == ["Mark-50-3", "Eyeglasses-50-3", "Mark-100-3", "Eyeglasses-100-3"]
    assert methods == ["maskdime"]


@pytest.mark.slow
def test_the_benchmark_of_the_audit_goes_on_and_adds_to_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "HELD_OUT", 2)
    quick = "--architecture tiny_cnn --image_size 64 --batch_size 9 --lr 0.01 --ema_rate 0.5 --compile False"
    monkeypatch.setattr(audit, "CLASSIFIER", quick)
    monkeypatch.setattr(audit, "flags_of", lambda *_: ["--start_step", "4", "--classifier_scales", "100,1000"])
    scripts = []
    monkeypatch.setattr(runs, "run", lambda script, *words: scripts.append(script) or fork_script(script, *words))
    flags = {"output_path": tmp_path, "shortcuts": MARK, "seeds": 0, "methods": "dime", "images": 2}
    flags |= {"pool": 20, "steps": 20, "rendered": 2}
    rounds = {
        "50": ["celeba-train-classifier.py", "main.py", "main.py", "audit.py"],
        "50,100": ["celeba-train-classifier.py", "main.py", "main.py", "audit.py"],  # for 100 alone
        "100": [],
    }
    for levels, started in rounds.items():
        scripts.clear()
        output_of(call_script(audit, flags | {"levels": levels}))
        assert scripts == started
        # a row for the method, and one for the contrasts
        assert len(pd.read_csv(tmp_path / "audit.csv")) == (2 if levels == "50" else 4)
    assert "| dime" in (tmp_path / "audit.md").read_text()
