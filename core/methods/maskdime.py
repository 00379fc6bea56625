"""MaskDiME (Guo et al. 2026, arXiv 2602.18792): DiME on the one-step estimate, where the class gradient is largest.

The symbols are those of core.methods.chain. A step costs one evaluation. Masks (N, 1, H, W) are true where the
image may change; elsewhere the result is x.
"""

import torch

from .chain import sampler, step
from .masks import strongest


@sampler
def maskdime(
    chain,
    *,
    mask_share,
    mask_clean_share,
    mask_dilation,
    mask_noise,
    distance_scale,
    rescale_gradient=True,
    background_lag,
):
    """MaskDiME, tau evaluations. Two masks hold the pixels with the largest class gradient: one for z, and a
    smaller one, of the step before, for x_clean. Outside of it x_clean is x.

    The arguments are the fields of a Chain, of which guidance is a Guidance, whose parts are needed, and callback
    and noise are those of core.methods.fastdime; and those of core.methods.options, by default as for CelebA:
    mask_share, mask_clean_share: k and rho (published k: 0.05 Smiling, 0.1 Young).
    mask_noise: 1 as in the paper, 0 as in its code. Its code multiplies the class gradient, scaled by 8, 10, 15
    already, and the distances once more by 8: classifier_scale 64, 80, 120, distance_scale 8, background_lag 1.
    """
    z, x_clean = chain.start(), chain.x
    count = int(mask_share * chain.x[0, 0].numel())  # rounded down, as in its code, and so the second one
    mask = clean_mask = torch.zeros_like(chain.x[:, :1], dtype=torch.bool)

    for _, t, guided in chain.steps():
        p, gradient = chain.predict(z, t), 0.0
        if guided:
            x_clean = torch.where(clean_mask, p["pred_xstart"], chain.x)
            parts = chain.guidance.parts(z, x_clean, chain.sqrt_abar(t) if rescale_gradient else 1.0)
            gradient = parts.class_part + distance_scale * parts.distance_part
            mask = strongest(parts.class_part, count, mask_dilation)
            clean_mask = strongest(parts.class_part, int(mask_clean_share * count), mask_dilation)
        chain.report(t=t, z=z, x_clean=x_clean, mask=mask)
        z = step(p, t, chain.noise if mask_noise else None, gradient, mask_noise)
        z = torch.where(mask, z, chain.background(t, background_lag))
    return z
