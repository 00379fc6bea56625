"""The metrics of an experiment, for all images and for groups of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..data.words import counted
from ..metrics.metric import BETTER, Metric, mean_of
from ..results.records import correct, flipped

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
    of_oracle: bool = False  # whether it is what an oracle sees


MEASURES = (
    Measure("FR", "flip rate", "cf_pred", flipped, True, of_flips=False),
    Measure(
        "Oracle FR",
        "flip rate for the oracle",
        "oracle_flip",
        lambda t: t["oracle_flip"] * flipped(t),
        True,
        of_oracle=True,
    ),
    Measure("MNAC", "attributes changed", "mnac", lambda t: t["mnac"], False, of_oracle=True),
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


def measure(table, measures=MEASURES):
    """Records -> a Measured for each of some measures."""
    reached = flipped(table)
    found = []
    for each in measures:
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
    by_class = "by class" if question.of_classes else "by label"
    groups, left_out = [], []
    for kind, titles in (("by direction", directions), ("by right and wrong", rights), (by_class, labels)):
        counts = pd.Series(titles).value_counts()
        for title in counts.index[:SHOWN]:
            rows = table[np.asarray(titles) == title]
            groups.append(Group(kind, title, len(rows), measure(rows)))
        if len(counts) > SHOWN:
            rest = counts.iloc[SHOWN:]
            left_out.append(f"{kind}: {counted(len(rest), 'smaller group')} with {counted(rest.sum())} in all")
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
