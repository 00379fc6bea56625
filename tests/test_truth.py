"""Counterfactuals of drawn faces against the true ones: folders built so that every answer is known."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image, ImageFilter
from scripts import error_of, output_of, run_script

from core.data.datasets import CELEBA_ATTRIBUTES
from core.data.images import centre_crop, read_image
from core.results.records import write_records
from core.running.run import read_run
from demo.compare import compare, outside, read_faces
from demo.faces import JPEG_QUALITY, VISIBLE_ATTRIBUTES, face_of, render
from demo.nearest import Portraits, read_attributes, toggled
from demo.truth import summarise
from guided_diffusion.script.errors import UserError

SIZE, QUERY = 64, "Smiling"
GAP, MARGIN, HEAD = SIZE // 24, SIZE // 4, SIZE // 3  # of the pictures that the demos draw
SMILING = CELEBA_ATTRIBUTES.index(QUERY)
TOGGLES = ["Eyeglasses", "Rosy_Cheeks", "Wearing_Necklace", "Wavy_Hair"]  # what the wrong counterfactuals change


def drawn(attributes, nuisance):
    """The portrait as it is, never encoded: a PIL image of SIZE x SIZE."""
    return centre_crop(render(attributes, nuisance), SIZE)


def seen(attributes, nuisance):
    """The portrait as the data set holds it."""
    file = BytesIO()
    render(attributes, nuisance).save(file, "JPEG", quality=JPEG_QUALITY)
    return Image.fromarray(read_image(file, SIZE).permute(1, 2, 0).numpy())


def tile(picture, k):
    """The pixels of the k-th picture in the first row of one that a demo drew."""
    x, y = MARGIN + k * (SIZE + GAP), MARGIN + HEAD
    return np.asarray(Image.open(picture))[y : y + SIZE, x : x + SIZE].astype(int)


def bits(attributes):
    return "".join(str(int(value)) for value in attributes.values())


def write_run(root, cases, oracle=None, name="exp"):
    """A results folder of test faces 0, 1, …; cases: (wanted attributes, nuisance) -> counterfactual, for each.

    A case may be (function, False) for a face that the classifier got wrong, so that its target is what it shows.
    oracle: (attributes, wanted attributes) -> two strings of bits.
    """
    rows = []
    for k, case in enumerate(cases):
        draw, right = case if isinstance(case, tuple) else (case, True)
        attributes, nuisance = face_of(0, "test", k)
        wanted = toggled(attributes, QUERY) if right else attributes
        folder = root / "Results" / name / ("CC" if right else "IC") / "CCF/CF"
        original = root / "Original" / ("Correct" if right else "Incorrect")
        for directory in (folder, original):
            directory.mkdir(parents=True, exist_ok=True)
        seen(attributes, nuisance).save(original / f"{k:07d}.png")
        draw(wanted, nuisance).save(folder / f"{k:07d}.png")
        label, target = int(attributes[QUERY]), int(wanted[QUERY])
        row = {"id": k, "image": f"test_{k:05d}.jpg", "label": label, "pred": 1 - target, "target": target}
        row |= {"cf_pred": target, "attempts": 1, "p_target_before": 0.1, "p_target": 0.9, "bkl": 0.1, "l_1": 0.01}
        if oracle:
            row["oracle_pred"], row["oracle_cf_pred"] = oracle(attributes, wanted)
        rows.append(row)
    write_records(root / "Results" / name / "records.csv", pd.DataFrame(rows))
    return root


def toggle(count):
    def draw(wanted, nuisance):
        for name in TOGGLES[:count]:
            wanted = toggled(wanted, name)
        return seen(wanted, nuisance)

    return draw


def unchanged(wanted, nuisance):
    return seen(toggled(wanted, QUERY), nuisance)


CASES = [drawn, seen, toggle(1), toggle(4), unchanged, (seen, False)]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    def oracle(attributes, wanted):  # sees everything change
        return bits(attributes), bits({name: not value for name, value in attributes.items()})

    root = write_run(tmp_path_factory.mktemp("truth"), CASES, oracle)
    faces = read_faces(read_run(root, "exp"), QUERY, seed=0)
    return pd.DataFrame([compare(face, QUERY, face.portraits()) for face in faces])


def test_true_counterfactuals_are_at_distance_zero_but_for_the_encoding(table):
    plain, encoded = table.loc[0], table.loc[1]
    assert encoded["distance"] == 0 and encoded["ratio"] == 0 and encoded["query_share"] == 1
    assert 0 < plain["distance"] < 0.005 and plain["ratio"] < 1 and plain["local_ratio"] < 0.1
    assert plain["query_share"] == pytest.approx(1, abs=0.05)
    for row in (encoded, plain):
        assert row["mnac"] == 1 and row["others"] == 0 and row["changed"] == "" and row["told"] >= 30


def test_attributes_that_were_toggled_too_are_counted_and_named(table):
    assert table.loc[2, "changed"].split() == TOGGLES[:1]
    assert sorted(table.loc[3, "changed"].split()) == sorted(TOGGLES)
    assert list(table.loc[[2, 3], "others"]) == [1, 4] and list(table.loc[[2, 3], "mnac"]) == [2, 5]
    assert (table.loc[[2, 3], "query_share"] == 1).all() and (table.loc[[2, 3], "distance"] > 0.003).all()
    before, after = (np.array(list(table.loc[3, name])) for name in ("truth_pred", "truth_cf_pred"))
    assert {CELEBA_ATTRIBUTES[a] for a in np.flatnonzero(before != after)} == {QUERY, *TOGGLES}


def test_originals_are_where_the_scale_says(table):
    row = table.loc[4]
    assert row["distance"] == row["original_distance"] > 0
    assert row["ratio"] == row["local_ratio"] == 1 and row["mnac"] == row["others"] == row["outside"] == 0
    assert row["query_share"] == pytest.approx(0) and row["truth_pred"] == row["truth_cf_pred"]
    row = table.loc[5]  # it shows the target already, so nothing is to change
    assert row["distance"] == row["original_distance"] == 0 and np.isnan(row["ratio"]) and np.isnan(row["outside"])
    assert row["mnac"] == 0 and row["truth_pred"] == row["truth_cf_pred"]


def test_the_change_outside_the_true_region_is_its_share_of_the_whole_change():
    original, region = np.full((3, 4, 4), 100.0), np.zeros((4, 4), bool)
    region[:2] = True
    changed = original + np.where(region, 30.0, 10.0)
    assert outside(changed, original, region) == pytest.approx(0.25)
    assert outside(np.where(region, changed, original), original, region) == 0
    assert outside(original, original, region) == 0


LABELS = np.random.default_rng(0).integers(0, 2, (50, 40))


def summary(table):
    return {metric.name: metric for metric in summarise(table, LABELS, SMILING)}


def test_the_summary_is_of_what_it_says(table):
    table = table.assign(reached=[True] * 5 + [False])
    metrics = summary(table)
    others, smiles = [0, 0, 1, 4, 0], [1, 1, 1, 1, 0]
    assert metrics["other attributes changed"].value == np.mean(others)
    assert metrics["true MNAC"].value == np.mean(others) + np.mean(smiles) and metrics["true MNAC"].n == 5
    assert metrics["oracle MNAC"].value == 40
    assert metrics["oracle MNAC - true MNAC"].value == pytest.approx(40 - metrics["true MNAC"].value)
    low, high = metrics["true MNAC"].interval
    assert 0 <= low < metrics["true MNAC"].value < high <= 5
    assert metrics["true FR"].value == pytest.approx(4 / 5)
    half = table.assign(query_share=[0.4, 0.6, 0.5, 1.2, 0, 1])
    assert summary(half)["true FR"].value == pytest.approx(2 / 5)  # a change by more than half is one
    assert metrics["distance to the truth"].value == pytest.approx(table["distance"][:5].mean())
    sixth = summary(table.assign(reached=True))
    assert sixth["ratio of the two"] == metrics["ratio of the two"] and sixth["true MNAC"].n == 6
    assert summary(table.assign(reached=False)) == {}


def test_the_oracles_cd_is_held_against_the_true_one(table):
    metrics = summary(table)

    def naive(columns):
        before, after = (np.array([list(map(int, bits)) for bits in table[column]]) for column in columns)
        with np.errstate(invalid="ignore"):
            of_changes = np.nan_to_num(np.corrcoef((after - before).T)[SMILING])
        return np.abs(np.corrcoef(LABELS.T)[SMILING] - of_changes).sum()

    true, oracle = naive(("truth_pred", "truth_cf_pred")), naive(("oracle_pred", "oracle_cf_pred"))
    assert metrics["true CD"].value == pytest.approx(true) and metrics["oracle CD"].value == pytest.approx(oracle)
    assert metrics["oracle CD - true CD"].value == pytest.approx(oracle - true) and true != oracle
    assert metrics["oracle CD - true CD"].interval[0] < oracle - true < metrics["oracle CD - true CD"].interval[1]


def noisy(image):
    noise = np.random.default_rng(0).normal(0, 12, (SIZE, SIZE, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def encoded_again(image):
    file = BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file)


@pytest.mark.parametrize("spoil", [lambda image: image.filter(ImageFilter.GaussianBlur(0.6)), noisy, encoded_again])
def test_attributes_are_read_off_spoilt_pictures_and_half_changed_queries(spoil):
    for k in (0, 2):
        attributes, nuisance = face_of(0, "test", k)
        portraits, wanted = Portraits(nuisance, SIZE), toggled(attributes, QUERY)
        wrong = toggled(toggled(wanted, "Eyeglasses"), "Wearing_Necklace")
        for share, shown in ((1, wrong), (0.6, wanted)):
            half = Image.blend(seen(toggled(shown, QUERY), nuisance), seen(shown, nuisance), share)
            pixels = np.asarray(spoil(half)).transpose(2, 0, 1).astype(float)
            reading = read_attributes(pixels, wanted, QUERY, portraits)
            assert reading.attributes == shown, (k, share)
            assert reading.query_share == pytest.approx(share, abs=0.25)


@pytest.mark.slow
def test_every_single_toggle_that_shows_is_read_and_nothing_else():
    attributes, nuisance = face_of(0, "test", 7)
    portraits, wanted = Portraits(nuisance, SIZE), toggled(attributes, QUERY)
    told = [name for name in VISIBLE_ATTRIBUTES if name != QUERY and portraits.tells(wanted, name)]
    assert len(told) > 30
    for name in told:
        shown = toggled(wanted, name)
        assert read_attributes(portraits(shown), wanted, QUERY, portraits).attributes == shown, name


def test_what_a_toggle_does_not_show_is_not_told_and_has_no_share_as_the_query():
    bald = {name: name in ("Bald", "Male", "Young", "No_Beard") for name in CELEBA_ATTRIBUTES}
    reading = read_attributes(Portraits(3, SIZE)(bald), bald, QUERY, Portraits(3, SIZE))
    assert {"Bangs", "Wavy_Hair", "Straight_Hair", "Receding_Hairline"}.isdisjoint(reading.told)
    assert not set(reading.told) & {"Attractive", "Blurry", QUERY}
    assert {"Eyeglasses", "Wearing_Hat"} <= set(reading.told) and reading.attributes == bald
    reading = read_attributes(Portraits(3, SIZE)(bald), bald, "Bangs", Portraits(3, SIZE))
    assert np.isnan(reading.query_share) and reading.attributes == bald


def command(root, *more):
    return run_script("demo.truth", ["--output_path", root, "--train", 100, *more])


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("two"), [seen, toggle(2)])


def test_the_command_writes_and_prints_what_it_measured_and_draws_it(two):
    out = output_of(command(two, "--picture", two / "truth.png", "--tile", SIZE, "--columns", 1))
    written = pd.read_csv(two / "Results/exp/truth.csv")
    metrics = yaml.safe_load((two / "Results/exp/truth.yaml").read_text())
    assert list(written["mnac"]) == [1, 3] and metrics["true MNAC"]["value"] == 2
    assert "true MNAC: 2 (n = 2 pairs that reached their target; 95 % in 1 … 3)" in out and "oracle" not in out

    original, counterfactual, truth, difference = (tile(two / "truth.png", k) for k in range(4))
    for shown, place in ((original, "Original/Correct"), (counterfactual, "Results/exp/CC/CCF/CF")):
        assert (shown == np.asarray(Image.open(two / place / "0000000.png"))).all()
    assert (truth == counterfactual).all() and not difference.any()


@pytest.mark.slow
def test_several_experiments_at_once_are_each_what_it_is_alone(tmp_path):
    for name, cases in {"ours": [seen, toggle(2), unchanged], "theirs": [toggle(4), (seen, False)]}.items():
        write_run(tmp_path, cases, name=name)
        assert command(tmp_path, "--exp_name", name)[0] == 0
    files = sorted(tmp_path.glob("Results/*/truth.*"))
    assert len(files) == 4
    alone = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    out = output_of(command(tmp_path, "--exp_names", "ours", "theirs"))
    assert "comparing 5 counterfactuals" in out and "theirs: 2 of 2 counterfactuals" in out
    assert [file.read_bytes() for file in files] == alone

    line = error_of(command(tmp_path, "--exp_names", "ours", "theirs", "--picture", tmp_path / "truth.png"))
    assert "--picture is of one experiment" in line and not (tmp_path / "truth.png").exists()
    line = error_of(command(tmp_path, "--exp_name", "ours", "--exp_names", "theirs"))
    assert "--exp_names exclude each other" in line


def test_another_query_or_folder_is_refused(two):
    with pytest.raises(UserError, match="give the --query_label of main.py"):
        read_faces(read_run(two, "exp"), "Male", seed=0)
    assert "Results/none is not there" in error_of(command(two, "--exp_name", "none"))


def test_a_folder_that_does_not_name_its_images_or_that_nobody_drew_is_one_line(tmp_path):
    root = write_run(tmp_path, [seen])
    records = root / "Results/exp/records.csv"
    table = pd.read_csv(records)
    records.unlink()
    assert "records.csv is not there" in error_of(command(root))

    write_records(records, table.assign(image="000001.jpg"))
    assert "000001.jpg, no image of demo.faces" in error_of(command(root))
    assert not list(root.rglob("truth.*"))

    write_records(records, table)
    original = root / "Original/Correct/0000000.png"
    Image.open(original).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(original)
    with pytest.raises(UserError, match="is not test_00000.jpg as demo.faces draws it"):
        read_faces(read_run(root, "exp"), QUERY, seed=0)


AT_LEAST = [("--seed", -1, "--seed -1 must be at least 0"), ("--workers", 0, "--workers 0 must be at least 1")]


@pytest.mark.parametrize("flag, value, words", [("--seed", 9, "--seed"), *AT_LEAST])
def test_wrong_flags_are_one_line_before_the_work(two, flag, value, words):
    code, out, err = command(two, flag, value)
    assert code == 2 and words in err and len(err.splitlines()) == 1 and out == ""


def test_another_seed_is_found_out_though_the_labels_agree(two):
    def smiles(seed):
        return [face_of(seed, "test", k)[0][QUERY] for k in (0, 1)]

    seed = next(seed for seed in range(1, 100) if smiles(seed) == smiles(0))
    with pytest.raises(UserError, match="give the --seed of that"):
        read_faces(read_run(two, "exp"), QUERY, seed)
