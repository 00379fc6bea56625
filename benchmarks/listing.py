"""How long it takes to list a large data set and to load its labels, and how much memory.

    python -m benchmarks.listing
    python -m benchmarks.listing --set tiny

The names are made up and the images are empty files: no image is opened. Each data set is read in a process of its
own, whose largest memory is told, less what Python and the libraries take.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.timing import in_own_process
from core.data.datasets import CELEBA_ATTRIBUTES
from core.data.training_data import find_reader
from guided_diffusion.flags import Flag, FlagParser, check_flags
from guided_diffusion.script_util import run_script

MIB = 2**20
CLASSES, ROWS = 1000, 100_000  # of the made-up ImageNet; rows of a table that are drawn at a time


def write_celeba(root, count):
    """CelebA's two lists, without its images -> what --data_dir would be."""
    (root / "img_align_celeba").mkdir(parents=True)
    names = pd.Index([f"{i:06d}.jpg" for i in range(1, count + 1)], name="image_id")
    labels = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (count, len(CELEBA_ATTRIBUTES)))
    pd.DataFrame(labels, names, CELEBA_ATTRIBUTES).to_csv(root / "list_attr_celeba.csv")
    partition = np.minimum(np.arange(count) * 10 // count // 8, 2)
    pd.Series(partition, names, name="partition").to_csv(root / "list_eval_partition.csv")
    return root


def write_folder(root, count):
    """A folder for each class, of empty files, below train/ -> what --data_dir would be."""
    for number in range(CLASSES):
        folder = root / "train" / f"n{number:08d}"
        folder.mkdir(parents=True)
        for i in range(number, count, CLASSES):
            (folder / f"n{number:08d}_{i}.JPEG").touch()
    return root


def write_classes(root, count):
    """A csv that names the class of each of write_folder's images -> what --data_dir would be."""
    write_folder(root, count)
    with open(root / "list.csv", "w") as file:
        file.write("path,class\n")
        for i in range(count):
            name = f"n{i % CLASSES:08d}"
            file.write(f"train/{name}/{name}_{i}.JPEG,{name}\n")
    return root / "list.csv"


class Case(NamedTuple):
    """A made-up data set."""

    title: str
    write: Callable  # (an empty folder, how many images) -> --data_dir
    count: int


SETS = {
    "full": [
        Case("CelebA's lists, 40 attributes", write_celeba, 202_599),
        Case("a folder of 1,000 classes", write_folder, 1_300_000),
        Case("a csv of their paths and classes", write_classes, 1_300_000),
    ],
}
SETS["tiny"] = [case._replace(count=2000) for case in SETS["full"]]
FLAGS = {"set": Flag("full", "full: as large as CelebA and ImageNet; tiny: 2,000 images each", choices=SETS)}


def measure(data_dir):
    """Reads the training split -> (images, seconds, MiB at most, MiB afterwards), beyond what there was before."""
    reader, before = find_reader(data_dir), _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest memory so far
    began = time.perf_counter()
    dataset = reader(data_dir, "train", 64)
    seconds = time.perf_counter() - began
    return len(dataset), seconds, _memory("VmHWM") - before, _memory("VmRSS") - before


def _memory(field):
    """A size in this process's status, of Linux, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / MIB


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    print("| data | images, all | of the split | seconds | peak, MiB | kept, MiB |\n|---|---|---|---|---|---|")
    for title, write, count in SETS[args.set]:
        with tempfile.TemporaryDirectory() as folder:
            found, seconds, peak, kept = in_own_process(measure, write(Path(folder) / "data", count))
        print(f"| {title} | {count:,} | {found:,} | {seconds:.1f} | {peak:.0f} | {kept:.0f} |", flush=True)


if __name__ == "__main__":
    run_script(main)
