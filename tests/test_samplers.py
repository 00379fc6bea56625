"""What all methods have in common as functions, on the small problem of naive.py."""

import math

import pytest
import torch
from assertions import assert_near, refusal
from golden import SeededNoise
from naive import ABAR, DIFFUSION, TARGET, X, chain_of, guide, noised, sample, watched
from toy_networks import stand_in_features, tiny_unet

from core.methods.guidance import make_guidance
from core.methods.inversion import invert
from core.methods.noise import ImageNoise
from core.methods.registry import METHODS
from guided_diffusion.script.errors import UserError

CHAINS = [name for name in METHODS if name != "ace"]  # ace is guided before its chain
DRAWN = [name for name in CHAINS if name != "inversion"]  # their start is the noised image
of = pytest.mark.parametrize


@of("method", METHODS)
def test_an_image_has_the_answer_that_it_has_alone(method):
    x, target = torch.cat([X, X.flip(3), 0.1 * X]), torch.tensor([1, 0, 0, 1, 1, 0])
    options = {"inversion": {"margin": 1.0, "through_network": True, "final_threshold": 0.15}}.get(method, {})

    def answer(rows):
        guidance = guide(x[rows], target[rows], 1.0, 0.01, use_logits=False) if method == "ace" else None
        guidance = guidance or guide(x[rows], target[rows])
        return sample(method, guidance, x[rows], noise=ImageNoise(3, rows, [1] * len(rows)), **options)

    together = answer([0, 1, 2, 3, 4, 5])
    assert_near(torch.cat([answer([row]) for row in range(6)]), together, 1e-4 if method == "ace" else 1e-5)
    assert_near(answer([5, 2]), together[[5, 2]], 1e-4 if method == "ace" else 1e-5)


@of("method", DRAWN)
def test_the_same_noise_gives_the_same_answer_and_other_noise_another(method):
    assert torch.equal(sample(method), sample(method))
    assert not torch.equal(sample(method), sample(method, noise=SeededNoise(5)))


@of("method", DRAWN)
def test_a_chain_that_starts_from_a_given_z_draws_nothing_for_it(method):
    noise, rest = SeededNoise(), SeededNoise()
    z = DIFFUSION.q_sample(X, DIFFUSION.batch_t(6, X), rest(X))
    assert torch.equal(sample(method, z=z, noise=rest), sample(method, noise=noise))
    assert len(rest.given) == len(noise.given)


@of("method", CHAINS)
def test_the_callback_sees_each_step_as_the_guidance_does(method):
    steps, (guidance, calls) = [], watched(guide())
    sample(method, guidance, callback=steps.append)
    assert [step["t"] for step in steps] == [5, 4, 3, 2, 1, 0]
    assert all(step.keys() - {"mask"} == {"t", "z", "x_clean"} for step in steps)
    assert ("mask" in steps[0]) == (method != "dime")
    for step, (z, x_clean, sqrt_abar) in zip(steps, calls[-6:], strict=True):
        assert torch.equal(step["z"], z) and torch.equal(step["x_clean"], x_clean)
        assert sqrt_abar == pytest.approx(1 if "fast" in method else math.sqrt(ABAR[step["t"]]))
    assert len({step["x_clean"].sum().item() for step in steps}) == 6  # a new estimate at every step
    if method in DRAWN:
        assert_near(steps[0]["z"], noised(X, 6, SeededNoise()))
        assert torch.equal(steps[0]["x_clean"], X)


@of("method", CHAINS)
def test_only_the_guided_steps_are_guided(method):
    guidance, calls = watched(guide())
    sample(method, guidance, guided_steps=2)
    assert len(calls) == (4 if method in ("fastdime2", "fastdime2plus") else 2)


@of("method", CHAINS)
def test_the_perceptual_distance_guides_all(method):
    near = guide(l_perc=300.0, perceptual=stand_in_features)
    assert (sample(method, near) - sample(method)).abs().max() > 1e-3


@of("method", [name for name in CHAINS if name != "dime"])
def test_outside_of_the_last_mask_the_answer_is_the_image(method):
    steps = []
    options = {"mask_threshold": 0.9, "mask_dilation": 1} if method == "inversion" else {}
    answer = sample(method, callback=steps.append, **options)
    mask = steps[-1]["mask"]
    assert mask.dtype == torch.bool and mask.shape == (2, 1, 8, 8)
    assert mask.flatten(1).any(1).all() and not mask.flatten(1).all(1).any()
    assert torch.equal(torch.where(mask, X, answer), X)
    assert (answer - X).abs()[mask.expand_as(X)].min() > 0


@of("method", METHODS)
def test_the_caller_keeps_images_starts_and_gradients(method):
    unet, head, through_network = tiny_unet(learn_sigma=True), torch.nn.Linear(192, 1), []
    for parameter in head.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    x, z = X.clone().requires_grad_(), SeededNoise()(X)
    if method == "inversion":
        z = invert(chain_of(3, x))
    before, options = z.clone(), {"through_network": True} if method == "inversion" else {}

    def network(z, t):
        through_network.append(torch.is_grad_enabled() or z.requires_grad)
        return unet(z, t)

    guidance = make_guidance(x, TARGET, lambda i: head(i.flatten(1))[:, 0], classifier_scale=8.0, l1_loss=0.05)
    answer = sample(method, guidance, x, network, tau=3, z=z, **options)
    assert not answer.requires_grad and x.grad is None and torch.equal(x.detach(), X)
    assert torch.equal(z, before) and not z.requires_grad
    assert any(through_network) == (method in ("inversion", "ace"))
    assert all(weight.requires_grad and weight.grad is None for weight in unet.parameters())
    assert all((weight.grad == 7).all() for weight in head.parameters())


@of("method", METHODS)
@of("tau", [-1, 0, 12, 60])
def test_a_depth_that_the_diffusion_has_not_is_refused_by_the_flags_name(method, tau):
    message = refusal(UserError, lambda: sample(method, tau=tau))
    assert f"--start_step {tau}" in message and "1 to 11" in message and "--timestep_respacing" in message
