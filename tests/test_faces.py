import numpy as np
import pytest
from PIL import Image
from scripts import error_of, output_of, run_script
from toy_celeba import csv_rows

from core.data.datasets import CELEBA_ATTRIBUTES
from demo.faces import VISIBLE_ATTRIBUTES, face_of, render, sample_attributes, write_celeba
from guided_diffusion.script_util import UserError

# Where an attribute may show, in pixels of the 178 × 218 image: left, top, right, bottom.
REGIONS = {
    (38, 92, 140, 172): "Smiling",
    (62, 134, 116, 172): "Mouth_Slightly_Open Big_Lips Wearing_Lipstick",
    (56, 130, 121, 158): "Mustache",
    (62, 145, 115, 186): "Goatee",
    (36, 110, 142, 180): "5_o_Clock_Shadow",
    (24, 84, 154, 196): "No_Beard Sideburns Double_Chin Chubby Oval_Face",
    (62, 100, 115, 147): "Big_Nose Pointy_Nose",
    (36, 86, 142, 158): "High_Cheekbones Rosy_Cheeks Heavy_Makeup",
    (46, 92, 132, 132): "Narrow_Eyes Bags_Under_Eyes",
    (30, 90, 148, 134): "Eyeglasses",
    (44, 80, 134, 110): "Arched_Eyebrows Bushy_Eyebrows",
    (36, 36, 142, 106): "Receding_Hairline",
    (30, 40, 148, 112): "Bangs",
    (0, 10, 178, 110): "Wearing_Hat",
    (24, 116, 154, 154): "Wearing_Earrings",
    (40, 166, 138, 218): "Wearing_Necklace Wearing_Necktie",
    (26, 58, 152, 216): "Young Pale_Skin",
}
REGION_OF = {name: region for region, names in REGIONS.items() for name in names.split()}
HEAD = (0, 10, 178, 218)  # where all others may show
FACES = [({"Young": True, "No_Beard": True, "Male": male}, seed) for seed in range(4) for male in (0, 1)]


def changed_pixels(attribute, attributes, seed):
    off, on = (np.asarray(render(attributes | {attribute: value}, seed), int) for value in (False, True))
    return np.abs(on - off).sum(2)


@pytest.fixture(scope="module")
def has():
    """Attribute -> 1 or 0 for each of 2000 people."""
    rng = np.random.default_rng(0)
    rows = [sample_attributes(rng) for _ in range(2000)]
    return {name: np.array([row[name] for row in rows], float) for name in CELEBA_ATTRIBUTES}


def test_image_has_celebas_size_and_a_missing_name_means_false():
    image = render({"Smiling": True}, 5)
    assert image.size == (178, 218) and image.mode == "RGB"
    every_name = dict.fromkeys(CELEBA_ATTRIBUTES, False) | {"Smiling": True}
    assert render(every_name, 5).tobytes() == image.tobytes()


@pytest.mark.parametrize("attribute", VISIBLE_ATTRIBUTES)
def test_a_flip_shows_where_it_should_and_nowhere_else(attribute):
    left, top, right, bottom = REGION_OF.get(attribute, HEAD)
    for attributes, seed in FACES:
        change = changed_pixels(attribute, attributes, seed)
        assert change.sum() > 5000
        change[top:bottom, left:right] = 0
        assert not change.any()


def test_attributes_that_are_not_visible_change_nothing():
    for attribute in set(CELEBA_ATTRIBUTES) - set(VISIBLE_ATTRIBUTES):
        assert not changed_pixels(attribute, {"Young": True}, 1).any()


def test_backdrop_comes_from_the_seed_alone():
    corners = [np.asarray(render(face_of(0, "test", k)[0], 9))[:16, :24] for k in range(20)]
    assert all(np.array_equal(corner, corners[0]) for corner in corners)
    assert not np.array_equal(np.asarray(render({}, 10))[:16, :24], corners[0])


def test_a_smile_lifts_the_corners_of_the_mouth():
    """The darkest row of a closed mouth, 14 px beside its middle, is well above the one in the middle."""
    for seed in range(10):
        rise = {}
        for smiling in (False, True):
            face = render({"Smiling": smiling, "Young": True, "No_Beard": True}, seed)
            grey = np.asarray(face.convert("L"), int)
            rows = grey[140:162].argmin(0)
            rise[smiling] = rows[86:92].mean() - (rows[74:77].mean() + rows[101:104].mean()) / 2
        assert rise[True] > rise[False] + 1.5


def test_render_refuses_what_it_does_not_know():
    for words, attributes in {"'Smile'": {"Smile": True}, "Smiling is -1": {"Smiling": -1}}.items():
        with pytest.raises(ValueError, match=words):
            render(attributes, 0)


def test_sampled_attributes_never_contradict_each_other(has):
    for line in (
        "Black_Hair Blond_Hair Brown_Hair Gray_Hair Bald",
        *("Bald Bangs", "Bald Wavy_Hair", "Bald Straight_Hair", "Bald Receding_Hairline"),
        *(f"No_Beard {name}" for name in ("Goatee", "Mustache", "5_o_Clock_Shadow", "Sideburns")),
        *("Wavy_Hair Straight_Hair", "Big_Nose Pointy_Nose", "Bangs Receding_Hairline"),
    ):
        assert sum(has[name] for name in line.split()).max() == 1, line


def test_sampled_attributes_correlate_as_in_celeba_and_none_decides_whether_one_smiles(has):
    assert 0.45 < has["Smiling"].mean() < 0.55
    for line in (
        "Smiling +High_Cheekbones +Mouth_Slightly_Open +Rosy_Cheeks",
        "Male -No_Beard +Wearing_Necktie -Wearing_Lipstick -Heavy_Makeup -Wearing_Earrings +Bald",
        "Young -Gray_Hair -Bald -Bags_Under_Eyes -Eyeglasses",
        "Heavy_Makeup +Wearing_Lipstick",
    ):
        a, *others = line.split()
        for other in others:
            correlation = np.corrcoef(has[a], has[other[1:]])[0, 1]
            assert correlation > 0.04 if other[0] == "+" else correlation < -0.04, (a, other)
    for name in set(VISIBLE_ATTRIBUTES) - {"Smiling"}:
        for value in (0, 1):
            assert 0.15 < has["Smiling"][has[name] == value].mean() < 0.85, name


def test_files_have_celebas_layout(tmp_path):
    write_celeba(tmp_path, {"train": 3, "val": 2, "test": 1}, seed=4)
    partition = csv_rows(tmp_path / "list_eval_partition.csv")
    assert partition[0] == ["image_id", "partition"]
    assert [row[1] for row in partition[1:]] == list("000112")
    attributes = csv_rows(tmp_path / "list_attr_celeba.csv")
    assert attributes[0] == ["image_id", *CELEBA_ATTRIBUTES]
    assert [row[0] for row in attributes] == [row[0] for row in partition]
    expected, nuisance = face_of(4, "test", 0)
    assert attributes[6][1:] == ["1" if expected[name] else "-1" for name in CELEBA_ATTRIBUTES]
    with Image.open(tmp_path / "img_align_celeba" / attributes[6][0]) as image:
        difference = np.asarray(image, int) - np.asarray(render(expected, nuisance), int)
    assert np.abs(difference).mean() < 3
    assert len(list((tmp_path / "img_align_celeba").iterdir())) == 6


def test_a_partial_set_holds_the_first_images_of_the_full_one(tmp_path):
    full, part = tmp_path / "full", tmp_path / "part"
    write_celeba(full, {"train": 2, "val": 1, "test": 4})
    write_celeba(part, {"test": 2})
    assert csv_rows(part / "list_attr_celeba.csv")[1:] == csv_rows(full / "list_attr_celeba.csv")[4:6]
    for image in (part / "img_align_celeba").iterdir():
        assert image.read_bytes() == (full / "img_align_celeba" / image.name).read_bytes()


def test_a_complete_set_is_left_alone_and_a_cut_one_is_drawn_again(tmp_path):
    write_celeba(tmp_path, {"val": 2})
    image = sorted((tmp_path / "img_align_celeba").iterdir())[0]
    drawn = image.read_bytes()
    image.write_bytes(b"touched")
    write_celeba(tmp_path, {"val": 2})
    assert image.read_bytes() == b"touched"
    (tmp_path / "list_eval_partition.csv").unlink()
    write_celeba(tmp_path, {"val": 2})
    assert image.read_bytes() == drawn


def test_another_data_set_is_not_overwritten(tmp_path):
    (tmp_path / "list_attr_celeba.csv").write_text("image_id,Smiling\n000001.jpg,1\n")
    with pytest.raises(UserError, match="holds another data set"):
        write_celeba(tmp_path, {"val": 1})
    assert not (tmp_path / "img_align_celeba").exists()


def test_the_command_draws_the_same_bytes_in_another_process(tmp_path):
    flags = {"data_dir": tmp_path / "there", "train": 0, "val": 0, "correlations": 10}
    output_of(run_script("demo.faces", flags | {"test": 2}))
    write_celeba(tmp_path / "here", {"test": 2})
    for path in (tmp_path / "here").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "there" / path.relative_to(tmp_path / "here")).read_bytes()
    assert "--test -1 must be at least 0" in error_of(run_script("demo.faces", flags | {"test": -1}))
