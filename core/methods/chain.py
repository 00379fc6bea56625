"""The chain of a batch of images: what all samplers are given, and the steps that they are made of.

Symbols: x the image to explain, z the noisy chain (z_t), x_clean the clean estimate (x_t) on which the
classifier is evaluated, tau the depth, t the step. All images are (N, C, H, W), clean ones in [-1, 1].
"""

import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import wraps
from numbers import Integral
from typing import NamedTuple

import torch

from guided_diffusion.script.errors import UserError

from .inputs import require_images
from .options import ARGUMENTS, check_depth, check_options


@dataclass(frozen=True, eq=False)
class Chain:
    """The arguments that all samplers share. UserError for images or a depth that cannot be.

    diffusion: a GaussianDiffusion of more than tau steps. model_fn(z, t): the network.
    x: (N, C, H, W) in [-1, 1], float32. guidance(z, x_clean, sqrt_abar) -> dLoss/dz_t, x's shape.
    tau: the depth, in steps of the diffusion.
    noise(like) -> a standard normal of like's shape. It is called in chronological order: first for z, unless z is
    given, then as each step needs it, but not for the step at t = 0.
    z: where the chain starts; None: q_sample(x, tau).
    clip_denoised: clip the network's clean estimates to [-1, 1].
    guided_steps: how many steps, from the first, are guided; None: all.
    callback(dict(t, z, x_clean, ...)) is called before each step's update.
    """

    diffusion: object
    model_fn: Callable
    x: torch.Tensor
    guidance: Callable | None
    _: KW_ONLY
    tau: int
    noise: Callable
    z: torch.Tensor | None = None
    clip_denoised: bool = True
    guided_steps: int | None = None
    callback: Callable | None = None

    def __post_init__(self):
        require_images(self.x, channels=getattr(self.model_fn, "in_channels", None))
        require_depth(self.diffusion, self.tau)

    def start(self):
        """z, or else x noised to index tau. The first step undoes tau - 1, one level less, as in the release."""
        return self.noised(self.x, self.tau) if self.z is None else self.z

    def steps(self):
        """Yields (number of the step, t, whether it is guided), from t = tau - 1 down to 0."""
        guided_steps = self.tau if self.guided_steps is None else self.guided_steps
        for number, t in enumerate(reversed(range(self.tau))):
            yield number, t, number < guided_steps

    def noised(self, images, t):
        """Clean images -> z_t, with fresh noise."""
        return self.diffusion.q_sample(images, self.batch_t(t), self.noise(images.detach()))

    def predict(self, z, t):
        """One network evaluation at step t -> dict: mean, variance, log_variance of z_t-1, and pred_xstart."""
        return self.diffusion.p_mean_variance(self.model_fn, z, self.batch_t(t), self.clip_denoised)

    def ddim_step(self, z, t, x0, below):
        """z_t and its clean estimate x0 -> z at the step `below`, or x0 where that is -1 (Song et al. 2021, eq. 12
        with eta 0)."""
        if below < 0:
            return x0
        eps = self.diffusion.eps_from_x0(z, self.batch_t(t), x0)
        return self.diffusion.q_sample(x0, self.batch_t(below), eps)

    def background(self, t, lag):
        """z_t-1 outside of a mask: x noised to step t - 1 + lag, and after the last step x itself."""
        return self.x if t == 0 else self.noised(self.x, t - 1 + lag)

    def sqrt_abar(self, t):
        return float(self.diffusion.sqrt_alphas_cumprod[t])

    def batch_t(self, t):
        return self.diffusion.batch_t(t, self.x)

    def report(self, **step):
        """Calls the callback, if there is one."""
        if self.callback is not None:
            self.callback(step)


def step(p, t, noise=None, gradient=0.0, sampling_scale=1.0):
    """p, the result of predict() at step t -> z_t-1 = mean - variance · gradient + sampling_scale · sigma · noise
    (Dhariwal & Nichol 2021, Algorithm 1). No noise is added at t = 0, or where noise is None."""
    z = p["mean"] - p["variance"] * gradient
    if t > 0 and noise is not None:
        z = z + sampling_scale * torch.exp(0.5 * p["log_variance"]) * noise(z)
    return z


def sampler(loop):
    """Makes a sampler of loop(chain, *, option, ...) -> counterfactuals: it is called as

        sampler(diffusion, model_fn, x, guidance, *, tau, noise, z=None, ..., **options)

    with the fields of a Chain and the loop's own options. A default that the loop's signature does not name is the
    one of OPTIONS. UserError for a value that cannot be, TypeError for an argument that there is not.
    sampler.options are the defaults of its options.
    """
    _, *own = inspect.signature(loop).parameters.values()
    own = [p.replace(default=ARGUMENTS[p.name].default if p.default is p.empty else p.default) for p in own]
    defaults = {parameter.name: parameter.default for parameter in own}

    @wraps(loop)
    @torch.no_grad()
    def sample(diffusion, model_fn, x, guidance, **arguments):
        options = {name: arguments.pop(name, default) for name, default in defaults.items()}
        chain = Chain(diffusion, model_fn, x, guidance, **arguments)
        check_depth(options, chain.tau)
        check_options(options, x.shape[2:])
        return loop(chain, **options)

    sample.options = defaults
    shared = [p.replace(annotation=p.empty) for p in inspect.signature(Chain).parameters.values()]
    sample.__signature__ = inspect.Signature(shared + own)
    return sample


def require_depth(diffusion, tau):
    """UserError unless tau is a whole number, at least 1 and less than the number of the diffusion's steps."""
    steps = diffusion.num_timesteps
    if isinstance(tau, bool) or not isinstance(tau, Integral):
        raise UserError(f"tau {tau!r} (--start_step) must be a whole number from 1 to {steps - 1}")
    if not 1 <= tau < steps:
        raise UserError(
            f"--start_step {tau} must be from 1 to {steps - 1}: "
            f"with this --timestep_respacing the diffusion has {steps} steps"
        )


class Cost(NamedTuple):
    """Network evaluations that a method takes of an image."""

    each: int  # an attempt
    once: int = 0  # before the first attempt, for all of them
    backward: int = 0  # how many times an attempt also goes backward through the network
