"""The model and diffusion flags, and the factories behind them."""

import argparse

from .gaussian_diffusion import LossType, ModelMeanType, ModelVarType
from .respace import SpacedDiffusion, space_timesteps
from .schedules import SCHEDULES, named_betas
from .script.errors import UserError
from .script.flags import Flag, check_flags, parse_numbers
from .unet import USUAL_CHANNEL_MULT, UNetModel

MOST_STEPS = 10_000  # of a diffusion; no published one has more than 4,000

# The defaults are guided-diffusion's.
MODEL_FLAGS = {
    "image_size": Flag(64, "height and width of the images in pixels", low=1, high=4096),
    "num_channels": Flag(128, "base width of the UNet; every level multiplies it", low=1, high=4096),
    "num_res_blocks": Flag(2, "residual blocks a level", low=1, high=64),
    "num_heads": Flag(4, "attention heads; ignored where --num_head_channels is given", low=1, high=4096),
    "num_heads_upsample": Flag(-1, "attention heads on the way up; -1: --num_heads", low=-1, high=4096),
    "num_head_channels": Flag(-1, "channels of an attention head; -1: --num_heads decides", low=-1, high=4096),
    "attention_resolutions": Flag(
        "16,8", "resolutions in pixels that have attention, separated by commas", parse_numbers, low=1, high=4096
    ),
    "channel_mult": Flag(
        "", "widths of the levels, such as 1,2,2; empty: the usual of --image_size", parse_numbers, low=0, high=64
    ),
    "dropout": Flag(0.0, "dropout in the residual blocks while training", low=0, high=1),
    "class_cond": Flag(False, "condition the UNet on labels"),
    "num_classes": Flag(40, "how many labels or classes; with --class_cond", low=1, high=100_000),
    "multiclass": Flag(True, "labels are multi-hot vectors (CelebA's attributes), not a class; with --class_cond"),
    "use_checkpoint": Flag(False, "recompute activations going backward: less memory, more time", group="speed"),
    "use_scale_shift_norm": Flag(True, "the timestep scales and shifts the norms instead of being added"),
    "resblock_updown": Flag(False, "residual blocks, not plain convolutions, change the resolution"),
    "use_fp16": Flag(
        False, "half precision: float16 on CUDA, bfloat16 on a CPU that computes in it, else float32", group="speed"
    ),
    "norm_groups": Flag(
        32, "groups of the norms; as many as --num_channels tint images from pure noise", low=1, high=4096
    ),
    "use_new_attention_order": Flag(False, "split the attention's channels into q, k, v before heads"),
}
DIFFUSION_FLAGS = {
    "learn_sigma": Flag(False, "the UNet predicts the variance too"),
    "diffusion_steps": Flag(1000, "steps of the diffusion that the UNet is trained on", low=1, high=MOST_STEPS),
    "noise_schedule": Flag("linear", "how the noise grows over the steps", choices=SCHEDULES),
    "timestep_respacing": Flag("", "sample with fewer steps: a count, counts by section (10,15,20), or ddimN"),
    "use_kl": Flag(False, "train on the variational bound"),
    "predict_xstart": Flag(False, "the UNet predicts the clean image instead of the noise"),
    "rescale_timesteps": Flag(False, "show the UNet timesteps scaled to 0 … 1000"),
    "rescale_learned_sigmas": Flag(False, "weigh the variational term of the loss as a sum over all steps would"),
}
UNET_FLAGS = (  # those that are arguments of UNetModel as they stand
    *("num_res_blocks", "dropout", "multiclass", "use_checkpoint", "num_heads", "num_head_channels"),
    *("num_heads_upsample", "use_scale_shift_norm", "resblock_updown", "use_new_attention_order", "norm_groups"),
)


def model_and_diffusion_defaults():
    """Every model and diffusion flag with its default."""
    return {name: flag.default for name, flag in (MODEL_FLAGS | DIFFUSION_FLAGS).items()}


def create_model_and_diffusion(**flags):
    """(UNetModel, SpacedDiffusion) of the flags; what is not given is as in model_and_diffusion_defaults()."""
    return create_model(**flags), create_gaussian_diffusion(**flags)


def create_model(**flags):
    """The float32 UNetModel of the model flags; UserError where they contradict each other."""
    f = _filled(flags)
    check_flags(f, MODEL_FLAGS)
    size = f.image_size
    channel_mult = parse_numbers(f.channel_mult, "channel_mult") or USUAL_CHANNEL_MULT.get(size)
    if channel_mult is None:
        fits = "1" if size % 2 else "1,2" if size % 4 else "1,2,2"
        raise UserError(f"--channel_mult must be given for --image_size {size}, such as --channel_mult {fits}")
    halvings = len(channel_mult) - 1
    if size % 2**halvings:
        raise UserError(
            f"--image_size {size} cannot be halved {halvings} times (--channel_mult); give a multiple of "
            f"{2**halvings}, or fewer numbers"
        )
    groups = f.norm_groups
    if any(m * f.num_channels < groups or m * f.num_channels % groups for m in channel_mult):
        raise UserError(
            f"--num_channels {f.num_channels} times --channel_mult must be multiples of {groups} (--norm_groups)"
        )
    resolutions = parse_numbers(f.attention_resolutions, "attention_resolutions")
    if any(size % r or r != int(r) for r in resolutions):
        raise UserError(f"--attention_resolutions {f.attention_resolutions} must divide --image_size {size}")
    if f.class_cond and not f.multiclass and f.num_classes < 2:
        raise UserError(f"--num_classes {f.num_classes} must be at least 2 with --multiclass False")
    return UNetModel(
        model_channels=f.num_channels,
        out_channels=6 if f.learn_sigma else 3,
        attention_resolutions=tuple(size // int(r) for r in resolutions),
        channel_mult=channel_mult,
        num_classes=f.num_classes if f.class_cond else None,
        **args_to_dict(f, UNET_FLAGS),
    )


def create_gaussian_diffusion(sigma_small=False, **flags):
    """The SpacedDiffusion of the diffusion flags; sigma_small chooses the smaller fixed variance."""
    f = _filled(flags)
    check_flags(f, DIFFUSION_FLAGS)
    least = 20 if f.noise_schedule == "linear" else 1  # with fewer the linear schedule's last beta exceeds 1
    if f.diffusion_steps < least:
        raise UserError(f"--diffusion_steps {f.diffusion_steps} must be at least {least}")
    mse = LossType.RESCALED_MSE if f.rescale_learned_sigmas else LossType.MSE
    fixed = ModelVarType.FIXED_SMALL if sigma_small else ModelVarType.FIXED_LARGE
    return SpacedDiffusion(
        named_betas(f.noise_schedule, f.diffusion_steps),
        space_timesteps(f.diffusion_steps, f.timestep_respacing or str(f.diffusion_steps)),
        ModelMeanType.START_X if f.predict_xstart else ModelMeanType.EPSILON,
        ModelVarType.LEARNED_RANGE if f.learn_sigma else fixed,
        LossType.RESCALED_KL if f.use_kl else mse,
        f.rescale_timesteps,
    )


def _filled(flags):
    defaults = model_and_diffusion_defaults()
    unknown = flags.keys() - defaults.keys()
    if unknown:
        raise TypeError(f"unknown model or diffusion flags: {', '.join(sorted(unknown))}")
    return argparse.Namespace(**defaults | flags)


def args_to_dict(args, keys):
    """The named arguments as a dict."""
    return {key: getattr(args, key) for key in keys}
