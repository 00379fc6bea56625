"""Kills main.py, the trainers and compute_metrics.py with -9 at random moments: is anything lost when they go on?

    python -m benchmarks.kills --work_dir DIR --kills 105

Each is first run undisturbed. Then it is started in an empty folder and killed, again and again, until it ends: a
round. After each kill every file is looked at; after a round the folder is compared with the undisturbed one.
Networks and images are tiny.
"""

import os
import random
import shutil
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import psutil
from tqdm import tqdm

from benchmarks.damage import differing, files_in, half_written
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
TIMES = ("an undisturbed run, s", "of them before its first file")
COLUMNS = ["", "kills", "rounds", "lost", "files that differ", "half-written files", *TIMES]  # of the table


@dataclass(frozen=True)
class Subject:
    """A script with its flags. keeps: what a start after a kill must not lose, a word for the table.

    begin: the folder that its own is a copy of at the start; None: of an empty one.
    """

    script: str
    flags: dict
    work: Path
    keeps: str
    ranks: int = 1
    begin: Path | None = None

    @property
    def title(self):
        return f"`{self.script}`" + f" on {self.ranks} ranks" * (self.ranks > 1)

    @property
    def output(self):
        return self.work / "run"

    @property
    def undisturbed(self):
        """The folder of the undisturbed run. Several ranks are compared with one."""
        return self.work / "undisturbed" / self.script

    def finished(self):
        """What a start has left of the work done: ids of images, files of checkpoints, or names of metrics."""
        if self.keeps == "checkpoints":
            return {path.name for path in self.output.glob("opt*.pt")}
        layout = Layout(self.output, "exp")
        if self.keeps == "metrics":
            return set(read_metrics(layout.metrics))
        records = read_rows(layout)
        return set() if records is None else set(records["id"])

    def prepare(self):
        shutil.rmtree(self.output, ignore_errors=True)
        if self.begin:
            shutil.copytree(self.begin, self.output)

    def start(self):
        """Starts the script -> its process, or its launcher's."""
        words = [word for name, value in self.flags.items() for word in (f"--{name}", *str(value).split(" "))]
        launcher = ["mpiexec", "-n", str(self.ranks)] if self.ranks > 1 else []
        command = [*launcher, sys.executable, ROOT / self.script, *words, "--output_path", self.output]
        with open(self.work / "log.txt", "w") as log:
            return psutil.Popen(command, stdout=log, stderr=log, cwd=ROOT)

    def require_success(self, process):
        if code := process.wait(TO_END):
            raise UserError(f"{self.script} failed with exit code {code}; see {self.work}/log.txt")


def run_undisturbed(subject):
    """Runs a script to its end -> the seconds to its first file, and to its end."""
    subject.prepare()
    before, began, first = files_in(subject.output), time.monotonic(), None
    process = subject.start()
    while process.poll() is None:
        if first is None and files_in(subject.output) != before:
            first = time.monotonic() - began
        time.sleep(0.01)
    subject.require_success(process)
    if subject.ranks == 1:
        subject.undisturbed.parent.mkdir(exist_ok=True)
        subject.output.rename(subject.undisturbed)
    return first, time.monotonic() - began


def run_round(subject, start_up, left, most, rng):
    """One round: kills, at most so many, and an end -> its Counter. left: seconds of an undisturbed run."""
    subject.prepare()
    count, done, families, killed = Counter(rounds=1), set(), [], True
    while killed:
        process, killed = subject.start(), False
        family = [process]
        if count["kills"] < min(most, MOST_IN_A_ROUND):
            moment = rng.uniform(0.9 * start_up, max(left, start_up))
            killed = kill_after(moment, family, rng)
            left -= max(0, moment - start_up)
        if not killed:
            subject.require_success(process)
        families += family
        now = subject.finished()
        count["lost"] += len(done - now)
        count["half_written"] += len(half_written(subject.output))
        count["kills"] += killed
        done = now
    psutil.wait_procs(families, timeout=TO_END)  # a process may have outlived the one that started it
    count["half_written"] += sum(name.endswith(".part") for name in files_in(subject.output))
    count["different"] = len(differing(subject.output, subject.undisturbed, subject.ranks > 1))
    return count


def run_rounds(subject, start_up, whole, kills, rng):
    """Rounds until a script was killed so often -> the Counter of all of them."""
    total = Counter()
    with tqdm(total=kills, desc=subject.title, unit="kill") as bar:
        while total["kills"] < kills:
            count = run_round(subject, start_up, whole, kills - total["kills"], rng)
            total.update(count)
            bar.update(count["kills"])
            if not count["kills"]:  # it ended too early, as on a machine that was busier when it was measured
                start_up, whole = 0.8 * start_up, 0.8 * whole
    return total


def kill_after(seconds, family, rng):
    """Waits, then kills all processes, or one alone of several ranks -> whether any still ran.

    family: the process that was started; what it has started is added.
    """
    with suppress(psutil.TimeoutExpired):
        family[0].wait(seconds)
        return False
    with suppress(psutil.NoSuchProcess):
        family += family[0].children(recursive=True)
    ranks = [process for process in family if _runs_script(process)]
    killed = False
    for process in family if len(ranks) < 2 or rng.random() < 0.5 else [rng.choice(ranks)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
            killed = True
    family[0].wait(TO_END)
    return killed


def _runs_script(process):
    """Whether a process was started as `python script.py`."""
    with suppress(psutil.Error):
        return any(word.endswith(".py") for word in process.cmdline()[1:2])
    return False


def subjects_in(work):
    """The Subjects in the order in which each makes what the next ones need."""
    data, whole = work / "celeba", work / "undisturbed"
    training = {"data_dir": data, "image_size": 16, "batch_size": 4, "log_interval": 2, "keep_checkpoints": 100}
    ddpm = training | {"num_channels": 32, "num_res_blocks": 1, "channel_mult": "1,1", "attention_resolutions": 8}
    ddpm |= {"num_heads": 2, "learn_sigma": True, "diffusion_steps": 40, "ema_rate": 0.9, "sample_steps": 2}
    ddpm |= {"lr_anneal_steps": 60, "save_interval": 6}
    classifier = training | {"architecture": "tiny_cnn", "lr_anneal_steps": 100, "save_interval": 5}
    classifier_path = whole / "celeba-train-classifier.py/best.pt"
    explaining = {"data_dir": data, "model_path": whole / "celeba-train-diffusion.py/model000060.pt"}
    explaining |= {"classifier_path": classifier_path, "query_label": "Smiling", "classifier_scales": "1,100000"}
    explaining |= {"start_step": 8, "batch_size": 3, "exp_name": "exp", "save_z_t": True}
    measuring = {"exp_names": "exp", "metrics": "FR,MNAC", "query_label": "Smiling", "oracle_path": classifier_path}
    main = Subject("main.py", explaining, work, "images")
    return [
        Subject("celeba-train-diffusion.py", ddpm, work, "checkpoints"),
        Subject("celeba-train-classifier.py", classifier, work, "checkpoints"),
        main,
        replace(main, ranks=2),
        Subject("compute_metrics.py", measuring, work, "metrics", begin=main.undisturbed),
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
    subjects, rng, rows, faults = subjects_in(work), random.Random(args.seed), [], 0
    for place, subject in enumerate(subjects):
        share = args.kills // len(subjects) + (place < args.kills % len(subjects))
        start_up, whole = run_undisturbed(subject)
        count = run_rounds(subject, start_up, whole, share, rng)
        lost, faulty = f"{count['lost']} {subject.keeps}", (count["different"], count["half_written"])
        rows.append([subject.title, count["kills"], count["rounds"], lost, *faulty, whole, start_up])
        faults += count["lost"] + sum(faulty)
    print(pd.DataFrame(rows, columns=COLUMNS).to_markdown(index=False, floatfmt=".1f"))
    if faults:
        raise UserError("something was lost, differs or is half-written: the table says how much")


if __name__ == "__main__":
    run_script(main)
