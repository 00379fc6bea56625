"""FID, sFID and KID: do the counterfactuals look like photographs of the data? (pytorch-fid's Inception)"""

if __name__ == "__main__":
    from guided_diffusion.script.interrupts import end_on_interrupt

    end_on_interrupt()

from dataclasses import replace
from functools import partial
from unittest import mock

import numpy as np
from pytorch_fid import inception
from pytorch_fid.fid_score import calculate_frechet_distance

from core.metrics.activations import kept_activations
from core.metrics.distributions import (
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
from core.metrics.inference import DEVICE_FLAGS, RESULTS_FLAGS, require_pairs, start_ranks
from core.metrics.intervals import normal_interval
from core.metrics.metric import Metric, publish
from core.results.folder import ResultsFolder
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import SEED, Flag, FlagParser, check_flags, group_flags
from guided_diffusion.script.run import run_script
from guided_diffusion.script.storage import sha256
from models.checkpoints import describe, read_weights
from models.published import published_weights

INCEPTION_PATH = Flag(None, "weights of pytorch-fid's Inception; by default its own, downloaded")
FLAGS = group_flags(
    data=RESULTS_FLAGS,
    networks={"inception_path": INCEPTION_PATH},
    sampling={"seed": replace(SEED, help="seed of sFID's halves, of KID's subsets and of the resampling")},
    speed=DEVICE_FLAGS,
)
ENOUGH = 2048  # images: as many as Inception's features


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    device, first = start_ranks(args)
    pairs = require_pairs(args.output_path, args.exp_name, reached=("CCF", "ICF"))
    folder = ResultsFolder(args.output_path, args.exp_name)
    rows = [row for row, pair in enumerate(pairs) if pair.reached == "CCF"]
    if len(rows) < 2:
        raise UserError(f"{folder.experiment} holds {len(rows)} flipped counterfactuals; FID needs two")
    weights = args.inception_path or published_weights(inception.FID_WEIGHTS_URL, "Inception", "inception_path")
    network = load_inception(weights, device)

    def activations_of(path, files, desc):
        digest = sha256(weights)
        return kept_activations(path, files, network, digest, args.batch_size, device, desc, args.num_workers)

    activations = Activations(
        activations_of(folder.original_activations_path, [pair.original for pair in pairs], "originals"),
        activations_of(folder.activations_path, [pairs[row].counterfactual for row in rows], "counterfactuals"),
        np.array(rows),
    )
    if not first:
        return
    options = {"seed": args.seed, "halves": HALVES, "kid_subsets": KID_SUBSETS, "kid_size": KID_SIZE}
    metrics = measure(activations, args.seed)
    publish(args.output_path, args.exp_name, metrics, {"inception_path": weights}, options, ("pytorch-fid",))


def measure(activations, seed):
    """Activations -> the Metrics FID, sFID and KID."""
    n, originals = len(activations.origin), len(activations)
    which = f"flipped counterfactuals, against {originals:,} originals"
    biased = f"; biased upwards by fewer than {ENOUGH:,} images" if min(n, originals) < ENOUGH else ""
    metrics = []
    for name, distance in (("FID", fid), ("sFID", partial(sfid, seed=seed))):
        value = distance(activations, distance=reported_distance)
        error = error_by_halves(distance, activations, seed)
        metrics.append(Metric(name, value, n, which + biased, normal_interval(value, error, lowest=0)))
    value, deviation, error = kid(activations, seed)
    which += f"; unbiased, deviation of a subset {deviation:.2g}"
    return [*metrics, Metric("KID", value, n, which, normal_interval(value, error))]


def reported_distance(a, b):
    """Activations (N, D), (M, D) -> the Fréchet distance that is reported; NaN for fewer than two rows.

    Computed by pytorch-fid, so that it equals others' values to the last digit. With fewer images than dimensions
    pytorch-fid would need the root of a singular matrix, of which SciPy warns; then frechet_distance computes it.
    """
    if min(len(a), len(b)) <= a.shape[1]:
        return frechet_distance(a, b)
    return float(calculate_frechet_distance(*statistics(a), *statistics(b)))


def load_inception(path, device):
    """pytorch-fid's Inception with the weights in `path`: images (N, 3, H, W) in [0, 1] -> (N, 2048).

    The library would download its weights. Instead it gets those in the file, which read_weights has read without
    running code.
    """
    state = read_weights(path)
    try:
        with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
            network = inception.InceptionV3().eval().to(device)
    except (RuntimeError, TypeError, AttributeError):
        message = f"{path} is {describe(state)}, not pytorch-fid's Inception; check --inception_path"
        raise UserError(message) from None
    return lambda images: network(images)[0].flatten(1)


if __name__ == "__main__":
    run_script(main)
