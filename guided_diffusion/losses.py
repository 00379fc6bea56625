"""Likelihoods of diagonal Gaussians, in nats, elementwise; and their means."""

import math

import torch


def mean_flat(x):
    """(N, ...) -> (N,): the mean over everything but the batch."""
    return x.flatten(1).mean(1)


def normal_kl(mean1, logvar1, mean2, logvar2):
    """KL(N(mean1, exp(logvar1)) || N(mean2, exp(logvar2))), elementwise; the arguments broadcast."""
    return 0.5 * (
        logvar2 - logvar1 - 1.0 + torch.exp(logvar1 - logvar2) + (mean1 - mean2) ** 2 * torch.exp(-logvar2)
    )


def discretized_gaussian_log_likelihood(x, means, log_scales):
    """log p(x) of 8-bit images scaled to [-1, 1] under a Gaussian, elementwise (Ho et al. 2020, eq. 13).

    The Gaussian's mass in the bin of width 2/255 around x; the outermost bins reach to infinity.
    """
    inverse_scale = torch.exp(-log_scales)
    upper = _normal_cdf((x - means + 1 / 255) * inverse_scale)
    lower = _normal_cdf((x - means - 1 / 255) * inverse_scale)
    mass = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return torch.log(mass.clamp(min=1e-12))


def _normal_cdf(x):
    # The published losses were computed with this tanh approximation.
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
