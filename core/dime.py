"""DiME: counterfactuals by a guided diffusion (Jeanneret, Simon, Jurie, ACCV 2022, Algorithm 1).

Symbols: x the image to explain, z the noisy chain (z_t), x_clean the clean estimate (x_t) on which the
classifier is evaluated, tau the depth, t the step. All images are (N, C, H, W), clean ones in [-1, 1].
"""

import torch

from guided_diffusion.errors import UserError


@torch.no_grad()
def dime_sample(
    diffusion,
    model_fn,
    x,
    guidance,
    *,
    tau,
    noise,
    z=None,
    clip_denoised=True,
    inner_stochastic=True,
    inner_ddim=False,
    sampling_scale=1.0,
    guided_steps=None,
    callback=None,
):
    """x (N, C, H, W) in [-1, 1] -> its counterfactual, same shape. Costs tau (tau + 1) / 2 network evaluations.

    diffusion: a (Spaced)Diffusion of more than tau steps; model_fn(z, t): the network.
    guidance(z, x_clean, sqrt_abar) -> dLoss/dz_t, x's shape.
    noise(like) -> a standard normal of like's shape, called in chronological order: for z first (where z is not
    given), then once a stochastic step, each outer step before its inner chain, never at t = 0.
    z: where the chain starts, q_sample(x, tau) where None.
    inner_stochastic: draw the inner chain, instead of following its means. inner_ddim: make it DDIM with eta 0.
    sampling_scale: multiplies sigma of the outer chain's noise.
    guided_steps: how many outer steps are guided, all where None.
    callback(dict(t, z, x_clean)) is called before each outer step.
    """
    require_depth(diffusion, tau)
    guided_steps = tau if guided_steps is None else guided_steps

    def inner_chain(z, t):
        """An unguided chain from z_t down to a clean image: t evaluations at t-1 … 0."""
        for s in reversed(range(t)):
            s = diffusion.batch_t(s, z)
            if inner_ddim:
                z, _ = diffusion.ddim_sample(model_fn, z, s, clip_denoised=clip_denoised)
            elif inner_stochastic:
                z, _ = diffusion.p_sample(model_fn, z, s, noise, clip_denoised)
            else:
                z = diffusion.p_mean_variance(model_fn, z, s, clip_denoised)["mean"]
        return z

    if z is None:
        z = start_of_chain(diffusion, x, tau, noise)
    x_clean = x

    for step, t in enumerate(reversed(range(tau))):
        if callback is not None:
            callback({"t": t, "z": z, "x_clean": x_clean})
        guided = step < guided_steps
        batch_t = diffusion.batch_t(t, z)
        p = diffusion.p_mean_variance(model_fn, z, batch_t, clip_denoised)
        mean = p["mean"]
        if guided:
            # Dhariwal & Nichol 2021, Algorithm 1: the mean moves against the gradient, in units of the variance.
            mean = mean - p["variance"] * guidance(z, x_clean, float(diffusion.sqrt_alphas_cumprod[t]))
        z = mean
        if t > 0:
            z = mean + sampling_scale * torch.exp(0.5 * p["log_variance"]) * noise(z)
            if step + 1 < guided_steps:
                x_clean = inner_chain(z, t)
    return z


def require_depth(diffusion, tau):
    """UserError where the respaced diffusion is not deeper than tau."""
    steps = diffusion.num_timesteps
    if not 1 <= tau < steps:
        raise UserError(
            f"--start_step {tau} must be from 1 to {steps - 1}: "
            f"with this --timestep_respacing the diffusion has {steps} steps"
        )


def start_of_chain(diffusion, x, tau, noise):
    """z_tau of x. The loop's first step undoes index tau - 1: one noise level less, kept from the release."""
    return diffusion.q_sample(x, diffusion.batch_t(tau, x), noise(x))


def evaluations(tau, guided_steps=None):
    """Network evaluations of one dime_sample: tau outer ones, and t for each x_clean that a gradient uses."""
    guided = tau if guided_steps is None else min(guided_steps, tau)
    return tau + sum(tau - 1 - step for step in range(guided - 1))
