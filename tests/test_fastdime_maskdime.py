import math

import numpy as np
import pytest
import torch
from assertions import assert_near, refusal
from golden import SeededNoise
from reference_weights import deterministic_array
from toy_networks import stand_in_classifier, stand_in_features, stand_in_network

from core.methods.fastdime import fastdime, fastdime2, fastdime2plus
from core.methods.guidance import Guidance, Parts, make_guidance
from core.methods.maskdime import maskdime
from core.methods.noise import ImageNoise
from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_gaussian_diffusion

DIFFUSION = create_gaussian_diffusion(diffusion_steps=200, timestep_respacing="12", learn_sigma=True)
KEPT = [round(i * 199 / 11) for i in range(12)]
ABAR = np.cumprod(1 - np.linspace(0.1 / 200, 20 / 200, 200))[KEPT]
X = deterministic_array("test_fast.x", (2, 3, 8, 8), 0.4).clamp(-1, 1)
WEIGHTS = deterministic_array("gradients.W", (192,), 0.05).double().numpy()
TARGET = torch.tensor([1, 0])
TAU = 6
METHODS = [fastdime, fastdime2, fastdime2plus, maskdime]
# For images of 8 x 8, of which the published ones leave little outside.
OPTIONS = dict.fromkeys((fastdime, fastdime2, fastdime2plus), {"mask_threshold": 0.8, "mask_dilation": 3})
OPTIONS |= {maskdime: {"mask_share": 0.1, "mask_dilation": 3}}


def guide(x=X, target=TARGET, scale=3.0, l1=0.05, **options):
    return make_guidance(x, target, stand_in_classifier(8), classifier_scale=scale, l1_loss=l1, **options)


def sample(method, guidance=None, noise=None, x=X, model_fn=stand_in_network, tau=TAU, **options):
    options = OPTIONS[method] | options
    return method(DIFFUSION, model_fn, x, guidance or guide(x), tau=tau, noise=noise or SeededNoise(), **options)


class Told(list):
    """A callback that keeps what it was told."""

    def __call__(self, step):
        self.append(step)


# -- the equations, written out ----------------------------------------------------------------------------


def naive_p(z, t):
    """Mean, variance and x0 of the stand-in network at step t, in float64."""
    eps, v = 0.9 * np.tanh(z), (np.sin(3 * z) + 1) / 2
    previous = ABAR[t - 1] if t else 1.0
    beta = 1 - ABAR[t] / previous
    s = max(t, 1)
    smallest = (1 - ABAR[s - 1]) / (1 - ABAR[s]) * (1 - ABAR[s] / ABAR[s - 1])
    x0 = np.clip((z - math.sqrt(1 - ABAR[t]) * eps) / math.sqrt(ABAR[t]), -1, 1)
    mean = math.sqrt(previous) * beta / (1 - ABAR[t]) * x0
    mean = mean + math.sqrt(1 - beta) * (1 - previous) / (1 - ABAR[t]) * z
    return mean, np.exp(v * math.log(beta) + (1 - v) * math.log(smallest)), x0


def naive_class(x_clean, scale):
    """-scale times the gradient of the signed logit W·x + 0.1 Σ x²."""
    sign = np.where(TARGET.numpy() == 1, 1.0, -1.0).reshape(-1, 1, 1, 1)
    return -scale * sign * (WEIGHTS.reshape(3, 8, 8) + 0.2 * x_clean)


def naive_dilate(image, width):
    """(8, 8) -> the maximum of the pixels at most width // 2 away."""
    padded = np.pad(image, width // 2, constant_values=-np.inf)
    return np.array([[padded[i : i + width, j : j + width].max() for j in range(8)] for i in range(8)])


def naive_changed(x, clean, threshold=0.8):
    masks = []
    for image, other in zip(x, clean, strict=True):
        m = np.abs((image + 1) / 2 - (other + 1) / 2).sum(0)
        masks.append(~(naive_dilate(m / m.max(), 3) < threshold))
    return np.array(masks)[:, None]


def drawn(noise):
    return lambda x: noise(torch.from_numpy(x)).numpy()


def naive_start(noise):
    x = X.double().numpy()
    return x, math.sqrt(ABAR[TAU]) * x + math.sqrt(1 - ABAR[TAU]) * noise(x)


def naive_fastdime(x, z, noise, mask_of, rescale=False, lag=0):
    """mask_of(number of the step, x0) -> where z may change, or None."""
    x_clean = x
    for number, t in enumerate(range(TAU - 1, -1, -1)):
        mean, variance, x0 = naive_p(z, t)
        divisor = math.sqrt(ABAR[t]) if rescale else 1.0
        z = mean - variance * (naive_class(x_clean, 3.0) / divisor + 0.05 * np.sign(z - x))
        if t > 0:
            z = z + np.sqrt(variance) * noise(z)
        x_clean, mask = x0, mask_of(number, x0)
        if mask is not None:
            x_clean = mask * x0 + (1 - mask) * x
            outside = x
            if t > 0:
                outside = math.sqrt(ABAR[t - 1 + lag]) * x + math.sqrt(1 - ABAR[t - 1 + lag]) * noise(x)
            z = mask * z + (1 - mask) * outside
    return z


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("warm_up", [None, 0, 4])
def test_fastdime_is_its_papers_algorithm(rescale, lag, warm_up):
    noise = drawn(SeededNoise())
    x, z = naive_start(noise)
    begins = 3 if warm_up is None else warm_up

    def mask_of(number, x0):
        return naive_changed(x, x0) if number >= begins else None

    expected = naive_fastdime(x, z, noise, mask_of, rescale, lag)
    options = {"rescale_gradient": rescale, "background_lag": lag, "mask_warm_up": warm_up}
    assert_near(sample(fastdime, **options), expected)


@pytest.mark.parametrize("plus", [False, True])
def test_fastdime2_is_two_passes_from_one_start(plus):
    noise = drawn(SeededNoise())
    x, z = naive_start(noise)

    def running(number, x0):
        return naive_changed(x, x0) if plus and number >= 3 else None

    mask = naive_changed(x, naive_fastdime(x, z, noise, running))
    assert 0.1 < mask.mean() < 0.9
    expected = naive_fastdime(x, z, noise, lambda *_: mask)
    assert_near(sample(fastdime2plus if plus else fastdime2), expected)


def naive_strongest(gradient, count):
    masks = []
    for g in np.abs(gradient).mean(1):
        mask = np.zeros(64)
        mask[np.argsort(-g.ravel())[:count]] = 1
        masks.append(naive_dilate(mask.reshape(8, 8), 3))
    return np.array(masks)[:, None]


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("inside, distance_scale", [(1.0, 1.0), (0.0, 8.0)])
def test_maskdime_is_its_papers_algorithm(rescale, lag, inside, distance_scale):
    noise = drawn(SeededNoise())
    x, z = naive_start(noise)
    clean_mask = np.zeros((2, 1, 8, 8))
    for t in range(TAU - 1, -1, -1):
        mean, variance, x0 = naive_p(z, t)
        x_clean = clean_mask * x0 + (1 - clean_mask) * x
        of_class = naive_class(x_clean, 3.0) / (math.sqrt(ABAR[t]) if rescale else 1.0)
        mask, clean_mask = naive_strongest(of_class, 6), naive_strongest(of_class, 3)  # 10 % and 5 % of 64
        moved = mean - variance * (of_class + distance_scale * 0.05 * np.sign(z - x))
        outside = x
        if t > 0:
            moved = moved + (inside * np.sqrt(variance) * noise(z) if inside else 0)
            level = ABAR[t - 1 + lag]
            outside = math.sqrt(level) * x + math.sqrt(1 - level) * noise(x)
        z = mask * moved + (1 - mask) * outside
    assert 0.1 < mask.mean() < 0.9
    options = {"rescale_gradient": rescale, "background_lag": lag, "mask_noise": inside}
    assert_near(sample(maskdime, distance_scale=distance_scale, **options), z)


# -- masks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_outside_of_the_last_mask_the_answer_is_the_image(method):
    told = Told()
    found = sample(method, callback=told)
    mask = told[-1]["mask"]
    assert mask.dtype == torch.bool and mask.shape == (2, 1, 8, 8)
    assert mask.flatten(1).any(1).all() and not mask.flatten(1).all(1).any()
    assert torch.equal(torch.where(mask, X, found), X)
    assert (found - X).abs()[mask.expand_as(X)].min() > 0


@pytest.mark.parametrize("options", [{}, {"mask_warm_up": 5}])
def test_fastdime_with_a_threshold_of_zero_masks_nothing(options):
    told, noise = Told(), SeededNoise()
    found = sample(fastdime, mask_threshold=0, noise=noise, callback=told, **options)
    assert all(step["mask"] is None for step in told)
    assert len(noise.given) == TAU  # none for a background
    x, z = naive_start(drawn(rest := SeededNoise()))
    assert_near(found, naive_fastdime(x, z, drawn(rest), lambda *_: None))


def test_fastdime_has_no_mask_while_it_warms_up():
    told = Told()
    sample(fastdime, mask_warm_up=4, callback=told)
    assert [step["mask"] is None for step in told] == [True] * 4 + [False] * 2


def test_the_second_pass_of_fastdime2_has_one_mask():
    told = Told()
    sample(fastdime2, callback=told)
    assert len(told) == TAU
    assert all(torch.equal(step["mask"], told[0]["mask"]) for step in told)


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


def evaluations_of(method, **options):
    steps = []

    def network(z, t):
        steps.append(KEPT.index(int(t[0])))
        return stand_in_network(z, t)

    sample(method, model_fn=network, **options)
    return steps


@pytest.mark.parametrize("method, passes", [(fastdime, 1), (fastdime2, 2), (fastdime2plus, 2), (maskdime, 1)])
def test_a_pass_evaluates_the_network_once_a_step(method, passes):
    assert evaluations_of(method) == [5, 4, 3, 2, 1, 0] * passes


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
    told, asked, guidance = Told(), [], guide()

    def parts(z, x_clean, sqrt_abar):
        asked.append((z, x_clean))
        return guidance.parts(z, x_clean, sqrt_abar)

    sample(method, Guidance(parts), callback=told)
    assert [step["t"] for step in told] == [5, 4, 3, 2, 1, 0]
    assert all(step.keys() == {"t", "z", "x_clean", "mask"} for step in told)
    for step, (z, x_clean) in zip(told, asked[-TAU:], strict=True):
        assert torch.equal(step["z"], z) and torch.equal(step["x_clean"], x_clean)
    assert torch.equal(told[0]["x_clean"], X)


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
    told, z = Told(), SeededNoise()(X)
    found = [sample(method, z=z, noise=SeededNoise(s), callback=told, **whole) for s in (1, 2)]
    assert all(step["mask"].all() for step in told)
    assert torch.equal(*found)


@pytest.mark.parametrize("method", METHODS)
def test_the_perceptual_distance_guides_them_too(method):
    near = guide(l_perc=300.0, perceptual=stand_in_features)
    assert (sample(method, near) - sample(method)).abs().max() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_the_caller_keeps_images_starts_and_gradients(method):
    x, z = X.clone().requires_grad_(), SeededNoise()(X)
    x_before, z_before = x.detach().clone(), z.clone()
    found = sample(method, x=x, z=z)
    assert not found.requires_grad and x.grad is None
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
