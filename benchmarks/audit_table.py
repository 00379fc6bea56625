"""The table of benchmarks.audit: how well audits say what classifiers use, with a column for each method."""

from scipy import stats

from benchmarks.planted import CLEAN, SHORTCUTS
from benchmarks.scoring import CONTRAST, USED, rank_correlation, slope
from core.data.datasets import CELEBA_ATTRIBUTES
from core.metrics.intervals import share_interval
from core.metrics.metric import Metric, mean_of, statistic_of, table_of

FEWEST_CLASSIFIERS = 5  # classifiers, below which there is no correlation over them
OF_EACH = ("named first", "AUROC", "largest block there", "place named")  # measured for each shortcut by itself
AUDIT_ROWS = {
    "flipped": "↑",
    "rank correlation in a classifier": "↑",
    "rank correlation of the shortcut": "↑",
    "slope of the shortcut": "→ 1",
    "named first": "↑",
    "AUROC": "↑",
    "AUROC of the used": "↑",
    "false alarms": "↓",
    "names what has no influence": "↓",
    "named first by the whole audit": "↑",
    "false alarms by the whole audit": "↓",
    "false alarms of places": "↓",
    **{f"{name}, {shortcut}": "↑" for shortcut in SHORTCUTS for name in OF_EACH},
}


def table_of_methods(rows):
    """rows of collect() -> a Markdown table."""
    columns = {}
    for method, own in rows.groupby("method", sort=False):
        columns[method] = {metric.name: metric.entry() for metric in metrics_of(own)}
    return table_of(columns, AUDIT_ROWS)


def metrics_of(rows):
    """The Metrics of a method, or of the contrasts; those are left out that nothing was there to measure by.

    rows: of collect(), of that method alone. The whole audit is the counterfactuals and the contrasts.
    """
    rows = rows.assign(used=rows["shortcut_change"].abs())
    planted = rows[rows["shortcut"].isin(CELEBA_ATTRIBUTES)]
    used, clean = planted[planted["used"] > USED], rows[rows["level"] == CLEAN]
    used_or_clean = planted[(planted["level"] == CLEAN) | (planted["used"] > USED)]
    of = "that use an attribute"
    metrics = [
        mean_of("rank correlation in a classifier", rows["rank_correlation"], "classifiers"),
        _over_classifiers("rank correlation of the shortcut", planted, rank_correlation),
        _over_classifiers("slope of the shortcut", planted, slope),
        _share("named first", used["first"] == used["shortcut"], of),
        separation("AUROC", planted, "score"),
        separation("AUROC of the used", used_or_clean, "score"),
        _share("false alarms", clean["false_alarms"] > 0, "clean classifiers"),
        _share("names what has no influence", rows["without_influence"] > 0, "classifiers"),
        _share("false alarms of places", clean["places_used"] > 0, "clean classifiers"),
    ]
    counterfactuals = rows["method"].ne(CONTRAST).all()
    if counterfactuals:
        metrics += [
            mean_of("flipped", rows["flipped"], "classifiers"),
            _share("named first by the whole audit", used["whole_first"] == used["shortcut"], of),
            _share("false alarms by the whole audit", clean["whole_false_alarms"] > 0, "clean classifiers"),
        ]
    for shortcut, own in rows.groupby("shortcut"):
        use = own[own["used"] > USED]
        if shortcut in CELEBA_ATTRIBUTES:
            metrics.append(_share(f"named first, {shortcut}", use["first"] == shortcut, "that use it"))
            metrics.append(separation(f"AUROC, {shortcut}", own, "score"))
        else:
            metrics.append(_share(f"place named, {shortcut}", use["place_named"].astype(bool), "that use it"))
            metrics.append(separation(f"AUROC, {shortcut}", own, "share") if counterfactuals else None)
        if counterfactuals:
            metrics.append(_share(f"largest block there, {shortcut}", use["block"] == 1, "that use it"))
    return [metric for metric in metrics if metric is not None]


def _share(name, held, of):
    """The Metric of how often something holds, (N,) booleans; None for N = 0."""
    n = len(held)
    return Metric(name, held.mean(), n, of, share_interval(held.sum(), n)) if n else None


def _over_classifiers(name, rows, statistic):
    """The Metric of a statistic (scores, truths) of the classifiers' shortcuts; None for few classifiers."""
    score, used = rows["score"].to_numpy(), rows["used"].to_numpy()
    if len(score) < FEWEST_CLASSIFIERS:
        return None
    return statistic_of(name, lambda drawn: statistic(score[drawn], used[drawn]), len(score), "classifiers")


def separation(name, rows, column):
    """The Metric of how often a spoiled classifier has a higher value than a clean one; None without either."""
    clean, spoiled = (rows[column][rows["level"] == CLEAN], rows[column][rows["level"] > CLEAN])
    if clean.empty or spoiled.empty:
        return None
    auroc = stats.mannwhitneyu(spoiled, clean).statistic / (len(spoiled) * len(clean))
    return Metric(name, auroc, len(rows), "classifiers")
