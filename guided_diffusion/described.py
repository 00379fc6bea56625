"""A diffusion that the files of a model describe, in place of the flags of the command line.

`model` is a description, with
- name, as the user gave it; betas, (T,) float64, and schedule, what the files call them;
- prediction: epsilon, sample or v_prediction; variance: fixed_small, fixed_large or learned_range;
- clip: whether clean images are clipped to [-1, 1], None where the files do not say;
- flags: the model and diffusion flags that the files decide, flag -> value.
"""

import argparse

import numpy as np

from .gaussian_diffusion import LossType, ModelMeanType, ModelVarType
from .respace import SpacedDiffusion, space_timesteps
from .schedules import named_betas
from .script.errors import UserError
from .script_util import model_and_diffusion_defaults

PREDICTIONS = {
    "epsilon": ModelMeanType.EPSILON,
    "sample": ModelMeanType.START_X,
    "v_prediction": ModelMeanType.VELOCITY,
}
VARIANCES = {
    "fixed_small": ModelVarType.FIXED_SMALL,
    "fixed_large": ModelVarType.FIXED_LARGE,
    "learned_range": ModelVarType.LEARNED_RANGE,
}
# The model and diffusion flags that are the user's with any model.
FREE = {"image_size", "timestep_respacing", "use_fp16"}


def described_diffusion(model, timestep_respacing=""):
    """The SpacedDiffusion of a described model; timestep_respacing as in create_gaussian_diffusion."""
    steps = len(model.betas)
    return SpacedDiffusion(
        model.betas,
        space_timesteps(steps, timestep_respacing or str(steps)),
        PREDICTIONS[model.prediction],
        VARIANCES[model.variance],
        LossType.MSE,
    )


def given_flags(parser):
    """The names of the flags that stand on this script's command line."""
    absent = argparse.Namespace(**dict.fromkeys(vars(parser.parse_args([])), None))
    return {name for name, value in vars(parser.parse_args(namespace=absent)).items() if value is not None}


def take_described_flags(args, given, model):
    """Sets in args what a described model decides. given: the names of the flags that were given.

    UserError for those that contradict the model, and for those that describe a UNet of ours.
    """
    wrong = {name: value for name, value in model.flags.items() if name in given and getattr(args, name) != value}
    if "noise_schedule" in given and not _are(model.betas, args.noise_schedule):
        wrong["noise_schedule"] = model.schedule
    if wrong:
        told = ", ".join(f"--{name} is {getattr(args, name)}" for name in wrong)
        raise UserError(
            f"{told}, but {model.name} has {', '.join(f'{name} {value}' for name, value in wrong.items())}; "
            "leave out what the model decides itself"
        )
    ours = model_and_diffusion_defaults().keys() - model.flags.keys() - FREE - {"noise_schedule"}
    if ours & given:
        raise UserError(
            f"{', '.join(f'--{name}' for name in sorted(ours & given))}: {model.name} is no network of "
            "guided-diffusion, which these describe; leave them out"
        )
    vars(args).update(model.flags)
    if "clip_denoised" not in given and model.clip is not None:
        args.clip_denoised = model.clip


def _are(betas, name):
    """Whether these are, up to float32, the betas of the named schedule."""
    return np.allclose(betas, named_betas(name, len(betas)), rtol=1e-4, atol=0)
