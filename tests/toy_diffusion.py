"""A small diffusion process, and images, noise and steps for it: the ones of reference/diffusion.npz."""

import numpy as np
import torch
from reference_weights import deterministic_array

from guided_diffusion.gaussian_diffusion import GaussianDiffusion, LossType, ModelMeanType, ModelVarType
from guided_diffusion.schedules import linear_betas

EPSILON, START_X, VELOCITY = ModelMeanType.EPSILON, ModelMeanType.START_X, ModelMeanType.VELOCITY
SMALL, LARGE, LEARNED_RANGE = ModelVarType.FIXED_SMALL, ModelVarType.FIXED_LARGE, ModelVarType.LEARNED_RANGE
MSE, RESCALED_MSE, RESCALED_KL = LossType.MSE, LossType.RESCALED_MSE, LossType.RESCALED_KL

X0 = deterministic_array("diffusion.x0", (3, 3, 8, 8), 0.4).clamp(-1, 1)
Z = deterministic_array("diffusion.z", (3, 3, 8, 8))
T = torch.tensor([0, 7, 24])
BETAS = linear_betas(50)
ABAR = np.cumprod(1 - BETAS)


def process(mean_type=EPSILON, var_type=SMALL, loss_type=MSE, betas=BETAS):
    return GaussianDiffusion(betas, mean_type, var_type, loss_type)


def per_image(values):
    """Three numbers -> (3, 1, 1, 1) float64."""
    return torch.tensor(values, dtype=torch.float64)[:, None, None, None]


def clean_estimate(z, t):
    """A network that predicts the clean image, partly out of [-1, 1]."""
    return 1.5 * torch.tanh(z)


def estimate_of(mean_type):
    """A network of this kind that says what clean_estimate says."""

    def network(z, t):
        x0 = clean_estimate(z, t)
        eps = process().eps_from_x0(z, t, x0)
        return {START_X: x0, EPSILON: eps, VELOCITY: process().velocity(x0, t, eps)}[mean_type]

    return network
