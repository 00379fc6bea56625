"""What every script shares: the model and diffusion flags, the factories behind them, and how errors are told."""

import argparse
import math
import sys
import traceback

from .dist_util import end_process, under_mpiexec
from .errors import UserError
from .gaussian_diffusion import LossType, ModelMeanType, ModelVarType
from .respace import SpacedDiffusion, space_timesteps
from .schedules import named_betas
from .unet import UNetModel

# flag -> (default, help). The defaults are guided-diffusion's.
MODEL_FLAGS = {
    "image_size": (64, "height and width of the images in pixels"),
    "num_channels": (128, "base width of the UNet; every level multiplies it"),
    "num_res_blocks": (2, "residual blocks a level"),
    "num_heads": (4, "attention heads; ignored where --num_head_channels is given"),
    "num_heads_upsample": (-1, "attention heads on the way up; -1: --num_heads"),
    "num_head_channels": (-1, "channels of an attention head, instead of a number of heads; -1: --num_heads"),
    "attention_resolutions": ("16,8", "resolutions in pixels that have attention, separated by commas"),
    "channel_mult": ("", "width multipliers of the levels, such as 1,2,2; empty: the usual ones of --image_size"),
    "dropout": (0.0, "dropout in the residual blocks while training"),
    "class_cond": (False, "condition the UNet on labels"),
    "num_classes": (40, "how many labels or classes; with --class_cond"),
    "multiclass": (True, "labels are multi-hot vectors (CelebA's attributes), not one class; with --class_cond"),
    "use_checkpoint": (False, "recompute activations in the backward pass: less memory, more time"),
    "use_scale_shift_norm": (True, "the timestep scales and shifts the norms instead of being added"),
    "resblock_updown": (False, "residual blocks, not plain convolutions, change the resolution"),
    "use_fp16": (False, "half precision: float16 on CUDA, bfloat16 on a CPU that computes in it, else float32"),
    "use_new_attention_order": (False, "split the attention's channels into q, k, v before heads"),
}
DIFFUSION_FLAGS = {
    "learn_sigma": (False, "the UNet predicts the variance too"),
    "diffusion_steps": (1000, "steps of the diffusion that the UNet is trained on"),
    "noise_schedule": ("linear", "linear or cosine"),
    "timestep_respacing": ("", "sample with fewer steps: a count, counts by section (10,15,20), or ddimN"),
    "use_kl": (False, "train on the variational bound"),
    "predict_xstart": (False, "the UNet predicts the clean image instead of the noise"),
    "rescale_timesteps": (False, "show the UNet timesteps scaled to 0 … 1000"),
    "rescale_learned_sigmas": (False, "weigh the variational term of the loss as a sum over all steps would"),
}
_USUAL_CHANNEL_MULT = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
}


def model_and_diffusion_defaults():
    """Every model and diffusion flag with its default."""
    return {name: default for name, (default, _) in (MODEL_FLAGS | DIFFUSION_FLAGS).items()}


def create_model_and_diffusion(**flags):
    """(UNetModel, SpacedDiffusion) of the flags; what is not given is as in model_and_diffusion_defaults()."""
    return create_model(**flags), create_gaussian_diffusion(**flags)


def create_model(**flags):
    """The float32 UNetModel of the model flags; UserError where they contradict each other."""
    f = _filled(flags)
    size = f.image_size
    channel_mult = parse_numbers(f.channel_mult, "channel_mult") or _USUAL_CHANNEL_MULT.get(size)
    if channel_mult is None:
        raise UserError(f"--channel_mult must be given for --image_size {size}, such as --channel_mult 1,2,2")
    if size % 2 ** (len(channel_mult) - 1):
        raise UserError(f"--image_size {size} cannot be halved {len(channel_mult) - 1} times (--channel_mult)")
    narrow = [m for m in channel_mult if m * f.num_channels < 32 or m * f.num_channels % 32]
    if narrow:
        raise UserError(f"--num_channels {f.num_channels} times --channel_mult must be multiples of 32")
    resolutions = parse_numbers(f.attention_resolutions, "attention_resolutions")
    if any(r < 1 or size % r or r != int(r) for r in resolutions):
        raise UserError(f"--attention_resolutions {f.attention_resolutions} must divide --image_size {size}")
    if not 0 <= f.dropout <= 1:
        raise UserError(f"--dropout {f.dropout} must be from 0 to 1")
    if f.class_cond and not f.multiclass and f.num_classes < 2:
        raise UserError(f"--num_classes {f.num_classes} must be at least 2 with --multiclass False")
    return UNetModel(
        model_channels=f.num_channels,
        out_channels=6 if f.learn_sigma else 3,
        num_res_blocks=f.num_res_blocks,
        attention_resolutions=tuple(size // int(r) for r in resolutions),
        dropout=f.dropout,
        channel_mult=channel_mult,
        num_classes=f.num_classes if f.class_cond else None,
        multiclass=f.multiclass,
        use_checkpoint=f.use_checkpoint,
        num_heads=f.num_heads,
        num_head_channels=f.num_head_channels,
        num_heads_upsample=f.num_heads_upsample,
        use_scale_shift_norm=f.use_scale_shift_norm,
        resblock_updown=f.resblock_updown,
        use_new_attention_order=f.use_new_attention_order,
    )


def create_gaussian_diffusion(sigma_small=False, **flags):
    """The SpacedDiffusion of the diffusion flags; sigma_small chooses the smaller fixed variance."""
    f = _filled(flags)
    least = 20 if f.noise_schedule == "linear" else 1  # with fewer the linear schedule's last beta exceeds 1
    if f.diffusion_steps < least:
        raise UserError(f"--diffusion_steps {f.diffusion_steps} must be at least {least}")
    if f.use_kl:
        loss_type = LossType.RESCALED_KL
    else:
        loss_type = LossType.RESCALED_MSE if f.rescale_learned_sigmas else LossType.MSE
    fixed = ModelVarType.FIXED_SMALL if sigma_small else ModelVarType.FIXED_LARGE
    return SpacedDiffusion(
        named_betas(f.noise_schedule, f.diffusion_steps),
        space_timesteps(f.diffusion_steps, f.timestep_respacing or str(f.diffusion_steps)),
        ModelMeanType.START_X if f.predict_xstart else ModelMeanType.EPSILON,
        ModelVarType.LEARNED_RANGE if f.learn_sigma else fixed,
        loss_type,
        f.rescale_timesteps,
    )


def _filled(flags):
    defaults = model_and_diffusion_defaults()
    unknown = flags.keys() - defaults.keys()
    if unknown:
        raise TypeError(f"unknown model or diffusion flags: {', '.join(sorted(unknown))}")
    return argparse.Namespace(**defaults | flags)


def parse_numbers(text, flag):
    """"8,10,15" -> (8, 10, 15), whole numbers as int; UserError names the flag."""
    try:
        values = tuple(float(part) for part in str(text).split(",") if part.strip())
    except ValueError:
        raise UserError(f"--{flag} {text!r} is not a list of numbers separated by commas") from None
    return tuple(int(v) if v.is_integer() else v for v in values)


def str2bool(value):
    """True or False as written on a command line."""
    text = str(value).lower()
    if text in ("yes", "true", "t", "y", "1"):
        return True
    if text in ("no", "false", "f", "n", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{value!r} is neither True nor False")


def add_dict_to_argparser(parser, flags):
    """Adds --name (and --na-me) for each name -> (default, help); a default of None makes it an optional text."""
    for name, (default, text) in flags.items():
        kind = str if default is None else str2bool if isinstance(default, bool) else type(default)
        spellings = [f"--{name}"] + ([f"--{name.replace('_', '-')}"] if "_" in name else [])
        shown = text if default in (None, "") else f"{text} (default: {default})"
        parser.add_argument(*spellings, dest=name, default=default, type=kind, help=shown.replace("%", "%%"))


def require_flags(args, *names):
    """UserError for the first of the flags that was not given."""
    for name in names:
        if not getattr(args, name):
            raise UserError(f"--{name} must be given")


def check_ranges(args, ranges):
    """UserError for the first flag outside its range; flag -> (lowest, highest or None), those in args alone."""
    for flag, (lowest, highest) in ranges.items():
        value = getattr(args, flag, lowest)
        if not math.isfinite(value):
            raise UserError(f"--{flag} {value} must be a finite number")
        if value < lowest or (highest is not None and value > highest):
            limits = f"from {lowest} to {highest}" if highest is not None else f"at least {lowest}"
            raise UserError(f"--{flag} {value} must be {limits}")


def args_to_dict(args, keys):
    """The named arguments as a dict."""
    return {key: getattr(args, key) for key in keys}


def run_script(main, hint=""):
    """Runs a script's main(). UserError, and what the system refuses (a full disk, a folder that may not be
    written), become one line on stderr and exit code 2; Ctrl-C one with the hint, and 130.
    """
    try:
        main()
    except UserError as error:
        end_process(2, f"{sys.argv[0]}: error: {error}")
    except OSError as error:
        end_process(2, f"{sys.argv[0]}: error: {error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        end_process(130, f"{sys.argv[0]}: interrupted{'; ' * bool(hint)}{hint}")
    except Exception:
        if not under_mpiexec():
            raise
        end_process(1, traceback.format_exc().rstrip())
