"""The results of benchmarks.methods, as columns of a table, and as a plot of quality over evaluations."""

import numpy as np

from core.data.images import from_uint8
from core.methods.flags import method_and_options
from core.metrics.charts import label_panel, save_figure
from core.metrics.distributions import Activations, error_by_halves, fid, sfid
from core.metrics.inference import FLIPPED, in_batches
from core.metrics.intervals import normal_interval
from core.metrics.metric import Metric, mean_of, read_metrics, statistic_of
from core.metrics.scores import face_similarity
from core.results.folder import experiment_folder
from core.results.reading import read_flags, read_pairs, read_runs
from core.results.records import read_records
from guided_diffusion.dist_util import pick_device
from models.oracles import load_oracle

BETTER = {  # in the order of the table
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
MARKERS = "osD^vPX*<>hd"
PANELS = ("FR", "Oracle FR", "L1", "MNAC", "FID in oracle features", "distance to the truth")


def column_of(root, name, baseline):
    """All metrics of an experiment: metric -> its entry(). baseline: the experiment that the speed-up refers to;
    without its records there is no speed-up."""
    own = [mean_of("evaluations an image", evaluations(root, name), "explained images")]
    if (experiment_folder(root, baseline) / "records.csv").exists():
        own.append(speed_up(evaluations(root, baseline), evaluations(root, name)))
    own += resources(root, name)
    oracle_path = read_flags(root, name)["oracle_path"]
    if oracle_path:
        own += seen_by_the_oracle(oracle_path, read_pairs(root, name, reached=("CCF", "ICF")))
    files = [experiment_folder(root, name) / file for file in ("metrics.yaml", "truth.yaml")]
    return {metric.name: metric.entry() for metric in own} | read_metrics(files[0]) | read_metrics(files[1])


def evaluations(root, name):
    """(N,) network evaluations of each image, in the order of their ids, all attempts included."""
    flags = read_flags(root, name)
    method, options = method_and_options(flags)
    cost = method.cost(flags["start_step"], **options)
    attempts = read_records(experiment_folder(root, name) / "records.csv")["attempts"].to_numpy()
    return cost.once + cost.each * attempts


def resources(root, name):
    """Metrics of the time and the memory that main.py took, of its runs that came to their end."""
    runs = [run for run in read_runs(root, name) if run["images"]]
    if not runs:
        return []
    images, which = sum(run["images"] for run in runs), "images in runs that ended"
    return [
        Metric("seconds an image", sum(run["seconds"] for run in runs) / images, images, which),
        Metric("peak memory, MiB", max(run["memory_mib"] for run in runs), images, which),
    ]


def speed_up(baseline, own):
    """(N,) evaluations of the same images in two experiments -> the Metric of their ratio, the baseline's first."""

    def ratio(rows):
        return baseline[rows].mean() / own[rows].mean()

    return statistic_of("speed-up in evaluations", ratio, len(own), "explained images", lowest=0)


def seen_by_the_oracle(path, pairs):
    """Metrics of the features that the oracle's last layer takes: mean cosine of the flipped pairs, FID and sFID.

    The cosine corresponds to FS, which is the same with VGGFace2's features. The FID is between all originals and
    the flipped counterfactuals, the sFID between originals and the counterfactuals of others.
    """
    device = pick_device("0")
    oracle = load_oracle(path).to(device)

    def features_of_both(*originals_and_counterfactuals):
        return [oracle.features(from_uint8(pixels)) for pixels in originals_and_counterfactuals]

    before, after = in_batches(features_of_both, lambda pair: pair.pixels(), pairs, 32, device, "oracle's features")
    rows = np.flatnonzero([pair.reached == "CCF" for pair in pairs])
    if len(rows) < 2:
        return []
    activations = Activations(before.numpy(), after[rows].numpy(), rows)
    found = [mean_of("similarity in oracle features", face_similarity(before[rows], after[rows]), FLIPPED)]
    for name, function in (("FID", fid), ("sFID", sfid)):
        distance, error = function(activations), error_by_halves(function, activations)
        interval, which = normal_interval(distance, error, lowest=0), f"flipped, against {len(pairs)} originals"
        found.append(Metric(f"{name} in oracle features", distance, len(rows), which, interval))
    return found


def draw_frontier(path, columns):
    """Writes a PNG of quality over evaluations, with intervals. columns: name -> (metric -> its entry()); each is a
    point in every panel. The ticks of the logarithmic axis are the costs themselves."""
    # Figure without pyplot, which would look for a display and keep the figure in a global list.
    from matplotlib.figure import Figure

    shown = [name for name in PANELS if any(name in column for column in columns.values())]
    across = min(len(shown), 3)
    down = -(-len(shown) // across)
    costs = sorted({round(column["evaluations an image"]["value"]) for column in columns.values()})
    figure = Figure(figsize=(3.4 * across, 2.8 * down + 0.7), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes, name in zip(panels, shown, strict=False):
        for number, (title, column) in enumerate(columns.items()):
            if name in column:
                _point(axes, title, column["evaluations an image"], column[name], number)
        axes.set_xscale("log", base=2)
        axes.set_xticks(costs, [f"{cost}" for cost in costs], rotation=90)
        axes.minorticks_off()
        axes.grid(color="#e6e8ec")
        label_panel(axes, f"{name} {BETTER[name]}", "network evaluations an image")
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    legend = panels[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=7, fontsize=8, frameon=False)
    save_figure(figure, path)


def _point(axes, title, x, y, number):
    """Draws the entries x and y as a point with intervals. number: the experiment's, for its marker and colour."""
    look = {"fmt": MARKERS[number % len(MARKERS)], "color": f"C{number % 10}", "markersize": 5, "elinewidth": 1}
    axes.errorbar(x["value"], y["value"], _error(y), _error(x), label=title, **look)


def _error(entry):
    """The lengths of an entry's interval below and above its value, in matplotlib's format."""
    low, high = entry["interval"] or (entry["value"], entry["value"])
    return [[entry["value"] - low], [high - entry["value"]]]
