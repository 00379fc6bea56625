import pytest
import torch
from assertions import assert_near, refusal
from golden import SeededNoise
from naive import (
    DIFFUSION,
    Network,
    Steps,
    X,
    changed,
    guide,
    naive_fastdime,
    naive_maskdime,
    noised,
)
from toy_networks import stand_in_features, stand_in_network

from core.methods.fastdime import fastdime, fastdime2, fastdime2plus
from core.methods.guidance import Guidance, Parts
from core.methods.maskdime import maskdime
from core.methods.noise import ImageNoise
from guided_diffusion.script.errors import UserError

TAU = 6
METHODS = [fastdime, fastdime2, fastdime2plus, maskdime]
# For images of 8 x 8, of which the published ones leave little outside.
OPTIONS = dict.fromkeys((fastdime, fastdime2, fastdime2plus), {"mask_threshold": 0.8, "mask_dilation": 3})
OPTIONS |= {maskdime: {"mask_share": 0.1, "mask_dilation": 3}}


def sample(method, guidance=None, noise=None, x=X, model_fn=stand_in_network, tau=TAU, **options):
    options = OPTIONS[method] | options
    return method(DIFFUSION, model_fn, x, guidance or guide(x), tau=tau, noise=noise or SeededNoise(), **options)


def begin(tau=TAU):
    """The noise, which has been asked for a start, and the start."""
    noise = SeededNoise()
    return noise, noised(X.double(), tau, noise)


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
    assert_near(sample(fastdime, **options), expected)


@pytest.mark.parametrize("plus", [False, True])
def test_fastdime2_is_two_passes_from_one_start(plus):
    noise, z = begin()

    def running(number, x0):
        return changed(X, x0, 0.8, 3) if plus and number >= 3 else None

    mask = changed(X, naive_fastdime(z, TAU, noise, running), 0.8, 3)
    assert 0.1 < mask.mean() < 0.9
    expected = naive_fastdime(z, TAU, noise, lambda *_: mask)
    assert_near(sample(fastdime2plus if plus else fastdime2), expected)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("inside, distance_scale", [(1.0, 1.0), (0.0, 8.0)])
def test_maskdime_is_its_papers_algorithm(rescale, lag, inside, distance_scale):
    noise, z = begin()
    expected, mask = naive_maskdime(z, TAU, noise, rescale, lag, inside, distance_scale)
    assert 0.1 < mask.mean() < 0.9
    options = {"rescale_gradient": rescale, "background_lag": lag, "mask_noise": inside}
    assert_near(sample(maskdime, distance_scale=distance_scale, **options), expected)


# -- masks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_outside_of_the_last_mask_the_answer_is_the_image(method):
    steps = Steps()
    answer = sample(method, callback=steps)
    mask = steps[-1]["mask"]
    assert mask.dtype == torch.bool and mask.shape == (2, 1, 8, 8)
    assert mask.flatten(1).any(1).all() and not mask.flatten(1).all(1).any()
    assert torch.equal(torch.where(mask, X, answer), X)
    assert (answer - X).abs()[mask.expand_as(X)].min() > 0


@pytest.mark.parametrize("options", [{}, {"mask_warm_up": 5}])
def test_fastdime_with_a_threshold_of_zero_masks_nothing(options):
    steps, noise = Steps(), SeededNoise()
    answer = sample(fastdime, mask_threshold=0, noise=noise, callback=steps, **options)
    assert all(step["mask"] is None for step in steps)
    assert len(noise.given) == TAU  # none for a background
    rest, z = begin()
    assert_near(answer, naive_fastdime(z, TAU, rest, lambda *_: None))


def test_fastdime_has_no_mask_while_it_warms_up():
    steps = Steps()
    sample(fastdime, mask_warm_up=4, callback=steps)
    assert [step["mask"] is None for step in steps] == [True] * 4 + [False] * 2


def test_the_second_pass_of_fastdime2_has_one_mask():
    steps = Steps()
    sample(fastdime2, callback=steps)
    assert len(steps) == TAU
    assert all(torch.equal(step["mask"], steps[0]["mask"]) for step in steps)


def test_where_the_gradient_is_zero_maskdime_masks_nothing():
    def flat(z, x_clean, sqrt_abar):
        zero = torch.zeros_like(z)
        return Parts(zero, zero, zero[:, 0, 0, 0])

    assert torch.equal(sample(maskdime, Guidance(flat)), X)


@pytest.mark.parametrize("method", [fastdime, fastdime2, fastdime2plus])
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


# -- what all methods share with dime_sample ---------------------------------------------------------------


@pytest.mark.parametrize("method, passes", [(fastdime, 1), (fastdime2, 2), (fastdime2plus, 2), (maskdime, 1)])
def test_a_pass_evaluates_the_network_once_a_step(method, passes):
    network = Network()
    sample(method, model_fn=network)
    assert network.steps == [5, 4, 3, 2, 1, 0] * passes


@pytest.mark.parametrize("method", METHODS)
def test_the_same_noise_gives_the_same_answer_and_other_noise_another(method):
    assert torch.equal(sample(method), sample(method))
    assert not torch.equal(sample(method), sample(method, noise=SeededNoise(5)))


@pytest.mark.parametrize("method", METHODS)
def test_an_image_has_the_answer_that_it_has_alone(method):
    x = torch.cat([X, X.flip(3), 0.1 * X])
    target = torch.tensor([1, 0, 0, 1, 1, 0])

    def answer(rows):
        noise = ImageNoise(3, rows, [1] * len(rows))
        return sample(method, guide(x[rows], target[rows]), noise, x[rows])

    together = answer([0, 1, 2, 3, 4, 5])
    assert_near(torch.cat([answer([row]) for row in range(6)]), together)
    assert_near(answer([5, 2]), together[[5, 2]])


@pytest.mark.parametrize("method", METHODS)
def test_a_chain_that_starts_from_a_given_z_draws_nothing_for_it(method):
    rest = SeededNoise()
    z = DIFFUSION.q_sample(X, DIFFUSION.batch_t(TAU, X), rest(X))
    assert torch.equal(sample(method, z=z, noise=rest), sample(method))


@pytest.mark.parametrize("method", METHODS)
def test_the_callback_sees_each_step_as_the_guidance_does(method):
    steps, asked, guidance = Steps(), [], guide()

    def parts(z, x_clean, sqrt_abar):
        asked.append((z, x_clean))
        return guidance.parts(z, x_clean, sqrt_abar)

    sample(method, Guidance(parts), callback=steps)
    assert [step["t"] for step in steps] == [5, 4, 3, 2, 1, 0]
    assert all(step.keys() == {"t", "z", "x_clean", "mask"} for step in steps)
    for step, (z, x_clean) in zip(steps, asked[-TAU:], strict=True):
        assert torch.equal(step["z"], z) and torch.equal(step["x_clean"], x_clean)
    assert torch.equal(steps[0]["x_clean"], X)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_guided_steps_are_guided(method):
    asked, guidance = [], guide()

    def parts(z, x_clean, sqrt_abar):
        asked.append(sqrt_abar)
        return guidance.parts(z, x_clean, sqrt_abar)

    sample(method, Guidance(parts), guided_steps=2)
    assert len(asked) == (4 if method in (fastdime2, fastdime2plus) else 2)


WHOLE = [
    (fastdime, {"mask_threshold": 1e-9, "mask_warm_up": 0, "sampling_scale": 0.0}),
    (maskdime, {"mask_share": 0.98, "mask_dilation": 9}),
]


@pytest.mark.parametrize("method, whole", WHOLE)
def test_noise_can_be_that_of_the_background_alone(method, whole):
    steps, z = Steps(), SeededNoise()(X)
    answer = [sample(method, z=z, noise=SeededNoise(s), callback=steps, **whole) for s in (1, 2)]
    assert all(step["mask"].all() for step in steps)
    assert torch.equal(*answer)


@pytest.mark.parametrize("method", METHODS)
def test_the_perceptual_distance_guides_them_too(method):
    near = guide(l_perc=300.0, perceptual=stand_in_features)
    assert (sample(method, near) - sample(method)).abs().max() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_the_caller_keeps_images_starts_and_gradients(method):
    x, z = X.clone().requires_grad_(), SeededNoise()(X)
    x_before, z_before = x.detach().clone(), z.clone()
    answer = sample(method, x=x, z=z)
    assert not answer.requires_grad and x.grad is None
    assert torch.equal(x.detach(), x_before) and torch.equal(z, z_before)


# -- what cannot be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, option, values",
    [
        (fastdime, "mask_threshold", (-0.1, 1.1)),
        (fastdime2, "mask_threshold", (-0.1, 1.1)),
        (fastdime2plus, "mask_threshold", (-0.1, 1.1)),
        (fastdime, "mask_dilation", (0, 4, -1)),
        (fastdime2, "mask_dilation", (0, 4)),
        (fastdime, "mask_warm_up", (-1, 6, 30)),
        (fastdime2plus, "mask_warm_up", (-1, 6, 30)),
        (fastdime, "background_lag", (-1, 2)),
        (maskdime, "background_lag", (-1, 2)),
        (maskdime, "mask_share", (-0.1, 0, 0.001, 0.999, 1, 2)),
        (maskdime, "mask_clean_share", (-0.1, 0, 0.001, 1.1)),
        (maskdime, "mask_dilation", (0, 4)),
    ],
)
def test_options_that_cannot_be_are_refused_before_the_network_is_asked(method, option, values):
    for value in values:
        options = {option: value, "model_fn": lambda *_: pytest.fail("asked")}
        message = refusal(UserError, lambda options=options: sample(method, **options))
        assert f"--{option} {value}" in message


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tau", [0, 12])
def test_a_depth_that_the_diffusion_has_not_is_refused_by_the_flags_name(method, tau):
    assert f"--start_step {tau}" in refusal(UserError, lambda: sample(method, tau=tau))
