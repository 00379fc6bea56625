"""FR, bKL and L1: how often the target was reached, how surely, and how far away (from the records)."""

from guided_diffusion.script.errors import UserError

from ..results.records import flipped
from ..running.run import FLIPPED
from .metric import mean_of

NAMES = ("FR", "bKL", "L1")


def measure(run, judges=None):
    """The Metrics of a Run. They need no network; of several ranks the first alone measures them."""
    records = run.records
    if records is None and run.layout.records.exists():
        raise UserError(f"{run.layout.records} holds no rows; run main.py again")
    if records is None or run.layout.chunks and not run.layout.records.exists():
        raise UserError(
            f"{run.layout.records} does not exist; run main.py, and merge its chunks with --merge_and_eval True"
        )
    run.tell_unfinished()
    reached = flipped(records)
    metrics = [mean_of("FR", reached, "explained images")]
    if reached.any():
        flips = records[reached]
        metrics += [mean_of("bKL", flips["bkl"], FLIPPED), mean_of("L1", flips["l_1"], FLIPPED)]
    return metrics
