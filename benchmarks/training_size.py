"""How long a training of CelebA's size on several ranks takes to its first step, and how much memory it takes.

    python -m benchmarks.training_size --work_dir path/to/work
    python -m benchmarks.training_size --work_dir path/to/work --images 400 --starts 1

Makes images, once, in CelebA's layout with its 40 attributes: JPEGs of 89 x 109, each of them different. Then it
starts celeba-train-classifier.py under mpiexec, several times one after the other, with a network that costs almost
nothing. The first start has to decode; a later one finds what the first has left. Memory is read from Linux's
smaps_rollup, at its most: what a rank has for itself, without the files that it maps, which the system may drop;
and the sum of all ranks, with these files, in which shared memory counts once.
"""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.listing import write_celeba
from core.data.datasets import CELEBA_ATTRIBUTES
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import BATCH_SIZE, MANY, Flag, FlagParser, check_flags
from guided_diffusion.script.run import require_flags, run_script
from guided_diffusion.script_util import MODEL_FLAGS

ROOT = Path(__file__).parent.parent
SCRIPT = "celeba-train-classifier.py"
MIB = 2**20
FLAGS = {
    "work_dir": Flag(
        None, "where the images, the decoded ones and the trainings go; images that are there are used"
    ),
    "images": Flag(200_000, "how many images; four fifths are trained on", low=20, high=MANY),
    "image_size": replace(MODEL_FLAGS["image_size"], default=64),
    "ranks": Flag(2, "ranks of the training", low=1, high=64),
    "epochs": Flag(2, "how often each image is seen in a training", low=1, high=1000),
    "batch_size": replace(BATCH_SIZE, default=500, help="images a step on each rank"),
    "starts": Flag(2, "how many trainings are started, one after the other", low=1, high=100),
}


def smallest_network(outputs):
    """The network that is trained: images -> logits, by the mean of each channel alone."""
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, outputs))


def write_images(root, count):
    """A CelebA of made-up images in a folder that is not there yet."""
    part = root.with_name(f"{root.name}.part")  # renamed when it is complete
    shutil.rmtree(part, ignore_errors=True)
    write_celeba(part, count)

    def write(i):
        pixels = np.random.default_rng(i).integers(0, 256, (10, 8, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((89, 109), Image.Resampling.BICUBIC)
        image.save(part / "img_align_celeba" / f"{i:06d}.jpg", quality=90)

    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=count, desc="making images", unit="image") as bar:
        for _ in pool.map(write, range(1, count + 1)):
            bar.update()
    part.rename(root)


def measure(command, log, env):
    """Runs a training -> (seconds to its first step, seconds in all, MiB of the rank that has most for itself, MiB
    of all ranks together), the last two at their most. log: its progress.csv."""
    began, first, own, together = time.perf_counter(), None, 0, 0
    with subprocess.Popen(command, env=env, cwd=ROOT) as training:
        while training.poll() is None:
            if first is None and log.exists() and log.read_text().count("\n") > 1:
                first = time.perf_counter() - began
            ranks = [_memory(process) for process in _ranks(training.pid)]
            own = max([own, *(anonymous for anonymous, _ in ranks)])
            together = max(together, sum(share for _, share in ranks))
            time.sleep(0.2)
    if training.returncode or first is None:
        raise UserError(f"{SCRIPT} failed; the lines above say why")
    return first, time.perf_counter() - began, own / MIB, together / MIB


def _ranks(pid):
    """The processes below mpiexec's that run the script."""
    try:
        below = psutil.Process(pid).children(recursive=True)
        return [process for process in below if len(words := process.cmdline()) > 1 and words[1].endswith(SCRIPT)]
    except psutil.Error:  # one has just ended
        return []


def _memory(process):
    """Bytes that a process has for itself, and these with the files that it maps and its part of what it shares."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return 1024 * kib["Anonymous"], 1024 * kib["Pss"]


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    require_flags(args, "work_dir")
    check_flags(args, FLAGS)
    work = Path(args.work_dir).resolve()
    work.mkdir(parents=True, exist_ok=True)
    data, output = work / f"celeba-{args.images}", work / "training"
    if not data.exists():
        write_images(data, args.images)
    steps = max(1, round(args.epochs * 0.8 * args.images / (args.ranks * args.batch_size)))
    flags = {
        "architecture": "benchmarks.training_size:smallest_network",
        "data_dir": data,
        "output_path": output,
        "image_size": args.image_size,
        "batch_size": args.batch_size,
        "lr_anneal_steps": steps,
        "save_interval": steps,
        "log_interval": 1,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = ["mpiexec", "-n", str(args.ranks), sys.executable, str(ROOT / SCRIPT), *words]
    env = os.environ | {"XDG_CACHE_HOME": str(work / "cache"), "PYTHONPATH": str(ROOT)}
    shutil.rmtree(work / "cache", ignore_errors=True)
    size = args.images * 3 * args.image_size**2 / MIB
    print(
        f"{args.images:,} images, decoded {size:,.0f} MiB, {len(CELEBA_ATTRIBUTES)} attributes; {args.ranks} ranks "
        f"train {steps} steps of {args.batch_size} images each, on {os.cpu_count()} cores",
        flush=True,
    )
    rows = []
    for _ in range(args.starts):
        shutil.rmtree(output, ignore_errors=True)
        rows.append(measure(command, output / "progress.csv", env))
    print(
        "| start | to the first step, s | the whole training, s | a rank has for itself, MiB | all ranks, MiB |\n"
        "|---|---|---|---|---|"
    )
    for start, (first, whole, own, together) in enumerate(rows, start=1):
        print(f"| {start} | {first:.0f} | {whole:.0f} | {own:,.0f} | {together:,.0f} |")


if __name__ == "__main__":
    run_script(main)
