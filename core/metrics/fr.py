"""FR, bKL and L1: how often the target was reached, how surely, and how far away (from the records)."""

from ..results.records import flipped
from ..running.run import FLIPPED
from .metric import mean_of

NAMES = ("FR", "bKL", "L1")


def measure(run, judges=None):
    """The Metrics of a Run. They need no network; of several ranks the first alone measures them."""
    records = run.require_records()
    run.tell_unfinished()
    reached = flipped(records)
    metrics = [mean_of("FR", reached, "explained images")]
    if reached.any():
        flips = records[reached]
        metrics += [mean_of("bKL", flips["bkl"], FLIPPED), mean_of("L1", flips["l_1"], FLIPPED)]
    return metrics
