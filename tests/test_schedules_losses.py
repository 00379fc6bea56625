import math

import numpy as np
import pytest
import torch
from assertions import refusal
from torch.distributions import Normal, kl_divergence

from guided_diffusion.losses import discretized_gaussian_log_likelihood, normal_kl
from guided_diffusion.schedules import cosine_betas, linear_betas, named_betas
from guided_diffusion.script.errors import UserError

# -- schedules -----------------------------------------------------------------------------------------------


def test_the_linear_schedule_of_1000_steps_is_that_of_the_paper_and_others_end_equally_noisy():
    betas = linear_betas(1000)
    assert betas.dtype == np.float64 and betas.shape == (1000,)
    np.testing.assert_allclose(betas, 1e-4 + (0.02 - 1e-4) * np.arange(1000) / 999)
    log_abar = [np.log1p(-linear_betas(steps)).sum() for steps in (250, 500, 1000, 4000)]
    np.testing.assert_allclose(log_abar, log_abar[2], rtol=0.04)
    assert np.exp(log_abar[2]) < 5e-5


def test_the_cosine_schedule_is_its_closed_form():
    def f(t):
        return math.cos((t / 200 + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = cosine_betas(200)
    assert betas[-1] == 0.999
    np.testing.assert_allclose(np.cumprod(1 - betas)[:-1], [f(t + 1) / f(0) for t in range(199)])


def test_schedules_are_chosen_by_name():
    assert np.array_equal(named_betas("linear", 50), linear_betas(50))
    assert np.array_equal(named_betas("cosine", 50), cosine_betas(50))
    message = refusal(UserError, named_betas, "quadratic", 50)
    assert "--noise_schedule quadratic" in message and "linear, cosine" in message


# -- likelihoods ---------------------------------------------------------------------------------------------


def test_kl_is_that_of_two_normals():
    mean1, logvar1, mean2, logvar2 = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)).double()
    expected = kl_divergence(Normal(mean1, (0.5 * logvar1).exp()), Normal(mean2, (0.5 * logvar2).exp()))
    torch.testing.assert_close(normal_kl(mean1, logvar1, mean2, logvar2), expected)
    assert not normal_kl(mean1, logvar1, mean1, logvar1).any()


BINS = torch.arange(256, dtype=torch.float64) / 127.5 - 1  # the 256 grey levels


@pytest.mark.parametrize("mean", [-1.3, -1.0, -0.2, 0.7, 1.0])
@pytest.mark.parametrize("scale", [0.02, 0.2, 1.0])
def test_the_decoder_is_a_distribution_over_256_grey_levels(mean, scale):
    means, log_scales = torch.full_like(BINS, mean), torch.full_like(BINS, math.log(scale))
    p = discretized_gaussian_log_likelihood(BINS, means=means, log_scales=log_scales).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-9)
    edges = Normal(mean, scale).cdf((BINS[:-1] + BINS[1:]) / 2)
    exact = torch.diff(edges, prepend=edges.new_zeros(1), append=edges.new_ones(1))
    torch.testing.assert_close(p.cumsum(0), exact.cumsum(0), rtol=0, atol=5e-4)


def test_an_impossible_grey_level_has_a_finite_likelihood_and_gradient():
    mean = torch.tensor([1.0], requires_grad=True)
    x, log_scale = torch.tensor([-0.5]), torch.tensor([-6.0])
    nll = -discretized_gaussian_log_likelihood(x, means=mean, log_scales=log_scale)
    nll.sum().backward()
    assert nll.item() == pytest.approx(-math.log(1e-12))
    assert mean.grad.isfinite().all()
