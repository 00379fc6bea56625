import math

import pytest
import torch
from assertions import assert_near, refusal
from reference_weights import deterministic_array
from toy_networks import brightness_logit as brightness
from toy_networks import grey_denoiser as network

from core.methods.decisions import choose_target, predicted_class, probability
from core.methods.noise import START, ImageNoise
from core.running.explainer import explain
from guided_diffusion.script.errors import UserError
from guided_diffusion.script_util import create_gaussian_diffusion

DIFFUSION = create_gaussian_diffusion(diffusion_steps=200, timestep_respacing="12", predict_xstart=True)
TAU, SCALES = 3, (1.0, 3.0, 6.0)
IDS = [5, 17, 3, 202_598, 4, 80, 8, 12]
# From dark to bright: those at the ends are the hardest to flip.
IMAGES = (
    torch.linspace(-0.6, 0.6, 8)[:, None, None, None] + deterministic_array("faces", (8, 3, 8, 8), 0.1)
).clamp(-1, 1)


def redness(images):
    """Three classes: which of the channels is the strongest."""
    return 20 * images.mean((2, 3))


def run(rows=slice(None), classifier=brightness, model_fn=network, **options):
    options = {"tau": TAU, "classifier_scales": SCALES, "seed": 4} | options
    return explain(IMAGES[rows], classifier, DIFFUSION, model_fn, ids=IDS[rows], **options)


@pytest.fixture(scope="module")
def ladder():
    """(explanation of the eight images, the steps that its callback was called with)."""
    steps = []
    return run(callback=steps.append), steps


# -- the ladder --------------------------------------------------------------------------------------------


def test_these_images_need_different_numbers_of_attempts(ladder):
    explanation, _ = ladder
    assert set(explanation.attempts[explanation.flipped].tolist()) >= {2, 3} and not explanation.flipped.all()


def test_each_attempt_is_about_the_images_that_have_not_flipped_yet(ladder):
    explanation, steps = ladder
    for attempt in (1, 2, 3):
        rows = [step["rows"].tolist() for step in steps if step["attempt"] == attempt]
        assert rows == [torch.where(explanation.attempts >= attempt)[0].tolist()] * TAU
    assert [step["t"] for step in steps] == [2, 1, 0] * 3


def test_an_image_keeps_its_first_success_or_else_its_last_attempt(ladder):
    explanation, _ = ladder
    assert explanation.scale.tolist() == [SCALES[attempt - 1] for attempt in explanation.attempts]
    assert (explanation.attempts[~explanation.flipped] == 3).all()
    shorter = run(classifier_scales=SCALES[:2])
    assert torch.equal(shorter.attempts, explanation.attempts.clamp(max=2))
    same = (shorter.counterfactual == explanation.counterfactual).flatten(1).all(1)
    assert torch.equal(same, explanation.attempts <= 2)


def test_a_scale_that_flips_nothing_leaves_all_to_the_next():
    explanation = run(classifier_scales=(0.0, 40.0))
    assert explanation.flipped.all() and (explanation.attempts == 2).all()


def test_the_attempts_share_the_start_and_nothing_else(ladder):
    explanation, steps = ladder
    noise = ImageNoise(4, IDS, [START] * 8)(IMAGES)
    assert torch.equal(explanation.start, DIFFUSION.q_sample(IMAGES, DIFFUSION.batch_t(TAU, IMAGES), noise))
    for step in steps:
        if step["t"] == TAU - 1:
            assert torch.equal(step["z"], explanation.start[step["rows"]])
    twice = []
    run(rows=slice(0, 1), classifier_scales=(0.0, 0.0), callback=twice.append)
    one, other = (step["z"] for step in twice if step["t"] == TAU - 2)
    assert (one - other).abs().max() > 0.1


# -- independence ------------------------------------------------------------------------------------------


def test_the_noise_of_an_image_is_that_of_its_id_and_seed():
    def one(**options):
        return explain(IMAGES[:1], brightness, DIFFUSION, network, tau=TAU, **options).counterfactual

    assert torch.equal(one(), one(ids=[0], seed=0))
    assert not torch.equal(one(), one(ids=[1]))
    assert not torch.equal(one(), one(seed=1))


def test_the_images_are_left_as_they_were():
    before = IMAGES.clone()
    run()
    assert torch.equal(IMAGES, before)


# -- what is reported --------------------------------------------------------------------------------------


@pytest.mark.parametrize("classifier", [brightness, redness])
def test_everything_is_measured_on_the_counterfactual_as_a_file_holds_it(classifier):
    explanation = run(classifier=classifier)
    bytes_of_it = (explanation.counterfactual + 1) * 127.5
    torch.testing.assert_close(bytes_of_it, bytes_of_it.round(), rtol=0, atol=1e-4)
    logits, before = classifier(explanation.counterfactual), classifier(IMAGES)
    assert torch.equal(explanation.prediction, predicted_class(before))
    assert torch.equal(explanation.cf_prediction, predicted_class(logits))
    assert torch.equal(explanation.flipped, explanation.cf_prediction == explanation.target)
    assert_near(explanation.p_target, probability(logits, explanation.target))
    assert_near(explanation.p_target_before, probability(before, explanation.target))
    assert (explanation.p_target > explanation.p_target_before).all()


def test_of_many_classes_the_runner_up_is_the_target_and_can_be_reached():
    explanation = run(classifier=redness, classifier_scales=(40.0,))
    assert torch.equal(explanation.target, redness(IMAGES).argsort(1)[:, 1])
    assert explanation.flipped.all() and not (explanation.prediction == explanation.target).any()


def test_a_class_that_is_asked_for_is_the_target_of_every_image():
    explanation = run(target=1)
    assert explanation.target.tolist() == [1] * 8
    assert explanation.prediction.tolist() == [0] * 4 + [1] * 4
    assert (explanation.attempts >= 1).all()


def test_predictions_and_probabilities_agree():
    logits = torch.tensor([2.0, -1.0, 0.0])
    assert predicted_class(logits).tolist() == [1, 0, 0]
    expected = [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1)), 0.5]
    assert probability(logits, torch.tensor([1, 0, 1])).tolist() == pytest.approx(expected)
    three = torch.tensor([[0.0, math.log(3), 0.0]])
    assert predicted_class(three).tolist() == [1]
    assert [probability(three, torch.tensor([k])).item() for k in range(3)] == pytest.approx([0.2, 0.6, 0.2])


BINARY, CLASSES = torch.tensor([2.0, -1.0]), torch.tensor([[0.0, 3.0, 1.0], [5.0, -1.0, -2.0]])


@pytest.mark.parametrize(
    "logits, target, expected",
    [
        (BINARY, -1, [0, 1]),
        (BINARY, 0, [0, 0]),
        (BINARY, 1, [1, 1]),
        (BINARY, torch.tensor([1, -1]), [1, 1]),
        (CLASSES, -1, [2, 1]),
        (CLASSES, 2, [2, 2]),
        (CLASSES, torch.tensor([-1, 0]), [2, 0]),
    ],
)
def test_a_target_is_a_class_or_the_opposite_of_the_prediction(logits, target, expected):
    assert choose_target(logits, target).tolist() == expected


# -- what is passed on -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        {"l1_loss": 0.5},
        {"l2_loss": 0.5},
        {"use_logits": False},
        {"guided_steps": 1},
        {"inner_stochastic": False},
        {"sampling_scale": 0.5},
    ],
)
def test_options_reach_the_guidance_and_the_sampler(option):
    plain, other = (run(classifier_scales=(3.0,), **each).counterfactual for each in ({}, option))
    assert (plain - other).abs().max() > 0.01


def test_an_option_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="guided_step"):
        run(guided_step=3)


# -- faults ------------------------------------------------------------------------------------------------


def test_a_network_that_returns_nan_is_an_error_that_names_the_images():
    evaluated = []

    def broken(z, t):
        evaluated.append(t)
        spoilt = network(z, t)
        spoilt[[1, 3]] = float("nan")
        return spoilt

    message = refusal(UserError, lambda: run(rows=slice(2, 7), model_fn=broken, tau=9))
    assert "NaN" in message and f"{IDS[3]}, {IDS[5]};" in message and "--use_fp16" in message
    assert len(evaluated) <= 9  # of 45: it is not carried on to the end of an attempt
    refusal(UserError, lambda: run(rows=slice(2, 7), model_fn=broken, tau=1))


def test_no_gradient_is_left_behind():
    head = torch.nn.Linear(192, 1)
    explanation = run(classifier=lambda images: head(images.flatten(1))[:, 0])
    assert all(p.grad is None for p in head.parameters())
    assert not explanation.counterfactual.requires_grad and not explanation.p_target.requires_grad
