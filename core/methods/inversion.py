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

from .backward import pulled_back
from .chain import Cost, sampler
from .masks import changed

WARM_UP = 3  # steps without a mask, where there are more


@sampler
def inversion(
    chain,
    *,
    margin,
    growth,
    mask_threshold,
    mask_dilation,
    mask_warm_up,
    final_threshold,
    through_network,
    path_correction,
):
    """x (N, C, H, W) in [-1, 1] -> its counterfactual, same shape. tau - 1 evaluations, tau more where z is None.

    Where the class gradient runs through the network, the tau - 1 evaluations go backward as well.

    The arguments are those of core.methods.options and the fields of a Chain, with these differences:
    guidance: a Guidance, whose parts are needed. noise: not used, since nothing is drawn.
    z: invert()'s result, to share it between attempts; None: it is computed.
    clip_denoised: clip the network's clean estimate; x_clean, which is corrected, may leave [-1, 1].
    callback(dict(t, z, x_clean, mask)): mask (N, 1, H, W) is the one that the step's update uses, or None.
    mask_warm_up None: 3 steps, or tau - 1 where that is less.
    through_network False: the class gradient is that at x_clean, divided by sqrt(abar), as DiME has it.
    """
    x, diffusion = chain.x, chain.diffusion
    warm_up = min(WARM_UP, chain.tau - 1) if mask_warm_up is None else mask_warm_up
    path_noise = invert(chain) if chain.z is None else chain.z
    path = path_of(chain, path_noise)
    z, strength = path[-1], torch.ones_like(x[:, :1, :1, :1])

    for number, t, guided in chain.steps():
        abar, mask = float(diffusion.alphas_cumprod[t]), None
        with torch.set_grad_enabled(through_network and guided and number > 0):
            z_t = z.detach().requires_grad_(torch.is_grad_enabled())
            eps = path_noise[:, t]
            if number > 0:
                predicted = predicted_noise(chain, z_t, t)
                eps = predicted + eps - path_noise[:, t + 1] if path_correction else predicted
            estimate = diffusion.x0_from_eps(z_t, chain.batch_t(t), eps)
        x0 = x_clean = estimate.detach()
        if guided:
            parts = chain.guidance.parts(z, x_clean, abar**0.5)
            if estimate.requires_grad:  # instead of DiME's dx_clean/dz_t, which is 1 / sqrt(abar)
                parts = parts._replace(class_part=pulled_back(abar**0.5 * parts.class_part, estimate, z_t))
            x0, strength = apply_guidance(x_clean, parts, strength, abar, margin, growth)
        if mask_threshold and number >= warm_up:
            mask = changed(x, x0, mask_threshold, mask_dilation)
        chain.report(t=t, z=z, x_clean=x_clean, mask=mask)
        z = chain.ddim_step(z, t, x0, t - 1)
        if mask is not None:
            z = torch.where(mask, z, path[t])
    return torch.where(changed(x, z, final_threshold, 1), z, x) if final_threshold else z


@torch.no_grad()
def invert(chain):
    """-> e_0 … e_tau-1, the noises of x's path, (N, tau, C, H, W). tau evaluations."""
    noises, z = [], chain.x
    for t in range(chain.tau):
        noises.append(predicted_noise(chain, z, max(t - 1, 0)))
        z = _one_step_up(chain, z, t, noises[-1])
    return torch.stack(noises, dim=1)


def path_of(chain, noises):
    """The noises of x's path (N, tau, C, H, W) -> [x, z_0, …, z_tau-1]; the chain starts at the last."""
    path = [chain.x]
    for t, eps in enumerate(noises.unbind(1)):
        path.append(_one_step_up(chain, path[-1], t, eps))
    return path


def predicted_noise(chain, z, t):
    """One evaluation -> the noise in z_t (N, C, H, W) that follows from its clean estimate."""
    return chain.diffusion.eps_from_x0(z, chain.batch_t(t), chain.predict(z, t)["pred_xstart"])


def apply_guidance(x_clean, parts, strength, abar, margin, growth):
    """-> (x0, the guided x_clean; the strength in the next step). strength (N, 1, 1, 1) multiplies the class part.

    An image whose target leads by the margin is not guided, and its strength stays.
    Dhariwal & Nichol 2021, Algorithm 2, in terms of x0.
    """
    guided = (parts.margin < margin)[:, None, None, None]
    gradient = torch.where(guided, strength * parts.class_part + parts.distance_part, 0.0)
    return x_clean - (1 - abar) / abar**0.5 * gradient, torch.where(guided, growth * strength, strength)


def inversion_cost(tau, guided_steps=None, through_network=True, **options):
    """The Cost of an attempt, and once of the inversion."""
    guided = tau if guided_steps is None else min(guided_steps, tau)
    return Cost(tau - 1, once=tau, backward=max(guided - 1, 0) if through_network else 0)


def _one_step_up(chain, z, t, eps):
    """z_t-1 (x where t is 0) and its noise -> z_t. The inverse of ddim_step."""
    x0 = z if t == 0 else chain.diffusion.x0_from_eps(z, chain.batch_t(t - 1), eps)
    return chain.diffusion.q_sample(x0, chain.batch_t(t), eps)
