from functools import partial

import pytest
import torch
from assertions import assert_near, refusal
from golden import SeededNoise
from naive import Network, X, changed, guide, naive_fastdime, naive_maskdime, noised, sample

from core.methods.guidance import Guidance, Parts
from guided_diffusion.script.errors import UserError

TAU = 6
FAST = ["fastdime", "fastdime2", "fastdime2plus"]
METHODS = [*FAST, "maskdime"]


def begin():
    """The noise, which has been asked for a start, and the start."""
    noise = SeededNoise()
    return noise, noised(X.double(), TAU, noise)


# -- the equations, written out ----------------------------------------------------------------------------


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("warm_up", [None, 0, 4])
def test_fastdime_is_its_papers_algorithm(rescale, lag, warm_up):
    noise, z = begin()
    first = 3 if warm_up is None else warm_up

    def mask_at(number, x0):
        return changed(X, x0, 0.8, 3) if number >= first else None

    expected = naive_fastdime(z, TAU, noise, mask_at, rescale, lag)
    options = {"rescale_gradient": rescale, "background_lag": lag, "mask_warm_up": warm_up}
    assert_near(sample("fastdime", **options), expected)


@pytest.mark.parametrize("plus", [False, True])
def test_fastdime2_is_two_passes_from_one_start(plus):
    noise, z = begin()

    def running(number, x0):
        return changed(X, x0, 0.8, 3) if plus and number >= 3 else None

    mask = changed(X, naive_fastdime(z, TAU, noise, running), 0.8, 3)
    assert 0.1 < mask.mean() < 0.9
    expected = naive_fastdime(z, TAU, noise, lambda *_: mask)
    assert_near(sample("fastdime2plus" if plus else "fastdime2"), expected)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("inside, distance_scale", [(1.0, 1.0), (0.0, 8.0)])
def test_maskdime_is_its_papers_algorithm(rescale, lag, inside, distance_scale):
    noise, z = begin()
    expected, mask = naive_maskdime(z, TAU, noise, rescale, lag, inside, distance_scale)
    assert 0.1 < mask.mean() < 0.9
    options = {"rescale_gradient": rescale, "background_lag": lag, "mask_noise": inside}
    assert_near(sample("maskdime", distance_scale=distance_scale, **options), expected)


# -- masks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"mask_warm_up": 5}])
def test_fastdime_with_a_threshold_of_zero_masks_nothing(options):
    steps, noise = [], SeededNoise()
    answer = sample("fastdime", mask_threshold=0, noise=noise, callback=steps.append, **options)
    assert all(step["mask"] is None for step in steps)
    assert len(noise.given) == TAU  # none for a background
    rest, z = begin()
    assert_near(answer, naive_fastdime(z, TAU, rest, lambda *_: None))


def test_fastdime_has_no_mask_while_it_warms_up_and_the_second_pass_of_fastdime2_has_one():
    steps = []
    sample("fastdime", mask_warm_up=4, callback=steps.append)
    assert [step["mask"] is None for step in steps] == [True] * 4 + [False] * 2
    steps.clear()
    sample("fastdime2", callback=steps.append)
    assert len(steps) == TAU and all(torch.equal(step["mask"], steps[0]["mask"]) for step in steps)


def test_where_the_gradient_is_zero_maskdime_masks_nothing():
    def flat(z, x_clean, sqrt_abar):
        zero = torch.zeros_like(z)
        return Parts(zero, zero, zero[:, 0, 0, 0])

    assert torch.equal(sample("maskdime", Guidance(flat)), X)


@pytest.mark.parametrize("method", FAST)
def test_where_nothing_changes_fastdime_keeps_the_image(method):
    """A network whose estimate is a clipped 1 whatever it sees, and an image that is 1."""
    x = torch.ones_like(X)

    def network(z, t):
        return torch.cat([-99 * torch.ones_like(z), torch.zeros_like(z)], dim=1)

    unguided = guide(x, scale=0, l1=0)
    assert torch.equal(sample(method, unguided, x=x, model_fn=network, noise=torch.zeros_like), x)


@pytest.mark.parametrize("method", METHODS)
def test_a_fault_of_the_network_is_not_hidden_by_the_mask(method):
    def broken(z, t):
        return torch.full((len(z), 6, 8, 8), torch.nan)

    assert sample(method, model_fn=broken).isnan().flatten(1).any(1).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_pass_evaluates_the_network_once_a_step(method):
    network = Network()
    sample(method, model_fn=network)
    assert network.steps == [5, 4, 3, 2, 1, 0] * (2 if "2" in method else 1)


@pytest.mark.parametrize("method", ["fastdime", "maskdime"])
def test_noise_can_be_that_of_the_background_alone(method):
    steps, options = [], {"z": SeededNoise()(X), "mask_share": 0.98, "mask_dilation": 9}
    if method == "fastdime":
        options = {"z": SeededNoise()(X), "mask_threshold": 1e-9, "mask_warm_up": 0, "sampling_scale": 0.0}
    answers = [sample(method, noise=SeededNoise(s), callback=steps.append, **options) for s in (1, 2)]
    assert all(step["mask"].all() for step in steps)
    assert torch.equal(*answers)


# -- what cannot be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, option, values",
    [
        *((name, "mask_threshold", (-0.1, 1.1)) for name in FAST),
        ("fastdime", "mask_dilation", (0, 4, -1)),
        ("fastdime2", "mask_dilation", (0, 4)),
        ("fastdime", "mask_warm_up", (-1, 6, 30)),
        ("fastdime2plus", "mask_warm_up", (-1, 6, 30)),
        ("fastdime", "background_lag", (-1, 2)),
        ("maskdime", "background_lag", (-1, 2)),
        ("maskdime", "mask_share", (-0.1, 0, 0.001, 0.999, 1, 2)),
        ("maskdime", "mask_clean_share", (-0.1, 0, 0.001, 1.1)),
        ("maskdime", "mask_dilation", (0, 4)),
    ],
)
def test_options_that_cannot_be_are_refused_before_the_network_is_asked(method, option, values):
    for value in values:
        options = {option: value, "model_fn": lambda *_: pytest.fail("asked")}
        assert f"--{option} {value}" in refusal(UserError, partial(sample, method, **options))
