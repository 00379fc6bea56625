import numpy as np
import pytest
import torch
from assertions import refusal
from PIL import Image
from scripts import unprivileged
from toy_celeba import write_celeba

from core.data.datasets import CelebA
from core.data.images import read_image
from core.data.loading import find_reader, load_training_data, require_labels
from guided_diffusion.script.errors import UserError


def draw(root, *names):
    """Images of noise at these places below a folder, each another."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, format="PNG")
    return root


def load(data_dir, *splits):
    datasets = load_training_data(data_dir, splits or ["train"], 8)
    return datasets if splits else datasets[0]


def refused(data_dir, *splits):
    return refusal(UserError, load, data_dir, *splits)


def labels_of(*datasets):
    """name -> the attributes that it has."""
    return {
        name: {a for a, yes in zip(data.attributes, row, strict=True) if yes}
        for data in datasets
        for name, row in zip(data.names, data.labels[:].tolist(), strict=True)
    }


def write_csv(root, *lines):
    root.mkdir(exist_ok=True)
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root / "list.csv"


# -- a folder ----------------------------------------------------------------------------------------------


def test_each_subfolder_is_a_class_and_what_lies_deeper_is_of_it(tmp_path):
    names = ["cat/2.PNG", "cat/more/deep/1.jpeg", "dog/1.jpg", "dog/10.png", "Ape/a.png"]
    draw(tmp_path, *names, "dog/.hidden.png", ".thumbnails/dog.png")
    (tmp_path / "cat/notes.txt").write_text("no image")
    train, val = load(tmp_path, "train", "val")
    assert train.attributes == val.attributes == ("Ape", "cat", "dog")
    assert labels_of(train, val) == {name: {name.split("/")[0]} for name in names}
    assert train.names == sorted(train.names) and train.labels.classes.dtype is torch.int32
    for data in (train, val):
        for i, name in enumerate(data.names):
            assert torch.equal(data.pixels(i), read_image(tmp_path / name, 8))


def test_images_in_no_subfolder_have_no_label(tmp_path):
    train, val = load(draw(tmp_path, "b.png", "a.jpg", "c.jpeg"), "train", "val")
    assert sorted(train.names + val.names) == ["a.jpg", "b.png", "c.jpeg"] and val.attributes == ()
    image, label = train[0]
    assert image.shape == (3, 8, 8) and label.shape == (0,)
    assert str(tmp_path) in refusal(UserError, require_labels, train, tmp_path)


@pytest.mark.parametrize("classes", [("",), ("a/", "b/")])
def test_a_folders_train_val_and_test_are_its_splits(tmp_path, capsys, classes):
    splits = ("train", "val", "test")
    names = [f"{split}/{kind}{i}.png" for split in splits for kind in classes for i in range(2)]
    for data, split in zip(load(draw(tmp_path, *names), *splits), splits, strict=True):
        assert data.names == [name for name in names if name.startswith(split)]
        assert data.attributes == tuple(kind[0] for kind in classes if kind)
    assert "held out" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "folders", [("Train", "Val", "TEST"), ("training", "validation", "testing"), ("train", "valid", "Test")]
)
def test_the_folders_of_the_splits_may_be_called_otherwise(tmp_path, folders):
    draw(tmp_path, *(f"{folder}/{kind}/1.png" for folder in folders for kind in "ab"))
    for data, folder in zip(load(tmp_path, "train", "val", "test"), folders, strict=True):
        assert data.names == [f"{folder}/a/1.png", f"{folder}/b/1.png"] and data.attributes == ("a", "b")


def test_val_and_test_alone_are_splits_and_no_classes(tmp_path):
    draw(tmp_path, "val/a/1.png", "val/b/1.png", "test/a/2.png")
    val, test = load(tmp_path, "val", "test")
    assert val.attributes == ("a", "b") and labels_of(val, test)["test/a/2.png"] == {"a"}
    assert "no images in its train split" in refused(tmp_path, "train")
    draw(tmp_path, "lynx/1.png")  # with another folder beside them they would be classes
    assert "called like splits, test and val" in refused(tmp_path)


def test_every_common_kind_of_image_is_listed(tmp_path):
    kinds = ("png", "jpg", "jpeg", "jfif", "webp", "avif", "bmp", "gif", "tif", "tiff", "WEBP")
    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    for kind in kinds:
        Image.fromarray(pixels).save(tmp_path / f"{kind}.{kind}")
    train, val = load(tmp_path, "train", "val")
    assert sorted(train.names + val.names) == sorted(f"{kind}.{kind}" for kind in kinds)
    assert all(data.pixels(i).shape == (3, 8, 8) for data in (train, val) for i in range(len(data)))


def test_a_link_that_leads_back_counts_no_image_twice(tmp_path):
    root = draw(tmp_path / "data", *(f"{kind}/{i}.png" for kind in "ab" for i in range(6)))
    draw(tmp_path / "elsewhere", "c/0.png")
    (root / "a/back").symlink_to(root)
    (root / "b/there").symlink_to(root / "a")  # and back by a/back
    (root / "b/up").symlink_to("..")
    (root / "c").symlink_to(tmp_path / "elsewhere/c")
    train, val = load(root, "train", "val")
    found = train.names + val.names
    once = {f"{kind}/{i}.png" for kind in "ab" for i in range(6)} | {"c/0.png"}
    # What another folder links to is of that folder's class too: nothing leads back from there.
    assert sorted(found) == sorted(once | {f"b/there/{i}.png" for i in range(6)})


def test_a_folder_with_train_alone_has_no_other_split(tmp_path):
    draw(tmp_path, "train/a.png", "train/b.png")
    assert load(tmp_path).names == ["train/a.png", "train/b.png"]
    message = refused(tmp_path, "train", "val")
    assert "val" in message and str(tmp_path) in message


@pytest.mark.parametrize("source", ["folder", "csv"])
def test_where_no_splits_are_named_a_tenth_is_held_out_and_this_is_said(tmp_path, capsys, source):
    names = [f"{i:02d}.png" for i in range(40)]
    data_dir = draw(tmp_path / "data", *names)
    if source == "csv":
        data_dir = write_csv(data_dir, "path", *names)
    train, val = load(data_dir, "train", "val")
    said = capsys.readouterr().out
    assert "36 train, 4 val images" in said and "held out" in said and str(data_dir) in said
    assert sorted(train.names + val.names) == names and val.names != names[:4]
    assert (load(data_dir).names, load(data_dir, "val")[0].names) == (train.names, val.names)


def test_what_lies_beside_the_classes_or_the_splits_is_named(tmp_path):
    assert "stray.png" in refused(draw(tmp_path / "classes", "a/1.png", "b/1.png", "stray.png"))
    assert "misc/1.png" in refused(draw(tmp_path / "splits", "train/1.png", "val/1.png", "misc/1.png"))
    assert "stray.png" in refused(draw(tmp_path / "both", "train/a/1.png", "train/stray.png"))
    assert "val/c/1.png" in refused(draw(tmp_path / "typo", "train/a/1.png", "val/a/1.png", "val/c/1.png"))


@pytest.mark.parametrize("subfolder", ["", "a"])
def test_a_folder_without_images_says_what_was_looked_for(tmp_path, subfolder):
    (tmp_path / subfolder).mkdir(exist_ok=True)
    (tmp_path / subfolder / "readme.txt").write_text("no image")
    message = refused(tmp_path)
    assert f"--data_dir {tmp_path}" in message and "img_align_celeba" in message and ".jpg" in message


def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    draw(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b").chmod(0)
    with unprivileged():
        message = refused(tmp_path)
    assert f"--data_dir {tmp_path}" in message and "ermission" in message


# -- a csv -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("no", [0, -1])
def test_a_csv_lists_paths_labels_and_partitions(tmp_path, no):
    draw(tmp_path, "x/1.png", "2.png", "data/3.png", "data/4.png")
    rows = [f"../x/1.png,1,{no},0", f"../2.png,{no},{no},0", "3.png,1,1,1", f"{tmp_path}/data/4.png,{no},1,2"]
    path = write_csv(tmp_path / "data", "file,Round,Red,partition", *rows)
    train, val, test = load(path, "train", "val", "test")
    assert (train.names, val.names) == (["../x/1.png", "../2.png"], ["3.png"])
    assert labels_of(train, val, test) == {
        "../x/1.png": {"Round"},
        "../2.png": set(),
        "3.png": {"Round", "Red"},
        f"{tmp_path}/data/4.png": {"Red"},
    }
    assert torch.equal(train.pixels(1), read_image(tmp_path / "2.png", 8))


def test_a_csv_of_paths_alone_has_no_labels(tmp_path):
    path = write_csv(draw(tmp_path, "1.png", "2.png"), "path,partition", "1.png,0", "2.png,0")
    assert load(path).attributes == () and load(path).names == ["1.png", "2.png"]
    assert str(path) in refusal(UserError, require_labels, load(path), path)


@pytest.mark.parametrize(
    "lines, words",
    [
        (["path,Red,Blue", "1.png,1,0", "2.png,1"], ["Blue", "2.png"]),
        (["path,Red", "1.png,1", "2.png,2"], ["Red", "2.png"]),
        (["path,Red", "1.png,yes", "2.png,1"], ["Red", "1.png"]),
        (["path,Red", "1.png,-1", "2.png,0"], ["Red", "2.png"]),
        (["path,Red", "1.png,0.5", "2.png,1"], ["Red", "1.png"]),
        (["path,Red,partition", "1.png,1,0", "2.png,1,3"], ["2.png", "0 (train)"]),
        (["path,Red,partition", "1.png,1,0", "2.png,1,"], ["2.png", "0 (train)"]),
        (["path,Red", "1.png,1", "3.png,0", "4.png,0"], ["2 of 3", "3.png"]),
        (["path,Red", "1.png,1", "1.png,0"], ["1.png", "twice"]),
        (["path,Red", "1.png,1", ",0"], ["without a path"]),
        (["1.png,1", "2.png,0"], ["header"]),
        (["path,Red"], ["no rows"]),
        ([""], ["table"]),
        (["path,Red", "1.png,1,1,1"], ["table"]),
    ],
)
def test_a_csv_that_does_not_fit_is_named_with_the_row(tmp_path, lines, words):
    path = write_csv(draw(tmp_path, "1.png", "2.png"), *lines)
    message = refused(path)
    assert str(path) in message and all(word in message for word in words)


# -- which it is -------------------------------------------------------------------------------------------


def test_celeba_is_recognised_by_its_folder_or_its_lists(tmp_path, capsys):
    root = write_celeba(tmp_path)
    (train,) = load(root, "train")
    assert type(train) is CelebA and train.names == CelebA(root, "train", 8).names
    assert "4 train images with 40 attributes" in capsys.readouterr().out
    (root / "img_align_celeba").rename(root / "faces")
    assert find_reader(root) is CelebA and "img_align_celeba" in refused(root)


def test_what_is_no_folder_and_no_csv_is_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK")
    for name in ("a.zip", "nowhere", "nowhere.csv"):
        message = refused(tmp_path / name)
        assert f"--data_dir {tmp_path / name}" in message and "folder" in message and "csv" in message


def test_the_number_of_classes_is_that_of_the_labels(tmp_path):
    dataset = load(draw(tmp_path, "a/1.png", "a/2.png", "b/1.png"))
    require_labels(dataset, tmp_path, 2)
    message = refusal(UserError, require_labels, dataset, tmp_path, 40)
    assert "--num_classes 40" in message and str(tmp_path) in message


def test_one_class_an_image_is_what_a_folder_of_classes_has_and_a_csv_may_not(tmp_path):
    folder = draw(tmp_path / "folder", "a/1.png", "a/2.png", "b/1.png")
    require_labels(load(folder), folder, 2, one_each=True)
    draw(tmp_path, "1.png", "2.png", "3.png")
    for labels, count in (("1,1", 2), ("0,0", 0)):
        path = write_csv(tmp_path, "path,A,B,partition", "1.png,1,0,0", f"2.png,{labels},0", "3.png,0,1,0")
        message = refusal(UserError, require_labels, load(path), path, 2, True)
        assert "--multiclass False" in message and f"2.png of --data_dir {path} has {count}" in message
