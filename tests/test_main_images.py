"""main.py on a folder, a csv, and on images that are named one by one."""

import os

import pytest
import yaml
from main_runs import explain, refuse
from PIL import Image
from scripts import call_script, contents, output_of
from toy_classes import draw_colour

UNLABELLED = "the images have no labels: each counts as labelled by the classifier's prediction"


@pytest.fixture
def photos(tmp_path):
    """A folder of five images, which is also the training split of the folder that it lies in."""
    for i in range(5):
        draw_colour(tmp_path / "photos" / "train" / f"{i}.png", "red", i)
    return tmp_path / "photos" / "train"


def test_images_without_labels_count_as_predicted_and_this_is_said_once(flags, photos):
    records, out = explain(flags | {"data_dir": photos, "split": "all"})
    assert f"Smiling: explaining 5 of 5 images of {photos} all" in out and out.count(UNLABELLED) == 1
    assert list(records["image"]) == [f"{i}.png" for i in range(5)]
    assert (records["label"] == records["pred"]).all()
    assert not list((flags["output_path"] / "Original/Incorrect").iterdir())
    _, out = explain(flags | {"overwrite": True})
    assert UNLABELLED not in out


def test_a_folder_without_splits_says_what_its_validation_split_is(flags, photos):
    records, out = explain(flags | {"data_dir": photos})
    assert f"{photos} names no splits: val is the tenth that trainings hold out" in out and len(records) == 1
    _, out = explain(flags | {"data_dir": photos.parent, "split": "train", "overwrite": True})
    assert "names no splits" not in out and f"5 of 5 images of {photos.parent} train" in out


def test_an_index_counts_the_classifiers_attributes_where_the_data_have_none(flags, photos):
    explain(flags | {"data_dir": photos, "query_label": "39", "split": "all", "num_batches": 1})
    kept = yaml.safe_load((flags["output_path"] / "Results/exp/flags.yaml").read_text())
    assert kept["query_label"] == "Young" and kept["task"] == "attributes" and kept["target_label"] == -1


def test_a_csv_is_explained_with_its_own_labels_and_paths(flags, photos, tmp_path):
    rows = [f"photos/train/{i}.png,{i % 2},{1 - i % 2},{i // 4}" for i in range(5)]
    (tmp_path / "list.csv").write_text("\n".join(["path,Smiling,Young,partition", *rows]) + "\n")
    records, out = explain(flags | {"data_dir": tmp_path / "list.csv", "split": "all", "query_label": "1"})
    assert f"Young: explaining 5 of 5 images of {tmp_path}/list.csv all" in out and UNLABELLED not in out
    assert list(records["label"]) == [1, 0, 1, 0, 1]
    assert list(records["image"]) == [f"photos/train/{i}.png" for i in range(5)]
    records, _ = explain(flags | {"data_dir": tmp_path / "list.csv", "query_label": "1", "overwrite": True})
    assert list(records["image"]) == ["photos/train/4.png"]


def test_single_files_are_explained_without_any_data(flags, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos.parent)
    given = flags | {"images": f"train/3.png, {photos}/1.png,train/3.png"}
    del given["data_dir"]
    records, out = explain(given)
    assert "Smiling: explaining 3 of 3 images that --images names" in out and out.count(UNLABELLED) == 1
    assert list(records["id"]) == [0, 1, 2]
    assert list(records["image"]) == ["train/3.png", f"{photos}/1.png", "train/3.png"]
    before = contents(flags["output_path"])
    explain(given)  # goes on: there is nothing left
    assert contents(flags["output_path"]) == before
    assert (flags["output_path"] / "Results/exp/CC/CCF/CF/0000002.png").exists()


def test_a_run_begun_before_there_were_these_flags_goes_on(flags):
    explain(flags | {"num_batches": 1})
    path = flags["output_path"] / "Results/exp/flags.yaml"
    kept = yaml.safe_load(path.read_text())
    assert (kept["dataset"], kept["query_label"], kept["target_label"]) == ("CelebA", "31", -1)
    for name in ("task", "images", "class_names"):
        del kept[name]
    path.write_text(yaml.safe_dump(kept, sort_keys=False))
    records, out = explain(flags | {"num_batches": 2})
    assert len(records) == 6 and "3 of 6 are done already" in out
    records, _ = explain(flags | {"dataset": "CelebA", "target_label": "-1", "task": "attributes"})
    assert len(records) == 8


@pytest.mark.parametrize(
    "change, words",
    [
        ({"images": ""}, ["--images is empty"]),
        ({"images": " , "}, ["--images is empty"]),
        ({"images": "nowhere.png"}, ["nowhere.png is", "not there"]),
        ({"images": "."}, [". is no file"]),
        ({"images": "moving.gif"}, ["moving.gif is an animation of 2 images"]),
        ({"images": "a.png", "data_dir": "data"}, ["--images", "--data_dir data"]),
        ({"images": "a.png", "split": "all"}, ["--images", "--split all"]),
        ({"images": "a.png", "use_train": True}, ["--images", "--use_train True"]),
        ({"images": "a.png", "dataset": "CelebAMV"}, ["--images", "--dataset CelebAMV"]),
        ({"data_dir": "list.txt"}, ["--data_dir list.txt is neither a folder nor a csv"]),
        ({"data_dir": "wrong.csv"}, ["wrong.csv: Red of a.png does not fit"]),
        ({"data_dir": "absent.csv"}, ["absent.csv lists 1 of 1 images that are not there: b.png"]),
        ({"data_dir": "pipe"}, ["--data_dir pipe is neither a folder nor a csv"]),
        ({"data_dir": "empty"}, ["--data_dir empty has neither img_align_celeba/ with its lists nor an image"]),
        ({"data_dir": "stray"}, ["--data_dir stray has a subfolder for each class, but a.png lies in none"]),
        ({"data_dir": "classes", "split": "all"}, ["--query_label must be given: one of a, b"]),
        ({"data_dir": "classes", "query_label": "31"}, ["--query_label 31 is neither an attribute here"]),
        ({"data_dir": "classes", "query_label": "a"}, ["--classifier_path does not answer a"]),
    ],
    ids=str,
)
def test_data_that_cannot_be_read_is_named_and_nothing_is_written(flags, tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "stray/a.png", "stray/b/b.png", "classes/a/1.png", "classes/b/1.png"):
        draw_colour(tmp_path / name, "red", 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("path\n")
    (tmp_path / "wrong.csv").write_text("path,Red\na.png,yes\n")
    (tmp_path / "absent.csv").write_text("path\nb.png\n")
    os.mkfifo(tmp_path / "pipe")
    frames = [Image.new("RGB", (20, 20), (90, 120, shade)) for shade in (10, 200)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    given = {name: value for name, value in flags.items() if name != "data_dir"} | change
    refuse(given, *words)
    assert not flags["output_path"].exists()


def test_other_images_never_replace_the_originals_of_an_experiment(flags, photos):
    data, output = flags | {"data_dir": photos, "split": "all"}, flags["output_path"]
    explain(data)
    before = contents(output)
    photo = {name: value for name, value in data.items() if name not in ("data_dir", "split")}
    words = [
        ".png is another image than this run's, and belongs to the experiment exp; an --output_path is for one"
    ]
    refuse(photo | {"images": photos / "3.png", "exp_name": "photo"}, f"{output}/Original/", *words)
    assert contents(output) == before
    explain(photo | {"images": photos / "3.png", "overwrite": True})  # no other experiment needs the old ones


def test_the_same_images_are_explained_in_several_experiments(flags, photos):
    explain(flags | {"data_dir": photos, "split": "all"})
    output_of(call_script("main.py", flags | {"images": photos / "0.png", "data_dir": "", "exp_name": "again"}))
