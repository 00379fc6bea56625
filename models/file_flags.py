"""What the files of a diffusion model decide of the model and diffusion flags, so that nobody has to type them.

celeba-train-diffusion.py writes its flags into its weight files (checkpoints.attach_flags). A diffusers model has
configurations that say the same in other words.

values: name -> value of all flags of the command line; typed: the names of those that stand on it.
"""

import numpy as np

from guided_diffusion.schedules import named_betas
from guided_diffusion.script.errors import UserError

from .checkpoints import read_flags, shell_words
from .diffusion_flags import DECIDING, UNDECIDING


def flags_of_weights(path, values, typed, flags):
    """Name -> value of the flags that a weight file carries and that differ from those not typed. Prints them.

    flags: name -> Flag of all flags of the script. {} of a file without flags, or one that cannot be read.
    load_diffusion says why it cannot, and refuses typed flags that contradict the file. UserError for values in the
    file that cannot be.
    """
    trained = read_flags(path)
    if trained is None:
        return {}
    try:
        for name in set(DECIDING) & trained.keys():
            if type(trained[name]) is not type(flags[name].default):
                raise UserError(f"--{name} {trained[name]!r}")
            flags[name].check(name, trained[name])
    except UserError as error:
        raise UserError(f"{path} carries flags that no diffusion model has ({error}); use another file") from None
    untyped = [name for name in DECIDING if name in trained and name not in typed]
    decided = {name: trained[name] for name in untyped if trained[name] != values[name]}
    if decided:
        print(f"taken from {path}: {shell_words(decided)}", flush=True)
    return decided


def flags_of_diffusers(model, values, typed):
    """Name -> value of the flags that a DiffusersModel decides.

    UserError for typed flags that contradict the model, and for those that describe a UNet of ours.
    """
    wrong = {name: value for name, value in model.flags.items() if name in typed and values[name] != value}
    if "noise_schedule" in typed:
        betas = named_betas(values["noise_schedule"], len(model.betas))
        if not np.allclose(model.betas, betas, rtol=1e-4, atol=0):  # up to float32
            wrong["noise_schedule"] = "of its own"
    if wrong:
        asked = ", ".join(f"--{name} is {values[name]}" for name in wrong)
        own = ", ".join(f"{name} {value}" for name, value in wrong.items())
        raise UserError(f"{asked}, but {model.name} has {own}; leave out what the model decides itself")
    ours = typed & {*DECIDING, *UNDECIDING} - model.flags.keys() - {"image_size", "noise_schedule"}
    if ours:
        raise UserError(
            f"{', '.join(f'--{name}' for name in sorted(ours))}: {model.name} is no network of guided-diffusion, "
            "which these describe; leave them out"
        )
    clip = {} if "clip_denoised" in typed or model.clip is None else {"clip_denoised": model.clip}
    return model.flags | clip
