"""A diffusion on a subset of its timesteps, so that sampling takes fewer of them (Nichol & Dhariwal 2021, §4)."""

from itertools import accumulate, repeat

import numpy as np

from .gaussian_diffusion import GaussianDiffusion
from .script.errors import UserError


def space_timesteps(num_timesteps, sections):
    """Which of 0 … num_timesteps-1 to keep -> a sorted list.

    sections: "ddimN" keeps every k-th step, for the k that gives exactly N steps (Song et al. 2021). Counts such as
    "25" or "10,15,20" cut the steps into equal sections, one for each count, and keep that many evenly spaced steps
    of it. Raises UserError, naming --timestep_respacing, where that is impossible.
    """
    flag = f"--timestep_respacing {sections}"
    strided = sections.startswith("ddim")
    try:
        counts = [int(word) for word in sections.removeprefix("ddim").split(",")]
    except ValueError:
        counts = []
    if not counts or strided and len(counts) != 1:
        raise UserError(f"{flag} is not a count, counts separated by commas, or ddimN")
    if strided:
        for stride in range(1, num_timesteps):
            if len(range(0, num_timesteps, stride)) == counts[0]:
                return list(range(0, num_timesteps, stride))
        raise UserError(f"{flag}: no whole stride through {num_timesteps} steps keeps exactly {counts[0]}")
    steps, start = [], 0
    for i, count in enumerate(counts):
        size = num_timesteps // len(counts) + (i < num_timesteps % len(counts))
        if not 1 <= count <= size:
            raise UserError(f"{flag}: {count} steps cannot be kept of a section of {size}")
        stride = (size - 1) / (count - 1) if count > 1 else 1
        # The sum's rounding errors are guided-diffusion's: 25 of 500 keep step 249, exact multiples would keep 250.
        steps += [start + round(place) for place in accumulate(repeat(stride, count - 1), initial=0.0)]
        start += size
    return sorted(set(steps))


class SpacedDiffusion(GaussianDiffusion):
    """The process with betas (T,), but only the steps `use_timesteps`. Their abar stays the same.

    timestep_map[i] is the original step of the i-th kept one. The network gets original steps.
    """

    def __init__(self, betas, use_timesteps, mean_type, var_type, loss_type, rescale_timesteps=False):
        self.timestep_map = np.array(sorted(use_timesteps), dtype=np.int64)
        self.original_num_steps = len(betas)
        abar = np.cumprod(1 - np.asarray(betas, dtype=np.float64))[self.timestep_map]
        super().__init__(1 - abar / np.append(1.0, abar[:-1]), mean_type, var_type, loss_type, rescale_timesteps)

    def model_timesteps(self, t):
        original = self._table("timestep_map", t.device)[t]
        return original.float() * (1000.0 / self.original_num_steps) if self.rescale_timesteps else original
