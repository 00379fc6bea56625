"""Where an experiment's results come from: its command, weights, counts and surroundings."""

import shlex
from dataclasses import dataclass

from ..data.words import counted
from ..running.flags import FLAGS

HASH = " sha256"  # ends the names of flags.yaml that hold hashes
LEFT_OUT = {"merge_and_eval", "overwrite", "chunk"}  # of a rebuilt command


@dataclass
class Provenance:
    """command: its parts, [] where no flags are recorded; hashes and facts: name -> text; flags: name -> value."""

    command: list[str]
    facts: dict[str, str]
    hashes: dict[str, str]
    flags: dict


def read_provenance(experiment):
    flags = {name: value for name, value in experiment.flags.items() if not name.endswith(HASH)}
    hashes = {name.removesuffix(HASH): str(v) for name, v in experiment.flags.items() if name.endswith(HASH)}
    return Provenance(_command(flags), _facts(experiment), hashes, flags)


def _command(flags):
    """The command of main.py that these flags stand for, in parts; without those that have their default."""
    if not flags:
        return []
    words = ["python main.py"]
    for name, value in flags.items():
        known = name in FLAGS and name not in LEFT_OUT
        if known and value is not None and value != FLAGS[name].default:
            words.append(f"--{name} {shlex.quote(str(value))}")
    return words


def _facts(experiment):
    cases, flags = experiment.cases, experiment.flags
    right, reached = sum(case.right for case in cases), sum(case.reached for case in cases)
    known = f"{len(cases):,}, of which the classifier was right about {right:,}"
    if len(cases) == 1:
        known = f"1, about which the classifier was {'right' if right else 'wrong'}"
    facts = {
        "images": known,
        "reached their target": f"{reached:,}",
    }
    if flags:
        facts["method"] = str(flags.get("method", "dime"))
        facts["seed"] = str(flags.get("seed", "not recorded"))
        facts["data"] = _data(flags)
    facts["finished"] = "yes" if experiment.run.finished else "no, or its chunks are not merged"
    return facts | _of_runs(experiment)


def _of_runs(experiment):
    """Time, device and versions, as the finished runs recorded them."""
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


def _data(flags):
    if flags.get("images"):
        return "the files of --images"
    return f"{flags.get('data_dir', 'not recorded')} ({flags.get('split', 'split not recorded')})"
