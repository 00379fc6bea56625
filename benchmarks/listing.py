"""How long it takes to list a large data set and to load its labels, and how much memory it takes.

    python -m benchmarks.listing
    python -m benchmarks.listing --set tiny

The names are made up and the images are empty files: no image is opened. Each data set is read in a process of its
own, whose largest memory is told, less what Python and the libraries take; and several times, of which the fastest
counts, so that the files' names are in the system's cache.
"""

import tempfile
import time
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.timing import ROUNDS, in_own_process
from core.data.datasets import CELEBA_ATTRIBUTES
from core.data.training_data import find_reader
from guided_diffusion.script.flags import Flag, FlagParser, check_flags
from guided_diffusion.script.run import run_script

MIB = 2**20
CLASSES = 1000  # of the made-up ImageNet


def write_celeba(root, count):
    """CelebA's two lists, without its images, as csv and as txt -> title -> --data_dir."""
    texts = root.with_name("texts")
    for folder in (root, texts):
        (folder / "img_align_celeba").mkdir(parents=True)
    names = pd.Index([f"{i:06d}.jpg" for i in range(1, count + 1)], name="image_id")
    labels = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (count, len(CELEBA_ATTRIBUTES)))
    table = pd.DataFrame(labels, names, CELEBA_ATTRIBUTES)
    table.to_csv(root / "list_attr_celeba.csv")
    partition = pd.Series(np.arange(count) >= 0.8 * count, names, name="partition").astype(int)
    partition.to_csv(root / "list_eval_partition.csv")
    with open(texts / "list_attr_celeba.txt", "w") as text:
        text.write(f"{count}\n{' '.join(CELEBA_ATTRIBUTES)}\n")
        table.to_csv(text, sep=" ", header=False)
    partition.to_csv(texts / "list_eval_partition.txt", sep=" ", header=False)
    return {"CelebA's lists as csv, 40 attributes": root, "the same as txt": texts}


def write_imagenet(root, count):
    """A folder for each class, of empty files, and a csv of their paths and classes -> title -> --data_dir."""
    names = [f"n{number:08d}" for number in range(CLASSES)]
    for name in names:
        (root / name).mkdir(parents=True)
    with open(root.with_suffix(".csv"), "w") as table:
        table.write("path,class\n")
        for i in range(count):
            name = names[i % CLASSES]
            (root / name / f"{name}_{i}.JPEG").touch()
            table.write(f"{root.name}/{name}/{name}_{i}.JPEG,{name}\n")
    return {"a folder of 1,000 classes": root, "a csv of their paths and classes": root.with_suffix(".csv")}


SETS = {  # set -> (what writes a data set, into a folder that is not there yet; how many images)
    "full": [(write_celeba, 202_599), (write_imagenet, 1_300_000)],
    "tiny": [(write_celeba, 2000), (write_imagenet, 2000)],
}
FLAGS = {
    "set": Flag("full", "full: as large as CelebA and ImageNet; tiny: 2,000 images each", choices=SETS),
    "rounds": replace(ROUNDS, help="how often each data set is read; the fastest counts"),
}


def measure(data_dir):
    """Reads the training split -> (images, seconds, of these of the processor, MiB at most, MiB afterwards).

    The memory is what there is more than before.
    """
    reader, before = find_reader(data_dir), _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest memory so far
    began, began_working = time.perf_counter(), time.process_time()
    dataset = reader(data_dir, "train", 64)
    seconds, working = time.perf_counter() - began, time.process_time() - began_working
    return len(dataset), seconds, working, _memory("VmHWM") - before, _memory("VmRSS") - before


def _memory(field):
    """A size in this process's status, of Linux, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / MIB


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    print("| data | images | in train | seconds | of the processor | peak, MiB | kept, MiB |")
    print("|---|---|---|---|---|---|---|")
    for write, count in SETS[args.set]:
        with tempfile.TemporaryDirectory() as folder:
            for title, data_dir in write(Path(folder) / "data", count).items():
                rounds = [in_own_process(measure, data_dir) for _ in range(args.rounds)]
                found, *seconds, peak, kept = min(rounds, key=itemgetter(1))
                took = " | ".join(f"{each:.1f}" for each in seconds)
                print(f"| {title} | {count:,} | {found:,} | {took} | {peak:.0f} | {kept:.0f} |", flush=True)


if __name__ == "__main__":
    run_script(main)
