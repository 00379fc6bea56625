import numpy as np
import pytest
from pytorch_fid.fid_score import calculate_frechet_distance

from core.metrics import distributions
from core.metrics.distributions import (
    Activations,
    error_by_halves,
    fid,
    frechet_distance,
    kernel_distance,
    kid,
    sfid,
    statistics,
)
from core.metrics.fid import reported_distance
from core.metrics.intervals import mean_interval, normal_interval, standard_error

RNG = np.random.default_rng(0)
A = RNG.normal(size=(60, 8)) @ RNG.normal(size=(8, 8)) + 1
B = RNG.normal(size=(50, 8)) @ RNG.normal(size=(8, 8))


def test_the_distance_is_that_of_pytorch_fid_and_reported_to_the_digit():
    expected = calculate_frechet_distance(*statistics(A), *statistics(B))
    assert frechet_distance(A, B) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(B, A) == pytest.approx(expected, rel=1e-6)
    assert reported_distance(A, B) == expected


def test_the_distance_in_closed_form():
    assert frechet_distance(A, A) == pytest.approx(0, abs=1e-6)
    shift = np.arange(8)
    assert frechet_distance(A, A + shift) == pytest.approx((shift**2).sum(), rel=1e-9)
    trace = np.cov(A, rowvar=False).trace() + (A.mean(0) ** 2).sum()
    assert frechet_distance(A, 3 * A) == pytest.approx(4 * trace, rel=1e-6)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
def test_fewer_images_than_dimensions_are_no_difficulty():
    wide = [np.concatenate([x, np.zeros((len(x), 200))], axis=1) for x in (A, B)]
    assert frechet_distance(*wide) == pytest.approx(frechet_distance(A, B), rel=1e-6)
    assert reported_distance(*wide) == frechet_distance(*wide)  # ours, which is near pytorch-fid's
    expected = calculate_frechet_distance(*statistics(wide[0]), *statistics(wide[1]))
    assert reported_distance(*wide) == pytest.approx(expected, rel=1e-5)
    few = [x[:5] for x in wide]
    moved = few[0] @ np.linalg.qr(RNG.normal(size=(208, 208)))[0]
    assert frechet_distance(few[0], few[0]) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(moved, moved[::-1]) == pytest.approx(0, abs=1e-6)


def test_one_image_has_no_distance_and_single_precision_is_computed_with_in_double():
    assert all(np.isnan(distance(A, B[:1])) for distance in (frechet_distance, reported_distance, kernel_distance))
    a, b = A.astype(np.float32) + 1000, B.astype(np.float32) + 1000
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(a.astype(float), b.astype(float)), rel=1e-12)


def naive_kernel_distance(a, b):
    def k(x, y):
        return (sum(p * q for p, q in zip(x, y, strict=True)) / len(x) + 1) ** 3

    n, m = len(a), len(b)
    within_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


def test_the_kernel_distance_is_that_of_a_naive_implementation():
    assert kernel_distance(A[:7], B[:5]) == pytest.approx(naive_kernel_distance(A[:7], B[:5]), rel=1e-9)


# -- originals and counterfactuals ---------------------------------------------------------------------------


def activations(n=40, shift=0.0, noise=0.0, every=1):
    """n originals and, of each `every`-th, a counterfactual: its original moved by shift and some noise."""
    rng = np.random.default_rng(1)
    originals, origin = rng.normal(size=(n, 4)), np.arange(0, n, every)
    moved = originals[origin] + shift + noise * rng.normal(size=(len(origin), 4))
    return Activations(originals, moved, origin)


def test_fid_takes_all_originals_and_sfid_never_an_image_with_its_own_counterfactual():
    a = activations(n=41, shift=0.5, every=2)
    assert fid(a) == frechet_distance(a.originals, a.counterfactuals)
    mask = np.zeros(41, bool)
    mask[np.random.default_rng(3).permutation(41)[:20]] = True
    chosen = mask[a.origin]
    there = frechet_distance(a.originals[mask], a.counterfactuals[~chosen])
    back = frechet_distance(a.originals[~mask], a.counterfactuals[chosen])
    assert sfid(a, seed=3) == pytest.approx((there + back) / 2)
    a = activations()  # unchanged
    assert fid(a) == pytest.approx(0, abs=1e-6) and sfid(a) > 0.01


def test_a_part_keeps_each_counterfactual_with_its_original():
    a = activations(shift=2, every=3)
    first, second = a.split(np.random.default_rng(0))
    assert (first ^ second).all() and first.sum() == 20
    for mask in (first, second):
        part = a.part(mask)
        np.testing.assert_allclose(part.counterfactuals, part.originals[part.origin] + 2)
        assert len(part) == 20 and len(part.counterfactuals) == mask[::3].sum()


def test_kid_is_about_0_without_a_difference_and_errs_less_than_its_small_subsets_deviate(monkeypatch):
    value, deviation, error = kid(activations(n=400))
    assert abs(value) < 3 * error and 0 < error <= deviation
    value, _, error = kid(activations(n=400, shift=0.5))
    assert value > 3 * error
    monkeypatch.setattr(distributions, "KID_SIZE", 20)
    _, deviation, error = kid(activations(n=400))
    assert error == pytest.approx(deviation * (20 / 380) ** 0.5)


def test_the_seed_decides():
    a = activations(noise=0.3)
    for distance in (kid, sfid):
        assert distance(a, seed=1) == distance(a, seed=1) != distance(a, seed=2)


def test_the_error_by_halves_is_that_of_a_mean():
    a = activations(n=1000)
    error = error_by_halves(lambda part: part.originals[:, 0].mean(), a)
    assert error == pytest.approx(1 / 1000**0.5, rel=0.4)


# -- intervals -----------------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_is_about_that_of_the_normal_law():
    values = np.random.default_rng(0).normal(3, 2, size=400)
    low, high = mean_interval(values)
    half = 1.96 * values.std() / 400**0.5
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert mean_interval(values) == (low, high) != mean_interval(values, seed=1)


def test_the_interval_of_equal_values_is_a_point_and_of_one_value_there_is_none():
    assert mean_interval([0.25] * 5) == (0.25, 0.25)
    assert mean_interval([0.25]) is None and mean_interval([]) is None


def test_a_normal_interval_is_of_a_standard_error_and_cut():
    values = np.random.default_rng(0).normal(size=200)
    error = standard_error(lambda rows: values[rows].mean(), 200)
    assert error == pytest.approx(values.std() / 200**0.5, rel=0.15) and standard_error(np.mean, 1) is None
    assert normal_interval(10, 1) == pytest.approx((8.04, 11.96), abs=1e-3)
    assert normal_interval(1, 1, lowest=0)[0] == 0
    assert normal_interval(1, None) is None and normal_interval(1, float("nan")) is None
