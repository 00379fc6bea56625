"""The flags of every trainer: what they mean, which may change when a training goes on, and what is done first."""

from dataclasses import replace

import torch

from ..dist_util import device_of_rank, half_precision, keep_freed_memory
from ..ranks.connecting import connect
from ..ranks.ranks import find_ranks
from ..script.errors import UserError
from ..script.flags import BATCH_SIZE, MANY, SEED, Flag, parse_bool_or_auto, parse_numbers
from .weight_files import SAVE_FORMATS, require_safetensors


def parse_rates(text, flag="ema_rate"):
    """ "0.99,0.9999" -> (0.99, 0.9999); UserError, naming the flag, for none and for what averages nothing."""
    rates = parse_numbers(text, flag)
    if not rates or not all(0 <= rate < 1 for rate in rates):
        raise UserError(f"--{flag} {text!r} must be numbers from 0 to below 1, such as 0.99,0.9999")
    return rates


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TRAIN_FLAGS = {
    "lr": Flag(1e-4, "learning rate", low=0),
    "weight_decay": Flag(0.0, "weight decay of AdamW", low=0),
    "lr_warmup_steps": Flag(0, "steps over which the learning rate rises to --lr", low=0, high=MANY),
    "lr_anneal_steps": Flag(0, "step at which the training ends, its rate fallen to 0; 0: never", low=0, high=MANY),
    "batch_size": replace(BATCH_SIZE, help="images a step on each rank"),
    "microbatch": Flag(
        -1, "images a forward pass, if memory is short; -1: the whole batch", low=-1, high=MANY, group="speed"
    ),
    "ema_rate": Flag("0.9999", "decay of the averaged weights; several separated by commas", parse_rates),
    "grad_clip": Flag(0.0, "largest norm of the gradient; 0: no limit", low=0),
    "precision": Flag(
        "auto", "what to compute in; auto: as --use_fp16 says", choices=("auto", *PRECISIONS), group="speed"
    ),
    "log_interval": Flag(50, "steps that a row of progress.csv is the mean of", low=1, high=MANY, group="output"),
    "save_interval": Flag(10000, "steps between checkpoints", low=1, high=MANY, group="output"),
    "keep_checkpoints": Flag(2, "how many of the newest checkpoints stay", low=1, high=MANY, group="output"),
    "save_format": Flag("pt", "weights by torch.save, or safetensors", choices=SAVE_FORMATS, group="output"),
    "seed": replace(SEED, help="seed of the order, the mirroring, the timesteps and the noise"),
    "compile": Flag(
        "auto",
        "torch.compile the network: True, False, or auto, from 1,000 steps on, but not in float32 on a CPU",
        parse_bool_or_auto,
        group="speed",
    ),
}
GPUS = Flag("", "indices of the GPUs, one a rank of this machine, such as 0,1; empty: the first ones, or the CPU")
# What may differ in a training that goes on: where it runs, and what decides no weight beyond rounding, dropout and
# the statistics of batch norms.
FREE_FLAGS = (
    *("gpus", "data_dir", "output_path", "resume_checkpoint", "microbatch", "compile", "use_checkpoint"),
    *("log_interval", "save_interval", "keep_checkpoints", "save_format", "sample_steps", "num_workers"),
    "decoded_dir",
)


def check_train_flags(args):
    """UserError for the first of the flags whose value no training can have. Nothing is loaded or written yet."""
    if args.microbatch == 0:
        raise UserError("--microbatch 0 must be at least 1, or -1 for the whole batch")
    if getattr(args, "timestep_respacing", ""):
        flag = f"--timestep_respacing {args.timestep_respacing}"
        raise UserError(f"{flag} is for sampling; leave it out: a training needs all of --diffusion_steps")
    if args.save_format == "safetensors":
        require_safetensors("--save_format safetensors")


def connect_trainer(args):
    """Checks the flags of a trainer and connects its ranks -> (Ranks, the device of this one)."""
    ranks = find_ranks()
    check_train_flags(args)
    keep_freed_memory()
    device = device_of_rank(args.gpus, ranks)
    return connect(ranks, device), device


def smallest_part(args):
    """How many images the smallest forward pass of a step sees."""
    size = args.microbatch if args.microbatch > 0 else args.batch_size
    return min(size, args.batch_size % size or size)


def choose_precision(precision, use_fp16, device):
    """The type that the network computes in: a name in PRECISIONS, or what use_fp16 means on this device."""
    if precision == "auto":
        return half_precision(device) if use_fp16 else torch.float32
    return PRECISIONS[precision]
