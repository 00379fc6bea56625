"""Where a counterfactual may differ from its image x: masks (N, 1, H, W) of booleans, each image its own."""

import torch
import torch.nn.functional as F

from guided_diffusion.errors import UserError


def changed(x, clean, threshold, dilation):
    """Where clean differs from x, both (N, C, H, W) (Weng et al. 2024): where the maximum, over dilation x dilation
    pixels, of Σ_c |x - clean| reaches the threshold, a share of the image's largest. Equal images: nowhere."""
    difference = (x - clean).abs().sum(1, keepdim=True)
    peak = difference.amax((2, 3), keepdim=True)
    # Said with "not less", so that NaN is inside the mask: outside of it nobody would see it.
    return ~(_dilated(difference, dilation) < threshold * peak) & (peak != 0)


def strongest(gradient, share, dilation):
    """The share of the pixels where mean_c |gradient| is largest, those of no gradient left out, dilated
    (Guo et al. 2026). gradient: (N, C, H, W)."""
    strength = gradient.abs().mean(1).flatten(1)
    values, places = strength.topk(round(share * strength.shape[1]))
    mask = torch.zeros_like(strength).scatter(1, places, (values != 0).to(strength.dtype))
    return _dilated(mask.reshape(len(gradient), 1, *gradient.shape[2:]), dilation) > 0


def background(diffusion, x, t, lag, noise):
    """What z_t-1 is outside of a mask: x at the noise of step t - 1 + lag, and after the last step x itself."""
    return x if t == 0 else diffusion.q_sample(x, diffusion.batch_t(t - 1 + lag, x), noise(x))


def require_dilation(dilation):
    """UserError where the square that masks are dilated by has no middle."""
    if dilation < 1 or dilation % 2 == 0:
        raise UserError(f"--mask_dilation {dilation} must be odd and positive, such as 5; 1 dilates nothing")


def require_lag(lag):
    """UserError unless the background's noise is that of t - 1 or of t."""
    if lag not in (0, 1):
        raise UserError(f"--background_lag {lag} must be 0, as noisy as the chain, or 1, a step noisier")


def require_threshold(threshold):
    """UserError where every mask would be empty, and the counterfactual the image."""
    if not 0 <= threshold <= 1:
        raise UserError(f"--mask_threshold {threshold} must be from 0 to 1: 0 masks nothing, above 1 all is masked")


def require_warm_up(warm_up, tau):
    """UserError where no step is left to make a mask."""
    if not 0 <= warm_up < tau:
        raise UserError(f"--mask_warm_up {warm_up} must be from 0 to {tau - 1}, as --start_step is {tau}")


def require_shares(share, clean_share, shape):
    """UserError where a mask of these shares of an image (..., H, W) covers no pixel, or every one."""
    pixels = shape[-2] * shape[-1]
    least = 0.5 / pixels
    if not least < share < 1 - least:
        raise UserError(
            f"--mask_share {share} must be between 0 and 1, and a pixel at least, inside and outside, "
            f"of the {pixels} of an image"
        )
    if not least < share * clean_share <= share:
        raise UserError(f"--mask_clean_share {clean_share} must be at most 1, and leave a pixel of --mask_share")


def _dilated(image, dilation):
    return F.max_pool2d(image, dilation, stride=1, padding=dilation // 2)
