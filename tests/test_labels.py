"""Labels in memory: classes as their numbers, and what is asked of them."""

import pytest
import torch
from assertions import refusal
from test_training_data import draw, load, write_csv

from core.data.labels import OneHot, class_numbers, first_without_one_class, shares, take
from guided_diffusion.script.errors import UserError

CLASSES = [2, 0, 2, 1, 2]
TABLE = torch.eye(4, dtype=torch.int8)[CLASSES]


@pytest.mark.parametrize(
    "key",
    [0, -1, [1, 3], slice(1, 3), slice(None), ([0, 2], 2), (slice(None), 3), (slice(None), [2, 0]), (1, 0)],
    ids=str,
)
def test_classes_are_indexed_like_the_table_that_they_stand_for(key):
    found = OneHot(CLASSES, 4)[key]
    assert found.dtype is torch.int8 and torch.equal(found, TABLE[key])


def test_what_is_asked_of_a_table_is_told_of_classes_too():
    labels = OneHot(CLASSES, 4)
    assert len(labels) == 5 and labels.shape == TABLE.shape
    assert class_numbers(labels).tolist() == class_numbers(TABLE).tolist() == CLASSES
    assert torch.equal(shares(labels), shares(TABLE)) and shares(labels).dtype is torch.float32
    assert torch.equal(take(labels, [4, 1])[:], take(TABLE, [4, 1]))
    assert isinstance(take(labels, [4, 1]), OneHot)
    assert first_without_one_class(labels) is first_without_one_class(TABLE) is None


@pytest.mark.parametrize("row, count", [([0, 0, 0, 0], 0), ([1, 0, 0, 1], 2)])
def test_the_first_image_without_one_class_is_found(row, count):
    table = torch.cat([TABLE[:3], torch.tensor([row, row], dtype=torch.int8)])
    assert first_without_one_class(table) == (3, count)


def test_a_csv_may_name_the_class_of_each_image(tmp_path):
    rows = ["1.png,lynx,0", "2.png,cat,0", '3.png,"dog, brown",1']
    path = write_csv(draw(tmp_path, "1.png", "2.png", "3.png"), "path,class,partition", *rows)
    train, val = load(path, "train", "val")
    assert train.attributes == val.attributes == ("cat", "dog, brown", "lynx")
    assert class_numbers(train.labels).tolist() == [2, 0] and class_numbers(val.labels).tolist() == [1]


def test_a_column_called_class_may_also_be_a_label(tmp_path):
    path = write_csv(draw(tmp_path, "1.png", "2.png"), "path,class,Red,partition", "1.png,1,0,0", "2.png,0,1,0")
    assert load(path).attributes == ("class", "Red") and load(path).labels.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "header, row, words",
    [("class,Red", "cat,1", "beside its column class"), ("class", "", "class of 2.png is empty")],
)
def test_a_column_of_classes_that_does_not_fit_is_named(tmp_path, header, row, words):
    first = "1.png,dog" + ",0" * header.count(",")
    path = write_csv(draw(tmp_path, "1.png", "2.png"), f"path,{header}", first, f"2.png,{row}")
    message = refusal(UserError, load, path)
    assert str(path) in message and words in message
