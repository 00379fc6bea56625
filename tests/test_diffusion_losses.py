"""The losses of a diffusion process."""

import math

import pytest
import torch
from assertions import assert_near
from toy_diffusion import (
    BETAS,
    EPSILON,
    LEARNED_RANGE,
    MSE,
    RESCALED_KL,
    RESCALED_MSE,
    START_X,
    VELOCITY,
    X0,
    T,
    Z,
    clean_estimate,
    estimate_of,
    process,
)
from toy_networks import stand_in_network

from guided_diffusion.gaussian_diffusion import ModelMeanType


@pytest.mark.parametrize("mean_type", ModelMeanType)
def test_the_perfect_prediction_has_no_squared_error(mean_type):
    diffusion = process(mean_type)
    answer = {
        START_X: X0,
        EPSILON: Z,
        VELOCITY: diffusion.velocity(X0, T, Z),
    }[mean_type]
    terms = diffusion.training_losses(lambda z, t: answer, X0, T, Z)
    assert terms.keys() == {"mse", "loss"} and not terms["loss"].any()
    off = diffusion.training_losses(lambda z, t: answer + 0.5, X0, T, Z)
    torch.testing.assert_close(off["loss"], torch.full((3,), 0.25))


@pytest.mark.parametrize("mean_type", ModelMeanType)
def test_the_variational_bound_does_not_depend_on_what_is_predicted(mean_type):
    diffusion, x0, noise = process(mean_type, loss_type=RESCALED_KL), X0.double(), Z.double()
    expected = process(START_X, loss_type=RESCALED_KL).training_losses(clean_estimate, x0, T, noise)["loss"]
    assert (expected > 0).all()
    torch.testing.assert_close(diffusion.training_losses(estimate_of(mean_type), x0, T, noise)["loss"], expected)


def test_a_squared_error_is_the_kl_up_to_its_weight():
    # With the posterior's variance, KL = (mean difference)² / (2 variance) (Ho et al. 2020, eq. 8).
    t = torch.tensor([1, 7, 24])
    kl = process(START_X, loss_type=RESCALED_KL).training_losses(clean_estimate, X0.double(), t, Z.double())["loss"]
    mse = process(START_X).training_losses(clean_estimate, X0.double(), t, Z.double())["loss"]
    diffusion = process()
    weight = diffusion.posterior_mean_coef_x0[t] ** 2 / (2 * diffusion.posterior_variance[t])
    torch.testing.assert_close(kl / len(BETAS), mse * torch.from_numpy(weight) / math.log(2))


def losses(loss_type, var_type=LEARNED_RANGE, network=stand_in_network):
    return process(var_type=var_type, loss_type=loss_type).training_losses(network, X0, T, Z)


def test_rescaled_losses_weigh_the_variational_term_as_a_sum_over_all_steps():
    plain, rescaled = losses(MSE), losses(RESCALED_MSE)
    assert_near(rescaled["vb"], plain["vb"] * len(BETAS) / 1000)
    assert torch.equal(rescaled["mse"], plain["mse"])
    for terms in (plain, rescaled):
        assert torch.equal(terms["loss"], terms["mse"] + terms["vb"])
    assert_near(losses(RESCALED_KL)["loss"], len(BETAS) * plain["vb"])


def test_the_variational_term_teaches_the_variance_alone():
    output = stand_in_network(Z, T).requires_grad_()
    losses(MSE, network=lambda z, t: output)["vb"].sum().backward()
    assert not output.grad[:, :3].any() and output.grad[:, 3:].any()
    output.grad = None
    losses(RESCALED_KL, network=lambda z, t: output)["loss"].sum().backward()
    assert output.grad[:, :3].any() and output.grad[:, 3:].any()
