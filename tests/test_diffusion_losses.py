"""The losses of a diffusion process, and the bound on the likelihood."""

import math

import numpy as np
import pytest
import torch
from assertions import assert_near
from golden import SeededNoise
from toy_diffusion import (
    BETAS,
    EPSILON,
    KL,
    LEARNED_RANGE,
    MSE,
    PREVIOUS_X,
    RESCALED_KL,
    RESCALED_MSE,
    START_X,
    VELOCITY,
    X0,
    T,
    Z,
    clean_estimate,
    process,
    velocity_estimate,
)
from toy_networks import stand_in_network

from guided_diffusion.gaussian_diffusion import ModelMeanType


@pytest.mark.parametrize("mean_type", ModelMeanType)
def test_the_perfect_prediction_has_no_squared_error(mean_type):
    diffusion = process(mean_type)
    z = diffusion.q_sample(X0, T, Z)
    answer = {
        START_X: X0,
        EPSILON: Z,
        PREVIOUS_X: diffusion.q_posterior_mean_variance(X0, z, T)[0],
        VELOCITY: diffusion.velocity(X0, T, Z),
    }[mean_type]
    terms = diffusion.training_losses(lambda z, t: answer, X0, T, Z)
    assert terms.keys() == {"mse", "loss"} and not terms["loss"].any()
    off = diffusion.training_losses(lambda z, t: answer + 0.5, X0, T, Z)
    torch.testing.assert_close(off["loss"], torch.full((3,), 0.25))


@pytest.mark.parametrize("mean_type", ModelMeanType)
def test_the_variational_bound_does_not_depend_on_what_is_predicted(mean_type):
    diffusion, x0, noise = process(mean_type, loss_type=KL), X0.double(), Z.double()
    network = {
        START_X: clean_estimate,
        EPSILON: lambda z, t: diffusion.eps_from_x0(z, t, clean_estimate(z, t)),
        PREVIOUS_X: lambda z, t: diffusion.q_posterior_mean_variance(clean_estimate(z, t), z, t)[0],
        VELOCITY: velocity_estimate,
    }[mean_type]
    expected = process(START_X, loss_type=KL).training_losses(clean_estimate, x0, T, noise)["loss"]
    assert (expected > 0).all()
    torch.testing.assert_close(diffusion.training_losses(network, x0, T, noise)["loss"], expected)


def test_a_squared_error_is_the_kl_up_to_its_weight():
    # With the posterior's variance, KL = (mean difference)² / (2 variance) (Ho et al. 2020, eq. 8).
    t = torch.tensor([1, 7, 24])
    kl = process(START_X, loss_type=KL).training_losses(clean_estimate, X0.double(), t, Z.double())["loss"]
    mse = process(START_X).training_losses(clean_estimate, X0.double(), t, Z.double())["loss"]
    diffusion = process()
    weight = diffusion.posterior_mean_coef_x0[t] ** 2 / (2 * diffusion.posterior_variance[t])
    torch.testing.assert_close(kl, mse * torch.from_numpy(weight) / math.log(2))


def losses(loss_type, var_type=LEARNED_RANGE, network=stand_in_network):
    return process(var_type=var_type, loss_type=loss_type).training_losses(network, X0, T, Z)


def test_rescaled_losses_weigh_the_variational_term_as_a_sum_over_all_steps():
    assert_near(losses(RESCALED_KL)["loss"], len(BETAS) * losses(KL)["loss"])
    plain, rescaled = losses(MSE), losses(RESCALED_MSE)
    assert_near(rescaled["vb"], plain["vb"] * len(BETAS) / 1000)
    assert torch.equal(rescaled["mse"], plain["mse"])
    for terms in (plain, rescaled):
        assert torch.equal(terms["loss"], terms["mse"] + terms["vb"])
    assert_near(plain["vb"], losses(KL)["loss"])


def test_the_variational_term_teaches_the_variance_alone():
    output = stand_in_network(Z, T).requires_grad_()
    losses(MSE, network=lambda z, t: output)["vb"].sum().backward()
    assert not output.grad[:, :3].any() and output.grad[:, 3:].any()
    output.grad = None
    losses(KL, network=lambda z, t: output)["loss"].sum().backward()
    assert output.grad[:, :3].any() and output.grad[:, 3:].any()


def test_the_prior_is_the_kl_to_a_standard_normal():
    betas = np.full(3, 0.3)
    abar = 0.7**3
    expected = 0.5 * (abar * X0.double() ** 2 + (1 - abar) - 1 - math.log(1 - abar)) / math.log(2)
    torch.testing.assert_close(process(betas=betas).prior_bpd(X0.double()), expected.flatten(1).mean(1))


def test_the_bound_is_the_sum_of_its_terms():
    diffusion = process(var_type=LEARNED_RANGE, betas=np.linspace(0.05, 0.5, 6))
    x0, noise = X0.double(), SeededNoise()
    found = diffusion.calc_bpd_loop(stand_in_network, x0, noise, clip_denoised=True)

    abar = np.cumprod(1 - diffusion.betas)
    total = diffusion.prior_bpd(x0)
    for t, eps in enumerate(noise.given):
        beta, a, b = diffusion.betas[t], abar[t], abar[t - 1] if t else 1.0
        z = math.sqrt(a) * x0 + math.sqrt(1 - a) * eps
        output = stand_in_network(z, None)
        guess = ((z - math.sqrt(1 - a) * output[:, :3]) / math.sqrt(a)).clamp(-1, 1)
        to_x0 = beta * math.sqrt(b) / (1 - a)  # how the posterior's mean follows x0
        smallest = diffusion.posterior_variance[max(t, 1)]
        share = (output[:, 3:] + 1) / 2
        variance = beta**share * smallest ** (1 - share)
        if t == 0:
            cdf = torch.distributions.Normal(guess, variance.sqrt()).cdf
            upper, lower = cdf(x0 + 1 / 255), cdf(x0 - 1 / 255)
            lower, upper = torch.where(x0 < -0.999, 0, lower), torch.where(x0 > 0.999, 1, upper)
            term, tolerance = -(upper - lower).log(), 0.02  # the library's normal cdf is an approximation
        else:
            squared = (to_x0 * (x0 - guess)) ** 2
            term, tolerance = 0.5 * ((variance / smallest).log() - 1 + (smallest + squared) / variance), 1e-7
        term = term.flatten(1).mean(1) / math.log(2)
        torch.testing.assert_close(found["vb"][:, t], term, rtol=tolerance, atol=0)
        torch.testing.assert_close(found["xstart_mse"][:, t], ((guess - x0) ** 2).flatten(1).mean(1))
        implied = (z - math.sqrt(a) * guess) / math.sqrt(1 - a)
        torch.testing.assert_close(found["mse"][:, t], ((implied - eps) ** 2).flatten(1).mean(1))
        total = total + found["vb"][:, t]
    assert found["vb"].shape == (3, 6)
    torch.testing.assert_close(found["total_bpd"], total)
