"""What the oracle saw change: how often, in which direction, and against what the labels of the data let expect."""

from dataclasses import dataclass

from guided_diffusion.script.errors import UserError

from ..metrics.cd import expected_correlations
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
    reached, oracle = flipped(experiment.run.records).to_numpy(), experiment.oracle
    if not oracle.names or not reached.any():
        return None
    changes = oracle.changes[reached]
    expected, why_not = _expected(oracle, experiment.run.flags.get("data_dir"))
    measured = None
    if oracle.query is not None:
        measured = change_correlations(oracle.before[reached], oracle.after[reached], oracle.query)
    rows = [
        Change(
            name,
            mean_of(name, changes[:, a] != 0, FLIPPED),
            float((changes[:, a] > 0).mean()),
            float((changes[:, a] < 0).mean()),
            None if expected is None else float(expected[a]),
            None if measured is None else float(measured[a]),
            a == oracle.query,
        )
        for a, name in enumerate(oracle.names)
    ]
    return Changes(sorted(rows, key=lambda row: -row.often.value), len(changes), why_not)


def _expected(oracle, data_dir):
    """((A,) correlations of the labels with the queried attribute's, or None; why there are none)."""
    if oracle.query is None:
        return None, "the oracle does not answer what was asked"
    if not data_dir:
        return None, "the run names no data with labels"
    try:
        return expected_correlations(data_dir, oracle.names, oracle.query), ""
    except (UserError, OSError):
        return None, "labels of the training data are missing (train_correlations.csv or CelebA's lists)"
