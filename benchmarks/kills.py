"""Kills main.py, the trainers and compute_metrics.py with -9 at random moments: is anything lost when they go on?

Each is first run undisturbed. Then it is started in an empty folder and killed, again and again, until it ends: a
round. After each kill every file is looked at; after a round the folder is compared with the undisturbed one.
Networks and images are tiny. Scripts of one process are forked from this one, which has imported what they need, so
that few kills come while Python is importing.
"""

import csv
import io
import json
import os
import random
import runpy
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import torch
import yaml
from PIL import Image
from tqdm import tqdm

from benchmarks.training_size import write_images
from core.metrics.metric import read_metrics
from core.results.folder import ResultsFolder
from core.results.layout import Layout
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser, check_flags
from guided_diffusion.script.run import require_flags, run_script

ROOT = Path(__file__).parent.parent
FORK = get_context("fork")
MOST_IN_A_ROUND = 5  # kills
TO_END = 600  # seconds that a script which is not killed may take
FLAGS = {
    "work_dir": Flag(None, "an empty folder for everything that is written"),
    "kills": Flag(100, "how many kills in all; each script gets an equal share", low=1, high=100_000),
    "seed": Flag(0, "decides the moments of the kills, as shares of a run", low=0, high=2**32 - 1),
}
NETWORK = {
    "image_size": 16,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,1",
    "attention_resolutions": "8",
    "num_heads": 2,
    "learn_sigma": True,
    "diffusion_steps": 40,
}
CLASSIFIER = "benchmarks.training_size:smallest_network"


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
        if self.keeps == "images":
            records = ResultsFolder(Layout(self.output, "exp")).records()
            return set() if records is None else set(records["id"])
        if self.keeps == "checkpoints":
            return {path.name for path in self.output.glob("opt*.pt")}
        return set(read_metrics(ResultsFolder(Layout(self.output, "exp")).layout.metrics))


@dataclass
class Count:
    kills: int = 0
    ends: int = 0
    lost: int = 0
    different: int = 0
    half_written: int = 0


# -- processes ---------------------------------------------------------------------------------------------------


class Started:
    """A script that runs: forked, or by a command of its own where it has ranks or starts further scripts."""

    def __init__(self, subject, log):
        words = [word for name, value in subject.flags.items() for word in (f"--{name}", *str(value).split(" "))]
        words += ["--output_path", str(subject.output)]
        self.log, self.script = log, subject.script
        if subject.ranks > 1 or subject.keeps == "metrics":
            launcher = ["mpiexec", "-n", str(subject.ranks)] if subject.ranks > 1 else []
            command = [*launcher, sys.executable, str(ROOT / subject.script), *words]
            with open(log, "w") as file:
                self.process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT)
        else:
            self.process = FORK.Process(target=_become, args=(subject.script, words, log))
            self.process.start()
        self.family = [psutil.Process(self.process.pid)]

    def code(self):
        """The exit code; None while it runs."""
        return self.process.poll() if isinstance(self.process, subprocess.Popen) else self.process.exitcode

    def wait(self, seconds):
        """Waits for the end, at most so long -> the exit code, or None."""
        end = time.monotonic() + seconds
        while self.code() is None and time.monotonic() < end:
            time.sleep(0.005)
        return self.code()

    def kill(self, rng):
        """Kills all processes that run the script, with their launcher, or one of them alone -> whether any ran."""
        with suppress(psutil.NoSuchProcess):
            self.family += self.family[0].children(recursive=True)
        own = [process for process in self.family if _runs_script(process)]
        chosen = self.family if len(own) < 2 or rng.random() < 0.5 else [rng.choice(own)]
        killed = 0
        for process in chosen:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                killed += 1
        if self.wait(TO_END) is None:
            raise UserError(f"{self.script} is still running {TO_END} s after a kill; see {self.log}")
        return killed > 0


def _runs_script(process):
    """Whether a process was started as `python script.py`."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return len(words) > 1 and words[1].endswith(".py")


def _become(script, words, log):
    """What a forked process does: it becomes the script."""
    for descriptor in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(ROOT)
    sys.argv = [str(ROOT / script), *words]
    runpy.run_path(str(ROOT / script), run_name="__main__")


def run_undisturbed(subject, log):
    """Runs a script to its end, and notes the time of its first file and of its end."""
    subject.prepare()
    before, began, first = _files(subject.output), time.monotonic(), None
    started = Started(subject, log)
    while started.code() is None:
        if first is None and _files(subject.output) != before:
            first = time.monotonic() - began
        time.sleep(0.01)
    require_success(started)
    subject.start_up, subject.whole = first, time.monotonic() - began


def require_success(started):
    if started.code() != 0:
        raise UserError(f"{started.script} failed with exit code {started.code()}; see {started.log}")


def run_round(subject, whole, most, rng, log):
    """One round: kills, at most so many, and an end -> its Count. whole: the folder of the undisturbed run."""
    subject.prepare()
    count, kept, left, family = Count(), set(), subject.whole, []
    while True:
        started = Started(subject, log)
        killed = False
        if count.kills < min(most, MOST_IN_A_ROUND):
            moment = rng.uniform(0.5 * subject.start_up, max(left, subject.start_up))
            killed = started.wait(moment) is None and started.kill(rng)
            left -= max(0, moment - subject.start_up)
        if not killed:
            started.wait(TO_END)
            require_success(started)
        family += started.family
        now = subject.finished()
        count.lost += len(kept - now)
        kept = now
        count.half_written += len(half_written(subject.output))
        if not killed:
            break
        count.kills += 1
    # A script that compute_metrics.py had started may have outlived it.
    psutil.wait_procs([each for each in family if each.pid != os.getpid()], timeout=TO_END)
    count.ends = 1
    count.half_written += sum(name.endswith(".part") for name in _files(subject.output))
    count.different = len(differing(subject.output, whole, subject.ranks > 1))
    return count


# -- what they leave behind --------------------------------------------------------------------------------------


def _files(folder):
    """The names of all files below a folder, relative to it, but for locks."""
    names = {
        str(Path(directory, name).relative_to(folder)) for directory, _, files in os.walk(folder) for name in files
    }
    return {name for name in names if not name.endswith("lock")}


def half_written(folder):
    """The files below a folder, .part apart, that are not whole."""
    found = []
    for name in _files(folder):
        with suppress(FileNotFoundError):  # a script that outlived its starter has just replaced it
            if not name.endswith(".part") and not _is_whole(folder / name):
                found.append(name)
    return found


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
    images and are scaled, only that they are there. Otherwise every byte counts, but for the clock's, which are two
    columns of progress.csv and TensorBoard's events; and of a checkpoint every number, name and bit of a tensor:
    pickle writes two equal strings otherwise than one that is used twice.
    """
    ours, theirs = ({name for name in _files(each) if "tfevents" not in name} for each in (folder, whole))
    ours = {name for name in ours if not name.endswith(".part")}
    equal = _within_a_level if by_ranks else _identical
    return sorted(ours ^ theirs) + [
        name for name in sorted(ours & theirs) if not equal(folder / name, whole / name)
    ]


def _identical(path, other):
    if path.name == "progress.csv":
        return _without_clock(path) == _without_clock(other)
    if path.read_bytes() == other.read_bytes():
        return True
    both = path.suffix == ".pt" and _is_whole(path) and _is_whole(other)
    return both and _equal(*(torch.load(each, weights_only=True) for each in (path, other)))


def _equal(value, other):
    """Whether two contents of a checkpoint are the same."""
    if isinstance(value, torch.Tensor):
        return value.dtype == other.dtype and torch.equal(value, other)
    if isinstance(value, dict):
        return list(value) == list(other) and all(_equal(value[name], other[name]) for name in value)
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(_equal, value, other))
    return type(value) is type(other) and value == other


def _without_clock(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: row[name] for name in row if name not in ("images_per_s", "memory_mib")} for row in rows]


def _within_a_level(path, other):
    if path.suffix != ".png" or path.parent.name == "SM":
        return True
    pixels, others = (np.asarray(Image.open(each), int) for each in (path, other))
    return pixels.shape == others.shape and np.abs(pixels - others).max() <= 1


# -- all together ------------------------------------------------------------------------------------------------


def subjects_in(work):
    """The Subjects in the order in which each makes what the next ones need."""
    data, whole = work / "celeba", work / "undisturbed"
    training = {"data_dir": data, "batch_size": 4, "log_interval": 2, "keep_checkpoints": 100}
    ddpm = NETWORK | training | {"lr_anneal_steps": 60, "save_interval": 6, "ema_rate": 0.9, "sample_steps": 2}
    classifier = training | {
        "architecture": CLASSIFIER,
        "image_size": 16,
        "lr": 0.1,
        "lr_anneal_steps": 300,
        "save_interval": 10,
    }
    explaining = NETWORK | {
        "data_dir": data,
        "model_path": whole / "celeba-train-diffusion.py-1/model000060.pt",
        "classifier_path": whole / "celeba-train-classifier.py-1/best.pt",
        "classifier_architecture": CLASSIFIER,
        "query_label": "Smiling",
        "classifier_scales": "1,100000",
        "start_step": 8,
        "batch_size": 3,
        "exp_name": "exp",
        "save_z_t": True,
    }
    oracle = {"oracle_path": explaining["classifier_path"], "oracle_architecture": CLASSIFIER}
    measuring = {"exp_names": "exp", "metrics": "FR,MNAC", "query_label": "Smiling"} | oracle
    main = Subject("main.py", explaining, work / "run", "images")
    return [
        Subject("celeba-train-diffusion.py", ddpm, work / "run", "checkpoints"),
        Subject("celeba-train-classifier.py", classifier, work / "run", "checkpoints"),
        main,
        replace(main, ranks=2),
        Subject("compute_metrics.py", measuring, work / "run", "metrics", begin=whole / "main.py-1"),
    ]


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    require_flags(args, "work_dir")
    check_flags(args, FLAGS)
    work = Path(args.work_dir).resolve()
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        raise UserError(f"--work_dir {work} is not empty; name another folder")
    os.environ.update(OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT), XDG_CACHE_HOME=str(work / "cache"))
    write_images(work / "celeba", 75)
    subjects, rng, rows, good = subjects_in(work), random.Random(args.seed), [], True
    for subject in subjects:  # so that those forked later need not
        runpy.run_path(str(ROOT / subject.script))
    for place, subject in enumerate(subjects):
        share = args.kills // len(subjects) + (place < args.kills % len(subjects))
        count = measure(subject, work, share, rng)
        good = good and not (count.lost or count.different or count.half_written)
        rows.append(
            f"| {subject.title} | {count.kills} | {count.ends} | {count.lost} {subject.keeps} | {count.different} "
            f"| {count.half_written} | {subject.whole:.1f} | {subject.start_up:.1f} |"
        )
    print(
        "| | kills | rounds | lost | files that differ | half-written files | an undisturbed run, s "
        "| of them before its first file |\n|---|---|---|---|---|---|---|---|"
    )
    print("\n".join(rows))
    if not good:
        raise UserError("something was lost, differs or is half-written: the table says how much")


def measure(subject, work, kills, rng):
    """Kills a script so often -> the Count of all rounds."""
    whole, total, log = work / "undisturbed" / f"{subject.script}-1", Count(), work / "log.txt"
    run_undisturbed(subject, log)
    if subject.ranks == 1:  # several are compared with one
        whole.parent.mkdir(exist_ok=True)
        subject.output.rename(whole)
    with tqdm(total=kills, desc=subject.title, unit="kill") as bar:
        while total.kills < kills:
            count = run_round(subject, whole, kills - total.kills, rng, log)
            for name in vars(count):
                setattr(total, name, getattr(total, name) + getattr(count, name))
            bar.update(count.kills)
    return total


if __name__ == "__main__":
    run_script(main)
