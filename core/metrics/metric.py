"""A metric's value and interval: printing them, keeping them in metrics.yaml, and showing them in a table."""

from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import yaml
from filelock import FileLock

from guided_diffusion.script.errors import UserError, require_file
from guided_diffusion.script.storage import remove_parts, sha256

from ..results.folder import ResultsFolder
from ..results.records import write_yaml
from .intervals import mean_interval, normal_interval, standard_error

# Every metric, in the order of a table, and the direction that is better.
BETTER = {
    "FR": "↑",
    "Oracle FR": "↑",
    "FVA": "↑",
    "FS": "↑",
    "MNAC": "↓",
    "CD": "↓",
    "COUT": "↑",
    "FID": "↓",
    "sFID": "↓",
    "KID": "↓",
    "bKL": "↓",
    "L1": "↓",
    "sigma_L": "↑",
}
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pillow")


@dataclass
class Metric:
    """A metric's value and its 95 % interval, or None. n and of: what it was measured on, such as 966 "pairs"."""

    name: str
    value: float
    n: int
    of: str
    interval: tuple[float, float] | None = None

    def line(self):
        within = f"; 95 % in {_digits(self.interval[0])} … {_digits(self.interval[1])}" if self.interval else ""
        return f"{self.name}: {_digits(self.value)} (n = {self.n:,} {self.of}{within})"

    def entry(self):
        """The dict that a YAML file holds under the metric's name."""
        interval = None if self.interval is None else [float(end) for end in self.interval]
        return {"value": float(self.value), "interval": interval, "n": int(self.n), "of": self.of}


def mean_of(name, values, of):
    """The Metric that is the mean of (N,) numbers."""
    values = np.asarray(values, float)
    return Metric(name, float(values.mean()), len(values), of, mean_interval(values))


def statistic_of(name, statistic, n, of, lowest=-np.inf):
    """The Metric statistic(rows), rows being 0 … n-1. For statistics that are not means, such as CD."""
    value = statistic(np.arange(n))
    return Metric(name, value, n, of, normal_interval(value, standard_error(statistic, n), lowest))


def publish(output_path, exp_name, metrics, weights=None, options=None, packages=()):
    """Prints a line for each metric, and writes all into the experiment's metrics.yaml as merge_metrics does."""
    for metric in metrics:
        print(metric.line(), flush=True)
    merge_metrics(output_path, exp_name, metrics, weights, options, packages)


def merge_metrics(output_path, exp_name, metrics, weights=None, options=None, packages=()):
    """Writes metrics into the experiment's metrics.yaml, in place of earlier ones of the same names.

    Each is written with what it was computed with. weights: flag -> path of the file that was used, or name of the
    network; options: what else decides the value; packages: further packages, besides PACKAGES, whose versions are
    written.
    """
    path = ResultsFolder(output_path, exp_name).metrics_path
    made_with = {
        "weights": {flag: _identity(file) for flag, file in (weights or {}).items()},
        "options": options or {},
        "versions": {package: version(package) for package in (*PACKAGES, *packages)},
    }
    with FileLock(path.with_name(".metrics.lock")):  # otherwise scripts that write at once would lose metrics
        remove_parts(path.parent)
        entries = read_metrics(path)
        for metric in metrics:
            # A copy: YAML writes shared parts as references.
            entries[metric.name] = metric.entry() | deepcopy(made_with)
        write_yaml(path, entries)


def _identity(weights):
    """What tells weights from others: a file by its hash, a network of a library by its name."""
    if Path(weights).is_file():
        return {"file": str(weights), "sha256": sha256(weights)}
    return {"name": str(weights)}


def read_metrics(path):
    """metrics.yaml -> name -> a Metric's entry(); {} where there is no file; UserError where it is another file."""
    if not path.exists():
        return {}
    require_file(path)
    try:
        entries = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: of bytes that are no text, or no date
        entries = None
    if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
        raise UserError(f"{path} is not a metrics.yaml; remove it")
    return entries


def _is_entry(entry):
    """Whether a value read from a file is a Metric's entry()."""
    if not isinstance(entry, dict) or not isinstance(entry.get("n"), int):
        return False
    interval = entry.get("interval")
    if interval is not None and not (isinstance(interval, list) and len(interval) == 2):
        return False
    return all(type(number) in (int, float) for number in (entry.get("value"), *(interval or ())))


def metrics_table(output_path, exp_names):
    """A Markdown table of some experiments' metrics, with a column for each experiment."""
    columns = {name: read_metrics(ResultsFolder(output_path, name).metrics_path) for name in exp_names}
    return table_of(columns, BETTER)


def table_of(columns, better):
    """columns, title -> (metric -> its entry()), as a Markdown table. Each column is as wide as its widest cell.

    better: metric -> ↑ or ↓, for the metrics to show, in order. Those that no column has are left out.
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
    """A number with four significant digits; one decimal where it is 1,000 or more."""
    if np.isnan(value):
        return "undefined"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
