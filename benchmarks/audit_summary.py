"""The table and the plot of what benchmarks.audit found."""

from functools import partial

from scipy import stats

from benchmarks.audited import USED, rank_correlation, slope
from benchmarks.planted import CLEAN, SHORTCUTS
from core.data.datasets import CELEBA_ATTRIBUTES
from core.metrics.charts import FAINT, label_panel, save_figure
from core.metrics.intervals import share_interval
from core.metrics.metric import Metric, mean_of, statistic_of, table_of

CLASSIFIER = ["shortcut", "level", "seed"]  # the columns that tell classifiers apart
FEW = 5  # classifiers, below which there is no correlation over them
OF_ALL = {  # metric -> (which scores, function (scores, truths))
    "rank correlation of all": ("seen", rank_correlation),
    "the same, noise included": ("score", partial(rank_correlation, least=0)),
    "slope of all": ("score", slope),
}
OF_THE_SHORTCUT = {"rank correlation of the shortcut": rank_correlation, "slope of the shortcut": slope}
FIRST, SEPARATES, PLACED, TOLD = "named first", "AUROC", "largest block there", "place named"
WHOLE = "by the whole audit"  # the counterfactuals and the contrasts
BETTER = {
    "flipped": "↑",
    "rank correlation in a classifier": "↑",
    **{name: "→ 1" if "slope" in name else "↑" for name in OF_ALL | OF_THE_SHORTCUT},
    FIRST: "↑",
    SEPARATES: "↑",
    "AUROC of the used": "↑",
    "false alarms": "↓",
    "names what has no influence": "↓",
    f"{FIRST} {WHOLE}": "↑",
    f"false alarms {WHOLE}": "↓",
    "false alarms of places": "↓",
    **{f"{name}, {shortcut}": "↑" for shortcut in SHORTCUTS for name in (FIRST, SEPARATES, PLACED, TOLD)},
}


def summary_of(audited):
    """A Markdown table, with a column for each method."""
    columns = {}
    for method, rows in audited.rows.groupby("method", sort=False):
        metrics = metrics_of(rows, audited.scores[audited.scores["method"] == method])
        columns[method] = {metric.name: metric.entry() for metric in metrics}
    return table_of(columns, BETTER)


def metrics_of(rows, scores):
    """The Metrics of a method, or of the contrasts; those are left out that nothing was there to measure by."""
    named = rows[rows["shortcut"].isin(CELEBA_ATTRIBUTES)]
    planted = named.assign(used=named["shortcut_change"].abs())
    used, clean = planted[planted["used"] > USED], rows[rows["level"] == CLEAN]
    used_of_all = scores.pivot(index=CLASSIFIER, columns="attribute", values="used")
    metrics = [
        mean_of("rank correlation in a classifier", rows["rank_correlation"], "classifiers"),
        *(
            _over_classifiers(
                name, scores.pivot(index=CLASSIFIER, columns="attribute", values=which), used_of_all, of
            )
            for name, (which, of) in OF_ALL.items()
        ),
        *(_over_classifiers(name, planted["score"], planted["used"], of) for name, of in OF_THE_SHORTCUT.items()),
        _share(FIRST, used["first"] == used["shortcut"], "that use an attribute"),
        separation(SEPARATES, planted, "score"),
        separation("AUROC of the used", planted[(planted["level"] == CLEAN) | (planted["used"] > USED)], "score"),
        _share("false alarms", clean["false_alarms"] > 0, "clean classifiers"),
        _share("names what has no influence", rows["without_influence"] > 0, "classifiers"),
    ]
    for name, own in planted.groupby("shortcut"):
        use = own[own["used"] > USED]
        metrics.append(_share(f"{FIRST}, {name}", use["first"] == name, "that use it"))
        metrics.append(separation(f"{SEPARATES}, {name}", own, "score"))
    metrics.append(_share("false alarms of places", clean["places_used"] > 0, "clean classifiers"))
    for name, own in rows[~rows["shortcut"].isin(CELEBA_ATTRIBUTES)].groupby("shortcut"):
        use = own[own["shortcut_change"].abs() > USED]
        metrics.append(_share(f"{TOLD}, {name}", use["place_named"].astype(bool), "that use it"))
    if "flipped" in rows and rows["flipped"].notna().all():
        metrics += _of_counterfactuals(rows, used, clean)
    return [metric for metric in metrics if metric is not None]


def _of_counterfactuals(rows, used, clean):
    """The Metrics that contrasts have not: they need counterfactuals."""
    metrics = [
        mean_of("flipped", rows["flipped"], "classifiers"),
        _share(f"{FIRST} {WHOLE}", used["whole_first"] == used["shortcut"], "that use an attribute"),
        _share(f"false alarms {WHOLE}", clean["whole_false_alarms"] > 0, "clean classifiers"),
    ]
    for shortcut, own in rows.groupby("shortcut"):
        use = own[own["shortcut_change"].abs() > USED]
        if shortcut not in CELEBA_ATTRIBUTES:
            metrics.append(separation(f"{SEPARATES}, {shortcut}", own, "share"))
        metrics.append(_share(f"{PLACED}, {shortcut}", use["block"] == 1, "that use it"))
    return metrics


def _share(name, held, of):
    """The Metric of how often something holds, (N,) booleans; None for N = 0."""
    n = len(held)
    return Metric(name, held.mean(), n, of, share_interval(held.sum(), n)) if n else None


def _over_classifiers(name, score, used, statistic):
    """The Metric of scores and truths, tables with a row for each classifier; its interval comes from drawing rows.

    statistic: function (scores, truths). None for few classifiers.
    """
    score, used = score.to_numpy(), used.to_numpy()
    if len(score) < FEW:
        return None
    return statistic_of(name, lambda rows: statistic(score[rows], used[rows]), len(score), "classifiers")


def separation(name, rows, column):
    """The Metric of how often a spoiled classifier has a higher value than a clean one; None without either."""
    clean, spoiled = (rows[column][rows["level"] == CLEAN], rows[column][rows["level"] > CLEAN])
    if clean.empty or spoiled.empty:
        return None
    auroc = stats.mannwhitneyu(spoiled, clean).statistic / (len(spoiled) * len(clean))
    return Metric(name, auroc, len(rows), "classifiers")


def draw_scores(path, audited):
    """Writes a PNG: the score of each planted attribute over its truth, a panel for each method."""
    # Figure without pyplot, which would look for a display and keep the figure in a global list.
    from matplotlib.figure import Figure

    methods = audited.rows["method"].unique()
    figure = Figure(figsize=(3.4 * len(methods), 3.6), layout="constrained")
    panels = figure.subplots(1, len(methods), squeeze=False)[0]
    planted = audited.rows.dropna(subset="score")
    for axes, method in zip(panels, methods, strict=True):
        for number, (shortcut, own) in enumerate(planted[planted["method"] == method].groupby("shortcut")):
            look = {"s": 14, "color": f"C{number}", "label": shortcut.replace("_", " ")}
            axes.scatter(own["shortcut_change"].abs(), own["score"], **look)
        axes.plot((0, 1), (0, 1), color="#e6e8ec", zorder=0)
        axes.axvline(USED, color="#e6e8ec", zorder=0)
        label_panel(axes, method, "rendered change of p")
    panels[0].set_ylabel("score of the audit", fontsize=8, color=FAINT)
    legend = panels[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    save_figure(figure, path)
