"""The flags of every trainer: their meanings, their ranges, and which may change when a training goes on."""

import torch

from .compile_util import true_false_or_auto
from .dist_util import half_precision
from .errors import UserError
from .script_util import check_ranges, parse_numbers
from .weight_files import SAVE_FORMATS, require_safetensors

# flag -> (default, help)
TRAIN_FLAGS = {
    "lr": (1e-4, "learning rate"),
    "weight_decay": (0.0, "weight decay of AdamW"),
    "lr_warmup_steps": (0, "steps over which the learning rate rises to --lr"),
    "lr_anneal_steps": (0, "the training ends at this step, the learning rate falling linearly to 0; 0: never"),
    "batch_size": (32, "images a step on each rank"),
    "microbatch": (-1, "images a forward pass, where a whole batch does not fit in memory; -1: the batch"),
    "ema_rate": ("0.9999", "decay of the averaged weights; several separated by commas"),
    "grad_clip": (0.0, "largest norm of the gradient; 0: no limit"),
    "precision": ("auto", "fp32, bf16 or fp16; auto: half precision where --use_fp16 says so"),
    "log_interval": (50, "steps between rows of progress.csv, which are means over them"),
    "save_interval": (10000, "steps between checkpoints"),
    "keep_checkpoints": (2, "how many of the newest checkpoints stay"),
    "save_format": ("pt", "format of the weights: pt (torch.save) or safetensors"),
    "seed": (0, "seed of the order, the mirroring, the timesteps and the noise"),
    "compile": ("auto", "torch.compile the network, minutes to start, then faster: True, False, or auto, in "
                        "trainings of 1,000 steps and more, but not in float32 on a CPU"),
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# What may differ in a training that goes on: where it runs, and what decides no weight beyond rounding, dropout and
# the statistics of batch norms.
FREE_FLAGS = (
    "gpus", "data_dir", "output_path", "resume_checkpoint", "microbatch", "compile", "use_checkpoint",
    "log_interval", "save_interval", "keep_checkpoints", "save_format", "sample_steps", "num_workers",
)  # fmt: skip
RANGES = {  # flag -> (lowest, highest), of those that all trainers have and of those that some have
    "lr": (0, None),
    "weight_decay": (0, None),
    "lr_warmup_steps": (0, None),
    "lr_anneal_steps": (0, None),
    "batch_size": (1, None),
    "microbatch": (-1, None),
    "grad_clip": (0, None),
    "log_interval": (1, None),
    "save_interval": (1, None),
    "keep_checkpoints": (1, None),
    "seed": (0, 2**32 - 1),
    "num_workers": (1, None),
    "image_size": (1, None),
    "num_res_blocks": (1, None),
    "dropout": (0, 1),
    "num_classes": (1, None),
    "sample_steps": (0, None),
}


def check_train_flags(args):
    """UserError for the first flag whose value no training can have; before anything is loaded or written."""
    check_ranges(args, RANGES)
    if args.microbatch == 0:
        raise UserError("--microbatch 0 must be at least 1, or -1 for the whole batch")
    if getattr(args, "timestep_respacing", ""):
        raise UserError(
            f"--timestep_respacing {args.timestep_respacing} is for sampling; leave it out: a training needs all "
            "of --diffusion_steps"
        )
    parse_rates(args.ema_rate)
    if args.save_format not in SAVE_FORMATS:
        raise UserError(f"--save_format {args.save_format} is unknown; choose {' or '.join(SAVE_FORMATS)}")
    if args.save_format == "safetensors":
        require_safetensors("--save_format safetensors")
    true_false_or_auto("compile", args.compile)
    choose_precision(args.precision, False, torch.device("cpu"))


def smallest_part(args):
    """How many images the smallest forward pass of a step sees."""
    size = args.microbatch if args.microbatch > 0 else args.batch_size
    return min(size, args.batch_size % size or size)


def parse_rates(text):
    """"0.99,0.9999" -> (0.99, 0.9999); UserError, naming --ema_rate, for none and for what averages nothing."""
    rates = parse_numbers(text, "ema_rate")
    if not rates or not all(0 <= rate < 1 for rate in rates):
        raise UserError(f"--ema_rate {text!r} must be numbers from 0 to below 1, such as 0.99,0.9999")
    return rates


def choose_precision(precision, use_fp16, device):
    """The type that the network computes in: a name in PRECISIONS, or what use_fp16 means on this device."""
    if precision == "auto":
        return half_precision(device) if use_fp16 else torch.float32
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision} is unknown; choose auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]
