"""MaskDiME (Guo et al. 2026, arXiv 2602.18792): DiME on the one-step estimate, where the class gradient is largest.

The symbols are those of core.methods.dime. A step costs one evaluation. Masks (N, 1, H, W) are true where the image
may change; elsewhere the result is x. Of dime_sample's arguments it has no inner_* and no sampling_scale; callback,
noise, rescale_gradient and background_lag are those of core.methods.fastdime.
"""

import torch

from .dime import predict, require_depth, start_of_chain, step
from .masks import background, require_dilation, require_lag, require_shares, strongest

SHARE, CLEAN_SHARE, DILATION = 0.05, 0.5, 5  # as published for CelebA


@torch.no_grad()
def maskdime(
    diffusion, model_fn, x, guidance, *, tau, noise, z=None, clip_denoised=True, guided_steps=None,
    callback=None, mask_share=SHARE, mask_clean_share=CLEAN_SHARE, mask_dilation=DILATION, mask_noise=0.0,
    distance_scale=1.0, rescale_gradient=True, background_lag=0,
):  # fmt: skip
    """MaskDiME: masks are where the class gradient is largest, one for z, and a smaller one, of the step before,
    for x_clean, which is x outside of it. tau evaluations.

    guidance: as make_guidance gives it; its parts tell the class gradient.
    mask_share: k, the share of the pixels that z changes at (published for CelebA: 0.05 Smiling, 0.1 Young).
    mask_clean_share: rho, the share of these that x_clean changes at.
    mask_dilation: width of the square that both are then dilated by.
    mask_noise: multiplies sigma of the noise inside the mask: 1 as in the paper, 0, without any, as in its code.
    distance_scale: multiplies the gradients of the distances; published is the classifier scale itself, 8.
    """
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
            gradient = parts.of_class + distance_scale * parts.of_distance
            mask = strongest(parts.of_class, mask_share, mask_dilation)
            clean_mask = strongest(parts.of_class, mask_clean_share * mask_share, mask_dilation)
        if callback is not None:
            callback({"t": t, "z": z, "x_clean": x_clean, "mask": mask})
        z = step(p, t, noise if mask_noise else None, gradient, mask_noise)
        z = torch.where(mask, z, background(diffusion, x, t, background_lag, noise))
    return z
