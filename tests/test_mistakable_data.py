"""Data that would be read without a word as something else than their owner means."""

import string
import struct
import unicodedata
import zlib

import numpy as np
import pytest
from assertions import refusal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scripts import call_script
from test_images import chunk
from test_training_data import draw, labels_of, load, refused, write_csv
from toy_celeba import write_celeba

from core.data.datasets import CelebA
from core.data.images import centre_crop, read_image
from core.data.loading import load_explained_data, split_paths
from guided_diffusion.script.errors import UserError

MEANT = {"1.png": {"cat"}, "2.png": {"lynx"}, "3.png": {"cat"}}
LETTERS = st.text(string.ascii_letters + "äéßñ", min_size=1, max_size=6)
HERE = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def table(root, header, *rows):
    return write_csv(draw(root, "1.png", "2.png", "3.png"), header, *rows)


# -- a csv -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [" ", "  ", "\t", "\u00a0"], ids=repr)
def test_spaces_around_names_and_cells_mean_nothing(tmp_path, space):
    rows = [f"{space}1.png,cat{space},0", f"2.png{space},{space}lynx,0", f"3.png,cat, 0{space}"]
    train = load(table(tmp_path, f"path,{space}class,partition{space}", *rows))
    assert labels_of(train) == MEANT and not train.splits_drawn


@pytest.mark.parametrize("name", ["None", "NA", "null", "nan", "N/A", "n/a", "NULL", "True"])
def test_a_class_may_be_called_like_what_others_read_as_missing(tmp_path, name):
    train = load(table(tmp_path, "path,class,partition", f"1.png,{name},0", "2.png,lynx,0", f"3.png,{name},0"))
    assert labels_of(train) == {"1.png": {name}, "2.png": {"lynx"}, "3.png": {name}}


@pytest.mark.parametrize(
    "name, meant",
    [("Partition", "partition"), ("PARTITION", "partition"), ("split", "partition"), ("Subset", "partition")]
    + [("Class", "class"), ("classes", "class"), ("image_id", "path"), ("Path", "path"), ("File", "path")]
    + [(name, "partition") for name in ("partition\u200b", "\uff50artition", "part ition", "is_test", "Set")],
)
def test_a_column_that_is_called_nearly_as_one_with_a_meaning_is_no_label(tmp_path, name, meant):
    message = refused(table(tmp_path, f"number,Red,{name}", "1.png,1,0", "2.png,0,1", "3.png,1,0"))
    assert f"the column {name};" in message and meant in message


@pytest.mark.parametrize("first, second", [("cat", "Cat"), ("caf\u00e9", "cafe\u0301"), ("\ufb01sh", "fish")])
def test_classes_that_differ_in_writing_alone_are_refused(tmp_path, first, second):
    rows = f"1.png,{first}", f"2.png,{second}", "3.png,lynx"
    if unicodedata.normalize("NFC", first) != unicodedata.normalize("NFC", second):
        assert "alone" in refused(table(tmp_path, "path,class", *rows))
    else:
        assert "twice" in refused(table(tmp_path, "path,class", *rows))
    draw(tmp_path / "folders", f"{first}/1.png", f"{second}/2.png")
    assert f"--data_dir {tmp_path}/folders has the name" in refused(tmp_path / "folders")


def test_an_image_that_is_listed_in_two_ways_is_listed_twice(tmp_path):
    assert "1.png twice" in refused(table(tmp_path, "path,Red", "1.png,1", "./1.png,0"))


def test_two_columns_of_one_name_and_a_column_without_one_are_refused(tmp_path):
    assert "the name Red twice" in refused(table(tmp_path, "path,Red,Red", "1.png,1,0", "2.png,0,1"))
    assert "column without a name" in refused(table(tmp_path, "path,Red,", "1.png,1,0", "2.png,0,1"))


@pytest.mark.parametrize(
    "separator, words", [(";", "separated by semicolons"), ("\t", "separated by tabs")], ids=["semicolons", "tabs"]
)
def test_another_separator_is_named(tmp_path, separator, words):
    lines = (line.replace(",", separator) for line in ("path,Red", "1.png,1", "2.png,0"))
    assert words in refused(table(tmp_path, *lines))


@HERE
@given(names=st.lists(LETTERS, min_size=3, max_size=3), extra=st.integers(1, 3), row=st.integers(0, 2))
def test_a_row_that_is_longer_than_the_header_is_refused(tmp_path, names, extra, row):
    rows = [f"{number}.png,{name}" for number, name in enumerate(names, start=1)]
    rows[row] += ",1" * extra
    assert "cannot be read as a table" in refused(table(tmp_path, "path,class", *rows))


@HERE
@given(names=st.lists(LETTERS, min_size=3, max_size=3, unique_by=lambda name: name.casefold().replace("ß", "ss")))
def test_classes_keep_their_names_and_images(tmp_path, names):
    rows = [f"{number}.png, {name} ,0" for number, name in enumerate(names, start=1)]
    train = load(table(tmp_path, "path,class,partition", *rows))
    assert labels_of(train) == {f"{number}.png": {name} for number, name in enumerate(names, start=1)}


# -- a folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [("cat", "lynx"), ("train", "test"), ("Train", "val")])
def test_one_folder_around_the_classes_or_splits_is_named(tmp_path, inner):
    draw(tmp_path / "pets", *(f"animals/{name}/more/{i}.png" for name in inner for i in range(2)))
    message = refused(tmp_path / "pets")
    assert f"give --data_dir {tmp_path}/pets/animals" in message
    assert message == refusal(UserError, load_explained_data, "auto", tmp_path / "pets", "all", 8)


@pytest.mark.parametrize("splits", [("training_set", "test_set"), ("seg_train", "seg_test"), ("dev", "Test 2")])
def test_splits_under_other_names_are_no_classes(tmp_path, splits):
    draw(tmp_path / "over", *(f"{split}/{name}/1.png" for split in splits for name in ("cat", "lynx")))
    draw(tmp_path / "under", *(f"{name}/{split}/1.png" for split in splits for name in ("cat", "lynx")))
    draw(tmp_path / "one", "train boat/1.png", "bus/1.png")
    for name in ("over", "under"):
        assert "called like splits" in refused(tmp_path / name)
    assert load(tmp_path / "one").attributes == ("bus", "train boat")


def test_one_class_of_images_and_of_folders_is_one_class(tmp_path):
    draw(tmp_path, "cat/1.png", "cat/a/2.png", "cat/b/3.png")
    assert load(tmp_path).attributes == ("cat",)


def test_composed_and_decomposed_names_of_folders_are_the_same(tmp_path):
    draw(tmp_path, "cafe\u0301/1.png", "bar/1.png", "cafe\u0301/2.png")
    assert load(tmp_path).attributes == ("bar", "caf\u00e9")


def test_a_line_break_in_a_folders_name_is_a_space_in_its_class(tmp_path):
    draw(tmp_path, "big\ncat/1.png", "lynx/1.png", "lynx/2.png")
    assert load(tmp_path).attributes == ("big cat", "lynx")


def test_files_that_are_left_out_are_counted_by_their_kind(tmp_path, capsys):
    draw(tmp_path, "cat/1.png", "lynx/1.png", "lynx/.hidden.txt")
    for name in ("cat/a.txt", "cat/b.TXT", "lynx/README", "c.csv"):
        (tmp_path / name).write_text("")
    load(tmp_path, "train", "val")
    line = f"{tmp_path}: files that are no images are left out: 1 .csv, 2 .txt, 1 no suffix\n"
    assert capsys.readouterr().out.count(line) == 1
    load_explained_data("auto", tmp_path, "all", 8)
    assert line in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["ppm", "pgm"])
def test_the_other_kinds_of_torchvisions_folders_are_images(tmp_path, kind):
    draw(tmp_path, "cat/1.png")
    Image.new("L" if kind == "pgm" else "RGB", (9, 9)).save(tmp_path / f"cat/2.{kind}")
    assert load_explained_data("auto", tmp_path, "all", 8).names == ["cat/1.png", f"cat/2.{kind}"]


def trained(data_dir, output_path, **flags):
    flags = {"architecture": "tiny_cnn", "image_size": 8, "lr_anneal_steps": 1, "save_interval": 1} | flags
    flags |= {"data_dir": data_dir, "output_path": output_path, "batch_size": 2, "compile": False}
    return call_script("celeba-train-classifier.py", flags)


def test_a_label_without_both_answers_is_not_trained_on(tmp_path, no_tensorboard):
    draw(tmp_path / "one", *(f"cat/{i}.png" for i in range(9)))
    one = tmp_path / "one"
    alike = table(tmp_path, "path,Red,partition", "1.png,1,0", "2.png,1,0", "3.png,0,1")
    for data in (one, alike):
        code, _, err = trained(data, tmp_path / "out")
        assert code == 2 and "same answer to" in err and str(data) in err
    some = table(tmp_path, "path,Red,Blue,partition", "1.png,1,0,0", "2.png,1,1,0", "3.png,0,1,1")
    assert trained(some, tmp_path / "out", query_label="Red")[0] == 2
    code, out, err = trained(some, tmp_path / "out")
    assert code == 0 and "1 labels have one answer alone, such as Red: none is learned" in out, err


# -- files of images ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 8, 10, 12, 14])
@pytest.mark.parametrize("kind, dtype", [("png", "uint16"), ("tif", "uint16"), ("tif", "int32")])
def test_greys_that_leave_bits_unused_are_refused_with_their_range(tmp_path, bits, kind, dtype):
    greys = np.linspace(0, 2**bits - 1, 64).reshape(8, 8).round().astype(dtype)
    Image.fromarray(greys).save(tmp_path / f"a.{kind}")
    message = refusal(UserError, read_image, tmp_path / f"a.{kind}")
    assert f"its greys go from 0 to {2**bits - 1} of 65535" in message


@pytest.mark.parametrize("colour_type, channels", [(2, 3), (6, 4), (4, 2)], ids=["RGB", "RGBA", "LA"])
def test_colours_that_leave_bits_unused_are_refused_too(tmp_path, colour_type, channels):
    for bits, fits in ((12, False), (16, True)):
        rows = np.full((8, 8, channels), 2**bits - 1, ">u2")
        data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
        head = struct.pack(">IIBBBBB", 8, 8, 16, colour_type, 0, 0, 0)
        png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
        (tmp_path / "a.png").write_bytes(png)
        if fits:
            assert read_image(tmp_path / "a.png").max() == 255
        elif channels == 3:
            assert "save it in 8 bits" in refusal(UserError, read_image, tmp_path / "a.png")


def test_a_ppm_that_leaves_bits_unused_is_refused(tmp_path):
    for highest, fits in ((4095, False), (65_535, True)):
        (tmp_path / "a.ppm").write_bytes(b"P6 2 2 65535\n" + np.full(12, highest, ">u2").tobytes())
        if fits:
            assert read_image(tmp_path / "a.ppm").max() == 255
        else:
            assert "save it in 8 bits" in refusal(UserError, read_image, tmp_path / "a.ppm")


@pytest.mark.parametrize("kind", ["bmp", "tif", "ppm", "png"])
@pytest.mark.parametrize("width", [16, 54])  # a row of 54 pixels has 164 bytes in a BMP
def test_dark_images_of_8_bits_are_read(tmp_path, kind, width):
    Image.new("RGB", (width, 9), (20, 20, 20)).save(tmp_path / f"a.{kind}")
    assert read_image(tmp_path / f"a.{kind}").max() == 20


@pytest.mark.parametrize("highest", [1.01, 4, 60])
def test_floats_that_overshoot_1_are_refused(tmp_path, highest):
    Image.fromarray(np.linspace(0, highest, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "a.tif")
    assert "save them in 8 bits" in refusal(UserError, read_image, tmp_path / "a.tif")


def test_dark_and_black_images_of_16_bits_are_read(tmp_path):
    for highest, expected in ((0, 0), (20_000, 78)):
        Image.fromarray(np.linspace(0, highest, 64).reshape(8, 8).astype(np.uint16)).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png").max() == expected


@pytest.mark.parametrize("size", [(20, 330), (330, 20)])
def test_a_long_image_is_cropped_before_it_is_resized(size, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    whole = np.array(centre_crop(Image.fromarray(pixels), 64))
    resized, resize = [], Image.Image.resize
    monkeypatch.setattr("core.data.images.LONGEST", 4)
    monkeypatch.setattr(Image.Image, "resize", lambda *given: resized.append(given[0].size) or resize(*given))
    np.testing.assert_array_equal(np.array(centre_crop(Image.fromarray(pixels), 64)), whole)
    assert max(resized[0]) == 80


def test_a_path_with_commas_is_one_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path, "a, b.png", "a", "c.png", "c,d,e.png")
    assert split_paths("a, b.png,c.png, c,d,e.png,a") == ["a, b.png", "c.png", "c,d,e.png", "a"]
    assert split_paths("x.png, y.png,") == ["x.png", "y.png"]


# -- CelebA's lists ----------------------------------------------------------------------------------------------


def test_the_column_of_the_splits_is_found_by_its_name(tmp_path):
    path = write_celeba(tmp_path, {"train": 4, "val": 2}) / "list_eval_partition.csv"
    expected = CelebA(tmp_path, "val", 8).names
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header.replace(",", ",glasses,"), *(row.replace(",", ",1,") for row in rows)]))
    assert CelebA(tmp_path, "val", 8).names == expected
    path.write_text("\n".join([header.replace("partition", "glasses"), *rows]))
    assert "no column partition, but glasses" in refusal(UserError, CelebA, tmp_path, "val", 8)


def test_what_a_mac_packs_beside_the_classes_is_no_class(tmp_path):
    draw(tmp_path, "cat/1.png", "lynx/1.png", "lynx/2.png", "__MACOSX/cat/1.png")
    assert load(tmp_path).attributes == ("cat", "lynx")
