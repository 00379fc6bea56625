"""Where an experiment's results come from: its command, weights, counts, time and versions."""

import shlex
from dataclasses import dataclass

from ..data.words import counted
from ..running.flags import FLAGS

HASH = " sha256"  # ends the names of flags.yaml that hold hashes
LEFT_OUT = {"merge_and_eval", "overwrite", "chunk"}  # of a rebuilt command
FINISHED = {True: "yes", False: "no, or its chunks are not merged", None: "not recorded"}


@dataclass
class Provenance:
    """command: its parts, [] where no flags are recorded; hashes and facts: name -> text; flags: name -> value."""

    command: list[str]
    facts: dict[str, str]
    hashes: dict[str, str]
    flags: dict


def read_provenance(experiment):
    flags = {name: value for name, value in experiment.run.flags.items() if not name.endswith(HASH)}
    hashes = {name.removesuffix(HASH): str(v) for name, v in experiment.run.flags.items() if name.endswith(HASH)}
    return Provenance(_command(flags), _facts(experiment) | _facts_of_runs(experiment), hashes, flags)


def _command(flags):
    """The command of main.py that these flags stand for, in parts; without those that have their default."""
    usual = {name: flag.default for name, flag in FLAGS.items() if name not in LEFT_OUT}
    options = {name: flags[name] for name in flags if name in usual and flags[name] not in (None, usual[name])}
    parts = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items()]
    return ["python main.py", *parts] if flags else []


def _facts(experiment):
    cases, flags = experiment.cases, experiment.run.flags
    right = sum(case.right for case in cases)
    images = f"{len(cases):,}, of which the classifier was right about {right:,}"
    if len(cases) == 1:
        images = f"1, about which the classifier was {'right' if right else 'wrong'}"
    data = f"{flags.get('data_dir', 'not recorded')} ({flags.get('split', 'split not recorded')})"
    return {
        "images": images,
        "reached their target": f"{sum(case.reached for case in cases):,}",
        "method": experiment.method,
        "seed": str(flags.get("seed", "not recorded")),
        "data": "the files of --images" if flags.get("images") else data,
        "finished": FINISHED[experiment.run.finished],
    }


def _facts_of_runs(experiment):
    """Time, memory, device and versions, as the finished runs recorded them."""
    timed, seconds = (sum(experiment.numbers_of_runs(name)) for name in ("images", "seconds"))
    if not timed:
        return {"device, time, versions": "not recorded"}
    facts = {
        "time": f"{seconds:,.1f} s for {counted(timed)}" + (f", {seconds / timed:.3g} s each" if timed > 1 else ""),
        "memory": f"{max(experiment.numbers_of_runs('memory_mib'), default=0):,} MiB at most",
    }
    facts |= {name: experiment.texts_of_runs(name) for name in ("device", "ranks", "python")}
    versions = [run["versions"] for run in experiment.run.history if isinstance(run.get("versions"), dict)]
    if versions:
        facts["versions"] = ", ".join(f"{package} {number}" for package, number in versions[-1].items())
    return facts
