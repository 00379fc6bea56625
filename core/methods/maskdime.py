"""MaskDiME (Guo et al. 2026, arXiv 2602.18792): DiME on the one-step estimate, where the class gradient is largest.

The symbols are those of core.methods.dime. A step costs one evaluation. Masks (N, 1, H, W) are true where the image
may change; elsewhere the result is x. The arguments are dime_sample's without inner_* and sampling_scale; callback,
noise, rescale_gradient and background_lag are those of core.methods.fastdime.
"""

import torch

from .dime import predict, require_depth, start_of_chain, step
from .inputs import require_images
from .masks import background, require_dilation, require_lag, require_shares, strongest

SHARE, CLEAN_SHARE, DILATION = 0.05, 0.5, 5  # as published for CelebA


@torch.no_grad()
def maskdime(
    diffusion,
    model_fn,
    x,
    guidance,
    *,
    tau,
    noise,
    z=None,
    clip_denoised=True,
    guided_steps=None,
    callback=None,
    mask_share=SHARE,
    mask_clean_share=CLEAN_SHARE,
    mask_dilation=DILATION,
    mask_noise=0.0,
    distance_scale=1.0,
    rescale_gradient=True,
    background_lag=0,
):
    """MaskDiME, tau evaluations. Two masks hold the pixels with the largest class gradient: one for z, and a
    smaller one, of the step before, for x_clean. Outside of it x_clean is x.

    guidance: a Guidance, whose parts are needed.
    mask_share: k, the share of the pixels at which z may change (published for CelebA: 0.05 Smiling, 0.1 Young).
    mask_clean_share: rho, the share of these at which x_clean may change.
    mask_dilation: width in pixels of the square that both masks are dilated by.
    mask_noise: multiplies sigma of the noise inside the mask: 1 as in the paper, 0 as in its code.
    distance_scale: multiplies the gradients of the distances. Published is the classifier scale, 8.
    """
    require_images(x, channels=getattr(model_fn, "in_channels", None))
    require_depth(diffusion, tau)
    require_shares(mask_share, mask_clean_share, x.shape)
    require_dilation(mask_dilation)
    require_lag(background_lag)
    guided_steps = tau if guided_steps is None else guided_steps
    if z is None:
        z = start_of_chain(diffusion, x, tau, noise)
    mask = clean_mask = torch.zeros_like(x[:, :1], dtype=torch.bool)
    x_clean = x

    for number, t in enumerate(reversed(range(tau))):
        p, gradient = predict(diffusion, model_fn, z, t, clip_denoised), 0.0
        if number < guided_steps:
            x_clean = torch.where(clean_mask, p["pred_xstart"], x)
            sqrt_abar = float(diffusion.sqrt_alphas_cumprod[t]) if rescale_gradient else 1.0
            parts = guidance.parts(z, x_clean, sqrt_abar)
            gradient = parts.class_part + distance_scale * parts.distance_part
            mask = strongest(parts.class_part, mask_share, mask_dilation)
            clean_mask = strongest(parts.class_part, mask_clean_share * mask_share, mask_dilation)
        if callback is not None:
            callback({"t": t, "z": z, "x_clean": x_clean, "mask": mask})
        z = step(p, t, noise if mask_noise else None, gradient, mask_noise)
        z = torch.where(mask, z, background(diffusion, x, t, background_lag, noise))
    return z
