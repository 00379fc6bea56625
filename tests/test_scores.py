import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reference_weights import deterministic_array

from core.data.images import from_uint8
from core.data.labels import shares
from core.metrics.cout import cout, insertions
from core.metrics.scores import (
    change_correlations,
    changed_attributes,
    correlation_difference,
    correlation_matrix,
    face_similarity,
    pearson,
)
from guided_diffusion.training.objectives import AttributeObjective, ClassObjective


def test_similarity_is_the_cosine_whatever_the_length():
    a = torch.tensor([[1.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    b = torch.tensor([[5.0, 0.0], [0.0, 0.1], [-2.0, -2.0]])
    torch.testing.assert_close(face_similarity(a, b), torch.tensor([1.0, 0.8, -1.0]))


def test_changed_attributes_are_counted():
    before = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 1, 1]])
    after = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert changed_attributes(before, after).tolist() == [2, 0, 3]
    assert changed_attributes(before, before).tolist() == [0, 0, 0]


def test_correlations_are_numpys_and_0_without_variance():
    values = deterministic_array("metrics.values", (50, 4)).numpy()
    values[:, 2] = 0.1  # constant, and not exact in binary
    matrix = correlation_matrix(values)
    others = [0, 1, 3]
    np.testing.assert_allclose(matrix[np.ix_(others, others)], np.corrcoef(values[:, others].T), atol=1e-12)
    assert (matrix[2] == 0).all() and (matrix[:, 2] == 0).all()
    assert (pearson(values[:, 2], values) == 0).all()


def test_cd_by_hand_whatever_the_order_of_the_pairs():
    before = torch.tensor([[0, 0, 1], [0, 1, 0], [1, 1, 1], [1, 0, 0]])
    after = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0]])
    ours = change_correlations(before, after, query=0)  # changes (1, 1, -1, -1), (1, 0, -1, 0) and none
    np.testing.assert_allclose(ours, [1, math.sqrt(0.5), 0])
    assert correlation_difference(np.array([1, 0.2, -0.3]), ours) == pytest.approx(math.sqrt(0.5) - 0.2 + 0.3)
    assert correlation_difference(ours, ours) == 0
    bits = torch.rand((2, 30, 5), generator=torch.Generator().manual_seed(0)).round().long()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    there, back = change_correlations(*bits, 2), change_correlations(*bits[:, order], 2)
    np.testing.assert_allclose(there, back, atol=1e-12)


# -- COUT ----------------------------------------------------------------------------------------------------


def changed_in_order(size=10):
    """A picture whose red was raised from -1, in row-major order: by less from pixel to pixel."""
    x = torch.full((1, 3, size, size), -1.0)
    counterfactual = x.clone()
    counterfactual[0, 0] = torch.linspace(1, 0.5, size * size).view(size, size)
    return x, counterfactual


@pytest.mark.parametrize("pixel", [0, 1, 2, 37, 99])
def test_cout_of_a_classifier_that_looks_at_one_pixel(pixel):
    x, counterfactual = changed_in_order()
    step = pixel // 2 + 1  # of 50, in which two pixels each are inserted

    def classifier(images):  # it looks at the red of one pixel and is sure
        return 100 * images[:, 0].flatten(1)[:, pixel]

    value = cout(classifier, x, counterfactual, torch.tensor([0]), torch.tensor([1]))
    assert value.item() == pytest.approx((51 - 2 * step) / 50, abs=1e-5)


def test_insertions_count_the_pixels_and_lead_from_the_image_to_the_counterfactual():
    shares = [share for share, _ in insertions(*changed_in_order(size=3), steps=4)]
    assert shares == [0, 2 / 9, 4 / 9, 7 / 9, 1]
    x, counterfactual = torch.rand(2, 3, 7, 6), torch.rand(2, 3, 7, 6)
    mixtures = [mixed for _, mixed in insertions(x, counterfactual, steps=50)]
    assert len(mixtures) == 51
    assert torch.equal(mixtures[0], x) and torch.equal(mixtures[-1], counterfactual)


def naive_cout(margin, x, counterfactual, steps=50):
    """One image, pixel by pixel: what the definition says; margin: image -> p(target) - p(original)."""
    pixels = [(row, column) for row in range(x.shape[-2]) for column in range(x.shape[-1])]
    pixels.sort(key=lambda at: -round(12750 * float((x - counterfactual)[:, at[0], at[1]].abs().sum())))
    counts, margins = [round(step * len(pixels) / steps) for step in range(steps + 1)], []
    for count in counts:
        mixed = x.clone()
        for row, column in pixels[:count]:
            mixed[:, row, column] = counterfactual[:, row, column]
        margins.append(float(margin(mixed)))
    return np.trapezoid(margins, np.array(counts) / len(pixels))


def test_cout_is_that_of_a_naive_implementation_in_any_batch():
    x, counterfactual = (deterministic_array(f"cout.{name}", (5, 3, 9, 8), 0.5) for name in ("x", "cf"))
    weights = deterministic_array("cout.weights", (3 * 9 * 8,), 0.3)
    target = torch.tensor([1, 0, 1, 0, 0])
    original = 1 - target

    def classifier(images):
        return images.flatten(1) @ weights

    together = cout(classifier, x, counterfactual, original, target)
    for n, sign in enumerate([1, -1, 1, -1, -1]):
        # tanh(z / 2) is what the probability of yes exceeds that of no by.
        expected = sign * naive_cout(lambda mixed: (classifier(mixed[None]) / 2).tanh(), x[n], counterfactual[n])
        alone = cout(classifier, x[n : n + 1], counterfactual[n : n + 1], original[n : n + 1], target[n : n + 1])
        assert together[n].item() == pytest.approx(expected, abs=1e-5)
        assert alone.item() == pytest.approx(expected, abs=1e-5)


def test_pixels_of_equal_difference_are_inserted_in_the_order_of_rows():
    pixels = torch.randint(0, 200, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    changes = torch.tensor([[1, 5, 9], [9, 1, 5], [5, 5, 5]])  # 15 grey levels, however they lie in the channels
    rows = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    x, counterfactual = from_uint8(pixels), from_uint8(pixels + changes[rows].permute(0, 3, 1, 2))
    for step, (_, mixed) in enumerate(insertions(x, counterfactual, steps=64)):
        inserted = (mixed != x).any(1).flatten(1)
        assert inserted[:, :step].all() and not inserted[:, step:].any()


def test_cout_of_an_unchanged_image_is_the_margin_of_the_classifier():
    x = torch.zeros(1, 3, 4, 4)
    value = cout(lambda images: torch.full((len(images),), math.log(3)), x, x, torch.tensor([1]), torch.tensor([0]))
    assert value.item() == pytest.approx(0.25 - 0.75)


# -- classes -------------------------------------------------------------------------------------------------


def test_the_loss_of_classes_is_the_weighted_cross_entropy_of_each_image():
    labels = torch.eye(3, dtype=torch.int8)[[0] * 30 + [1] * 2 + [2] * 1]
    logits = deterministic_array("classes.logits", (33, 3), 2.0)
    batch = SimpleNamespace(images=logits, labels=labels)
    for balanced, weights in ((False, [1, 1, 1]), (True, [33 / 90, 33 / 6, 10])):  # tenfold at most
        losses = ClassObjective(shares(labels), balanced).losses(lambda images: images, batch)["loss"]
        for n in range(33):
            k = int(labels[n].argmax())
            assert losses[n].item() == pytest.approx(-weights[k] * math.log(logits[n].softmax(0)[k]), rel=1e-5)


def test_answers_weigh_what_makes_yes_and_no_count_alike():
    labels = torch.tensor([[0, 0], [0, 0], [0, 0], [1, 0]])
    objective = AttributeObjective(shares(labels), balanced=True)
    assert objective.no_weight.tolist() == pytest.approx([2 / 3, 0.5]) and objective.yes_weight.tolist() == [2, 10]
    batch = SimpleNamespace(images=torch.zeros(4, 2), labels=labels)
    losses = objective.losses(lambda images: images, batch)["loss"] / math.log(2)  # of each: its weights' mean
    assert losses.tolist() == pytest.approx([(2 / 3 + 0.5) / 2] * 3 + [1.25])
