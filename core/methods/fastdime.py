"""FastDiME (Weng et al., ECCV 2024): DiME on the one-step estimate, with a mask that keeps x where nothing changes.

The symbols are those of core.methods.dime. The clean estimate comes from the evaluation that the mean needs anyway,
so a step costs one evaluation. Masks (N, 1, H, W) are true where the image may change; elsewhere the result is x.
The arguments are dime_sample's without inner_*, with these differences:

callback(dict(t, z, x_clean, mask)): mask is the one that the step's update uses, or None. The last is the result's.
noise(like) is called first for z, unless z is given. Then each step calls it once for the chain, and once more for
the pixels outside of the mask where there is one. Not at t = 0.
rescale_gradient: divide the class and perceptual gradients by sqrt_abar.
background_lag: by how many steps the background is noisier than the chain: 0 as in the paper, 1 as in its code.
"""

import torch

from .dime import predict, require_depth, start_of_chain, step
from .inputs import require_images
from .masks import background, changed, require_dilation, require_lag, require_threshold, require_warm_up

THRESHOLD, DILATION = 0.15, 5  # as published for CelebA


def fastdime(
    diffusion,
    model_fn,
    x,
    guidance,
    *,
    tau,
    noise,
    mask_threshold=THRESHOLD,
    mask_dilation=DILATION,
    mask_warm_up=None,
    **options,
):
    """FastDiME, tau evaluations. x_clean is the clean estimate of the step before; the mask is where the step's own
    estimate differs from x.

    mask_threshold: the mask holds pixels that change by this share of the largest change, or more; 0: no mask.
    mask_dilation: width in pixels of the square that the mask is dilated by.
    mask_warm_up: how many steps at the beginning have no mask; None: half of them, as published (30 of 60).
    options: dime_sample's z, clip_denoised, sampling_scale, guided_steps and callback; rescale_gradient (False as
    published) and background_lag.
    """
    require_images(x, channels=getattr(model_fn, "in_channels", None))
    require_depth(diffusion, tau)
    warm_up = tau // 2 if mask_warm_up is None else mask_warm_up
    require_threshold(mask_threshold)
    require_dilation(mask_dilation)
    require_warm_up(warm_up, tau)

    def mask_of_change(number, clean):
        return changed(x, clean, mask_threshold, mask_dilation) if number >= warm_up else None

    find_mask = mask_of_change if mask_threshold else _no_mask
    return _fastdime_pass(diffusion, model_fn, x, guidance, find_mask, tau=tau, noise=noise, **options)


def fastdime2(
    diffusion,
    model_fn,
    x,
    guidance,
    *,
    tau,
    noise,
    mask_threshold=THRESHOLD,
    mask_dilation=DILATION,
    **options,
):
    """FastDiME-2, 2 tau evaluations: a first pass without a mask, then a second pass from the same z. Every step of
    the second uses the mask of the first result. Arguments are fastdime's; callback sees the second pass only."""
    first_pass = {"mask_threshold": 0.0}
    return _fastdime_twice(
        diffusion, model_fn, x, guidance, first_pass, mask_threshold, mask_dilation, tau=tau, noise=noise, **options
    )


def fastdime2plus(
    diffusion,
    model_fn,
    x,
    guidance,
    *,
    tau,
    noise,
    mask_threshold=THRESHOLD,
    mask_dilation=DILATION,
    mask_warm_up=None,
    **options,
):
    """FastDiME-2+, 2 tau evaluations: fastdime2, but the first pass has fastdime's mask."""
    first_pass = {"mask_threshold": mask_threshold, "mask_dilation": mask_dilation, "mask_warm_up": mask_warm_up}
    return _fastdime_twice(
        diffusion, model_fn, x, guidance, first_pass, mask_threshold, mask_dilation, tau=tau, noise=noise, **options
    )


def _fastdime_twice(
    diffusion,
    model_fn,
    x,
    guidance,
    first_pass,
    threshold,
    dilation,
    *,
    tau,
    noise,
    z=None,
    callback=None,
    **options,
):
    """Two passes from the same z; first_pass: the mask options of the first one."""
    require_threshold(threshold)
    require_dilation(dilation)
    require_images(x, channels=getattr(model_fn, "in_channels", None))
    require_depth(diffusion, tau)
    if z is None:
        z = start_of_chain(diffusion, x, tau, noise)
    options |= {"tau": tau, "noise": noise, "z": z}
    mask = changed(x, fastdime(diffusion, model_fn, x, guidance, **first_pass, **options), threshold, dilation)
    return _fastdime_pass(diffusion, model_fn, x, guidance, lambda *_: mask, callback=callback, **options)


def _no_mask(number, clean):
    return None


@torch.no_grad()
def _fastdime_pass(
    diffusion,
    model_fn,
    x,
    guidance,
    find_mask,
    *,
    tau,
    noise,
    z=None,
    clip_denoised=True,
    sampling_scale=1.0,
    guided_steps=None,
    callback=None,
    rescale_gradient=False,
    background_lag=0,
):
    """One guided chain. find_mask(number of the step, its clean estimate) -> the step's mask, or None."""
    require_lag(background_lag)
    guided_steps = tau if guided_steps is None else guided_steps
    if z is None:
        z = start_of_chain(diffusion, x, tau, noise)
    x_clean, mask = x, None

    for number, t in enumerate(reversed(range(tau))):
        guided = number < guided_steps
        p = predict(diffusion, model_fn, z, t, clip_denoised)
        if guided:
            mask = find_mask(number, p["pred_xstart"])
        if callback is not None:
            callback({"t": t, "z": z, "x_clean": x_clean, "mask": mask})
        sqrt_abar = float(diffusion.sqrt_alphas_cumprod[t]) if rescale_gradient else 1.0
        z = step(p, t, noise, guidance(z, x_clean, sqrt_abar) if guided else 0.0, sampling_scale)
        if guided:
            x_clean = p["pred_xstart"]
        if mask is not None:
            x_clean = torch.where(mask, x_clean, x)
            z = torch.where(mask, z, background(diffusion, x, t, background_lag, noise))
    return z
