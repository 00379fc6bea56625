"""The validation of a classifier in training, also on several ranks."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from assertions import refusal
from rank_runs import words_of
from reference_weights import deterministic_array
from scripts import output_of, run_command
from toy_celeba import write_celeba

from core.data.datasets import CelebA
from core.metrics import batches
from core.metrics.validation import attribute_accuracy, class_accuracy, decide, validate_attributes
from guided_diffusion.script.errors import UserError
from models.classifiers import load_classifier


@pytest.mark.slow
def test_a_validation_on_two_ranks_is_that_of_one(tmp_path):
    root = write_celeba(tmp_path / "celeba", {"train": 70, "val": 5, "test": 0})
    flags = {"data_dir": root, "output_path": tmp_path / "training", "architecture": "shufflenet_v2_x0_5"}
    flags |= {"image_size": 32, "batch_size": 4, "lr_anneal_steps": 4, "save_interval": 4}
    output_of(run_command(*words_of("mpiexec", "celeba-train-classifier.py", flags)))
    classifier = load_classifier(tmp_path / "training/last.pt")
    alone = validate_attributes(classifier, CelebA(root, "val", 32), torch.device("cpu"))
    table = pd.read_csv(tmp_path / "training/attributes.csv", index_col=0)
    pd.testing.assert_frame_equal(table, alone.table)
    assert alone.table["accuracy"].nunique() > 2


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_ranks_decide_on_all_images_once(count, monkeypatch):
    dataset, decisions = [(torch.full((3, 2, 2), float(i)), None) for i in range(count)], torch.zeros(count)
    for rank in range(min(count, 4)):
        own = SimpleNamespace(rank=rank, world_size=4, first=False, several=True, collect=lambda value: [value])
        monkeypatch.setattr(batches, "connected", lambda own=own: own)
        part = decide(lambda x: x[:, 0, 0, 0], dataset, torch.device("cpu"), decision=lambda x: x)
        decisions[rank::4] += part
    assert decisions.tolist() == list(range(count))


def test_an_error_of_one_rank_is_raised_on_all(monkeypatch):
    errors = [None, "b.jpg is gone"]
    own = SimpleNamespace(rank=0, world_size=2, first=True, several=True, collect=lambda value: errors)
    monkeypatch.setattr(batches, "connected", lambda: own)
    own_part = batches.Batching(torch.device("cpu"), 2)
    message = refusal(UserError, own_part.map, lambda x: (x,), lambda i: (torch.zeros(1),), range(4), "")
    assert message == "b.jpg is gone"


def test_decisions_do_not_depend_on_the_batches():
    images = deterministic_array("decide.images", (7, 3, 2, 2))
    dataset, device = [(image, None) for image in images], torch.device("cpu")
    whole = decide(lambda x: x.flatten(1)[:, :4], dataset, device, batch_size=100)
    assert torch.equal(whole, (images.flatten(1)[:, :4] > 0).long())
    assert torch.equal(whole, decide(lambda x: x.flatten(1)[:, :4], dataset, device, batch_size=2))


def test_the_accuracy_of_an_attribute_counts_yes_and_no_alike():
    decisions = torch.tensor([[1, 1], [0, 1], [1, 1], [0, 1]])
    labels = torch.tensor([[1, 1], [1, 1], [1, 1], [0, 1]])
    table = attribute_accuracy(decisions, labels, ("a", "b"))
    assert table.loc["a"].tolist() == pytest.approx([0.75, (2 / 3 + 1) / 2, 0.75])
    assert table.loc["b"].tolist() == [1, 1, 1]  # of which there are only images with it


def test_the_accuracy_of_a_class_is_that_on_its_images_and_one_without_images_is_left_out():
    decided, classes = torch.tensor([0, 0, 1, 2, 2, 0]), torch.tensor([0, 0, 0, 2, 1, 1])
    table = class_accuracy(decided, classes, ("cat", "dog", "lynx", "puma"))
    assert table["accuracy"].to_dict() == {"cat": pytest.approx(2 / 3), "dog": 0, "lynx": 1}
    assert table["images"].to_dict() == {"cat": 3, "dog": 2, "lynx": 1}
