"""The flags of main.py that choose a method and its options. Where an option is not given, the method's own default
holds."""

from dataclasses import replace

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag

from .options import OPTIONS, check_depth, check_options
from .registry import METHODS, find_method

# Flags of the authors' release, which show their defaults.
RELEASED = ("use_sampling_on_x_t", "use_ddim", "sampling_scale")


def _methods_with(argument):
    return ", ".join(name for name, method in METHODS.items() if argument in method.options)


def _option_flag(name, option):
    """The flag of an option: its help names the methods that have it and their defaults; it has none of its own."""
    argument = option.argument or name
    methods = _methods_with(argument).replace("fastdime, fastdime2, fastdime2plus", "fastdime*")
    if name in RELEASED:
        return replace(option, help=f"{methods}: {option.help}")
    own = {each: method.options[argument] for each, method in METHODS.items() if argument in method.options}
    usual, *others = dict.fromkeys(own.values())
    also = "".join(f", {method} {value}" for method, value in own.items() if value in others)
    default = "" if usual is None else f"; by default {usual}{also}"
    return replace(option, default=None, help=f"{methods}: {option.help}{default}")


OPTION_FLAGS = {name: _option_flag(name, option) for name, option in OPTIONS.items()}
METHOD_FLAGS = {"method": Flag("dime", "how to explain", choices=METHODS)} | OPTION_FLAGS


def method_and_options(flags):
    """flags, name -> value -> (the Method of --method, its sampler's arguments that are not the defaults).

    UserError, before anything is begun, names the first flag that the method has not, or that cannot be.
    """
    method, tau, size = find_method(flags["method"]), flags["start_step"], flags["image_size"]
    options = {}
    for name, flag in OPTION_FLAGS.items():
        argument = flag.argument or name
        if flags[name] == flag.default:
            continue
        if argument not in method.options:
            raise UserError(
                f"--{name} is no option of --method {flags['method']}, but of {_methods_with(argument)}"
            )
        options[argument] = flags[name]
    require_depth_for(method, options, tau)
    check_options(method.options | options, (size, size))
    _check_pictures(flags, method)
    if flags["guided_iterations"] != -1:
        options["guided_steps"] = flags["guided_iterations"]
    return method, options


def require_depth_for(method, options, tau):
    """UserError where a Method, with these options of its sampler, cannot run at a depth of tau steps."""
    check_depth(options, tau)
    if tau < method.least_steps:
        least = method.least_steps
        raise UserError(f"--start_step {tau} changes nothing with this --method; give at least {least}, such as 12")


def _check_pictures(flags, method):
    """UserError where pictures are to be written that the method has not, or where none are written."""
    for name, makes in {"save_masks": "masks", "save_pre_explanation": "pre_explains"}.items():
        if flags[name] and not getattr(method, makes):
            others = ", ".join(each for each in METHODS if getattr(METHODS[each], makes))
            raise UserError(f"--{name}: --method {flags['method']} makes none; give --method {others}")
        if flags[name] and not flags["save_images"]:
            raise UserError(f"--{name} True and --save_images False contradict each other; leave out one")
