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
    """How a metric is read off records. values: a table -> (N,) numbers, or booleans."""

    name: str
    title: str
    column: str  # that the table must have
    values: Callable
    percent: bool
    of_flips: bool = True  # whether it is also a mean over the flipped images alone
    of_oracle: bool = False  # whether it is what an oracle sees


def _oracle_flips(table):
    return table["oracle_flip"].astype(bool) & flipped(table)


MEASURES = (
    Measure("FR", "flip rate", "cf_pred", flipped, True, of_flips=False),
    Measure("Oracle FR", "flip rate for the oracle", "oracle_flip", _oracle_flips, True, of_oracle=True),
    Measure("MNAC", "attributes changed", "mnac", lambda t: t["mnac"], False, of_oracle=True),
    Measure("L1", "mean change of a pixel", "l_1", lambda t: t["l_1"], False),
    Measure("bKL", "1 − probability of the target", "bkl", lambda t: t["bkl"], False),
)


@dataclass
class Measured:
    """A metric of a group: over the images that flipped, and over all of them. None where there is none."""

    measure: Measure
    flips: Metric | None = None
    all: Metric | None = None


@dataclass
class Group:
    """Some images of an experiment. kind: why they belong together."""

    kind: str
    title: str
    n: int
    measured: list[Measured]


def measure(table, measures=MEASURES):
    """Records -> a Measured for each of some measures."""
    return [_measured(each, table, flipped(table)) if each.column in table else Measured(each) for each in measures]


def _measured(each, table, reached):
    values = each.values(table)
    flips = mean_of(each.name, values[reached], FLIPPED) if each.of_flips and reached.any() else None
    return Measured(each, flips, mean_of(each.name, values, ALL))


def groups_of(experiment):
    """(a list of Groups: by direction, by right and wrong, by class; a list of what was left out)."""
    table, groups, left_out = experiment.run.records, [], []
    by_class = "by class" if experiment.run.question.of_classes else "by label"
    kinds = {
        "by direction": list(map(experiment.direction, table["pred"], table["target"])),
        "by right and wrong": np.where(correct(table), "the classifier was right", "the classifier was wrong"),
        by_class: list(map(experiment.called, table["label"])),
    }
    for kind, titles in kinds.items():
        counts = pd.Series(titles).value_counts()
        for title in counts.index[:SHOWN]:
            rows = table[np.asarray(titles) == title]
            groups.append(Group(kind, title, len(rows), measure(rows)))
        if len(rest := counts.iloc[SHOWN:]):
            left_out.append(f"{kind}: {counted(len(rest), 'smaller group')} with {counted(rest.sum())} in all")
    return groups, left_out


def measured_by_networks(experiments):
    """The metrics of metrics.yaml that records do not tell: name -> the entry or None of each experiment."""
    names = [name for name in BETTER if name not in {each.name for each in MEASURES}]
    rows = {name: [e.metrics.get(name) for e in experiments] for name in names}
    return {name: row for name, row in rows.items() if any(row)}
