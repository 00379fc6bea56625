"""Masks (N, 1, H, W) of booleans, one for each image: where its counterfactual may differ from it."""

import torch
import torch.nn.functional as F

from guided_diffusion.script.errors import UserError


def changed(x, clean, threshold, dilation):
    """x and clean (N, C, H, W) -> the mask of the pixels that have changed (Weng et al. 2024).

    The change is Σ_c |x - clean|, max-pooled over dilation x dilation pixels. The mask holds the pixels where it is
    at least `threshold` times the image's largest change. Equal images have an empty mask.
    """
    difference = (x - clean).abs().sum(1, keepdim=True)
    peak = difference.amax((2, 3), keepdim=True)
    # "Not less" instead of "at least", so that NaN is inside the mask: outside of it x would hide it.
    return ~(_dilated(difference, dilation) < threshold * peak) & (peak != 0)


def strongest(gradient, share, dilation):
    """gradient (N, C, H, W) -> the mask of the pixels with the largest mean_c |gradient|, a `share` of all pixels,
    dilated (Guo et al. 2026). Pixels whose gradient is 0 are left out."""
    strength = gradient.abs().mean(1).flatten(1)
    values, pixels = strength.topk(round(share * strength.shape[1]))
    mask = torch.zeros_like(strength).scatter(1, pixels, (values != 0).to(strength.dtype))
    return _dilated(mask.reshape(len(gradient), 1, *gradient.shape[2:]), dilation) > 0


def background(diffusion, x, t, lag, noise):
    """z_t-1 outside of a mask: x noised to step t - 1 + lag, and after the last step x itself."""
    return x if t == 0 else diffusion.q_sample(x, diffusion.batch_t(t - 1 + lag, x), noise(x))


def require_dilation(dilation):
    """UserError unless the dilation is odd and positive."""
    if dilation < 1 or dilation % 2 == 0:
        raise UserError(f"--mask_dilation {dilation} must be odd and positive, such as 5; 1 dilates nothing")


def require_lag(lag):
    """UserError unless the lag is 0 or 1: the background's noise is that of step t - 1 or t."""
    if lag not in (0, 1):
        raise UserError(f"--background_lag {lag} must be 0, as noisy as the chain, or 1, a step noisier")


def require_threshold(threshold, flag="mask_threshold"):
    """UserError unless the threshold is from 0 to 1. Above 1 every mask would be empty."""
    if not 0 <= threshold <= 1:
        raise UserError(f"--{flag} {threshold} must be from 0 (no mask) to 1: above 1 no pixel changes")


def require_warm_up(warm_up, tau):
    """UserError unless at least one of the tau steps comes after the warm-up."""
    if not 0 <= warm_up < tau:
        raise UserError(f"--mask_warm_up {warm_up} must be from 0 to {tau - 1}, as --start_step is {tau}")


def require_shares(share, clean_share, shape):
    """UserError where a mask of one of these shares of an image (..., H, W) would hold no pixel, or all of them."""
    pixels = shape[-2] * shape[-1]
    least = 0.5 / pixels
    if not least < share < 1 - least:
        raise UserError(
            f"--mask_share {share} must be between 0 and 1, with at least one of an image's {pixels} pixels inside "
            "the mask, and one outside"
        )
    if not least < share * clean_share <= share:
        raise UserError(f"--mask_clean_share {clean_share} must be at most 1, and leave a pixel of --mask_share")


def _dilated(image, dilation):
    return F.max_pool2d(image, dilation, stride=1, padding=dilation // 2)
