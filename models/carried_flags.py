"""The model and diffusion flags that a checkpoint carries, taken in place of typing them.

celeba-train-diffusion.py writes them into its weight files (checkpoints.attach_flags).
"""

from guided_diffusion.script.errors import UserError

from .checkpoints import read_flags, shell_words
from .diffusion_flags import DECIDING, disagreements


def take_carried_flags(args, given, flags):
    """Sets in args what the file of --model_path carries, but no flag that was given, and prints what it set.

    given: the names of the flags on the command line; flags: name -> Flag of all flags of the script.
    A given flag that contradicts the file stays: load_diffusion refuses it. A file without flags changes nothing,
    nor does one that cannot be read: load_diffusion says why. UserError for values in the file that cannot be.
    """
    trained = read_flags(args.model_path)
    if trained is None:
        return
    _check(trained, args.model_path, flags)
    taken = {}
    # One by one, image_size first: what the others mean depends on those before them.
    while left := _left_to_take(vars(args), trained, given):
        name, value = left[0]
        setattr(args, name, value)
        taken[name] = value
    if taken:
        print(f"taken from {args.model_path}: {shell_words(taken)}", flush=True)


def _left_to_take(wanted, trained, given):
    """[(name, value), ...] of the file's flags that differ from those wanted."""
    try:
        return [(name, value) for name, _, value in disagreements(wanted, trained) if name not in given]
    except ValueError:  # a flag that was given has no meaning; the check of the flags says which
        return []


def _check(trained, path, flags):
    """UserError where a flag that decides what is computed has another type than ours, or a value out of range."""
    try:
        for name in set(DECIDING) & trained.keys():
            if type(trained[name]) is not type(flags[name].default):
                raise UserError(f"--{name} {trained[name]!r}")
            flags[name].check(name, trained[name])
    except UserError as error:
        raise UserError(f"{path} carries flags that no diffusion model has ({error}); use another file") from None
