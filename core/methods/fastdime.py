"""FastDiME (Weng et al., ECCV 2024): DiME on the one-step estimate, with a mask that keeps x where nothing changes.

The symbols are those of core.methods.chain. The clean estimate comes from the evaluation that the mean needs
anyway, so a step costs one evaluation. Masks (N, 1, H, W) are true where the image may change; elsewhere the result
is x. The arguments are the fields of a Chain and core.methods.options, by default as published for CelebA:

mask_warm_up None: half of the steps, as published (30 of 60).
background_lag: 0 as in the paper, 1 as in its code.
callback(dict(t, z, x_clean, mask)): mask is the one that the step's update uses, or None. The last is the result's.
noise: each step calls it for the chain, and then for the pixels outside of the mask where there is one.
"""

from dataclasses import replace

import torch

from .chain import sampler, step
from .masks import changed


def guided_pass(chain, mask_at, sampling_scale, rescale_gradient, background_lag):
    """One guided chain. x_clean is the clean estimate of the step before.

    mask_at(number of the step, its own clean estimate) -> the step's mask, or None.
    """
    z, x_clean, mask = chain.start(), chain.x, None

    for number, t, guided in chain.steps():
        p, gradient = chain.predict(z, t), 0.0
        if guided:
            mask = mask_at(number, p["pred_xstart"])
        chain.report(t=t, z=z, x_clean=x_clean, mask=mask)
        if guided:
            gradient = chain.guidance(z, x_clean, chain.sqrt_abar(t) if rescale_gradient else 1.0)
            x_clean = p["pred_xstart"]
        z = step(p, t, chain.noise, gradient, sampling_scale)
        if mask is not None:
            x_clean = torch.where(mask, x_clean, chain.x)
            z = torch.where(mask, z, chain.background(t, background_lag))
    return z


@sampler
def fastdime(
    chain, *, mask_threshold, mask_dilation, mask_warm_up, sampling_scale, rescale_gradient, background_lag
):
    """FastDiME, tau evaluations. The mask is where the step's own estimate differs from x."""
    mask_at = running_mask(chain, mask_threshold, mask_dilation, mask_warm_up)
    return guided_pass(chain, mask_at, sampling_scale, rescale_gradient, background_lag)


@sampler
def fastdime2(chain, *, mask_threshold, mask_dilation, sampling_scale, rescale_gradient, background_lag):
    """FastDiME-2, 2 tau evaluations: a first pass without a mask, then a second pass from the same z. Every step of
    the second uses the mask of the first result. callback sees the second pass only."""
    pass_options = sampling_scale, rescale_gradient, background_lag
    return _two_passes(chain, lambda *_: None, mask_threshold, mask_dilation, *pass_options)


@sampler
def fastdime2plus(
    chain, *, mask_threshold, mask_dilation, mask_warm_up, sampling_scale, rescale_gradient, background_lag
):
    """FastDiME-2+, 2 tau evaluations: fastdime2, but the first pass has fastdime's mask."""
    mask_at = running_mask(chain, mask_threshold, mask_dilation, mask_warm_up)
    pass_options = sampling_scale, rescale_gradient, background_lag
    return _two_passes(chain, mask_at, mask_threshold, mask_dilation, *pass_options)


def running_mask(chain, threshold, dilation, warm_up):
    """A mask_at for guided_pass: where the estimate has changed from x, after the warm-up."""
    first = chain.tau // 2 if warm_up is None else warm_up
    return lambda number, x0: changed(chain.x, x0, threshold, dilation) if threshold and number >= first else None


def _two_passes(chain, mask_at, threshold, dilation, *pass_options):
    """A pass with the masks mask_at, and one from the same z with the mask of its result."""
    chain = replace(chain, z=chain.start())
    result = guided_pass(replace(chain, callback=None), mask_at, *pass_options)
    mask = changed(chain.x, result, threshold, dilation)
    return guided_pass(chain, lambda *_: mask, *pass_options)
