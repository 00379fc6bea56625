"""The options of the methods: the default, the meaning and the range of each, declared once.

The samplers take their defaults from here, and main.py its flags.
"""

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag
from guided_diffusion.script_util import MOST_STEPS

OPTIONS = {
    "inner_steps": Flag(
        None, "make the inner chain DDIM in this many steps; 1: the one-step estimate", int, low=1, high=MOST_STEPS
    ),
    "use_sampling_on_x_t": Flag(
        True, "sample the inner chain instead of following its means", argument="inner_stochastic"
    ),
    "use_ddim": Flag(False, "make the inner chain DDIM with eta 0", argument="inner_ddim"),
    "sampling_scale": Flag(1.0, "multiplies the noise of the guided chain", low=0),
    "mask_threshold": Flag(
        0.15, "the change from which the mask holds, a share of the largest; 0: no mask", low=0, high=1
    ),
    "mask_dilation": Flag(5, "width in pixels of the square that masks are dilated by", low=1, high=4096),
    "mask_warm_up": Flag(None, "how many steps have no mask", int, low=0, high=MOST_STEPS),
    "final_threshold": Flag(
        0.15,
        "the change from which a pixel of the answer is not the image's; a share of the largest; 0: all",
        low=0,
        high=1,
    ),
    "through_network": Flag(True, "let the class gradient run through the network; False: faster, less true"),
    "path_correction": Flag(True, "lead the unguided chain back to the image; False: DDIM's inversion as it is"),
    "mask_share": Flag(0.05, "the share of the pixels that may change", low=0, high=1),
    "mask_clean_share": Flag(0.5, "the share of these that the clean estimate changes at", low=0, high=1),
    "mask_noise": Flag(0.0, "multiplies the noise inside the mask", low=0),
    "distance_scale": Flag(1.0, "multiplies the gradients of the distances", low=0),
    "rescale_gradient": Flag(False, "divide class and perceptual gradients by sqrt(abar)"),
    "background_lag": Flag(0, "by how many steps the background is noisier than the chain", low=0, high=1),
    "iterations": Flag(50, "how often the pre-explanation is changed by a grey level", low=1, high=MOST_STEPS),
    "kept_steps": Flag(
        None,
        "of how many of the --start_step steps the gradient's memory is kept; the others are computed twice",
        int,
        low=1,
        high=MOST_STEPS,
    ),
    "margin": Flag(10.0, "logits by which the target must lead for the guidance to rest", low=0),
    "growth": Flag(1.2, "multiplies the class gradient at each step until the margin is reached", low=1),
}
ARGUMENTS = {flag.argument or name: flag for name, flag in OPTIONS.items()}  # as the samplers call them
LARGEST_AT = {  # the depth tau -> the largest value that a chain of it can have
    "inner_steps": lambda tau: max(tau - 1, 1),  # the longest inner chain has tau - 1 steps
    "kept_steps": lambda tau: tau,
    "mask_warm_up": lambda tau: tau - 1,
}


def check_options(options, size):
    """UserError for the first of a sampler's options, argument -> value, that no chain can have.

    size: (height, width) of the images.
    """
    for name, value in options.items():
        ARGUMENTS[name].check(name, value)
    if options.get("mask_dilation", 1) % 2 == 0:
        raise UserError(f"--mask_dilation {options['mask_dilation']} must be odd, such as 5; 1 dilates nothing")
    if "mask_share" in options:
        _check_shares(options["mask_share"], options["mask_clean_share"], size[0] * size[1])


def check_depth(options, tau):
    """UserError for the first of a sampler's options that a chain of tau steps cannot have."""
    for name, largest in LARGEST_AT.items():
        value, low, high = options.get(name), ARGUMENTS[name].low, largest(tau)
        if value is not None and not low <= value <= high:
            raise UserError(f"--{name} {value} must be from {low} to {high} with --start_step {tau}")


def _check_shares(share, clean_share, pixels):
    """UserError where a mask of one of these shares of an image's pixels would hold no pixel, or all of them."""
    least = 0.5 / pixels
    if not least < share < 1 - least:
        raise UserError(
            f"--mask_share {share} must be between 0 and 1, with at least one of an image's {pixels} pixels inside "
            "the mask, and one outside"
        )
    if not least < share * clean_share:
        raise UserError(f"--mask_clean_share {clean_share} must leave a pixel of --mask_share {share}")
