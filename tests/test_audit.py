"""The audit against toys whose truth is known: which patch a classifier reads, and how much p hangs on it."""

from itertools import product

import numpy as np
import pytest
import torch
from assertions import assert_near
from reference_weights import deterministic_array
from toy_audit import (
    LEVEL,
    NAMES,
    PATCHES,
    SHARPNESS,
    SIZE,
    Patches,
    clean,
    draw,
    oracle,
    spoiled,
    write_experiment,
)
from toy_networks import stand_in_classifier

from core.audit.evidence import CONTEXTS, AuditNetworks, gather_evidence
from core.audit.own_change import RESTORED, attribution, own_change
from core.audit.ranking import judge_changes, name_used, rank
from core.data.images import from_uint8
from core.metrics.batches import Batching
from core.metrics.intervals import difference_interval, normal_mean_interval, simultaneous_margin
from core.results.layout import Layout
from core.results.reading import read_pairs

NOTHING = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)


def images(*has):
    return torch.stack([from_uint8(torch.tensor(draw(each), dtype=torch.uint8)) for each in has])


def patch(name):
    pixels = NOTHING.clone()
    rows, columns = PATCHES[name]
    pixels[:, rows, columns] = True
    return pixels


FIRST = torch.zeros(1, dtype=int)  # the attribute of an oracle that knows one


def oracle_of(name):
    return Patches(**{name: SHARPNESS})


# -- an attribute's own change -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_is_put_back_lies_in_the_attributes_patch_and_is_no_more_than_needed(name):
    x, counterfactual = images({}), images(NAMES)
    own, possible = own_change(oracle_of(name), FIRST, x, counterfactual, NOTHING)
    assert possible.all() and not (own & ~patch(name)).any()
    assert own.sum() == np.ceil(RESTORED * int(patch(name).sum()))


def test_pixels_that_are_kept_out_stay_and_too_many_of_them_keep_the_attribute_from_coming_back():
    x, counterfactual = images({}), images(NAMES)
    part = patch("Smiling")
    part[:, :, 7:] = False  # two of six columns
    own, possible = own_change(oracle_of("Smiling"), FIRST, x, counterfactual, part)
    left = patch("Smiling") & ~part
    assert possible.all() and not (own & ~left).any() and own.sum() == np.ceil(RESTORED * int(left.sum()))
    most = patch("Smiling")
    most[:, :, 9:] = False  # four of six
    own, possible = own_change(oracle_of("Smiling"), FIRST, x, counterfactual, most)
    assert not possible.any() and not own.any()


def test_attributions_add_up_to_the_logits_way_and_leave_no_gradients_behind():
    network, weights = stand_in_classifier(), torch.ones(1, requires_grad=True)
    x, counterfactual = (deterministic_array(f"audit.{name}", (3, 3, 32, 32), 0.4) for name in "xy")
    first = torch.zeros(3, dtype=int)
    moved = attribution(lambda pictures: (weights * network(pictures))[:, None], first, x, counterfactual)
    assert_near(moved.sum((1, 2)), network(counterfactual) - network(x), 1e-4)
    assert weights.grad is None and x.grad is None and not x.requires_grad


def test_images_do_not_influence_each_other():
    torch.manual_seed(0)
    x, counterfactual = torch.rand(5, 3, 32, 32), torch.rand(5, 3, 32, 32)
    nothing = torch.zeros(5, 32, 32, dtype=torch.bool)
    network = stand_in_classifier()

    def changes(k):
        parts = (torch.zeros(5, dtype=int), x, counterfactual, nothing)
        return own_change(lambda images: network(images)[:, None], *(part[k] for part in parts))

    together, alone = changes(slice(5)), [changes(slice(k, k + 1)) for k in range(5)]
    for all_at_once, each in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.equal(all_at_once, torch.cat(each))
    assert 0 < together[0].sum() < nothing.numel()


# -- what it does to p ---------------------------------------------------------------------------------------------


def networks(classifier, batch_size=3):
    see = oracle()
    return AuditNetworks(lambda x: classifier(x)[:, 0], see, NAMES, 0, Batching(torch.device("cpu"), batch_size))


def gather(root, classifier, changes, batch_size=3):
    write_experiment(root, changes)
    pairs = read_pairs(Layout(root, "exp"))
    used = networks(classifier, batch_size)
    evidence, pixels = gather_evidence(pairs, None, used)
    rows = rank(evidence, used)
    judge_changes(rows, evidence, pairs, pixels, used)
    rows = name_used(rows)
    return evidence, {row.attribute: row for row in rows}, [row.attribute for row in rows]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def fall(own, rest):
    """The fall of p in closed form. own, rest: what the attribute and all else add to the logit where bright."""
    share = np.ceil(RESTORED * 18) / 18  # of the attribute's 18 pixels is put back; the others go with the rest
    others = (rest + (1 - share) * own) * (1 - 2 * np.linspace(0, 1, CONTEXTS))
    return np.mean(sigmoid(others + share * own) - sigmoid(others - share * own))


def test_the_effect_of_each_attribute_is_what_the_classifiers_weights_say(tmp_path):
    evidence, rows, _ = gather(tmp_path, spoiled(), [("Smiling", "Eyeglasses", "Young")] * 12)
    assert evidence.changed.all() and evidence.control is None
    smile, glasses = 4 * LEVEL, 6 * LEVEL
    assert rows["Smiling"].effect == pytest.approx(fall(smile, glasses), abs=1e-5)
    assert rows["Eyeglasses"].effect == pytest.approx(fall(glasses, smile), abs=1e-5)
    assert rows["Eyeglasses"].effect_at_end == pytest.approx(
        sigmoid(smile + glasses) - sigmoid(smile + glasses * (1 - 2 * 17 / 18)), abs=1e-5
    )
    assert rows["Young"].effect == pytest.approx(0, abs=1e-6) and rows["Young"].changed == 1


def test_the_attribute_that_is_used_is_named_first_and_no_other(tmp_path):
    changes = [("Smiling", "Eyeglasses", "Young")] * 10 + [("Smiling", "Young")] * 10
    _, rows, order = gather(tmp_path, spoiled(), changes)
    assert {name for name, row in rows.items() if row.named} == {"Eyeglasses"} and rows["Smiling"].asked
    row = rows["Eyeglasses"]
    assert row.changed == row.excess == 0.5 and row.effect_n == 10 and row.n == 20
    assert row.score == pytest.approx(row.effect / 2) and 0 < row.score_low < row.score < row.score_high
    assert 0 < row.excess_low < 0.5 < row.excess_high < 1 and order[-1] == "Young"


def test_a_clean_classifier_is_cleared(tmp_path):
    _, rows, order = gather(tmp_path, clean(), [("Smiling", "Eyeglasses", "Young")] * 12)
    assert not any(row.named for row in rows.values()) and order[0] == "Smiling"


def test_the_answer_is_the_same_for_any_batch_size(tmp_path):
    changes = [names for k, names in enumerate(product(["Smiling"], ["Eyeglasses", "Young"])) for _ in range(3 + k)]
    first, *others = [gather(tmp_path / str(size), spoiled(), changes, size)[0] for size in (1, 2, 7)]
    for other in others:
        np.testing.assert_allclose(first.effect, other.effect, atol=1e-6)


# -- the intervals -------------------------------------------------------------------------------------------------


def test_the_margin_holds_for_all_means_at_once():
    rng, held = np.random.default_rng(0), 0
    truth = np.array([0.3, 0.05, 0.2, 0.0])
    for _ in range(200):
        values = rng.random((60, 4)) * (rng.random((60, 4)) < 2 * truth)
        held += np.abs(values.mean(0) - truth).max() <= simultaneous_margin(values)
    assert 0.91 <= held / 200 <= 0.99


def test_the_interval_of_a_difference_of_shares_covers_it():
    rng, held = np.random.default_rng(0), 0
    for _ in range(300):
        more = rng.random(40)
        first, second = more < 0.5, (more > 0.3) & (more < 0.6)  # 0.3 more, 0.1 less
        low, high = difference_interval(first, second)
        held += low <= 0.2 <= high
    assert held / 300 >= 0.95
    assert difference_interval(np.ones(5, bool), None) == pytest.approx((0.025**0.2, 1))


def test_the_interval_of_a_mean_is_students():
    low, high = normal_mean_interval(np.array([1.0, 2.0, 4.0]))
    assert (low, high) == pytest.approx((-1.4612, 6.1279), abs=1e-3) and normal_mean_interval(np.ones(1)) is None
