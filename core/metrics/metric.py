"""A metric's value and interval: printing them, keeping them in metrics.yaml, and showing them in a table."""

from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import remove_parts, sha256

from ..results.layout import Layout
from ..results.records import read_yaml, remedy_of, write_yaml
from ..results.typed import typed
from .intervals import mean_interval, normal_interval, share_interval, standard_error

METRICS = ("FR", "Oracle FR", "FVA", "FS", "MNAC", "CD", "COUT", "FID", "sFID", "KID", "bKL", "L1", "sigma_L")
HIGHER_IS_BETTER = {"FR", "Oracle FR", "FVA", "FS", "COUT", "sigma_L"}
BETTER = {name: "↑" if name in HIGHER_IS_BETTER else "↓" for name in METRICS}  # in the order of a table
RECORDED = ("torch", "torchvision", "numpy", "scipy", "pillow")


@dataclass(frozen=True)
class Source:
    """What a metric was computed with.

    weights: flag -> path of the file, or name of the network; options: what else decides the value; packages:
    further packages, besides RECORDED, whose versions are recorded.
    """

    weights: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    packages: tuple[str, ...] = ()

    def entry(self):
        """The dict that a YAML file holds of it."""
        return {
            "weights": {flag: _identity(file) for flag, file in self.weights.items()},
            "options": dict(self.options),
            "versions": {package: version(package) for package in (*RECORDED, *self.packages)},
        }


@dataclass
class Metric:
    """A metric's value and its 95 % interval, or None. n and of: what it was measured on, such as 966 "pairs".

    remarks: lines to print below it.
    """

    name: str
    value: float
    n: int
    of: str
    interval: tuple[float, float] | None = None
    source: Source = Source()
    remarks: tuple[str, ...] = ()

    def line(self):
        within = f"; 95 % in {_digits(self.interval[0])} … {_digits(self.interval[1])}" if self.interval else ""
        return f"{self.name}: {_digits(self.value)} (n = {self.n:,} {self.of}{within})"

    def entry(self):
        """The dict that a YAML file holds under the metric's name."""
        interval = None if self.interval is None else [float(end) for end in self.interval]
        return {"value": float(self.value), "interval": interval, "n": int(self.n), "of": self.of}


@dataclass
class Entry:
    """What each entry of metrics.yaml must hold."""

    value: float
    interval: tuple[float, float] | None
    n: int


def mean_of(name, values, of, source=Source()):
    """The Metric that is the mean of (N,) numbers, or the share of True among (N,) booleans.

    Equal numbers have no interval: all their resamples are the same, which tells nothing.
    """
    values = np.asarray(values)
    if values.dtype == bool:
        interval = share_interval(values.sum(), len(values))
    else:
        interval = mean_interval(values) if np.ptp(values) > 0 else None
    return Metric(name, float(values.mean(dtype=float)), len(values), of, interval, source)


def statistic_of(name, statistic, n, of, lowest=-np.inf, source=Source()):
    """The Metric statistic(rows), rows being 0 … n-1. For statistics that are not means, such as CD."""
    value = statistic(np.arange(n))
    return Metric(name, value, n, of, normal_interval(value, standard_error(statistic, n), lowest), source)


def publish(layout, metrics, quiet=False):
    """Prints a line for each metric, unless quiet, and writes all into the experiment's metrics.yaml."""
    for metric in () if quiet else metrics:
        print("\n".join((metric.line(), *metric.remarks)), flush=True)
    merge_metrics(layout, metrics)


def merge_metrics(layout, metrics):
    """Writes metrics into the experiment's metrics.yaml, in place of earlier ones of the same names."""
    path = layout.metrics
    with FileLock(layout.metrics_lock):  # otherwise scripts that write at once would lose metrics
        remove_parts(path.parent)
        entries = read_metrics(path)
        for metric in metrics:
            entries[metric.name] = metric.entry() | metric.source.entry()
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
    entries = read_yaml(path)
    try:
        for name, entry in entries.items():
            typed(Entry, entry, str(name))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error} is not as the scripts write it; {remedy_of(path)}") from None
    return entries


def metrics_table(output_path, exp_names):
    """A Markdown table of some experiments' metrics, with a column for each experiment."""
    columns = {name: read_metrics(Layout(output_path, name).metrics) for name in exp_names}
    return table_of(columns, BETTER)


def table_of(columns, better):
    """columns, title -> (metric -> its entry()), as a Markdown table.

    better: metric -> ↑ or ↓, for the metrics to show, in order. Those that no column has are left out.
    """
    names = [name for name in better if any(name in column for column in columns.values())]
    cells = {title: [_cell(column.get(name)) for name in names] for title, column in columns.items()}
    table = pd.DataFrame({"metric": [f"{name} {better[name]}" for name in names]} | cells)
    return table.to_markdown(index=False) + "\n"


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
