"""The flags that not every method of main.py has; where one is not given, the method's own default holds."""

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag
from guided_diffusion.script_util import MOST_STEPS

from .ace import require_kept_steps
from .dime import require_inner_steps
from .inversion import require_steps
from .maskdime import CLEAN_SHARE, SHARE
from .masks import require_dilation, require_shares, require_warm_up
from .registry import METHODS, find_method

OPTION_FLAGS = {
    "inner_steps": Flag(
        None,
        "dime: make the inner chain DDIM in this many steps; 1: the one-step estimate",
        int,
        low=1,
        high=MOST_STEPS,
    ),
    "use_sampling_on_x_t": Flag(
        True, "dime: sample the inner chain instead of following its means", argument="inner_stochastic"
    ),
    "use_ddim": Flag(False, "dime: make the inner chain DDIM with eta 0", argument="inner_ddim"),
    "sampling_scale": Flag(1.0, "dime, fastdime*: multiplies the noise of the guided chain", low=0),
    "mask_threshold": Flag(
        None,
        "fastdime*, inversion, ace: the change from which the mask holds, a share of the largest; 0: no mask",
        float,
        low=0,
        high=1,
    ),
    "mask_dilation": Flag(
        None,
        "fastdime*, maskdime, inversion, ace: width in pixels of the square that masks are dilated by",
        int,
        low=1,
        high=4096,
    ),
    "mask_warm_up": Flag(
        None, "fastdime, fastdime2plus, inversion: how many steps have no mask", int, low=0, high=MOST_STEPS
    ),
    "final_threshold": Flag(
        None,
        "inversion: the change from which a pixel of the answer is not the image's; a share of the largest; 0: all",
        float,
        low=0,
        high=1,
    ),
    "through_network": Flag(
        None, "inversion: let the class gradient run through the network; False: faster, less true", bool
    ),
    "path_correction": Flag(
        None, "inversion: lead the unguided chain back to the image; False: DDIM's inversion as it is", bool
    ),
    "mask_share": Flag(None, "maskdime: the share of the pixels that may change", float, low=0, high=1),
    "mask_clean_share": Flag(
        None, "maskdime: the share of these that the clean estimate changes at", float, low=0, high=1
    ),
    "mask_noise": Flag(None, "maskdime: multiplies the noise inside the mask", float, low=0),
    "distance_scale": Flag(None, "maskdime: multiplies the gradients of the distances", float, low=0),
    "rescale_gradient": Flag(
        None, "fastdime*, maskdime: divide class and perceptual gradients by sqrt(abar)", bool
    ),
    "background_lag": Flag(
        None, "fastdime*, maskdime: by how many steps the background is noisier than the chain", int, low=0, high=1
    ),
    "iterations": Flag(
        None, "ace: how often the pre-explanation is changed by a grey level", int, low=0, high=MOST_STEPS
    ),
    "kept_steps": Flag(
        None,
        "ace: of how many of the --start_step steps the gradient's memory is kept; the others are computed twice",
        int,
        low=1,
        high=MOST_STEPS,
    ),
    "margin": Flag(None, "inversion: logits by which the target must lead for the guidance to rest", float, low=0),
    "growth": Flag(
        None, "inversion: multiplies the class gradient at each step until the margin is reached", float, low=1
    ),
}
METHOD_FLAGS = {"method": Flag("dime", "how to explain", choices=METHODS)} | OPTION_FLAGS


def method_and_options(flags):
    """flags, name -> value, checked -> (the Method of --method, the options for its sampler that were given).

    UserError names the first flag that the method has not, or that cannot be beside others.
    """
    method = find_method(flags["method"])
    options = {name: flags[name] for name in OPTION_FLAGS}
    given = {name: value for name, value in options.items() if value != OPTION_FLAGS[name].default}
    for name in given:
        if name not in method.options:
            having = [other for other, each in METHODS.items() if name in each.options]
            raise UserError(f"--{name} is no option of --method {flags['method']}, but of {', '.join(having)}")
    _require_possible(flags, method, given)
    return method, {OPTION_FLAGS[name].argument or name: value for name, value in given.items()}


def require_depth_for(method, options, tau):
    """UserError where a Method, with these options of its sampler, cannot run at a depth of tau steps."""
    require_inner_steps(options.get("inner_steps"), tau)
    require_kept_steps(options.get("kept_steps"), tau)
    require_warm_up(options.get("mask_warm_up", 0), tau)
    if "growth" in method.options:
        require_steps(tau)


def _require_possible(flags, method, given):
    """What the samplers would refuse, before anything is begun."""
    require_depth_for(method, given, flags["start_step"])
    require_dilation(given.get("mask_dilation", 1))
    if "mask_share" in method.options:
        size = (flags["image_size"], flags["image_size"])
        require_shares(given.get("mask_share", SHARE), given.get("mask_clean_share", CLEAN_SHARE), size)
    if flags["save_masks"] and not method.masks:
        having = [name for name, each in METHODS.items() if each.masks]
        raise UserError(f"--save_masks: --method {flags['method']} has no masks; {', '.join(having)} have")
    if flags["save_pre_explanation"] and not method.pre_explains:
        having = [name for name, each in METHODS.items() if each.pre_explains]
        raise UserError(f"--save_pre_explanation: --method {flags['method']} makes none; {', '.join(having)} does")
    for name in ("save_masks", "save_pre_explanation"):
        if flags[name] and not flags["save_images"]:
            raise UserError(f"--{name} True and --save_images False contradict each other; leave out one")
