"""The names of classes: files of them, looking them up, and matching them."""

import json
import os

import pytest
from assertions import refusal

from core.data.class_names import class_index, match_classes, read_class_names, shown
from core.data.datasets import attribute_index
from guided_diffusion.script.errors import UserError

NAMES = ("cat", "dog", "lynx, grey")


@pytest.mark.parametrize(
    "file, text",
    [
        ("names.txt", "cat\ndog\nlynx, grey\n"),
        ("names", "\ufeffcat\r\n dog \r\nlynx,  grey"),
        ("names.json", json.dumps(NAMES)),
        ("names.json", json.dumps({"2": "lynx, grey", "0": "cat", "1": "dog"})),
        ("names.JSON", json.dumps({"lynx, grey": 2, "cat": 0, "dog": 1})),
    ],
)
def test_names_are_read_from_a_text_or_from_json(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    assert read_class_names(tmp_path / file, 3) == NAMES


@pytest.mark.parametrize(
    "file, text, words",
    [
        ("names.txt", b"cat\ndog\n", "has 2 names, but the classifier 3 classes"),
        ("names.txt", b"", "has 0 names"),
        ("names.txt", b"\xff\xfe\x00", "holds no names"),
        ("names.json", b"cat\ndog\nlynx", "holds no names"),
        ("names.json", b'"cat"', "neither a list nor an object"),
        ("names.json", b'["cat", ["dog"], 3]', "a name is no text"),
        ("names.json", b'{"0": "cat", "2": "dog", "3": "lynx"}', "leave some out"),
        ("names.json", b'{"zero": "cat", "1": "dog", "2": "lynx"}', "holds no names"),
        ("names.json", b"[" * 100_000, "holds no names"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path, file, text, words):
    path = tmp_path / file
    path.write_bytes(text)
    message = refusal(UserError, read_class_names, path, 3)
    assert f"--class_names {path}" in message and words in message


def test_what_is_no_file_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "nowhere", tmp_path):
        assert f"--class_names {path} is no file" in refusal(UserError, read_class_names, path, 3)


@pytest.mark.parametrize("query", ["puma", "3", "-1", "1.0", "Dog"])
def test_a_class_that_there_is_not_is_named_with_those_that_there_are(query):
    message = refusal(UserError, class_index, NAMES, query, "target_label")
    assert f"--target_label {query} is no class" in message and "cat, dog, lynx, grey" in message


IMAGENET = ("tench, Tinca tinca", "crane", "crane", "derrick, crane, hoist", "spindle", "bald eagle, tench eagle")


@pytest.mark.parametrize(
    "names, query, number",
    [(NAMES, "dog", 1), (NAMES, "1", 1), (NAMES, 2, 2), (NAMES, "lynx, grey", 2)]
    + [(IMAGENET, "tench, Tinca tinca", 0), (IMAGENET, "Tinca tinca", 0), (IMAGENET, "tench", 0)]
    + [(IMAGENET, "hoist", 3), (IMAGENET, "2", 2), (IMAGENET, "spindle", 4)]
    + [(("1", "0"), "0", 1), (("a, b", "b"), "b", 1), (("a, 1", "b"), "1", 1), (("a, 7", "b"), "7", 0)],
)
def test_a_class_is_called_by_its_name_before_its_number_before_its_synonyms(names, query, number):
    assert class_index(names, query, "query_label") == number


@pytest.mark.parametrize("names", [("crane", "cat", "crane"), ("crane, bird", "cat", "derrick, crane")])
def test_a_name_or_synonym_of_two_classes_needs_a_number(names):
    message = refusal(UserError, class_index, names, "crane", "target_label")
    assert "--target_label crane names the classes 0, 2; give a number" in message
    assert class_index(names, "2", "query_label") == 2


def test_a_name_spelled_differently_is_answered_with_the_nearest_of_a_thousand():
    names = [f"n{k:04d}, animal {k}" for k in range(1000)] + ["tench, Tinca tinca"]
    for query in ("Tench", "tinca Tinca", "tensch"):
        message = refusal(UserError, class_index, names, query, "query_label")
        assert message.endswith("it has 1001 classes, such as tench, Tinca tinca")
    assert len(refusal(UserError, attribute_index, names, "Tench")) < 200


def test_of_many_names_the_similar_ones_are_shown():
    names = [f"animal {k}" for k in range(1000)] + ["tabby cat"]
    assert shown(names, "taby cat") == "1001 classes, such as tabby cat"
    assert shown(names, "§") == "1001 classes, such as animal 0, animal 1, animal 2"


@pytest.mark.parametrize(
    "names, known, places",
    [
        (("cat", "dog"), ("dog", "cat"), [1, 0]),
        (("dog",), ("cat", "dog", "lynx"), [1]),
        (("cat", "dog"), ("0", "1"), [0, 1]),
        (("0", "1"), ("cat", "dog"), [0, 1]),
        (("1", "10", "2"), tuple(map(str, range(12))), [1, 10, 2]),
        (("cat",), ("crane", "cat", "crane"), [1]),
        (("crane", "cat", "crane"), ("crane", "cat", "crane"), [0, 1, 2]),
        (("tench", "hoist"), ("derrick, hoist", "tench, Tinca tinca"), [1, 0]),
    ],
)
def test_classes_are_matched_by_name_or_by_number_where_one_side_has_no_names(names, known, places):
    assert match_classes(names, known, "a", "b") == places


@pytest.mark.parametrize(
    "names, known, words",
    [
        (("cat", "puma"), ("dog", "cat"), "a has the class puma, which is no class of b: dog, cat"),
        (("cat", "dog", "puma"), ("0", "1"), "a has the class cat"),
        (("cat", "crane"), ("crane", "cat", "crane"), "crane, which is not one class, but several"),
    ],
)
def test_classes_that_do_not_agree_are_named(names, known, words):
    message = refusal(UserError, match_classes, names, known, "a", "b")
    assert words in message and "--class_names" in message
