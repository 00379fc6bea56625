"""DiME: counterfactuals by a guided diffusion (Jeanneret, Simon, Jurie, ACCV 2022, Algorithm 1).

Symbols: x the image to explain, z the noisy chain (z_t), x_clean the clean estimate (x_t) on which the
classifier is evaluated, tau the depth, t the step. All images are (N, C, H, W), clean ones in [-1, 1].
"""

from numbers import Integral

import torch

from guided_diffusion.script.errors import UserError

from .inputs import require_images


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
    inner_steps=None,
    sampling_scale=1.0,
    guided_steps=None,
    callback=None,
):
    """x (N, C, H, W) in [-1, 1] -> its counterfactual, same shape. Takes evaluations(tau, ...) of the network.

    diffusion: a GaussianDiffusion of more than tau steps; model_fn(z, t): the network.
    guidance(z, x_clean, sqrt_abar) -> dLoss/dz_t, x's shape.
    noise(like) -> a standard normal of like's shape. It is called in chronological order: first for z, unless z is
    given, then once in each stochastic step, the inner chain's before the outer step that it guides; not at t = 0.
    z: where the chain starts; None: q_sample(x, tau).
    inner_stochastic: sample the inner chain; False: follow its means. inner_ddim: make it DDIM with eta 0.
    inner_steps: make it DDIM with eta 0 in this many steps; 1: the one-step estimate x0(z, t); None: every step.
    sampling_scale: multiplies sigma of the outer chain's noise.
    guided_steps: how many outer steps, from the first, are guided; None: all.
    callback(dict(t, z, x_clean)) is called before each outer step's update.
    """
    require_images(x, channels=getattr(model_fn, "in_channels", None))
    require_depth(diffusion, tau)
    require_inner_steps(inner_steps, tau)
    guided_steps = tau if guided_steps is None else guided_steps
    inner_ddim = inner_ddim or inner_steps is not None
    inner_noise = noise if inner_stochastic else None

    def inner_chain(z, t, p):
        """An unguided chain from z_t to a clean image. Its first evaluation, p, is the outer step's own."""
        steps = inner_chain_steps(t, inner_steps)
        for s, below in zip(steps, [*steps[1:], -1], strict=True):
            p = p if s == t else predict(diffusion, model_fn, z, s, clip_denoised)
            z = ddim_step(diffusion, z, s, p["pred_xstart"], below) if inner_ddim else step(p, s, inner_noise)
        return z

    if z is None:
        z = start_of_chain(diffusion, x, tau, noise)
    x_clean = x

    for number, t in enumerate(reversed(range(tau))):
        guided = number < guided_steps
        p = predict(diffusion, model_fn, z, t, clip_denoised)
        if guided and number > 0:
            x_clean = inner_chain(z, t, p)
        if callback is not None:
            callback({"t": t, "z": z, "x_clean": x_clean})
        gradient = guidance(z, x_clean, float(diffusion.sqrt_alphas_cumprod[t])) if guided else 0.0
        z = step(p, t, noise, gradient, sampling_scale)
    return z


def predict(diffusion, model_fn, z, t, clip_denoised=True):
    """One network evaluation at step t -> dict: mean, variance, log_variance of z_t-1, and pred_xstart."""
    return diffusion.p_mean_variance(model_fn, z, diffusion.batch_t(t, z), clip_denoised)


def step(p, t, noise=None, gradient=0.0, sampling_scale=1.0):
    """p, the result of predict() at step t -> z_t-1 = mean - variance · gradient + sampling_scale · sigma · noise
    (Dhariwal & Nichol 2021, Algorithm 1). No noise is added at t = 0, or where noise is None."""
    z = p["mean"] - p["variance"] * gradient
    if t > 0 and noise is not None:
        z = z + sampling_scale * torch.exp(0.5 * p["log_variance"]) * noise(z)
    return z


def ddim_step(diffusion, z, t, x0, below):
    """z_t and its clean estimate x0 -> z at the step `below`, or x0 where that is -1 (Song et al. 2021, eq. 12 with
    eta 0)."""
    if below < 0:
        return x0
    eps = diffusion.eps_from_x0(z, diffusion.batch_t(t, z), x0)
    return diffusion.q_sample(x0, diffusion.batch_t(below, z), eps)


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


def require_inner_steps(inner_steps, tau):
    """UserError unless inner_steps is None, or from 1 to tau - 1: the longest inner chain has tau - 1 steps."""
    longest = max(tau - 1, 1)
    if inner_steps is not None and not 1 <= inner_steps <= longest:
        raise UserError(
            f"--inner_steps {inner_steps} must be from 1 to {longest}: "
            f"with --start_step {tau} the longest inner chain has {longest}"
        )


def start_of_chain(diffusion, x, tau, noise):
    """x, noised to index tau. The loop's first step undoes index tau - 1, one level less, as in the release."""
    return diffusion.q_sample(x, diffusion.batch_t(tau, x), noise(x))


def inner_chain_steps(t, inner_steps=None):
    """The steps of a chain from z_t: t … 0. With inner_steps these are cut in that many equal parts, and only the
    first step of each part is taken."""
    count = t + 1 if inner_steps is None else min(inner_steps, t + 1)
    return [(t + 1) * (count - part) // count - 1 for part in range(count)]


def evaluations(tau, guided_steps=None, inner_steps=None):
    """Network evaluations of one dime_sample: tau of the outer chain, and those of each inner chain that a gradient
    uses, except its first, which the outer chain has made. Without options tau + (tau - 1) (tau - 2) / 2."""
    guided = tau if guided_steps is None else min(guided_steps, tau)
    return tau + sum(len(inner_chain_steps(tau - 1 - number, inner_steps)) - 1 for number in range(1, guided))
