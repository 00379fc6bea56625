"""Network evaluations per second when sampling, beside a plain eager float32 loop over the same network.

    . demo/flags.sh; python -m benchmarks.sampling $FACES_FLAGS --batch_size 16

Each variant runs in a process of its own. The rounds go through all variants in turn, and the median counts. The
first evaluation, which compiles and captures, is not counted, but reported. At the end the whole of DiME is timed,
and its network alone.
"""

import time
from dataclasses import replace
from multiprocessing import get_context

import pandas as pd
import torch
from tqdm import tqdm

from core.methods.dime import dime_sample, evaluations
from core.methods.guidance import make_guidance
from guided_diffusion.dist_util import half_precision, keep_freed_memory, pick_device
from guided_diffusion.sampling import SamplingNetwork, overflow_checked_later
from guided_diffusion.script.flags import BATCH_SIZE, GPU, Flag, FlagParser
from guided_diffusion.script.run import run_script
from guided_diffusion.script_util import (
    DIFFUSION_FLAGS,
    MODEL_FLAGS,
    MOST_STEPS,
    args_to_dict,
    create_model_and_diffusion,
    model_and_diffusion_defaults,
)
from models.classifiers import BinaryQuestion, Classifier, build_classifier

OWN_FLAGS = {
    "gpu": GPU,
    "batch_size": replace(BATCH_SIZE, default=16, help="images an evaluation"),
    "seconds": Flag(5.0, "how long a variant is measured in each round, after its start", low=0),
    "rounds": Flag(3, "how often every variant is measured; the median counts", low=1, high=1000),
    "with_compile": Flag(True, "measure the compiled variants too, which takes minutes"),
    "start_step": Flag(10, "depth of the chain of DiME", low=1, high=MOST_STEPS),
    "classifier": Flag("small_cnn", "what guides DiME: densenet121, small_cnn, ..."),
}
FLAGS = OWN_FLAGS | MODEL_FLAGS | DIFFUSION_FLAGS


PLAIN = "plain eager fp32 loop"
DEFAULTS = {"keep": True, "channels_last": True}


def variants(args, device):
    """PLAIN, then variants that each add something to the one before, as far as this device has it.

    name -> keep, whether freed memory is kept, and arguments of SamplingNetwork.
    """
    chosen = {PLAIN: {}, "projections made once": {}, "+ freed memory kept": {"keep": True}}
    best = chosen["the defaults: + channels_last"] = DEFAULTS
    if (dtype := half_precision(device)) is not torch.float32:
        best = chosen["+ half precision"] = best | {"dtype": dtype}
    if device.type == "cuda":
        best = chosen["+ CUDA graphs"] = best | {"cuda_graphs": True}
    if args.with_compile:
        chosen["+ compile"] = best | {"compile": True}
    return chosen


def sampling_network(unet, diffusion, keep=False, **options):
    if keep:
        keep_freed_memory()
    return SamplingNetwork(unet, diffusion, **options)


def now(device):
    """The time in seconds, read once the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def in_own_process(function, *inputs):
    """function(*inputs), computed in a new process, so that no memory, threads or compiled code remain."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, inputs)


def build(args, device):
    """(a UNet with random weights, also where it begins with zeros; its diffusion)."""
    torch.manual_seed(0)
    unet, diffusion = create_model_and_diffusion(**args_to_dict(args, model_and_diffusion_defaults()))
    for parameter in unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return unet.eval().requires_grad_(False).to(device), diffusion


def measure(name, options, args, device):
    """A variant -> (images per second through the network, the seconds of its first evaluation)."""
    unet, diffusion = build(args, device)
    network = unet if name == PLAIN else sampling_network(unet, diffusion, **options)
    z = torch.randn(args.batch_size, 3, args.image_size, args.image_size, device=device)
    t = torch.zeros(args.batch_size, dtype=torch.int64, device=device)
    with torch.no_grad(), overflow_checked_later():
        first = now(device)
        network(z, t)
        start, count = now(device), 0
        while not count or now(device) - start < args.seconds:
            network(z, t)
            count += 1
    return count * args.batch_size / (now(device) - start), start - first


def sample(args, device):
    """Runs DiME with the defaults -> (seconds in all, seconds in its network)."""
    unet, diffusion = build(args, device)
    network, inside = sampling_network(unet, diffusion, **DEFAULTS), []
    classifier = build_classifier(args.classifier, 40).to(device).eval().requires_grad_(False)
    question = BinaryQuestion(Classifier(classifier, args.classifier), 31)
    images = torch.rand(args.batch_size, 3, args.image_size, args.image_size, device=device) * 2 - 1
    targets = torch.zeros(len(images), dtype=torch.int64, device=device)

    def timed(z, t):
        began = now(device)
        output = network(z, t)
        inside.append(now(device) - began)
        return output

    timed(images, targets)
    inside.clear()
    began = now(device)
    guidance = make_guidance(images, targets, question, classifier_scale=8.0, l1_loss=0.05)
    dime_sample(diffusion, timed, images, guidance, tau=args.start_step, noise=torch.randn_like)
    return now(device) - began, sum(inside)


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    device = pick_device(args.gpu)
    print(
        f"{args.image_size} x {args.image_size} in batches of {args.batch_size}; half precision is "
        f"{half_precision(device)}, torch {torch.__version__} on {device} with {torch.get_num_threads()} threads"
    )
    chosen = variants(args, device)
    measured = [
        (name, *in_own_process(measure, name, options, args, device))
        for name, options in tqdm([*chosen.items()] * args.rounds, unit="run")
    ]
    print(table(measured))
    total, inside = in_own_process(sample, args, device)
    print(
        f"\nDiME, {evaluations(args.start_step)} evaluations of {args.batch_size} images with {args.classifier}: "
        f"{total:.1f} s, {inside:.1f} s of them in the network ({100 * (total / inside - 1):.0f} % on top)"
    )


def table(measured):
    """(variant, images per second, seconds of the first evaluation) of each run -> a Markdown table of medians."""
    runs = pd.DataFrame(measured, columns=["variant", "images/s", "first evaluation, s"])
    medians = runs.groupby("variant", sort=False).median()
    medians.insert(1, "against plain", medians["images/s"] / medians.loc[PLAIN, "images/s"])
    return medians.to_markdown(floatfmt=("", ".2f", ".2f", ".1f"))


if __name__ == "__main__":
    run_script(main)
