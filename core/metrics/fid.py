"""FID, sFID and KID: do the counterfactuals look like photographs of the data? (pytorch-fid's Inception)"""

from dataclasses import replace
from functools import partial

import numpy as np

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import SEED, Flag
from guided_diffusion.script.storage import sha256

from .activations import activations_of
from .distributions import (
    HALVES,
    KID_SIZE,
    KID_SUBSETS,
    Activations,
    error_by_halves,
    fid,
    frechet_distance,
    kid,
    sfid,
    statistics,
)
from .intervals import normal_interval
from .metric import Metric, Source

NAMES = ("FID", "sFID", "KID")
FLAGS = {"inception_path": Flag(None, "weights of pytorch-fid's Inception; by default its own, downloaded")}
SEED_FLAG = {"seed": replace(SEED, help="seed of sFID's halves, of KID's subsets and of the resampling")}
ENOUGH = 2048  # images: as many as Inception's features


def measure(run, judges):
    """The Metrics of a Run: all its originals against the counterfactuals that reached their target."""
    pairs = run.require_pairs(reached=("CCF", "ICF"))
    rows = [row for row, pair in enumerate(pairs) if pair.reached == "CCF"]
    if len(rows) < 2:
        raise UserError(f"{run.layout.experiment} holds {len(rows)} flipped counterfactuals; FID needs two")
    network = judges.of_kind("inception", judges.flags["inception_path"])
    digest = sha256(network.file)
    originals, flips = [pair.original for pair in pairs], [pairs[row].counterfactual for row in rows]
    activations = Activations(
        activations_of(run.layout.original_activations, originals, network, digest, judges.batches, "originals"),
        activations_of(run.layout.activations, flips, network, digest, judges.batches, "counterfactuals"),
        np.array(rows),
    )
    if not judges.ranks.first:
        return []
    seed = judges.flags["seed"]
    options = {"seed": seed, "halves": HALVES, "kid_subsets": KID_SUBSETS, "kid_size": KID_SIZE}
    return metrics_of(activations, seed, Source({"inception_path": network.file}, options, ("pytorch-fid",)))


def metrics_of(activations, seed, source):
    """Activations -> the Metrics FID, sFID and KID."""
    n, originals = len(activations.origin), len(activations)
    which = f"flipped counterfactuals, against {originals:,} originals"
    biased = f"; biased upwards by fewer than {ENOUGH:,} images" if min(n, originals) < ENOUGH else ""
    metrics = []
    for name, distance in (("FID", fid), ("sFID", partial(sfid, seed=seed))):
        value = distance(activations, distance=reported_distance)
        error = error_by_halves(distance, activations, seed)
        metrics.append(Metric(name, value, n, which + biased, normal_interval(value, error, lowest=0), source))
    value, deviation, error = kid(activations, seed)
    which += f"; unbiased, deviation of a subset {deviation:.2g}"
    return [*metrics, Metric("KID", value, n, which, normal_interval(value, error), source)]


def reported_distance(a, b):
    """Activations (N, D), (M, D) -> the Fréchet distance that is reported; NaN for fewer than two rows.

    Computed by pytorch-fid, so that it equals others' values to the last digit. With fewer images than dimensions
    pytorch-fid would need the root of a singular matrix, of which SciPy warns; then frechet_distance computes it.
    """
    from pytorch_fid.fid_score import calculate_frechet_distance

    if min(len(a), len(b)) <= a.shape[1]:
        return frechet_distance(a, b)
    return float(calculate_frechet_distance(*statistics(a), *statistics(b)))
