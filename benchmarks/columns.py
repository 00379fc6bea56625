"""The results of an experiment of benchmarks.methods, as a column of its table."""

import numpy as np

from core.data.images import from_uint8
from core.methods.flags import method_and_options
from core.metrics.batches import Batching
from core.metrics.distributions import Activations, error_by_halves, fid, sfid
from core.metrics.intervals import normal_interval
from core.metrics.metric import Metric, mean_of, read_metrics, statistic_of
from core.metrics.scores import face_similarity
from core.results.layout import Layout
from core.running.run import FLIPPED, read_run
from guided_diffusion.dist_util import pick_device
from models.oracles import load_oracle

METHOD_ROWS = {  # in the order of the table
    "evaluations an image": "↓",
    "seconds an image": "↓",
    "peak memory, MiB": "↓",
    "speed-up in evaluations": "↑",
    "FR": "↑",
    "Oracle FR": "↑",
    "L1": "↓",
    "bKL": "↓",
    "similarity in oracle features": "↑",
    "MNAC": "↓",
    "CD": "↓",
    "FID in oracle features": "↓",
    "sFID in oracle features": "↓",
    "distance to the truth": "↓",
    "ratio of the two": "↓",
    "change outside the true region": "↓",
    "true FR": "↑",
    "true MNAC": "↓",
    "other attributes changed": "↓",
    "true CD": "↓",
}


def column_of(root, name, baseline):
    """All metrics of an experiment: metric -> its entry(). baseline: the experiment that the speed-up refers to;
    without its records there is no speed-up."""
    run = read_run(root, name)
    metrics = [mean_of("evaluations an image", evaluations(run), "explained images")]
    if Layout(root, baseline).records.exists():
        metrics.append(speed_up(evaluations(read_run(root, baseline)), evaluations(run)))
    metrics += resources(run)
    if oracle_path := run.flags["oracle_path"]:
        metrics += distances_in_features(oracle_path, run.pairs(reached=("CCF", "ICF")))
    measured = [read_metrics(path) for path in (run.layout.metrics, run.layout.truth)]
    return {metric.name: metric.entry() for metric in metrics} | measured[0] | measured[1]


def evaluations(run):
    """(N,) network evaluations of each image, in the order of their ids, all attempts included."""
    method, options = method_and_options(run.flags)
    cost = method.cost(run.flags["start_step"], **options)
    return cost.once + cost.each * run.records["attempts"].to_numpy()


def resources(run):
    """Metrics of the time and the memory that main.py took, of its starts that came to their end."""
    ended = [facts for facts in run.history if facts["images"]]
    if not ended:
        return []
    images, which = sum(facts["images"] for facts in ended), "images in runs that ended"
    return [
        Metric("seconds an image", sum(facts["seconds"] for facts in ended) / images, images, which),
        Metric("peak memory, MiB", max(facts["memory_mib"] for facts in ended), images, which),
    ]


def speed_up(baseline, own):
    """(N,) evaluations of the same images in two experiments -> the Metric of their ratio, the baseline's first."""

    def ratio(rows):
        return baseline[rows].mean() / own[rows].mean()

    return statistic_of("speed-up in evaluations", ratio, len(own), "explained images", lowest=0)


def distances_in_features(path, pairs):
    """Metrics of the features that the oracle's last layer takes: mean cosine of the flipped pairs, FID and sFID.

    The cosine corresponds to FS, which is the same with VGGFace2's features. The FID is between all originals and
    the flipped counterfactuals, the sFID between originals and the counterfactuals of others.
    """
    device = pick_device("0")
    oracle = load_oracle(path).to(device)

    def features_of_both(*originals_and_counterfactuals):
        return [oracle.features(from_uint8(pixels)) for pixels in originals_and_counterfactuals]

    before, after = Batching(device, 32).map(
        features_of_both, lambda pair: pair.pixels(), pairs, "oracle's features"
    )
    rows = np.flatnonzero([pair.reached == "CCF" for pair in pairs])
    if len(rows) < 2:
        return []
    activations = Activations(before.numpy(), after[rows].numpy(), rows)
    metrics = [mean_of("similarity in oracle features", face_similarity(before[rows], after[rows]), FLIPPED)]
    for name, function in (("FID", fid), ("sFID", sfid)):
        distance, error = function(activations), error_by_halves(function, activations)
        interval, which = normal_interval(distance, error, lowest=0), f"flipped, against {len(pairs)} originals"
        metrics.append(Metric(f"{name} in oracle features", distance, len(rows), which, interval))
    return metrics
