"""Counterfactuals by inversion, a method of this project: the chain starts from x's DDIM inversion, not from noise.

The inversion (Song et al. 2021, §4.3) is a path x, z_0 … z_tau-1. Each z_t follows from z_t-1 and e_t, the noise
that the network predicts at z_t-1. On the way back the network predicts e_t+1 at z_t, but the step down to z_t-1
needs e_t. The difference is known, and is added to each prediction. So without guidance the chain returns to x
itself, for any network and any number of steps; with guidance, only the gradient changes the image.

    e_0 … e_tau-1 = the noise predicted at x, z_0 … z_tau-2, where z_t follows from z_t-1 and e_t
    for t = tau-1 … 0:
        eps     = the noise predicted at z_t, + e_t - e_t+1     (at the first step e_t, without an evaluation)
        x_clean = x0(z_t, eps)
        g       = the gradient at (z_t, x_clean), but 0 for an image whose target leads by the margin;
                  after each step at which it does not lead so far, the class part grows by the factor growth
        x0      = x_clean - (1 - abar) / sqrt(abar) · g
        z_t-1   = the DDIM step from z_t to x0
        from the fourth step on: z_t-1 of the path where x0 has not changed from x
    at the end: x where the answer has changed by less than a share of its largest change

The class part of g runs through the network: it is d/dz_t of the class loss at x_clean(z_t). The Jacobian of a
denoiser is sqrt(abar) / (1 - abar) times the covariance of the clean images that z_t may come from (Tweedie's
formula, second order; Efron 2011). So x0 moves by this covariance times the classifier's gradient: along what
varies among real images, and by as much as it varies, where the bare gradient would move any pixel.
"""

import torch

from guided_diffusion.script.errors import UserError

from .backward import pulled_back
from .dime import ddim_step, predict, require_depth
from .inputs import require_images
from .masks import changed, require_dilation, require_threshold, require_warm_up

THRESHOLD, DILATION, WARM_UP = 0.15, 5, 3  # of the mask
FINAL_THRESHOLD = 0.15
LEAST_STEPS = 2


@torch.no_grad()
def inversion(
    diffusion,
    model_fn,
    x,
    guidance,
    *,
    tau,
    noise=None,
    z=None,
    clip_denoised=True,
    guided_steps=None,
    callback=None,
    margin=10.0,
    growth=1.2,
    mask_threshold=THRESHOLD,
    mask_dilation=DILATION,
    mask_warm_up=None,
    final_threshold=FINAL_THRESHOLD,
    through_network=True,
    path_correction=True,
):
    """x (N, C, H, W) in [-1, 1] -> its counterfactual, same shape. tau - 1 evaluations, tau more where z is None.

    Where the class gradient runs through the network, the tau - 1 evaluations go backward as well.

    The arguments are dime_sample's without inner_* and sampling_scale, with these differences:
    guidance: a Guidance, whose parts are needed. noise: not used, since nothing is drawn.
    z: invert()'s result, to share it between attempts; None: it is computed.
    clip_denoised: clip the network's clean estimate; x_clean, which is corrected, may leave [-1, 1].
    margin: an image is not guided while the target leads by this many logits at x_clean.
    growth: multiplies an image's class gradient once more after each step at which the target leads by less.
    mask_threshold: the change, as a share of the image's largest, from which a pixel is in the mask; 0: no mask.
    mask_dilation: width of the square that the change is dilated by.
    mask_warm_up: how many steps at the beginning have no mask; None: 3, or tau - 1 where that is less.
    final_threshold: as mask_threshold, of the answer, without dilation; 0: all of its change is kept.
    through_network: whether the class gradient runs through the network, which then must be differentiable by z;
    False: it is that at x_clean, divided by sqrt(abar), as DiME has it.
    path_correction: add e_t - e_t+1 to each prediction; False: DDIM's own inversion, which does not lead back to x.
    callback(dict(t, z, x_clean, mask)): mask (N, 1, H, W) is the one that the step's update uses, or None.
    """
    require_images(x, channels=getattr(model_fn, "in_channels", None))
    require_depth(diffusion, tau)
    require_margin(margin)
    require_growth(growth)
    require_threshold(mask_threshold)
    require_threshold(final_threshold, "final_threshold")
    require_dilation(mask_dilation)
    warm_up = min(WARM_UP, tau - 1) if mask_warm_up is None else mask_warm_up
    require_warm_up(warm_up, tau)
    guided_steps = tau if guided_steps is None else guided_steps
    path_noise = invert(diffusion, model_fn, x, tau=tau, clip_denoised=clip_denoised) if z is None else z
    path = path_of(diffusion, x, path_noise)
    z = path[-1]
    strength = torch.ones_like(x[:, :1, :1, :1])

    for number, t in enumerate(reversed(range(tau))):
        guided, abar, mask = number < guided_steps, float(diffusion.alphas_cumprod[t]), None
        with torch.set_grad_enabled(through_network and guided and number > 0):
            z_t = z.detach().requires_grad_(torch.is_grad_enabled())
            eps = path_noise[:, t]
            if number > 0:
                predicted = predicted_noise(diffusion, model_fn, z_t, t, clip_denoised)
                eps = predicted + eps - path_noise[:, t + 1] if path_correction else predicted
            estimate = diffusion.x0_from_eps(z_t, diffusion.batch_t(t, z), eps)
        x0 = x_clean = estimate.detach()
        if guided:
            parts = guidance.parts(z, x_clean, abar**0.5)
            if estimate.requires_grad:  # instead of DiME's dx_clean/dz_t, which is 1 / sqrt(abar)
                parts = parts._replace(class_part=pulled_back(abar**0.5 * parts.class_part, estimate, z_t))
            x0, strength = apply_guidance(x_clean, parts, strength, abar, margin, growth)
        if mask_threshold and number >= warm_up:
            mask = changed(x, x0, mask_threshold, mask_dilation)
        if callback is not None:
            callback({"t": t, "z": z, "x_clean": x_clean, "mask": mask})
        z = ddim_step(diffusion, z, t, x0, t - 1)
        if mask is not None:
            z = torch.where(mask, z, path[t])
    return torch.where(changed(x, z, final_threshold, 1), z, x) if final_threshold else z


@torch.no_grad()
def invert(diffusion, model_fn, x, *, tau, clip_denoised=True):
    """x (N, C, H, W) in [-1, 1] -> e_0 … e_tau-1, the noises of its path, (N, tau, C, H, W). tau evaluations."""
    require_depth(diffusion, tau)
    noises, z = [], x
    for t in range(tau):
        noises.append(predicted_noise(diffusion, model_fn, z, max(t - 1, 0), clip_denoised))
        z = _one_step_up(diffusion, z, t, noises[-1])
    return torch.stack(noises, dim=1)


def path_of(diffusion, x, noises):
    """x and the noises of its path (N, tau, C, H, W) -> [x, z_0, …, z_tau-1]; the chain starts at the last."""
    path = [x]
    for t, eps in enumerate(noises.unbind(1)):
        path.append(_one_step_up(diffusion, path[-1], t, eps))
    return path


def predicted_noise(diffusion, model_fn, z, t, clip_denoised=True):
    """One evaluation -> the noise in z_t (N, C, H, W) that follows from its clean estimate."""
    x0 = predict(diffusion, model_fn, z, t, clip_denoised)["pred_xstart"]
    return diffusion.eps_from_x0(z, diffusion.batch_t(t, z), x0)


def apply_guidance(x_clean, parts, strength, abar, margin, growth):
    """-> (x0, the guided x_clean; the strength in the next step). strength (N, 1, 1, 1) multiplies the class part.

    An image whose target leads by the margin is not guided, and its strength stays.
    Dhariwal & Nichol 2021, Algorithm 2, in terms of x0.
    """
    guided = (parts.margin < margin)[:, None, None, None]
    gradient = torch.where(guided, strength * parts.class_part + parts.distance_part, 0.0)
    return x_clean - (1 - abar) / abar**0.5 * gradient, torch.where(guided, growth * strength, strength)


def require_steps(tau):
    """UserError, naming --start_step, for a single step: the guidance of the last step changes hardly anything."""
    if tau < LEAST_STEPS:
        raise UserError(
            f"--start_step {tau} changes nothing with --method inversion; give at least {LEAST_STEPS}, such as 12"
        )


def require_margin(margin):
    """UserError for a margin that is negative or NaN."""
    if not margin >= 0:
        raise UserError(f"--margin {margin} must be at least 0, a number of logits")


def require_growth(growth):
    """UserError for a growth below 1, with which the class gradient would fade, or one that is not finite."""
    if not 1 <= growth < float("inf"):
        raise UserError(f"--growth {growth} must be at least 1, and finite")


def inversion_evaluations(tau):
    """Network evaluations: (once for each image, for its inversion; for each attempt)."""
    return tau, tau - 1


def _one_step_up(diffusion, z, t, eps):
    """z_t-1 (x where t is 0) and its noise -> z_t. The inverse of ddim_step."""
    x0 = z if t == 0 else diffusion.x0_from_eps(z, diffusion.batch_t(t - 1, z), eps)
    return diffusion.q_sample(x0, diffusion.batch_t(t, z), eps)
