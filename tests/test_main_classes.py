"""main.py --task classes: why this class and not that one?"""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from main_runs import explain, main_flags, refuse
from scripts import call_script, contents, output_of
from toy_celeba import write_celeba
from toy_classes import (
    ARCHITECTURE,
    BLUE,
    CHANNELS,
    COLOURS,
    GREEN,
    RED,
    class_flags,
    draw_colour,
    logits,
    write_classifier,
)
from toy_networks import Channels

from core.data.image_lists import ImageFolder
from core.results.layout import Layout
from core.results.reading import read_classes, read_pairs
from core.running import tuning

flags = pytest.fixture(class_flags)


def predictions(flags):
    """What the classifier says of each image of the folder, and of each image's second choice."""
    images = torch.stack([image for image, _ in ImageFolder(flags["data_dir"], "all", 16)])
    found = logits(images)
    return found.argmax(1).tolist(), found.topk(2).indices[:, 1].tolist()


# -- what is explained -------------------------------------------------------------------------------------------


def test_every_image_goes_to_its_runner_up_and_the_labels_are_the_folders(flags):
    records, out = explain(flags)
    assert f"every class to the runner-up: explaining 9 of 9 images of {flags['data_dir']} all" in out
    first, second = predictions(flags)
    assert first == [RED, BLUE, BLUE] + [GREEN] * 3 + [RED] * 3
    assert list(records["pred"]) == first and list(records["target"]) == second
    assert list(records["label"]) == [BLUE] * 3 + [GREEN] * 3 + [RED] * 3
    assert list(records["image"]) == [f"{colour}/{i}.png" for colour in COLOURS for i in range(3)]
    assert (records["cf_pred"] == records["target"]).sum() > 6
    assert np.allclose(records["bkl"], 1 - records["p_target"], atol=1e-6)


def test_tuning_takes_the_first_images_of_each_class(flags, monkeypatch):
    chosen, tuner = [], tuning._Tuner
    monkeypatch.setattr(tuning, "candidates", lambda *_: {})  # the given settings alone
    monkeypatch.setattr(tuning, "_Tuner", lambda *parts: chosen.extend(parts[3]) or tuner(*parts))
    out = output_of(call_script("main.py", flags | {"tune": 3, "split": "train"}))
    assert "tuning on 3 images of train: 1 settings" in out
    labels = [label for _, label in ImageFolder(flags["data_dir"], "train", 16)]
    assert len({labels[i].argmax().item() for i in chosen}) == len(chosen) == 3


def test_the_folder_and_the_summary_are_those_of_the_classes(flags):
    records, _ = explain(flags)
    pairs = {int(pair.id): pair for pair in read_pairs(Layout(flags["output_path"], "exp"), reached=("CCF", "ICF"))}
    for record in records.itertuples():
        pair = pairs[record.id]
        assert pair.classified == ("CC" if record.label == record.pred else "IC")
        assert pair.reached == ("CCF" if record.cf_pred == record.target else "ICF")
        assert pair.info()["label"] == record.label and pair.info()["target"] == record.target
        counterfactual = logits(pair.images()[1][None])[0]
        assert counterfactual.argmax() == record.cf_pred
        assert record.p_target == pytest.approx(float(counterfactual.softmax(0)[record.target]), abs=1e-5)
    assert [pair.classified for pair in pairs.values()].count("IC") == 1
    experiment = flags["output_path"] / "Results/exp"
    summary = yaml.safe_load((experiment / "summary.yaml").read_text())
    assert summary["clean acc"] == pytest.approx(800 / 9) and summary["n"] == 9
    assert (experiment / "classes.txt").read_text() == "red\ngreen\nblue\n"
    kept = yaml.safe_load((experiment / "flags.yaml").read_text())
    assert kept["task"] == "classes" and kept["target_label"] == "-1" and kept["query_label"] == ""


@pytest.mark.parametrize("query, target", [("red", "blue"), ("0", "2"), ("red", "2")])
def test_why_a_red_and_not_a_blue_is_one_command(flags, query, target):
    records, out = explain(flags | {"query_label": query, "target_label": target})
    assert "red to blue: explaining 4 of 9 images" in out and "of the first 9, 4 are predicted red" in out
    assert list(records["id"]) == [0, 6, 7, 8]
    assert (records["pred"] == RED).all() and (records["target"] == BLUE).all()


def test_a_target_alone_takes_the_images_of_every_other_class(flags):
    records, out = explain(flags | {"target_label": "green"})
    assert "every class to green: explaining 6 of 9" in out and "3 are predicted green already" in out
    assert (records["pred"] != GREEN).all() and (records["target"] == GREEN).all()


def test_a_query_alone_goes_to_the_runner_up_and_stops_at_the_limit(flags):
    records, out = explain(flags | {"query_label": "green", "num_batches": 1, "batch_size": 2})
    assert "green to the runner-up: explaining 2 of 9" in out and "--num_batches 1 x --batch_size 2" in out
    assert list(records["id"]) == [3, 4] and (records["target"] != GREEN).all()
    records, out = explain(flags | {"query_label": "green", "batch_size": 2})
    assert len(records) == 3 and "2 of 3 are done already" in out


def test_the_same_question_goes_on_and_another_is_refused(flags):
    flags |= {"query_label": "red", "target_label": "blue"}
    explain(flags)
    before = contents(flags["output_path"])
    explain(flags)
    assert contents(flags["output_path"]) == before
    refuse(flags | {"target_label": "green"}, "--target_label green (was blue)")
    with open(flags["classifier_path"], "ab") as file:
        file.write(b"\0")
    refuse(flags, "--classifier_path sha256")


def test_chunks_of_a_question_are_merged(flags):
    whole, _ = explain(flags | {"target_label": "green"})
    flags |= {"target_label": "green", "output_path": flags["output_path"].parent / "chunked", "num_chunks": 2}
    for chunk in range(2):
        assert call_script("main.py", flags | {"chunk": chunk})[0] == 0
    output_of(call_script("main.py", {"output_path": flags["output_path"], "merge_and_eval": True}))
    merged = pd.read_csv(flags["output_path"] / "Results/exp/records.csv")
    # An image's batch is another one, which changes its counterfactual by rounding.
    same = ["id", "image", "label", "pred", "target", "cf_pred"]
    pd.testing.assert_frame_equal(merged[same], whole[same])
    assert read_classes(Layout(flags["output_path"], "exp")) == CHANNELS


def test_a_question_about_an_attribute_leaves_no_names_of_classes_behind(flags):
    explain(flags | {"num_batches": 1})
    other = write_classifier(flags["classifier_path"].with_name("other.pt"), CHANNELS, task="attributes")
    given = {"classifier_path": other, "query_label": "red", "num_batches": 1, "overwrite": True}
    records, _ = explain(flags | given)
    assert read_classes(Layout(flags["output_path"], "exp")) == () and set(records["pred"]) <= {0, 1}


def test_images_without_labels_are_of_the_class_that_is_seen(flags, tmp_path):
    named = ",".join(str(flags["data_dir"] / name) for name in ("blue/0.png", "green/1.png"))
    given = {name: value for name, value in flags.items() if name not in ("data_dir", "split")}
    records, out = explain(given | {"images": named, "target_label": "blue"})
    assert list(records["label"]) == list(records["pred"]) == [RED, GREEN] and "have no labels" in out


def test_a_state_dict_and_flags_suffice(flags, tmp_path):
    torch.save(Channels(3).state_dict(), tmp_path / "state.pt")
    (tmp_path / "names.txt").write_text("\n".join(CHANNELS))
    expected, _ = explain(flags | {"query_label": "red", "target_label": "blue"})
    given = {"classifier_path": tmp_path / "state.pt", "output_path": tmp_path / "state"}
    given |= {"class_names": tmp_path / "names.txt", "query_label": "red", "target_label": "blue"}
    refuse(flags | given, "state.pt does not say", "give --task attributes or --task classes")
    found, out = explain(flags | given | {"task": "classes"})
    pd.testing.assert_frame_equal(found, expected)
    assert "toy_networks:Channels: 3 classes" in out


# -- what does not fit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, words",
    [
        ({"task": "clases"}, ["--task clases", "attributes, classes"]),
        ({"query_label": "puma"}, ["--query_label puma is no class of the classifier", "red, green, blue"]),
        ({"target_label": "puma"}, ["--target_label puma is no class"]),
        ({"query_label": "red", "target_label": "0"}, ["--query_label and --target_label are both red"]),
        ({"task": "attributes", "query_label": "red"}, ["--task attributes, but", "is of classes"]),
        ({"class_names": "nowhere.txt"}, ["--class_names nowhere.txt is no file"]),
        ({"class_names": __file__}, [f"--class_names {__file__} has", "names, but the classifier 3 classes"]),
        ({"class_cond": True, "multiclass": False, "num_classes": 2}, ["--num_classes 2 is not the 3"]),
    ],
    ids=str,
)
def test_a_question_that_cannot_be_is_one_line_and_writes_nothing(flags, change, words):
    refuse(flags | change, *words)
    assert not flags["output_path"].exists()


def test_data_that_know_other_classes_are_named(flags, tmp_path):
    draw_colour(flags["data_dir"] / "puma/1.png", "red", 0)
    words = f"--data_dir {flags['data_dir']} has the class puma, which is no class of --classifier_path"
    refuse(flags, words, "red, green, blue")


def test_images_of_several_classes_are_named(flags, tmp_path):
    data = write_celeba(tmp_path / "celeba", {"val": 3})
    words = "--task classes needs one class an image, but 000001.jpg"
    refuse(flags | {"data_dir": data}, words, "give --task attributes with a classifier of yes/no answers")


def test_zeros_and_ones_in_a_column_of_classes_are_no_names(flags, tmp_path):
    (tmp_path / "data.csv").write_text("path,class\ncolours/red/0.png,0\ncolours/blue/0.png,1\n")
    words = (
        f"--task classes needs the names of classes, but --data_dir {tmp_path}/data.csv has 0 and 1 in its column"
    )
    refuse(flags | {"data_dir": tmp_path / "data.csv"}, words)


def test_an_oracle_of_another_task_or_of_other_classes_is_named(flags, toy_files, tmp_path):
    of_attributes = write_classifier(tmp_path / "attributes.pt", CHANNELS, task="attributes")
    others = write_classifier(tmp_path / "others.pt", ("red", "green", "puma"))
    for path, words in (
        (of_attributes, "--oracle_path is of attributes, but the question is of classes"),
        (others, "--classifier_path has the class blue, which is no class of --oracle_path"),
    ):
        refuse(flags | {"oracle_path": path, "oracle_architecture": ARCHITECTURE}, words)
    attributes = main_flags(toy_files, flags["output_path"])
    given = {"oracle_path": flags["classifier_path"], "oracle_architecture": ARCHITECTURE}
    refuse(attributes | given, "--oracle_path is of classes, but the question is of attributes")


def test_names_of_classes_are_no_use_to_an_attribute(toy_files, tmp_path):
    (tmp_path / "names.txt").write_text("a\n")
    given = {"class_names": tmp_path / "names.txt"}
    refuse(main_flags(toy_files, tmp_path / "out") | given, "--class_names", "is for --task classes")
