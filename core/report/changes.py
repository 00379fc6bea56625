"""What the oracle saw change: how often, in which direction, and against what the labels of the data let expect."""

from dataclasses import dataclass

import numpy as np

from guided_diffusion.script.errors import UserError

from ..metrics.correlations import train_correlations
from ..metrics.metric import Metric, mean_of
from ..metrics.scores import change_correlations
from ..results.records import flipped
from .measures import FLIPPED


@dataclass
class Change:
    """How an attribute changed in the images that flipped."""

    attribute: str
    often: Metric  # the share of images in which it changed
    appeared: float  # the share in which the oracle sees it appear, and in which it vanishes
    vanished: float
    expected: float | None  # its correlation with the queried attribute: of the labels in the data
    measured: float | None  # and of the changes
    queried: bool


@dataclass
class Changes:
    """The attributes, those that changed most often first. why_unexpected: why `expected` is not known."""

    rows: list[Change]
    n: int
    why_unexpected: str = ""

    @property
    def others(self):
        """The attributes that were not asked about, as far as they changed."""
        return [row for row in self.rows if not row.queried and row.often.value > 0]


def read_changes(experiment):
    """The Changes of an experiment; None where no oracle of attributes judged it, or nothing flipped."""
    table, oracle = experiment.table[flipped(experiment.table)], experiment.oracle
    if not oracle.names or not len(table):
        return None
    before, after = (_bits(table[column]) for column in ("oracle_pred", "oracle_cf_pred"))
    expected, why_not = _expected(experiment)
    measured = change_correlations(before, after, oracle.query) if oracle.query is not None else None
    rows = []
    for a, name in enumerate(oracle.names):
        change = after[:, a] - before[:, a]
        rows.append(
            Change(
                name,
                mean_of(name, change != 0, FLIPPED),
                float((change > 0).mean()),
                float((change < 0).mean()),
                None if expected is None else float(expected[a]),
                None if measured is None else float(measured[a]),
                a == oracle.query,
            )
        )
    rows.sort(key=lambda row: -row.often.value)
    return Changes(rows, len(table), why_not)


def _bits(texts):
    """(N,) texts of 0 and 1 -> (N, A) integers; UserError where they are not of one length."""
    if texts.str.len().nunique() != 1:
        raise UserError(
            "records.csv has oracle decisions of several lengths; remove the lines of those that differ, and "
            "main.py's same command explains their images again"
        )
    return np.array([list(map(int, text)) for text in texts])


def _expected(experiment):
    """((A,) correlations of the labels with the queried attribute's, or None; why there are none)."""
    oracle, data_dir = experiment.oracle, experiment.flags.get("data_dir")
    if oracle.query is None:
        return None, "the oracle does not answer what was asked"
    if not data_dir:
        return None, "the run names no data with labels"
    try:
        table = train_correlations(data_dir)
        return table.loc[oracle.names[oracle.query], list(oracle.names)].to_numpy(), ""
    except (UserError, OSError):
        return None, "the labels of the training data are not there (train_correlations.csv or CelebA's lists)"
    except KeyError:
        return None, "the data have no labels of some of the oracle's attributes"
