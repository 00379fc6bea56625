"""The metrics of an experiment, for all images and for groups of them, and of several on identical images."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from guided_diffusion.errors import UserError

from ..methods.flags import method_and_options
from ..metrics.intervals import mean_interval
from ..metrics.metric import BETTER, Metric, mean_of
from ..results.records import correct, flipped
from ..running.flags import FLAGS

FLIPPED, ALL = "that reached their target", "explained, failed ones included"
SHOWN = 12  # groups of a kind that are measured; the largest


@dataclass
class Measure:
    """How a metric is read off records. values: a table -> (N,) numbers."""

    name: str
    title: str
    column: str  # that the table must have
    values: Callable
    percent: bool
    of_flips: bool = True  # whether it is also a mean over the flipped images alone


MEASURES = (
    Measure("FR", "flip rate", "cf_pred", flipped, True, of_flips=False),
    Measure("Oracle FR", "flip rate for the oracle", "oracle_flip", lambda t: t["oracle_flip"] * flipped(t), True),
    Measure("MNAC", "attributes changed", "mnac", lambda t: t["mnac"], False),
    Measure("L1", "mean change of a pixel", "l_1", lambda t: t["l_1"], False),
    Measure("bKL", "1 − probability of the target", "bkl", lambda t: t["bkl"], False),
)


@dataclass
class Measured:
    """A metric of a group: over the images that flipped, and over all of them. None where there is none."""

    measure: Measure
    flips: Metric | None
    all: Metric | None


@dataclass
class Group:
    """Some images of an experiment. kind: why they belong together."""

    kind: str
    title: str
    n: int
    measured: list[Measured]


def measure(table):
    """Records -> a Measured for each of MEASURES."""
    reached = flipped(table)
    found = []
    for each in MEASURES:
        if each.column not in table:
            found.append(Measured(each, None, None))
            continue
        values = each.values(table).astype(float)
        flips = mean_of(each.name, values[reached], FLIPPED) if each.of_flips and reached.any() else None
        found.append(Measured(each, flips, mean_of(each.name, values, ALL)))
    return found


def groups_of(experiment):
    """(a list of Groups: by direction, by right and wrong, by class; a list of what was left out)."""
    table, question = experiment.table, experiment.question
    directions = [experiment.direction(*pair) for pair in zip(table["pred"], table["target"], strict=True)]
    labels = [experiment.called(label) for label in table["label"]]
    rights = np.where(correct(table), "the classifier was right", "the classifier was wrong")
    by_class = "by label" if question.task == "attributes" else "by class"
    groups, left_out = [], []
    for kind, titles in (("by direction", directions), ("by right and wrong", rights), (by_class, labels)):
        counts = pd.Series(titles).value_counts()
        for title in counts.index[:SHOWN]:
            rows = table[np.asarray(titles) == title]
            groups.append(Group(kind, title, len(rows), measure(rows)))
        if len(counts) > SHOWN:
            rest = counts.iloc[SHOWN:]
            left_out.append(f"{kind}: {len(rest)} smaller groups with {rest.sum()} images in all")
    return groups, left_out


def measured_by_networks(experiments):
    """The metrics of metrics.yaml that records do not tell: a list of (name, [a Metric or None of each])."""
    own = {each.name for each in MEASURES}
    names = [name for name in BETTER if name not in own and any(name in e.metrics for e in experiments)]
    return [(name, [_metric(name, e.metrics.get(name)) for e in experiments]) for name in names]


def _metric(name, entry):
    if entry is None:
        return None
    interval = entry.get("interval")
    return Metric(name, entry["value"], entry["n"], str(entry.get("of", "")), tuple(interval) if interval else None)


# -- several experiments -----------------------------------------------------------------------------------------


@dataclass
class Method:
    """A row of the table of methods. What is not known is None."""

    experiment: object
    method: str
    evaluations: float | None  # of the network, an image
    seconds: float | None  # an image
    memory: float | None  # MiB, the most that a run held
    device: str
    measured: list[Measured]


@dataclass
class Comparison:
    """Some experiments on the images that all of them explained. why_not: why there is no comparison."""

    ids: list[int]
    methods: list[Method]
    why_not: str = ""


def compare(experiments):
    """The methods of some experiments on identical images."""
    if len(experiments) > 1 and (why_not := _different(experiments)):
        return Comparison([], [], why_not)
    ids = sorted(set.intersection(*(set(e.table["id"]) for e in experiments)))
    if not ids:
        return Comparison([], [], "they have no image in common")
    tables = [e.table[e.table["id"].isin(ids)] for e in experiments]
    methods = [
        Method(
            e,
            str(e.flags.get("method", "dime" if e.flags else "not recorded")),
            evaluations(e, table),
            *_surroundings(e),
            measure(table),
        )
        for e, table in zip(experiments, tables, strict=True)
    ]
    return Comparison(ids, methods)


def _surroundings(experiment):
    """(seconds an image, MiB of memory, the device) of an experiment's runs; None and "" where not recorded."""
    timed = sum(experiment.numbers_of_runs("images"))
    return (
        sum(experiment.numbers_of_runs("seconds")) / timed if timed else None,
        max(experiment.numbers_of_runs("memory_mib"), default=None),
        experiment.texts_of_runs("device"),
    )


DATA = ("dataset", "data_dir", "images", "split", "image_size")  # the flags that decide what an id stands for


def _different(experiments):
    """Why some experiments are not of the same images, or ""."""
    first, *others = experiments
    for other in others:
        for name in DATA:
            values = [e.flags.get(name) for e in (first, other)]
            if first.flags and other.flags and values[0] != values[1]:
                return f"{first.name} was run with --{name} {values[0]}, {other.name} with --{name} {values[1]}"
        names = [{case.id: case.image for case in e.cases} for e in (first, other)]
        for name in names[0].keys() & names[1].keys():
            if names[0][name] != names[1][name]:
                return f"image {name} is {names[0][name]} in {first.name}, but {names[1][name]} in {other.name}"
    return ""


def evaluations(experiment, table):
    """Network evaluations an image took, the mean over the rows; None where that is not recorded."""
    known = {name: flag.default for name, flag in FLAGS.items()} | experiment.flags
    if not experiment.flags or "attempts" not in table:
        return None
    args = Namespace(**known)
    try:
        method, options = method_and_options(args)
        steps = None if args.guided_iterations == -1 else args.guided_iterations
        cost = method.cost(args.start_step, guided_steps=steps, **options)
    except (UserError, TypeError):  # flags of an older version
        return None
    return float((cost.once + cost.each * table["attempts"]).mean())


@dataclass
class Difference:
    """How two experiments differ on the same images: the mean of a - b, and its interval or None."""

    measure: Measure
    better: str
    worse: str
    value: float
    interval: tuple[float, float] | None

    @property
    def certain(self):
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def differences(comparison):
    """For FR, Oracle FR, MNAC and L1, over all images: the best experiment against the second best."""
    found = []
    for each in MEASURES[:-1]:
        tables = {
            m.experiment.name: m.experiment.table.set_index("id").loc[comparison.ids] for m in comparison.methods
        }
        if not all(each.column in table for table in tables.values()):
            continue
        values = {name: each.values(table).astype(float).to_numpy() for name, table in tables.items()}
        best, second = sorted(values, key=lambda name: values[name].mean() * (-1 if each.percent else 1))[:2]
        gaps = values[best] - values[second]
        found.append(Difference(each, best, second, float(gaps.mean()), mean_interval(gaps)))
    return found
