"""The question of --task classes: its names, its labels, and those of a class-conditional network."""

import json
from types import SimpleNamespace

import pytest
import torch
from assertions import refusal
from main_runs import explain, refuse
from toy_classes import (
    ARCHITECTURE,
    BLUE,
    CHANNELS,
    COLOURS,
    GREEN,
    RED,
    class_flags,
    draw_colour,
    unnamed,
    write_classifier,
)
from toy_networks import MODEL_FLAGS, Channels

from core.data.image_lists import ImageFolder
from core.data.labels import OneHot
from core.results.layout import Layout
from core.running.networks import condition_of
from core.running.question import RUNNER_UP, ask
from core.running.run import Run
from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_model
from models.checkpoints import attach_flags
from models.classifiers import load_classifier

flags = pytest.fixture(class_flags)


def question(flags, dataset=None, classifier=None, **own):
    """The Question of some flags, without running anything."""
    asked = {
        "task": None, "query_label": None, "target_label": "-1", "class_names": None, "image_size": 16,
        "data_dir": "data", "dataset": "auto", "classifier_path": "file.pt",
    } | own  # fmt: skip
    dataset = dataset or ImageFolder(flags["data_dir"], "all", 16)
    return ask(asked, dataset, classifier or load_classifier(flags["classifier_path"], ARCHITECTURE), "cpu")


def labels(flags, dataset=None, **own):
    """The labels that the question finds in the data, a list."""
    dataset = dataset or ImageFolder(flags["data_dir"], "all", 16)
    return question(flags, dataset, **own).labels_of(dataset).tolist()


def test_names_may_be_given_in_a_file(flags, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps({"green": 0, "blue": 1, "red": 2}))
    asked = question(flags, class_names=tmp_path / "names.json", query_label="blue", target_label="red")
    assert asked.answers == ("green", "blue", "red") and (asked.origin, asked.target) == (1, 2)
    assert labels(flags, class_names=tmp_path / "names.json") == [1] * 3 + [0] * 3 + [2] * 3
    kept = flags | {"class_names": tmp_path / "names.json", "num_batches": 1}
    explain(kept)
    (tmp_path / "names.json").write_text(json.dumps(["red", "green", "blue"]))
    refuse(kept, "--class_names sha256")


def test_a_classifier_without_names_has_those_of_as_many_classes_of_the_data(flags, capsys):
    for names in (None, ["0", "1", "2"]):
        asked = question(flags, classifier=unnamed(names), task="classes", target_label="red")
        assert asked.answers == COLOURS and asked.target == COLOURS.index("red")
        assert labels(flags, classifier=unnamed(names), task="classes") == [0] * 3 + [1] * 3 + [2] * 3
        said = capsys.readouterr().out  # the order may be another
        assert "file.pt does not name its outputs" in said and "0 for blue, 1 for green, 2 for red, unless" in said


def test_a_classifier_without_names_has_numbers_where_the_data_are_of_none(flags, tmp_path):
    draw_colour(tmp_path / "bare/a.png", "red", 0)
    data = ImageFolder(tmp_path / "bare", "all", 16)
    asked = question(flags, data, unnamed(), task="classes", target_label="2")
    assert asked.answers == ("0", "1", "2") and asked.target == 2 and asked.labels_of(data) is None


def test_folders_that_are_numbered_mean_the_classifiers_numbers(flags, tmp_path, capsys):
    for name in ("2", "0", "1"):
        draw_colour(tmp_path / "numbered" / name / "a.png", "red", 0)
    data = ImageFolder(tmp_path / "numbered", "all", 16)
    assert labels(flags, data, classifier=unnamed(), task="classes") == [0, 1, 2]
    assert capsys.readouterr().out == ""
    (tmp_path / "numbered/1/a.png").unlink()
    fewer = ImageFolder(tmp_path / "numbered", "all", 16)
    assert labels(flags, fewer, classifier=unnamed(), task="classes") == [0, 2]


def test_some_of_the_classes_are_matched_by_name(flags, tmp_path):
    draw_colour(tmp_path / "some/blue/a.png", "blue", 0)
    draw_colour(tmp_path / "some/red/a.png", "red", 0)
    assert labels(flags, ImageFolder(tmp_path / "some", "all", 16)) == [BLUE, RED]


def test_the_file_says_what_the_question_is_unless_the_flag_does(flags, tmp_path):
    assert question(flags).task == "classes" and question(flags).target == RUNNER_UP
    silent = write_classifier(tmp_path / "silent.pt", CHANNELS)
    contents = torch.load(silent)
    del contents["task"]
    torch.save(contents, silent)
    of_silent = load_classifier(silent, ARCHITECTURE)
    assert question(flags, classifier=of_silent, query_label="red").task == "attributes"
    assert question(flags, classifier=of_silent, task="classes").task == "classes"


def test_a_file_that_says_no_task_is_not_taken_for_answers_in_silence(flags, tmp_path, capsys):
    assert question(flags, classifier=unnamed(list(CHANNELS)), query_label="red").task == "attributes"
    said = capsys.readouterr().out
    assert (
        "file.pt does not say whether its 3 outputs are yes/no answers or classes" in said and said.count("\n") == 1
    )
    assert question(flags, classifier=unnamed(list(CHANNELS)), query_label="red", task="attributes").origin is None
    assert question(
        flags, dataset=data_of("Smiling"), classifier=unnamed(["Smiling", "Young"]), query_label="Smiling"
    )
    assert capsys.readouterr().out == ""
    message = refusal(UserError, lambda: question(flags, classifier=unnamed(["0", "1", "2"]), query_label="red"))
    assert "file.pt does not say" in message and message.endswith("give --task attributes or --task classes")


def test_one_logit_is_no_class(flags):
    network = Channels(1).requires_grad_(False)
    network.attributes, network.task = None, None
    message = refusal(UserError, lambda: question(flags, classifier=network, task="classes"))
    assert "--task classes needs several classes, but file.pt has 1 output" in message


def test_answers_without_names_have_those_of_a_file_or_of_as_many_labels(flags, tmp_path, capsys):
    network = unnamed(["0", "1", "2"])
    asked = question(flags, classifier=network, task="attributes", query_label="red")
    assert "0 for blue, 1 for green, 2 for red, unless --class_names" in capsys.readouterr().out
    assert asked.attribute == "red"
    assert torch.equal(asked.logits_of(network)(torch.eye(3)[:, :, None, None]), torch.tensor([0.0, 0.0, 20.0]))
    (tmp_path / "names.txt").write_text("green\nred\nblue\n")
    names = {"class_names": tmp_path / "names.txt"}
    asked = question(flags, classifier=network, task="attributes", query_label="red", **names)
    assert torch.equal(asked.logits_of(network)(torch.eye(3)[:, :, None, None]), torch.tensor([0.0, 20.0, 0.0]))


# -- a class-conditional network -----------------------------------------------------------------------------------


def conditional(dataset, target="-1", **own):
    """The labels of a network of classes for a dataset's targets 0, 1 and 2."""
    asked = question(None, dataset, unnamed(list(CHANNELS)), task="classes", target_label=target)
    model_flags = {"class_cond": True, "num_classes": 3, "multiclass": False}
    run = Run(Layout("out", "exp"), model_flags | {"data_dir": "data"} | own, asked)
    return condition_of(run, dataset, torch.device("cpu"))([0, 1, 2], torch.tensor([RED, GREEN, BLUE]))


def data_of(*classes):
    labels = OneHot(range(len(classes)), len(classes)) if classes else torch.zeros((3, 0))
    return SimpleNamespace(attributes=classes, labels=labels, names=[*"abc"])


def test_a_conditional_network_is_told_the_target_by_the_number_that_the_data_give_it():
    assert conditional(data_of(*COLOURS)).tolist() == [2, 1, 0]
    assert conditional(data_of()).tolist() == conditional(data_of("red", "blue")).tolist() == [0, 1, 2]
    told = conditional(data_of(*COLOURS), multiclass=True)
    assert told.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]] and told.dtype is torch.float32
    message = refusal(UserError, lambda: conditional(data_of(*COLOURS), num_classes=40))
    assert "--num_classes 40 is not the 3 of --classifier_path" in message


def test_a_run_tells_its_network_the_target(flags, tmp_path, monkeypatch):
    model_flags = MODEL_FLAGS | {"class_cond": True, "multiclass": False, "num_classes": 3}
    unet = create_model(**model_flags)
    torch.save(attach_flags(unet.state_dict(), model_flags), tmp_path / "conditional.pt")
    told = []
    forward = type(unet).projections
    monkeypatch.setattr(type(unet), "projections", lambda self, t, *y: told.extend(y) or forward(self, t, *y))
    records, _ = explain(flags | model_flags | {"model_path": tmp_path / "conditional.pt", "target_label": "red"})
    assert len(records) == 5 and {int(y) for each in told for y in each} == {COLOURS.index("red")}
