import math
from functools import partial

import naive
import pytest
import torch
from assertions import assert_near, refusal
from naive import DIFFUSION, NEVER, TARGET, Network, X, chain_of, naive_inversion
from toy_networks import stand_in_classifier, stand_in_network

from core.methods.guidance import make_guidance
from core.methods.inversion import invert, path_of, predicted_noise
from core.methods.registry import METHODS, Cost
from guided_diffusion.script.errors import UserError

TAU = 6
sample = partial(naive.sample, "inversion", noise=lambda like: pytest.fail("noise was asked for"))


def margins(images):
    return torch.where(TARGET == 1, 1.0, -1.0) * stand_in_classifier(8)(images)


# -- the equations, written out ----------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.0, 2.0, NEVER])
@pytest.mark.parametrize("guided_steps", [3, TAU])
@pytest.mark.parametrize("growth", [1.0, 1.5])
def test_the_chain_is_the_pseudo_code(margin, guided_steps, growth):
    answer = sample(margin=margin, guided_steps=guided_steps, growth=growth)
    assert_near(answer, naive_inversion(TAU, margin, guided_steps, growth), 1e-4)


@pytest.mark.parametrize("threshold, warm_up, width", [(0.5, 0, 1), (0.5, 3, 3), (0.9, 5, 1), (0.9, 2, 5)])
def test_a_masked_chain_is_the_pseudo_code(threshold, warm_up, width):
    answer = sample(mask_threshold=threshold, mask_warm_up=warm_up, mask_dilation=width, growth=1.5)
    assert_near(answer, naive_inversion(TAU, NEVER, TAU, 1.5, threshold, warm_up, width), 1e-4)


@pytest.mark.parametrize("margin, guided_steps", [(2.0, TAU), (NEVER, 3), (NEVER, TAU)])
def test_a_gradient_through_the_network_is_the_pseudo_codes(margin, guided_steps):
    answer = sample(margin=margin, guided_steps=guided_steps, through_network=True, growth=1.5)
    assert_near(answer, naive_inversion(TAU, margin, guided_steps, 1.5, through=True), 1e-4)
    assert (answer - sample(margin=margin, guided_steps=guided_steps, growth=1.5)).abs().max() > 0.01


def test_what_has_hardly_changed_is_the_images_own():
    answer = sample(final_threshold=0.4)
    assert_near(answer, naive_inversion(TAU, NEVER, TAU, 1.2, final=0.4), 1e-4)
    equal = (answer == X).all(1)
    assert equal.any() and not equal.all()


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


@pytest.mark.parametrize("tau, warm_up", [(1, 0), (2, 1), (3, 2), (6, 3)])
def test_a_chain_is_masked_after_a_warm_up_and_a_short_one_in_its_last_step(tau, warm_up):
    steps = []
    sample(tau=tau, mask_threshold=0.5, callback=steps.append)
    assert [step["mask"] is None for step in steps] == [True] * warm_up + [False] * (tau - warm_up)


# -- the way back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [1, 2, 6, 11])
def test_without_guidance_the_chain_comes_back_to_the_image(tau):
    assert_near(sample(tau=tau, guided_steps=0), X, 2e-5)


def test_a_step_of_the_path_is_undone_by_the_librarys_ddim_step():
    noises = invert(chain_of(3))
    path = path_of(chain_of(3), noises)
    for t in (1, 2):
        eps = noises[:, t]

        def network(z, steps, eps=eps):
            return torch.cat([eps, torch.zeros_like(eps)], dim=1)

        z, _ = DIFFUSION.ddim_sample(network, path[t + 1], DIFFUSION.batch_t(t, X), clip_denoised=False)
        assert_near(z, path[t])


def test_without_the_correction_it_is_ddims_chain_which_does_not_come_back():
    noises = invert(chain_of(TAU))
    z = path_of(chain_of(TAU), noises)[-1]
    for t in reversed(range(TAU)):
        eps = noises[:, t] if t == TAU - 1 else predicted_noise(chain_of(TAU), z, t)
        z = chain_of(TAU).ddim_step(z, t, DIFFUSION.x0_from_eps(z, DIFFUSION.batch_t(t, z), eps), t - 1)
    assert_near(sample(path_correction=False, guided_steps=0), z)
    assert (z - X).abs().max() > 0.01


# -- the margin --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("growth", [1.0, 1.5])
def test_an_image_that_has_its_target_by_the_margin_is_left_alone_and_its_neighbour_is_not(growth):
    has = margins(X)
    low, high = has.argmin(), has.argmax()
    between = max(float(has.sum()) / 2, 0.0)
    assert has[low] < between < has[high]
    answer = sample(margin=between, growth=growth)
    assert_near(answer[high], X[high], 2e-5)
    assert (answer[low] - X[low]).abs().max() > 0.05


def test_the_gradient_stops_at_the_margin_and_not_before():
    free, stopped = margins(sample()), margins(sample(margin=1.0))
    assert (free > stopped).any() and (stopped > margins(X)).any()
    assert torch.equal(sample(margin=1e6), sample())


def test_a_class_gradient_that_grows_reaches_further():
    assert (margins(sample(growth=1.5)) > margins(sample(growth=1.0))).all()


# -- evaluations, noise, callback --------------------------------------------------------------------------


def test_the_path_is_evaluated_once_and_shared_by_attempts():
    up, down, whole = Network(), Network(), Network()
    noises = invert(chain_of(TAU, model_fn=up))
    answer = sample(z=noises, model_fn=down)
    assert torch.equal(sample(model_fn=whole), answer)
    assert up.steps == [0, 0, 1, 2, 3, 4] and down.steps == [4, 3, 2, 1, 0] and whole.steps == up.steps + down.steps
    assert METHODS["inversion"].cost(TAU) == Cost(len(down.steps), len(up.steps), backward=TAU - 1)
    assert METHODS["inversion"].cost(TAU, through_network=False).backward == 0


def test_a_binary_question_as_two_classes_has_the_same_answer():
    def classes(images):
        logits = stand_in_classifier(8)(images)
        return torch.stack([-logits / 2, logits / 2], dim=1)

    as_classes = make_guidance(X, TARGET, classes, classifier_scale=6.0, l1_loss=0.05)
    assert_near(sample(as_classes, margin=1.0), sample(margin=1.0))


# -- what cannot be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("option, values", [("margin", [-1.0, math.nan]), ("growth", [0.9, math.nan, math.inf])])
def test_a_margin_below_zero_and_a_growth_that_fades_or_explodes_are_refused(option, values):
    for value in values:
        assert f"--{option} {value}" in refusal(UserError, partial(sample, **{option: value}))
