"""Noise schedules: the variances beta_t of the forward process, in float64."""

import math

import numpy as np

from .script.errors import UserError


def linear_betas(steps):
    """Ho et al. 2020, section 4, with end points scaled so that the last step is equally noisy for any `steps`."""
    return np.linspace(0.1 / steps, 20 / steps, steps, dtype=np.float64)


def cosine_betas(steps, max_beta=0.999):
    """Nichol & Dhariwal 2021, eq. 17."""

    def alpha_bar(t):
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return np.array([min(1 - alpha_bar((i + 1) / steps) / alpha_bar(i / steps), max_beta) for i in range(steps)])


SCHEDULES = {"linear": linear_betas, "cosine": cosine_betas}


def named_betas(name, steps):
    """(steps,) float64 betas of the schedule called `name`; UserError names --noise_schedule."""
    if name not in SCHEDULES:
        raise UserError(f"--noise_schedule {name} is unknown; choose one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name](steps)
