"""Network evaluations per second when sampling, beside a plain eager float32 loop over the same network.

    . demo/flags.sh; python -m benchmarks.sampling $FACES_FLAGS --batch_size 16

Each variant runs in a process of its own. The rounds go through all variants in turn, and the median counts. The
first evaluation, which compiles and captures, is not counted, but reported. Rates are also given as shares of the
machine's fastest matrix product. At the end the whole sampler is timed, from images in memory to written PNGs, and
its network alone.
"""

import tempfile
from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks.timing import ROUNDS, in_own_process, medians, now
from core.methods.dime import evaluations
from core.results.folder import ResultsFolder
from core.results.layout import Layout
from core.results.records import make_records
from core.running.explainer import explain
from guided_diffusion.dist_util import half_precision, keep_freed_memory, pick_device
from guided_diffusion.sampling import SamplingNetwork, overflow_checked_later
from guided_diffusion.script.flags import BATCH_SIZE, GPU, Flag, FlagParser, check_flags
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
    "rounds": ROUNDS,
    "with_compile": Flag(True, "measure the compiled variants too, which takes minutes"),
    "start_step": Flag(10, "depth of the whole sampler's chain", low=1, high=MOST_STEPS),
    "classifier": Flag("small_cnn", "what guides the whole sampler: densenet121, small_cnn, ..."),
}
FLAGS = OWN_FLAGS | MODEL_FLAGS | DIFFUSION_FLAGS


@dataclass(frozen=True)
class Variant:
    name: str
    plain: bool = False
    keep: bool = False
    half: bool = False
    channels_last: bool = False
    compile: bool = False
    cuda_graphs: bool = False

    def network(self, unet, diffusion, device):
        if self.keep:
            keep_freed_memory()
        if self.plain:
            return unet
        dtype = half_precision(device) if self.half else torch.float32
        ways = {"compile": self.compile, "cuda_graphs": self.cuda_graphs}
        return SamplingNetwork(unet, diffusion, dtype=dtype, channels_last=self.channels_last, **ways)


PLAIN = Variant("plain eager fp32 loop", plain=True)
DEFAULTS = Variant("the defaults: + channels_last", keep=True, channels_last=True)


def variants(args, device):
    """PLAIN, then variants that each add something to the one before, as far as this device has it."""
    chosen = [PLAIN, Variant("projections made once"), Variant("+ freed memory kept", keep=True), DEFAULTS]
    if half_precision(device) is not torch.float32:
        chosen.append(Variant("+ half precision", keep=True, channels_last=True, half=True))
    last = chosen[-1]
    if device.type == "cuda":
        chosen.append(replace(last, name="+ CUDA graphs", cuda_graphs=True))
    if args.with_compile:
        chosen.append(replace(chosen[-1], name="+ compile", compile=True))
    return chosen


def build(args, device):
    """(a UNet with random weights, also where it begins with zeros; its diffusion)."""
    torch.manual_seed(0)
    unet, diffusion = create_model_and_diffusion(**args_to_dict(args, model_and_diffusion_defaults()))
    for parameter in unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return unet.eval().requires_grad_(False).to(device), diffusion


def measure(variant, args, device):
    """(images per second through the network, the seconds of its first evaluation)."""
    network = variant.network(*build(args, device), device)
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
    """Runs the whole sampler as main.py does by default -> (seconds in all, seconds in its network)."""
    keep_freed_memory()
    unet, diffusion = build(args, device)
    network, inside = DEFAULTS.network(unet, diffusion, device), []
    classifier = build_classifier(args.classifier, 40).to(device).eval().requires_grad_(False)
    question = BinaryQuestion(Classifier(classifier, args.classifier), 31)
    images = torch.rand(args.batch_size, 3, args.image_size, args.image_size, device=device) * 2 - 1

    def timed(z, t):
        began = now(device)
        output = network(z, t)
        inside.append(now(device) - began)
        return output

    with tempfile.TemporaryDirectory() as root:
        folder = ResultsFolder(Layout(root, "exp"))
        folder.begin({})
        timed(images, torch.zeros(len(images), dtype=torch.int64, device=device))
        inside.clear()
        began = now(device)
        explanation = explain(
            images, question, diffusion, timed, tau=args.start_step, classifier_scales=(8.0,), l1_loss=0.05
        )
        ids = range(len(images))
        rows = make_records(ids, [f"{i}.png" for i in ids], images, explanation.prediction, explanation)
        folder.write_images(rows, images, explanation)
        folder.commit(rows)
        return now(device) - began, sum(inside)


def matmul_peak(dtype, device):
    """The most floating-point operations per second of a matrix product, over three sizes."""
    best = 0.0
    for size in (1024, 2048, 4096) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        for _ in range(4):
            began = now(device)
            a @ b
            best = max(best, 2 * size**3 / (now(device) - began))
    return best


def flops_an_image(args):
    unet, _ = build(args, torch.device("cpu"))
    z = torch.zeros(1, 3, args.image_size, args.image_size)
    # The counter does not know the CPU's fused attention, so it is replaced by the plain one.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        unet(z, torch.zeros(1, dtype=torch.int64))
    return counter.get_total_flops()


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    args = SimpleNamespace(**vars(args))
    device = pick_device(args.gpu)
    flops, half = in_own_process(flops_an_image, args), half_precision(device)
    peaks = {dtype: in_own_process(matmul_peak, dtype, device) for dtype in {torch.float32, half}}
    print(
        f"{args.image_size} x {args.image_size} in batches of {args.batch_size}, {flops / 1e9:.2f} GFLOP an image; "
        f"half precision is {half}, torch {torch.__version__} on {device} with {torch.get_num_threads()} threads; "
        + ", ".join(f"matmul peak in {dtype} {peak / 1e9:.0f} GFLOP/s" for dtype, peak in peaks.items())
    )
    chosen = variants(args, device)
    measured = {variant: [] for variant in chosen}
    with tqdm(total=args.rounds * len(chosen), unit="run") as bar:
        for _ in range(args.rounds):
            for variant in chosen:
                measured[variant].append(in_own_process(measure, variant, args, device))
                bar.update()
    print(table(measured, flops, {variant: peaks[half if variant.half else torch.float32] for variant in chosen}))
    total, inside = in_own_process(sample, args, device)
    print(
        f"\nthe whole sampler, {evaluations(args.start_step)} evaluations of {args.batch_size} images guided by "
        f"{args.classifier}, PNGs written: {total:.1f} s, {inside:.1f} s of them in the network "
        f"({100 * (total / inside - 1):.0f} % on top)"
    )


def table(rounds, flops, peaks):
    """A Markdown table of medians. rounds: variant -> what measure() returned in each round; flops: of an image;
    peaks: variant -> FLOP/s of the fastest matrix product in its precision."""
    lines = [
        "| variant | images/s | against plain | share of the matmul peak | first evaluation, s |",
        "|---|---|---|---|---|",
    ]
    measured = medians(rounds)
    for variant, (rate, first) in measured.items():
        gain, share = rate / measured[PLAIN][0], 100 * rate * flops / peaks[variant]
        lines.append(f"| {variant.name} | {rate:.2f} | {gain:.2f} | {share:.0f} % | {first:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
