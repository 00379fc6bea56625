"""A measured metric: its value and interval, how it is printed, kept in metrics.yaml and shown in a table."""

from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import yaml
from filelock import FileLock

from guided_diffusion.errors import UserError
from guided_diffusion.storage import sha256

from ..results.folder import ResultsFolder
from ..results.records import write_yaml
from .intervals import mean_interval, normal_interval, standard_error

# Every metric in the order of a table, and where it is better.
BETTER = {
    "FR": "↑", "Oracle FR": "↑", "FVA": "↑", "FS": "↑", "MNAC": "↓", "CD": "↓", "COUT": "↑",
    "FID": "↓", "sFID": "↓", "KID": "↓", "bKL": "↓", "L1": "↓", "sigma_L": "↑",
}  # fmt: skip
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pillow")


@dataclass
class Metric:
    """A value, its 95 % interval or None, and what it is of: n of `of`, such as 966 pairs."""

    name: str
    value: float
    n: int
    of: str
    interval: tuple[float, float] | None = None

    def line(self):
        within = f"; 95 % in {_digits(self.interval[0])} … {_digits(self.interval[1])}" if self.interval else ""
        return f"{self.name}: {_digits(self.value)} (n = {self.n:,} {self.of}{within})"

    def entry(self):
        """What a YAML file says of it under its name."""
        interval = None if self.interval is None else [float(end) for end in self.interval]
        return {"value": float(self.value), "interval": interval, "n": int(self.n), "of": self.of}


def mean_of(name, values, of):
    """The Metric that is the mean of (N,) numbers."""
    values = np.asarray(values, float)
    return Metric(name, float(values.mean()), len(values), of, mean_interval(values))


def statistic_of(name, statistic, n, of, lowest=-np.inf):
    """The Metric that is statistic(rows) of all n rows, rows (N,) indices; for what is not a mean, as CD is not."""
    value = statistic(np.arange(n))
    return Metric(name, value, n, of, normal_interval(value, standard_error(statistic, n), lowest))


def publish(output_path, exp_name, metrics, weights=None, options=None, packages=()):
    """Prints a line for each metric and merges them all into the experiment's metrics.yaml (merge_metrics)."""
    for metric in metrics:
        print(metric.line(), flush=True)
    merge_metrics(output_path, exp_name, metrics, weights, options, packages)


def merge_metrics(output_path, exp_name, metrics, weights=None, options=None, packages=()):
    """Puts metrics into the experiment's metrics.yaml, in place of those of their names, with what made them.

    weights: flag -> path of the file that was used; options: what else decides the values; packages: those
    that took part besides the usual.
    """
    path = ResultsFolder(output_path, exp_name).metrics_path
    made_with = {
        "weights": {flag: {"file": str(file), "sha256": sha256(file)} for flag, file in (weights or {}).items()},
        "options": options or {},
        "versions": {package: version(package) for package in (*PACKAGES, *packages)},
    }
    with FileLock(path.with_name(".metrics.lock")):  # two scripts that add to one file at once would lose a half
        found = read_metrics(path)
        for metric in metrics:
            # A copy: YAML writes shared parts as references.
            found[metric.name] = metric.entry() | deepcopy(made_with)
        write_yaml(path, found)


def read_metrics(path):
    """metrics.yaml -> name -> what was measured; {} where there is none; UserError where it is another file."""
    if not path.exists():
        return {}
    try:
        found = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(m, dict) and "value" in m for m in found.values()):
        raise UserError(f"{path} is not a metrics.yaml; remove it")
    return found


def metrics_table(output_path, exp_names):
    """The metrics of some experiments as Markdown, a column each."""
    columns = {name: read_metrics(ResultsFolder(output_path, name).metrics_path) for name in exp_names}
    return table_of(columns, BETTER)


def table_of(columns, better):
    """title -> (metric -> its entry()) as Markdown, each column as wide as its widest cell.

    better: metric -> where it is better, for the metrics to show, in order; those that no column has are left out.
    """
    rows = [["metric", *columns]]
    for name, arrow in better.items():
        if any(name in column for column in columns.values()):
            rows.append([f"{name} {arrow}", *(_cell(column.get(name)) for column in columns.values())])
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def _cell(metric):
    if metric is None:
        return "–"
    within = f" [{', '.join(map(_digits, metric['interval']))}]" if metric.get("interval") else ""
    return f"{_digits(metric['value'])}{within}, n = {metric['n']:,}"


def _digits(value):
    """Four significant digits; more of a large number."""
    if np.isnan(value):
        return "undefined"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
