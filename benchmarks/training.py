"""Images per second of the training, beside a plain eager float32 loop over the same network.

    . demo/flags.sh; python -m benchmarks.training $FACES_FLAGS

Every variant runs in a process of its own, so that its peak memory is its own. The rounds go through all variants
in turn, so that a change in the machine's speed affects all of them. Compiling is not counted, but reported.
"""

import tempfile
import time
from dataclasses import dataclass, replace

import torch
from tqdm import tqdm

from benchmarks.timing import ROUNDS, in_own_process, medians, now
from guided_diffusion.dist_util import half_precision, keep_freed_memory, peak_memory, pick_device
from guided_diffusion.script.flags import BATCH_SIZE, GPU, MANY, Flag, FlagParser, check_flags
from guided_diffusion.script.run import run_script
from guided_diffusion.script_util import (
    DIFFUSION_FLAGS,
    MODEL_FLAGS,
    args_to_dict,
    create_model_and_diffusion,
    model_and_diffusion_defaults,
)
from guided_diffusion.training.batches import Batches
from guided_diffusion.training.loop import TrainLoop
from guided_diffusion.training.objectives import DenoisingObjective
from guided_diffusion.training.resample import UniformSampler

OWN_FLAGS = {
    "gpu": GPU,
    "batch_size": replace(BATCH_SIZE, help="images a step"),
    "steps": Flag(8, "steps that are timed, after two that are not", low=1, high=MANY),
    "rounds": ROUNDS,
}
FLAGS = OWN_FLAGS | MODEL_FLAGS | DIFFUSION_FLAGS


@dataclass(frozen=True)
class Variant:
    name: str
    plain: bool = False
    keep: bool = False
    channels_last: bool = False
    fused: bool = False
    half: bool = False
    compile: bool = False


FAST = {"keep": True, "channels_last": True, "fused": True}
VARIANTS = (
    Variant("plain eager fp32 loop", plain=True),
    Variant("the trainer, with none of these"),
    Variant("freed memory kept", keep=True),
    Variant("channels_last", channels_last=True),
    Variant("fused AdamW", fused=True),
    Variant("half precision", half=True),
    Variant("compile", compile=True),
    Variant("kept, channels_last, fused: the default in float32 on a CPU", **FAST),
    Variant("kept, channels_last, fused, half", **FAST, half=True),
    Variant("kept, channels_last, fused, compile", **FAST, compile=True),
    Variant("all: the default of long trainings elsewhere", **FAST, half=True, compile=True),
)


class RandomImages:
    """A data set of random pixels in memory, so that decoding is not measured."""

    def __init__(self, image_size, count=512):
        shape = (count, 3, image_size, image_size)
        self.images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        self.labels = torch.zeros(count, 0)

    def __len__(self):
        return len(self.images)

    def pixels(self, i):
        return self.images[i]


def plain_step(model, diffusion, device):
    """Returns step(batch), a training step as it is commonly written: float32, eager, without an EMA."""
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(batch):
        images = batch.images.contiguous()
        t = torch.randint(0, diffusion.num_timesteps, (len(images),), device=device)
        losses = diffusion.training_losses(model, images, t, torch.randn_like(images))
        optimizer.zero_grad()
        losses["loss"].mean().backward()
        optimizer.step()

    return step


def trainer_step(variant, model, diffusion, device, flags, folder):
    """Returns step(batch), a step of TrainLoop with only those speed-ups that the variant has."""
    objective = DenoisingObjective(diffusion, UniformSampler(diffusion.num_timesteps))
    flags = flags | {"use_fp16": variant.half, "compile": variant.compile}
    loop = TrainLoop(model, None, objective, folder, device, named_state=None, flags=flags)
    if not variant.fused:
        loop.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    if not variant.channels_last:
        model.to(memory_format=torch.contiguous_format)

    def step(batch):
        if not variant.channels_last:
            batch.images = batch.images.contiguous()
        loop.run_step(batch)

    return step


def measure(variant, flags):
    """(images per second, seconds before the first timed step, peak memory in MiB)."""
    if variant.keep:
        keep_freed_memory()
    device = torch.device(flags["device"])
    model, diffusion = create_model_and_diffusion(**{name: flags[name] for name in model_and_diffusion_defaults()})
    with tempfile.TemporaryDirectory() as folder:
        if variant.plain:
            step = plain_step(model, diffusion, device)
        else:
            step = trainer_step(variant, model, diffusion, device, flags, folder)
        images = RandomImages(flags["image_size"])
        batches = iter(Batches(images, flags["batch_size"], seed=0, device=device, with_noise=True))
        began = time.perf_counter()
        for _ in range(2):
            step(next(batches))
        start = now(device)
        for _ in range(flags["steps"]):
            step(next(batches))
        took = now(device) - start
    return flags["steps"] * flags["batch_size"] / took, start - began, peak_memory(device) / 2**20


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    device = pick_device(args.gpu)
    flags = vars(args) | {"device": str(device), "log_interval": 1, "ema_rate": "0.999"}
    model, _ = create_model_and_diffusion(**args_to_dict(args, model_and_diffusion_defaults()))
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters at {args.image_size} x {args.image_size}, "
        f"batches of {args.batch_size}, half precision is {half_precision(device)}, torch {torch.__version__} on "
        f"{device} with {torch.get_num_threads()} threads; {args.rounds} rounds of {len(VARIANTS)} variants"
    )
    rounds = {variant: [] for variant in VARIANTS}
    with tqdm(total=args.rounds * len(VARIANTS), unit="run") as bar:
        for _ in range(args.rounds):
            for variant in VARIANTS:
                rounds[variant].append(in_own_process(measure, variant, flags))
                bar.update()
    print(table(rounds))


def table(rounds):
    """A Markdown table of medians. rounds: variant -> what measure() returned in each round."""
    lines = [
        "| variant | images/s | against plain | before the first step, s | peak memory, MiB |",
        "|---|---|---|---|---|",
    ]
    measured = medians(rounds)
    plain = measured[VARIANTS[0]][0]
    for variant, (rate, warm_up, memory) in measured.items():
        lines.append(f"| {variant.name} | {rate:.1f} | {rate / plain:.2f} | {warm_up:.0f} | {memory:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
