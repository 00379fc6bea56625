"""Kills main.py, the trainers and compute_metrics.py with -9 at random moments: is anything lost when they go on?

    python -m benchmarks.kills --work_dir DIR --kills 105

Each is first run undisturbed. Then it is started in an empty folder and killed, again and again, until it ends: a
round. After each kill every file is looked at; after a round the folder is compared with the undisturbed one.
Networks and images are tiny.
"""

import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
import yaml
from PIL import Image
from tqdm import tqdm

from benchmarks.runs import ROOT
from core.metrics.metric import read_metrics
from core.results.layout import Layout
from core.results.reading import read_rows
from demo.faces import write_celeba
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser
from guided_diffusion.script.run import run_script

MOST_IN_A_ROUND = 5  # kills
TO_END = 600  # seconds that a script which is not killed may take
FLAGS = {
    "work_dir": Flag(None, "an empty folder for everything that is written"),
    "kills": Flag(100, "how many kills in all; each script gets an equal share", low=1, high=100_000),
    "seed": Flag(0, "decides the moments of the kills, as shares of a run", low=0, high=2**32 - 1),
}
TIMED = ("images_per_s", "memory_mib")  # columns of progress.csv


@dataclass
class Subject:
    """A script with its flags. keeps: what a start after a kill must not lose, a word for the table.

    begin: the folder that its own is a copy of at the start; None: of an empty one.
    """

    script: str
    flags: dict
    output: Path
    keeps: str
    ranks: int = 1
    begin: Path | None = None
    start_up: float = 0.0  # seconds to the first file of an undisturbed run
    whole: float = 0.0  # seconds of an undisturbed run

    @property
    def title(self):
        return f"`{self.script}`" + f" on {self.ranks} ranks" * (self.ranks > 1)

    def prepare(self):
        shutil.rmtree(self.output, ignore_errors=True)
        if self.begin:
            shutil.copytree(self.begin, self.output)

    def finished(self):
        """What a start has left of the work done: ids of images, files of checkpoints, or names of metrics."""
        if self.keeps == "checkpoints":
            return {path.name for path in self.output.glob("opt*.pt")}
        layout = Layout(self.output, "exp")
        if self.keeps == "metrics":
            return set(read_metrics(layout.metrics))
        records = read_rows(layout)
        return set() if records is None else set(records["id"])


# -- processes ---------------------------------------------------------------------------------------------------


class Process:
    """A script that runs, with its launcher and what it has started itself."""

    def __init__(self, subject, log):
        words = [word for name, value in subject.flags.items() for word in (f"--{name}", *str(value).split(" "))]
        launcher = ["mpiexec", "-n", str(subject.ranks)] if subject.ranks > 1 else []
        command = [*launcher, sys.executable, ROOT / subject.script, *words, "--output_path", subject.output]
        self.log, self.script = log, subject.script
        with open(log, "w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT)
        self.family = [psutil.Process(self.process.pid)]

    def end(self):
        """Waits for the end -> the exit code; UserError where it does not come."""
        try:
            return self.process.wait(TO_END)
        except subprocess.TimeoutExpired:
            raise UserError(f"{self.script} is still running after {TO_END} s; see {self.log}") from None

    def succeed(self):
        if code := self.end():
            raise UserError(f"{self.script} failed with exit code {code}; see {self.log}")

    def kill_after(self, seconds, rng):
        """Waits, then kills all processes, or one alone of those that run the script -> whether any still ran."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
            return False
        with suppress(psutil.NoSuchProcess):
            self.family += self.family[0].children(recursive=True)
        own = [process for process in self.family if _runs_script(process)]
        victims = self.family if len(own) < 2 or rng.random() < 0.5 else [rng.choice(own)]
        killed = False
        for process in victims:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                killed = True
        self.end()
        return killed


def _runs_script(process):
    """Whether a process was started as `python script.py`."""
    with suppress(psutil.Error):
        words = process.cmdline()
        return len(words) > 1 and words[1].endswith(".py")
    return False


def run_undisturbed(subject, log):
    """Runs a script to its end, and notes the time of its first file and of its end."""
    subject.prepare()
    before, began, first = _files(subject.output), time.monotonic(), None
    process = Process(subject, log)
    while process.process.poll() is None:
        if first is None and _files(subject.output) != before:
            first = time.monotonic() - began
        time.sleep(0.01)
    process.succeed()
    subject.start_up, subject.whole = first, time.monotonic() - began


def run_round(subject, whole, most, rng, log):
    """One round: kills, at most so many, and an end -> its Counter. whole: the folder of the undisturbed run."""
    subject.prepare()
    count, done, left, family = Counter(rounds=1), set(), subject.whole, []
    killed = True
    while killed:
        process, killed = Process(subject, log), False
        if count["kills"] < min(most, MOST_IN_A_ROUND):
            moment = rng.uniform(0.9 * subject.start_up, max(left, subject.start_up))
            killed = process.kill_after(moment, rng)
            left -= max(0, moment - subject.start_up)
        if not killed:
            process.succeed()
        family += process.family
        now = subject.finished()
        count["lost"] += len(done - now)
        count["half_written"] += len(half_written(subject.output))
        count["kills"] += killed
        done = now
    psutil.wait_procs(family, timeout=TO_END)  # a process may have outlived the one that started it
    count["half_written"] += sum(name.endswith(".part") for name in _files(subject.output))
    count["different"] = len(differing(subject.output, whole, subject.ranks > 1))
    return count


# -- what they leave behind --------------------------------------------------------------------------------------


def _files(folder):
    """The names of all files below a folder, relative to it, but for locks."""
    paths = (Path(directory, name) for directory, _, names in os.walk(folder) for name in names)
    return {str(path.relative_to(folder)) for path in paths if not path.name.endswith("lock")}


def half_written(folder):
    """The files below a folder, .part apart, that are not whole."""
    broken = []
    for name in _files(folder):
        with suppress(FileNotFoundError):  # a process that outlived its starter has just replaced it
            if not name.endswith(".part") and not _is_whole(folder / name):
                broken.append(name)
    return broken


def _is_whole(path):
    content = path.read_bytes()
    try:
        if path.suffix == ".png":
            Image.open(io.BytesIO(content)).load()
        elif path.suffix == ".pt":
            torch.load(io.BytesIO(content), weights_only=True)
        elif path.suffix == ".yaml":
            return content.endswith(b"\n") and isinstance(yaml.safe_load(content), dict)
        elif path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".csv":
            rows = list(csv.reader(io.StringIO(content.decode())))
            return content.endswith(b"\n") and len({len(row) for row in rows}) == 1
        elif path.suffix == ".txt":
            return content.endswith(b"\n")
    except Exception:  # what readers raise on half a file is nearly anything
        return False
    return True


def differing(folder, whole, by_ranks):
    """The files below a folder whose contents are not those of the undisturbed run, or that one of them lacks.

    by_ranks: one grey level of an image counts as equal; of the difference maps and tables, which follow from the
    images and are scaled, only that they are there. Otherwise every byte counts, but for the clock's: runs.yaml,
    TensorBoard's events, two columns of progress.csv. Of a checkpoint every number, name and bit of a tensor
    counts: pickle writes two equal strings otherwise than one that is used twice.
    """
    ours, theirs = (
        {name for name in _files(each) if "tfevents" not in name and not name.endswith(("runs.yaml", ".part"))}
        for each in (folder, whole)
    )
    equal = _within_a_level if by_ranks else _identical
    return sorted(ours ^ theirs) + [
        name for name in sorted(ours & theirs) if not equal(folder / name, whole / name)
    ]


def _identical(path, other):
    if path.read_bytes() == other.read_bytes():
        return True
    if not (_is_whole(path) and _is_whole(other)):
        return False
    if path.name == "progress.csv":
        table, other_table = (pd.read_csv(each).drop(columns=[*TIMED], errors="ignore") for each in (path, other))
        return table.equals(other_table)
    return path.suffix == ".pt" and _equal(*(torch.load(each, weights_only=True) for each in (path, other)))


def _equal(value, other):
    """Whether two contents of a checkpoint are the same."""
    if isinstance(value, torch.Tensor):
        return value.dtype == other.dtype and torch.equal(value, other)
    if isinstance(value, dict):
        return list(value) == list(other) and all(_equal(value[name], other[name]) for name in value)
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(_equal, value, other))
    return type(value) is type(other) and value == other


def _within_a_level(path, other):
    if path.suffix != ".png" or path.parent.name == "SM":
        return True
    pixels, others = (np.asarray(Image.open(each), int) for each in (path, other))
    return pixels.shape == others.shape and np.abs(pixels - others).max() <= 1


# -- all together ------------------------------------------------------------------------------------------------


def subjects_in(work):
    """The Subjects in the order in which each makes what the next ones need."""
    data, whole = work / "celeba", work / "undisturbed"
    training = {"data_dir": data, "image_size": 16, "batch_size": 4, "log_interval": 2, "keep_checkpoints": 100}
    ddpm = training | {"num_channels": 32, "num_res_blocks": 1, "channel_mult": "1,1", "attention_resolutions": 8}
    ddpm |= {"num_heads": 2, "learn_sigma": True, "diffusion_steps": 40, "ema_rate": 0.9, "sample_steps": 2}
    ddpm |= {"lr_anneal_steps": 60, "save_interval": 6}
    classifier = training | {"architecture": "tiny_cnn", "lr_anneal_steps": 100, "save_interval": 5}
    classifier_path = whole / "celeba-train-classifier.py-1/best.pt"
    explaining = {"data_dir": data, "model_path": whole / "celeba-train-diffusion.py-1/model000060.pt"}
    explaining |= {"classifier_path": classifier_path, "query_label": "Smiling", "classifier_scales": "1,100000"}
    explaining |= {"start_step": 8, "batch_size": 3, "exp_name": "exp", "save_z_t": True}
    measuring = {"exp_names": "exp", "metrics": "FR,MNAC", "query_label": "Smiling", "oracle_path": classifier_path}
    main = Subject("main.py", explaining, work / "run", "images")
    return [
        Subject("celeba-train-diffusion.py", ddpm, work / "run", "checkpoints"),
        Subject("celeba-train-classifier.py", classifier, work / "run", "checkpoints"),
        main,
        replace(main, ranks=2),
        Subject("compute_metrics.py", measuring, work / "run", "metrics", begin=whole / "main.py-1"),
    ]


def create_argparser():
    return FlagParser(__doc__, FLAGS, ("work_dir",))


def main():
    args = create_argparser().parse_args()
    work = Path(args.work_dir).resolve()
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        raise UserError(f"--work_dir {work} is not empty; name another folder")
    os.environ.update(OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT), XDG_CACHE_HOME=str(work / "cache"))
    write_celeba(work / "celeba", {"train": 60, "val": 15})
    subjects, rng, rows, good = subjects_in(work), random.Random(args.seed), [], True
    for place, subject in enumerate(subjects):
        share = args.kills // len(subjects) + (place < args.kills % len(subjects))
        count = measure(subject, work, share, rng)
        good = good and not (count["lost"] or count["different"] or count["half_written"])
        rows.append(
            f"| {subject.title} | {count['kills']} | {count['rounds']} | {count['lost']} {subject.keeps} "
            f"| {count['different']} | {count['half_written']} | {subject.whole:.1f} | {subject.start_up:.1f} |"
        )
    print(
        "| | kills | rounds | lost | files that differ | half-written files | an undisturbed run, s "
        "| of them before its first file |\n|---|---|---|---|---|---|---|---|"
    )
    print("\n".join(rows))
    if not good:
        raise UserError("something was lost, differs or is half-written: the table says how much")


def measure(subject, work, kills, rng):
    """Kills a script so often -> the Counter of all rounds."""
    whole, total, log = work / "undisturbed" / f"{subject.script}-1", Counter(), work / "log.txt"
    run_undisturbed(subject, log)
    if subject.ranks == 1:  # several are compared with one
        whole.parent.mkdir(exist_ok=True)
        subject.output.rename(whole)
    with tqdm(total=kills, desc=subject.title, unit="kill") as bar:
        while total["kills"] < kills:
            count = run_round(subject, whole, kills - total["kills"], rng, log)
            total.update(count)
            bar.update(count["kills"])
    return total


if __name__ == "__main__":
    run_script(main)
