import math

import numpy as np
import pytest
import torch
from assertions import assert_near, refusal
from reference_weights import deterministic_array
from scipy.ndimage import maximum_filter
from toy_networks import stand_in_classifier, stand_in_network

from core.methods.dime import ddim_step
from core.methods.guidance import Guidance, make_guidance
from core.methods.inversion import inversion, inversion_evaluations, invert, path_of, predicted_noise
from core.methods.registry import METHODS, Cost
from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_gaussian_diffusion

DIFFUSION = create_gaussian_diffusion(diffusion_steps=200, timestep_respacing="12", learn_sigma=True)
KEPT = [round(i * 199 / 11) for i in range(12)]
ABAR = np.cumprod(1 - np.linspace(0.1 / 200, 20 / 200, 200))[KEPT]
X = deterministic_array("test_fast.x", (2, 3, 8, 8), 0.4).clamp(-1, 1)
WEIGHTS = deterministic_array("gradients.W", (192,), 0.05).double().numpy()
TARGET = torch.tensor([1, 0])
SIGN = np.array([1.0, -1.0]).reshape(2, 1, 1, 1)
TAU = 6
NEVER = 1e9  # a margin that nothing reaches


def guide(x=X, target=TARGET, scale=3.0, l1=0.05, **options):
    return make_guidance(x, target, stand_in_classifier(8), classifier_scale=scale, l1_loss=l1, **options)


def sample(guidance=None, x=X, model_fn=stand_in_network, tau=TAU, **options):
    plain = {"margin": NEVER, "mask_threshold": 0.0, "final_threshold": 0.0, "through_network": False}
    return inversion(DIFFUSION, model_fn, x, guidance or guide(x), tau=tau, **plain | options)


def network_of(steps):
    def network(z, t):
        steps.append(KEPT.index(int(t[0])))
        return stand_in_network(z, t)

    return network


def margins(images):
    return torch.where(TARGET == 1, 1.0, -1.0) * stand_in_classifier(8)(images)


# -- the equations, written out ----------------------------------------------------------------------------


def naive_noise(z, t):
    x0 = np.clip((z - math.sqrt(1 - ABAR[t]) * 0.9 * np.tanh(z)) / math.sqrt(ABAR[t]), -1, 1)
    return (z - math.sqrt(ABAR[t]) * x0) / math.sqrt(1 - ABAR[t])


def naive_step(z, level, to, eps):
    return math.sqrt(to) * (z - math.sqrt(1 - level) * eps) / math.sqrt(level) + math.sqrt(1 - to) * eps


def naive_slope(z, t):
    """d naive x0 / dz: the stand-in network acts on each value by itself, so its Jacobian is diagonal."""
    x0 = (z - math.sqrt(1 - ABAR[t]) * 0.9 * np.tanh(z)) / math.sqrt(ABAR[t])
    slope = (1 - math.sqrt(1 - ABAR[t]) * 0.9 * (1 - np.tanh(z) ** 2)) / math.sqrt(ABAR[t])
    return slope * (np.abs(x0) <= 1)


def naive_inversion(margin, guided_steps, growth, threshold=0.0, warm_up=0, width=1, through=False, final=0.0):
    """The chain down beside the path: each step is that of the network, corrected by its fault on the path."""
    x = X.double().numpy()
    levels = [1.0, *ABAR]  # of x, z_0, z_1, …
    path = [x]
    for t in range(TAU):
        path.append(naive_step(path[-1], levels[t], levels[t + 1], naive_noise(path[-1], max(t - 1, 0))))
    z, waited = path[-1], np.zeros((2, 1, 1, 1))
    for number, t in enumerate(range(TAU - 1, -1, -1)):
        level, to = levels[t + 1], levels[t]
        down = naive_step(z, level, to, naive_noise(z, t))
        down = down + path[t] - naive_step(path[t + 1], level, to, naive_noise(path[t + 1], t))
        # What noise, and so what clean image, such a step goes by.
        slope = math.sqrt(1 - to) - math.sqrt(to * (1 - level) / level)
        eps = (down - math.sqrt(to / level) * z) / slope
        clean = (z - math.sqrt(1 - level) * eps) / math.sqrt(level)
        logit = (clean * WEIGHTS.reshape(3, 8, 8)).sum((1, 2, 3)) + 0.1 * (clean**2).sum((1, 2, 3))
        of_class = -3 * SIGN * (WEIGHTS.reshape(3, 8, 8) + 0.2 * clean)
        of_class = of_class * (naive_slope(z, t) if through and number > 0 else 1 / math.sqrt(level))
        gradient = growth**waited * of_class + 0.05 * np.sign(z - x)
        stopped = (SIGN[:, 0, 0, 0] * logit >= margin) | (number >= guided_steps)
        waited = waited + ~stopped.reshape(2, 1, 1, 1)
        moved = clean - (1 - level) / math.sqrt(level) * gradient * ~stopped.reshape(2, 1, 1, 1)
        eps = (z - math.sqrt(level) * moved) / math.sqrt(1 - level)
        z = math.sqrt(to) * moved + math.sqrt(1 - to) * eps
        if threshold and number >= warm_up:
            change = np.abs(x - moved).sum(1, keepdims=True)
            free = maximum_filter(change, (1, 1, width, width)) >= threshold * change.max((2, 3), keepdims=True)
            z = free * z + ~free * path[t]
    change = np.abs(x - z).sum(1, keepdims=True)
    return np.where(change >= final * change.max((2, 3), keepdims=True), z, x)


@pytest.mark.parametrize("margin", [0.0, 2.0, NEVER])
@pytest.mark.parametrize("guided_steps", [3, TAU])
@pytest.mark.parametrize("growth", [1.0, 1.5])
def test_the_chain_is_the_pseudo_code(margin, guided_steps, growth):
    found = sample(margin=margin, guided_steps=guided_steps, growth=growth)
    assert_near(found, naive_inversion(margin, guided_steps, growth), 1e-4)


@pytest.mark.parametrize("threshold, warm_up, width", [(0.5, 0, 1), (0.5, 3, 3), (0.9, 5, 1), (0.9, 2, 5)])
def test_a_masked_chain_is_the_pseudo_code(threshold, warm_up, width):
    found = sample(mask_threshold=threshold, mask_warm_up=warm_up, mask_dilation=width, growth=1.5)
    assert_near(found, naive_inversion(NEVER, TAU, 1.5, threshold, warm_up, width), 1e-4)


@pytest.mark.parametrize("margin, guided_steps", [(2.0, TAU), (NEVER, 3), (NEVER, TAU)])
def test_a_gradient_through_the_network_is_the_pseudo_codes(margin, guided_steps):
    found = sample(margin=margin, guided_steps=guided_steps, through_network=True, growth=1.5)
    assert_near(found, naive_inversion(margin, guided_steps, 1.5, through=True), 1e-4)
    assert (found - sample(margin=margin, guided_steps=guided_steps, growth=1.5)).abs().max() > 0.01


def test_what_has_hardly_changed_is_the_images_own():
    found = sample(final_threshold=0.4)
    assert_near(found, naive_inversion(NEVER, TAU, 1.2, final=0.4), 1e-4)
    kept = (found == X).all(1)
    assert kept.any() and not kept.all()


def test_nothing_is_kept_for_a_gradient_that_nothing_asks_for():
    tracked = []

    def network(z, t):
        tracked.append(z.requires_grad)
        return stand_in_network(z, t)

    sample(model_fn=network, through_network=True, guided_steps=3)
    assert tracked == [False] * TAU + [True, True, False, False, False]  # up, then down
    tracked.clear()
    sample(model_fn=network)
    assert not any(tracked)


def test_the_parameters_of_the_network_get_no_gradient():
    network = torch.nn.Conv2d(3, 6, 3, padding=1)
    found = sample(model_fn=lambda z, t: network(z), through_network=True)
    assert not found.requires_grad and all(weight.grad is None for weight in network.parameters())


def test_outside_of_the_last_mask_the_answer_is_the_image():
    steps = []
    found = sample(mask_threshold=0.5, mask_dilation=3, callback=steps.append)
    assert [step["mask"] is None for step in steps] == [True] * 3 + [False] * 3  # the default warm-up
    kept = ~steps[-1]["mask"].expand_as(X)
    assert kept.any() and not kept.all()
    assert torch.equal(found[kept], X[kept]) and not torch.equal(found, X)


@pytest.mark.parametrize("tau", [1, 2, 3])
def test_a_short_chain_is_masked_in_its_last_step(tau):
    steps = []
    sample(tau=tau, mask_threshold=0.5, callback=steps.append)
    assert [step["mask"] is None for step in steps] == [True] * (tau - 1) + [False]


# -- the way back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [1, 2, 6, 11])
def test_without_guidance_the_chain_comes_back_to_the_image(tau):
    assert_near(sample(tau=tau, guided_steps=0), X, 2e-5)


def test_a_step_of_the_path_is_undone_by_the_librarys_ddim_step():
    noises = invert(DIFFUSION, stand_in_network, X, tau=3)
    path = path_of(DIFFUSION, X, noises)
    for t in (1, 2):
        eps = noises[:, t]

        def network(z, steps, eps=eps):
            return torch.cat([eps, torch.zeros_like(eps)], dim=1)

        z, _ = DIFFUSION.ddim_sample(network, path[t + 1], DIFFUSION.batch_t(t, X), clip_denoised=False)
        assert_near(z, path[t])


def test_without_the_correction_it_is_ddims_chain_which_does_not_come_back():
    noises = invert(DIFFUSION, stand_in_network, X, tau=TAU)
    z = path_of(DIFFUSION, X, noises)[-1]
    for t in reversed(range(TAU)):
        eps = noises[:, t] if t == TAU - 1 else predicted_noise(DIFFUSION, stand_in_network, z, t)
        z = ddim_step(DIFFUSION, z, t, DIFFUSION.x0_from_eps(z, DIFFUSION.batch_t(t, z), eps), t - 1)
    unguided = {"guided_steps": 0}
    assert_near(sample(path_correction=False, **unguided), z)
    assert (z - X).abs().max() > 0.01
    assert_near(sample(**unguided), X, 2e-5)


# -- the margin --------------------------------------------------------------------------------------------


def test_an_image_that_has_its_target_by_the_margin_is_left_alone_and_its_neighbour_is_not():
    has = margins(X)
    low, high = has.argmin(), has.argmax()
    between = max(float(has.sum()) / 2, 0.0)
    assert has[low] < between < has[high]
    found = sample(margin=between)
    assert_near(found[high], X[high], 2e-5)
    assert (found[low] - X[low]).abs().max() > 0.05


def test_the_gradient_stops_at_the_margin_and_not_before():
    free, stopped = margins(sample()), margins(sample(margin=1.0))
    assert (free > stopped).any() and (stopped > margins(X)).any()
    assert torch.equal(sample(margin=1e6), sample())


def test_a_class_gradient_that_grows_reaches_further_and_moves_nothing_that_rests():
    assert (margins(sample(growth=1.5)) > margins(sample(growth=1.0))).all()
    has = margins(X)
    between, high = max(float(has.sum()) / 2, 0.0), has.argmax()
    assert torch.equal(sample(margin=between, growth=1.5)[high], sample(margin=between, growth=1.0)[high])


# -- evaluations, noise, callback --------------------------------------------------------------------------


def test_the_path_is_evaluated_once_and_shared_by_attempts():
    up, down, whole = [], [], []
    noises = invert(DIFFUSION, network_of(up), X, tau=TAU)
    found = sample(z=noises, model_fn=network_of(down))
    assert torch.equal(sample(model_fn=network_of(whole)), found)
    assert up == [0, 0, 1, 2, 3, 4] and down == [4, 3, 2, 1, 0] and whole == up + down
    assert inversion_evaluations(TAU) == (len(up), len(down))
    assert METHODS["inversion"].cost(TAU) == Cost(len(down), len(up), backward=TAU - 1)
    assert METHODS["inversion"].cost(TAU, through_network=False).backward == 0


def test_nothing_is_drawn():
    assert torch.equal(sample(noise=lambda like: pytest.fail("noise was asked for")), sample())


def test_an_image_has_the_answer_that_it_has_alone():
    x, target = torch.cat([X, X.flip(3), 0.1 * X]), torch.tensor([1, 0, 0, 1, 1, 0])

    def answer(rows):
        guidance = guide(x[rows], target[rows])
        return sample(guidance, x[rows], margin=1.0, through_network=True, final_threshold=0.15)

    together = answer([0, 1, 2, 3, 4, 5])
    assert_near(torch.cat([answer([row]) for row in range(6)]), together)
    assert_near(answer([5, 2]), together[[5, 2]])


def test_the_callback_sees_each_step_as_the_guidance_does():
    told, asked, guidance = [], [], guide()

    def parts(z, x_clean, sqrt_abar):
        asked.append((z, x_clean, sqrt_abar))
        return guidance.parts(z, x_clean, sqrt_abar)

    sample(Guidance(parts), callback=told.append)
    assert [step["t"] for step in told] == [5, 4, 3, 2, 1, 0]
    for step, (z, x_clean, sqrt_abar) in zip(told, asked, strict=True):
        assert torch.equal(step["z"], z) and torch.equal(step["x_clean"], x_clean)
        assert sqrt_abar == pytest.approx(math.sqrt(ABAR[step["t"]]))
    asked.clear()
    sample(Guidance(parts), guided_steps=2)
    assert len(asked) == 2


def test_the_caller_keeps_images_paths_and_gradients():
    x = X.clone().requires_grad_()
    noises = invert(DIFFUSION, stand_in_network, x, tau=TAU)
    before = noises.clone()
    found = sample(x=x, z=noises)
    assert not found.requires_grad and not noises.requires_grad and x.grad is None
    assert torch.equal(noises, before) and torch.equal(x.detach(), X)


def test_a_binary_question_as_two_classes_has_the_same_answer():
    def classes(images):
        logits = stand_in_classifier(8)(images)
        return torch.stack([-logits / 2, logits / 2], dim=1)

    as_classes = make_guidance(X, TARGET, classes, classifier_scale=6.0, l1_loss=0.05)
    assert_near(sample(as_classes, margin=1.0), sample(margin=1.0))


# -- what cannot be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [-1.0, math.nan])
def test_a_margin_below_zero_is_refused(margin):
    assert f"--margin {margin}" in refusal(UserError, lambda: sample(margin=margin))


@pytest.mark.parametrize("growth", [0.9, math.nan, math.inf])
def test_a_growth_that_fades_or_explodes_is_refused(growth):
    assert f"--growth {growth}" in refusal(UserError, lambda: sample(growth=growth))


@pytest.mark.parametrize("tau", [0, 12])
def test_a_depth_that_the_diffusion_has_not_is_refused_by_the_flags_name(tau):
    for call in (lambda: sample(tau=tau), lambda: invert(DIFFUSION, stand_in_network, X, tau=tau)):
        assert f"--start_step {tau}" in refusal(UserError, call)
