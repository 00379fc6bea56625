"""The flags that not every method of main.py has; where one is not given, the method's own default holds."""

import argparse

from guided_diffusion.errors import UserError
from guided_diffusion.script_util import check_ranges, str2bool

from .dime import require_inner_steps
from .maskdime import CLEAN_SHARE, SHARE
from .masks import require_dilation, require_shares, require_warm_up
from .registry import METHODS, find_method

METHOD_FLAGS = {
    "method": ("dime", f"how to explain: {', '.join(METHODS)}"),
    "inner_steps": (None, "dime: make the inner chain DDIM in this many steps; 1: the one-step estimate"),
    "mask_threshold": (None, "fastdime*: the change from which the mask holds, a share of the largest; 0: no mask"),
    "mask_dilation": (None, "fastdime*, maskdime: width in pixels of the square that masks are dilated by"),
    "mask_warm_up": (None, "fastdime, fastdime2plus: how many steps have no mask"),
    "mask_share": (None, "maskdime: the share of the pixels that may change"),
    "mask_clean_share": (None, "maskdime: the share of these that the clean estimate changes at"),
    "mask_noise": (None, "maskdime: multiplies the noise inside the mask"),
    "distance_scale": (None, "maskdime: multiplies the gradients of the distances"),
    "rescale_gradient": (None, "fastdime*, maskdime: divide class and perceptual gradients by sqrt(abar)"),
    "background_lag": (None, "fastdime*, maskdime: by how many steps the background is noisier than the chain"),
    "margin": (None, "inversion: logits by which the target must lead for the guidance to rest"),
    "growth": (None, "inversion: multiplies the class gradient at each step until the margin is reached"),
}
KINDS = dict.fromkeys(METHOD_FLAGS, float) | {
    "method": str, "inner_steps": int, "mask_dilation": int, "mask_warm_up": int, "background_lag": int,
    "rescale_gradient": str2bool,
}  # fmt: skip
RANGES = {  # flag -> (lowest, highest)
    "inner_steps": (1, None), "mask_threshold": (0, 1), "mask_dilation": (1, None), "mask_warm_up": (0, None),
    "mask_share": (0, 1), "mask_clean_share": (0, 1), "mask_noise": (0, None), "distance_scale": (0, None),
    "background_lag": (0, 1), "margin": (0, None), "growth": (1, None),
}  # fmt: skip
ARGUMENTS = {"use_sampling_on_x_t": "inner_stochastic", "use_ddim": "inner_ddim"}  # where a sampler says otherwise


def choose_method(args, defaults):
    """(Method of --method, the options for its sampler that were given); numbers in args replace their texts.

    defaults: flag -> (default, help). UserError names the first flag that the method has not, or that cannot be.
    """
    method = find_method(args.method)
    optional = dict.fromkeys(name for each in METHODS.values() for name in each.options)
    given = {name: getattr(args, name) for name in optional if getattr(args, name) != defaults[name][0]}
    for name, value in given.items():
        if name not in method.options:
            having = [other for other, each in METHODS.items() if name in each.options]
            raise UserError(f"--{name} is no option of --method {args.method}, but of {', '.join(having)}")
        if name in KINDS:
            given[name] = _parsed(name, value)
            setattr(args, name, given[name])
    check_ranges(argparse.Namespace(**given), RANGES)
    _require_possible(args, method, given)
    return method, {ARGUMENTS.get(name, name): value for name, value in given.items()}


def _parsed(name, text):
    try:
        return KINDS[name](text)
    except (ValueError, argparse.ArgumentTypeError):
        kind = {int: "a whole number", float: "a number"}.get(KINDS[name], "True or False")
        raise UserError(f"--{name} {text} must be {kind}") from None


def _require_possible(args, method, given):
    """What the samplers would refuse, before anything is begun."""
    require_inner_steps(given.get("inner_steps"), args.start_step)
    require_dilation(given.get("mask_dilation", 1))
    require_warm_up(given.get("mask_warm_up", 0), args.start_step)
    if "mask_share" in method.options:
        size = (args.image_size, args.image_size)
        require_shares(given.get("mask_share", SHARE), given.get("mask_clean_share", CLEAN_SHARE), size)
    if args.save_masks and not method.masks:
        having = [name for name, each in METHODS.items() if each.masks]
        raise UserError(f"--save_masks: --method {args.method} has no masks; {', '.join(having)} have")
    if args.save_masks and not args.save_images:
        raise UserError("--save_masks True and --save_images False contradict each other; leave out one")
