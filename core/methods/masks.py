"""Masks (N, 1, H, W) of booleans, one for each image: where its counterfactual may differ from it."""

import torch
import torch.nn.functional as F


def changed(x, clean, threshold, dilation):
    """x and clean (N, C, H, W) -> the mask of the pixels that have changed (Weng et al. 2024).

    The change is Σ_c |x - clean|, max-pooled over dilation x dilation pixels. The mask holds the pixels where it is
    at least `threshold` times the image's largest change. Equal images have an empty mask.
    """
    difference = (x - clean).abs().sum(1, keepdim=True)
    peak = difference.amax((2, 3), keepdim=True)
    # "Not less" instead of "at least", so that NaN is inside the mask: outside of it x would hide it.
    return ~(_dilated(difference, dilation) < threshold * peak) & (peak != 0)


def strongest(gradient, count, dilation):
    """gradient (N, C, H, W) -> the mask of the `count` pixels with the largest mean_c |gradient|, dilated.

    So in Guo et al. 2026. Pixels whose gradient is 0 are left out.
    """
    strength = gradient.abs().mean(1).flatten(1)
    values, pixels = strength.topk(count)
    mask = torch.zeros_like(strength).scatter(1, pixels, (values != 0).to(strength.dtype))
    return _dilated(mask.reshape(len(gradient), 1, *gradient.shape[2:]), dilation) > 0


def _dilated(image, dilation):
    return F.max_pool2d(image, dilation, stride=1, padding=dilation // 2)
