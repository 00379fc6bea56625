"""Which timesteps a training step uses."""

import numpy as np
import torch

from ..script.errors import UserError


class UniformSampler:
    """Every timestep equally often."""

    def __init__(self, num_timesteps):
        self.num_timesteps = num_timesteps

    def probabilities(self):
        """(T,) float64, summing to 1."""
        return np.full(self.num_timesteps, 1 / self.num_timesteps)

    def sample(self, uniforms):
        """(N,) uniforms in [0, 1) -> timesteps (N,) int64 and importance weights (N,) float32.

        With these weights the loss is an unbiased estimate of the loss under uniform timesteps.
        """
        p = self.probabilities()
        cumulative = np.cumsum(p)
        t = np.minimum(np.searchsorted(cumulative, uniforms * cumulative[-1], side="right"), len(p) - 1)
        return torch.from_numpy(t.astype(np.int64)), torch.from_numpy(1 / (len(p) * p[t])).float()

    def update_with_losses(self, t, losses):
        """Learns from the losses (N,) seen at timesteps t (N,); this sampler has nothing to learn."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        if state:
            raise UserError("the checkpoint was trained with --schedule_sampler loss-second-moment")


class LossSecondMomentSampler(UniformSampler):
    """Timesteps in proportion to sqrt(E[loss^2]) over their last `history` losses (Nichol & Dhariwal 2021, §3.3).

    Uniform until every timestep has `history` losses; after that uniform_share of the probability stays uniform.
    """

    def __init__(self, num_timesteps, history=10, uniform_share=0.001):
        super().__init__(num_timesteps)
        self.uniform_share = uniform_share
        self.losses = np.zeros((num_timesteps, history))
        self.counts = np.zeros(num_timesteps, dtype=np.int64)

    def probabilities(self):
        if (self.counts < self.losses.shape[1]).any():
            return super().probabilities()
        p = np.sqrt(np.mean(self.losses**2, axis=1))
        return (1 - self.uniform_share) * p / p.sum() + self.uniform_share / self.num_timesteps

    def update_with_losses(self, t, losses):
        for step, loss in zip(t.tolist(), losses.tolist(), strict=True):
            self.losses[step] = np.append(self.losses[step, 1:], loss)
            self.counts[step] = min(self.counts[step] + 1, self.losses.shape[1])

    def state_dict(self):
        return {"losses": torch.from_numpy(self.losses.copy()), "counts": torch.from_numpy(self.counts.copy())}

    def load_state_dict(self, state):
        if "losses" not in state or tuple(state["losses"].shape) != self.losses.shape:
            raise UserError("the checkpoint was trained with another --schedule_sampler or --diffusion_steps")
        self.losses, self.counts = state["losses"].numpy().copy(), state["counts"].numpy().copy()


SAMPLERS = {"uniform": UniformSampler, "loss-second-moment": LossSecondMomentSampler}  # of --schedule_sampler
