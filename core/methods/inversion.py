"""Counterfactuals by inversion: a method of this project, from what makes an image instead of from noise.

The DDIM inversion of x (Song et al. 2021, §4.3) is a path x, z_0 … z_tau-1, each from the one before and the noise
e_t that the network sees there. Backwards the network sees e_t+1 at z_t, where e_t leads down; the difference is
known and added to what it sees on the way. So without guidance the chain comes back to x itself, whatever the
network and the number of steps, and with it nothing moves but what the gradient moves.

    e_0 … e_tau-1 = the noise seen at x, z_0 … z_tau-2, where z_t follows from z_t-1 and e_t
    for t = tau-1 … 0:
        eps     = the noise seen at z_t, + e_t - e_t+1     (at the first step e_t itself: nothing is evaluated)
        x_clean = x0(z_t, eps)
        g       = gradient at (z_t, x_clean), 0 for an image that has its target by the margin;
                  its class part is growth times stronger after each step at which an image had it not
        x0      = x_clean - (1 - abar) / sqrt(abar) · g
        z_t-1   = the DDIM step from z_t to x0
"""

import torch

from guided_diffusion.errors import UserError

from .dime import ddim_step, predict, require_depth


@torch.no_grad()
def inversion(
    diffusion, model_fn, x, guidance, *, tau, noise=None, z=None, clip_denoised=True, guided_steps=None,
    callback=None, margin=10.0, growth=1.2,
):  # fmt: skip
    """x (N, C, H, W) in [-1, 1] -> its counterfactual, same shape. tau - 1 evaluations, tau more where z is None.

    The arguments are dime_sample's but for inner_* and sampling_scale; these differ:
    guidance: as make_guidance gives it; its parts tell the margin.
    noise: never called, since nothing is drawn. z: invert()'s result, to share it between attempts.
    clip_denoised: clip what the network sees as clean; x_clean, which is corrected, may leave [-1, 1].
    margin: an image is not guided while its x_clean has the target by this much, in logits.
    growth: multiplies an image's class gradient once more after each step at which it has not.
    """
    require_depth(diffusion, tau)
    require_margin(margin)
    require_growth(growth)
    guided_steps = tau if guided_steps is None else guided_steps
    path_noise = invert(diffusion, model_fn, x, tau=tau, clip_denoised=clip_denoised) if z is None else z
    z = end_of_path(diffusion, x, path_noise)
    strength = torch.ones_like(x[:, :1, :1, :1])

    for number, t in enumerate(reversed(range(tau))):
        eps = path_noise[:, t]
        if number > 0:
            eps = eps + seen_noise(diffusion, model_fn, z, t, clip_denoised) - path_noise[:, t + 1]
        x_clean = diffusion.x0_from_eps(z, diffusion.batch_t(t, z), eps)
        if callback is not None:
            callback({"t": t, "z": z, "x_clean": x_clean})
        x0 = x_clean
        if number < guided_steps:
            abar = float(diffusion.alphas_cumprod[t])
            parts = guidance.parts(z, x_clean, abar**0.5)
            x0, strength = apply_guidance(x_clean, parts, strength, abar, margin, growth)
        z = ddim_step(diffusion, z, t, x0, t - 1)
    return z


@torch.no_grad()
def invert(diffusion, model_fn, x, *, tau, clip_denoised=True):
    """x (N, C, H, W) in [-1, 1] -> the noises (N, tau, C, H, W) that lead up its path, by tau evaluations."""
    require_depth(diffusion, tau)
    noises, z = [], x
    for t in range(tau):
        noises.append(seen_noise(diffusion, model_fn, z, max(t - 1, 0), clip_denoised))
        z = _one_step_up(diffusion, z, t, noises[-1])
    return torch.stack(noises, dim=1)


def end_of_path(diffusion, x, noises):
    """x and the noises (N, tau, C, H, W) of its path -> z_tau-1, where the chain starts."""
    z = x
    for t, eps in enumerate(noises.unbind(1)):
        z = _one_step_up(diffusion, z, t, eps)
    return z


def seen_noise(diffusion, model_fn, z, t, clip_denoised=True):
    """One evaluation -> the noise (N, C, H, W) in z_t, such as its clean estimate implies."""
    x0 = predict(diffusion, model_fn, z, t, clip_denoised)["pred_xstart"]
    return diffusion.eps_from_x0(z, diffusion.batch_t(t, z), x0)


def apply_guidance(x_clean, parts, strength, abar, margin, growth):
    """(x_clean moved by its guidance, the next step's strength); strength (N, 1, 1, 1) multiplies the class part.

    An image that has its target by the margin is not moved, and its strength stays.
    Dhariwal & Nichol 2021, Algorithm 2, in terms of x0.
    """
    moving = (parts.margin < margin)[:, None, None, None]
    gradient = torch.where(moving, strength * parts.of_class + parts.of_distance, 0.0)
    return x_clean - (1 - abar) / abar**0.5 * gradient, torch.where(moving, growth * strength, strength)


def require_margin(margin):
    """UserError where no image that has its target would ever stop, or none that has not would be guided."""
    if not margin >= 0:
        raise UserError(f"--margin {margin} must be at least 0, a number of logits")


def require_growth(growth):
    """UserError for a class gradient that would fade where the target is not reached, or explode."""
    if not 1 <= growth < float("inf"):
        raise UserError(f"--growth {growth} must be at least 1, and finite")


def inversion_evaluations(tau):
    """Network evaluations of the inversion, made once an image, and of each attempt."""
    return tau, tau - 1


def _one_step_up(diffusion, z, t, eps):
    """z_t-1, x itself where t is 0, and the noise in it -> z_t: ddim_step's inverse."""
    x0 = z if t == 0 else diffusion.x0_from_eps(z, diffusion.batch_t(t - 1, z), eps)
    return diffusion.q_sample(x0, diffusion.batch_t(t, z), eps)
