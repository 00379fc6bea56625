"""Several experiments in one report: what is compared, where it is not, and what a paired test finds."""

import re

import numpy as np
import pytest
from report_pages import Page, index, report, rows_of
from scipy import stats
from toy_report import name_attributes, write_experiment

from core.report.comparison import sign_flip_test


def test_several_experiments_are_compared_on_the_images_that_all_explained(tmp_path):
    write_experiment(tmp_path, "a", n=40)
    write_experiment(tmp_path, "b", n=60, flags={"method": "maskdime"})
    page = index(tmp_path, "a", "b")
    assert "40 images, all of them counted" in page.text and "do not differ by more than chance" in page.text
    methods = re.search(r"evaluations an image .*?FR.*?bKL (.*?) FR:", page.text)[1]
    assert re.search(r"\ba dime 13\.8 ", methods) and re.search(r"\bb maskdime 7\.9 ", methods)
    assert len(page.cards) == 100 and page.of("div", **{"class": "gallery together"})
    order = [(int(card["data-random"]), int(card["data-experiment"])) for card in page.cards]
    assert order == sorted(order)


def test_an_attribute_has_one_number_in_the_experiments_of_all_oracles(tmp_path):
    for name, names in {"a": ("Smiling", "Young", "Male"), "b": ("Hat", "Smiling", "Young")}.items():
        write_experiment(tmp_path, name)
        name_attributes(tmp_path, name, names)
    folder = report(tmp_path, "a", "b")
    choices = re.search(r'name="attribute">(.*?)</select>', (folder / "index.html").read_text())[1]
    numbers = {name: number for number, name in re.findall(r'value="(\d+)">([^<]+)', choices)}
    assert sorted(numbers) == ["Hat", "Smiling", "Young"]  # the third one never changes
    rows = {(row["experiment"], int(row["id"])): row for row in rows_of(folder)}
    for card in Page(folder / "index.html").cards:
        row = rows["ab"[int(card["data-experiment"]) - 1], int(card["data-number"])]
        changed = f"{row['appeared']} {row['vanished']}".split()
        assert sorted(card["data-attributes"].split()) == sorted(numbers[name] for name in changed)


@pytest.mark.parametrize(
    "n, failed, said",
    [
        (9, 9, None),  # of so few nothing is said
        (12, 0, "a and b do not differ by more than chance (95 % of the difference: -0.265 … 0.265; p = 1)"),
        (12, 4, "a and b do not differ by more than chance"),  # a bootstrap of 4 of 12 never holds fewer than 1
        (12, 6, "a is better than b, by 0.5"),
        (40, 12, "a is better than b, by 0.3"),
    ],
)
def test_better_is_said_where_a_paired_test_finds_it(tmp_path, n, failed, said):
    i = np.arange(n)
    target = 1 - np.where(i % 4 == 3, 1 - i % 2, i % 2)
    write_experiment(tmp_path, "a", n=n, oracle=False, images=False, cf_pred=target)
    write_experiment(tmp_path, "b", n=n, oracle=False, images=False, cf_pred=np.where(i < failed, 2, target))
    text = index(tmp_path, "a", "b").text
    assert f" FR: {said}" in text if said else "95 % of the difference" not in text


def test_the_paired_test_is_exact_for_few_images_and_agrees_with_the_binomial_test_for_many():
    assert sign_flip_test(np.ones(10)) == 2 / 2**10
    assert sign_flip_test(np.r_[np.ones(10), np.zeros(50)]) == 2 / 2**10
    gaps = np.r_[np.ones(40), -np.ones(22), np.zeros(100)]
    assert sign_flip_test(gaps) == pytest.approx(stats.binomtest(40, 62).pvalue, abs=0.02)
    assert sign_flip_test(np.array([3.0, -1, 2, 0])) == 0.5  # 2 of the 8 ways come to 4 or more


CLASSIFIER = {"classifier_path": "a.pth", "classifier_path sha256": "aaaa", "data_dir": "one"}
HASHES = "--classifier_path a.pth (sha256 aaaa), b with --classifier_path a.pth (sha256 bbbb)"


@pytest.mark.parametrize(
    "flags, columns, why, together",
    [
        ({"data_dir": "other"}, {}, "a was run with --data_dir one, b with --data_dir other.", False),
        ({}, {"image": ["x.jpg"] * 8}, "image 0000000 is val_00000.jpg in a, but x.jpg in b.", False),
        ({"classifier_path sha256": "bbbb"}, {}, f"a was run with {HASHES}.", True),
        ({"classifier_path sha256": None}, {}, "--classifier_path a.pth (sha256 not recorded).", True),
        ({"classifier_size": 224}, {}, "--classifier_size None, b with --classifier_size 224.", True),
        ({"query_label": "Young"}, {}, "a asks about Smiling, b about Young.", True),
        ({"task": "classes"}, {}, "a asks about Smiling, b about the classes.", True),
        (None, {}, "b has no flags.yaml that says what was asked.", True),
    ],
)
def test_experiments_of_different_images_classifiers_or_questions_are_not_compared(
    tmp_path, flags, columns, why, together
):
    write_experiment(tmp_path, "a", flags=CLASSIFIER)
    write_experiment(tmp_path, "b", flags=CLASSIFIER | (flags or {}), **columns)
    if flags is None:
        (tmp_path / "Results/b/flags.yaml").unlink()
    page = index(tmp_path, "a", "b")
    reason = page.text.partition("There is no such table: ")[2]
    assert why in reason[:300] and len(page.cards) == 16
    assert page.of("div", **{"class": "gallery together" if together else "gallery"})


def test_a_classifier_that_was_moved_and_an_attribute_that_was_numbered_are_the_same(tmp_path):
    write_experiment(tmp_path, "a", flags=CLASSIFIER)
    write_experiment(tmp_path, "b", flags=CLASSIFIER | {"classifier_path": "moved.pth", "query_label": "31"})
    assert "8 images, all of them counted" in index(tmp_path, "a", "b").text


def test_experiments_are_compared_in_the_groups_in_which_they_may_be(tmp_path):
    for name, sha in (("a", "aaaa"), ("b", "bbbb"), ("c", "aaaa"), ("d", "bbbb")):
        write_experiment(tmp_path, name, flags=CLASSIFIER | {"classifier_path sha256": sha})
    text = index(tmp_path, "a", "b", "c", "d").text
    assert "Not all experiments are in one table: a was run with" in text
    tables = re.findall(r"evaluations an image .*? bKL (\w+) dime.*? (\w+) dime", text)
    assert tables == [("a", "c"), ("b", "d")]


def test_images_that_had_another_target_are_not_compared(tmp_path):
    table = write_experiment(tmp_path, "a", n=12)
    write_experiment(tmp_path, "b", n=12, target=table["target"].where(table["id"] > 1, 2))
    assert "10 images, all of them counted" in index(tmp_path, "a", "b").text


def test_what_different_oracles_see_is_not_compared(tmp_path):
    write_experiment(tmp_path, "a", n=12, flags={"oracle_path": "a.pth"})
    write_experiment(tmp_path, "b", n=12, flags={"oracle_path": "b.pth"})
    write_experiment(tmp_path, "c", n=12, oracle=False)
    text = index(tmp_path, "a", "b", "c").text
    why = "a was run with --oracle_path a.pth, b with --oracle_path b.pth."
    assert f"counted, failed ones included. Oracle FR and MNAC are left out: {why}" in text
    assert "device FR L1 bKL a dime" in text and "MNAC: " not in text and " L1: " in text
    text = index(tmp_path, "a", "c").text
    assert "device FR Oracle FR MNAC L1 bKL a dime" in text and "are left out" not in text
