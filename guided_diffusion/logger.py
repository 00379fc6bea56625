"""Key-value logging of a training: progress.csv, and TensorBoard events where tensorboard is installed."""

import csv
import math
from io import StringIO

import blobfile as bf

from .storage import is_remote


class Means:
    """Means of named numbers between two rows of the log; NaN says nothing. Saved and restored with the rest."""

    def __init__(self):
        self.sums, self.counts = {}, {}

    def add(self, values):
        for name, value in values.items():
            known = not math.isnan(value)
            self.sums[name] = self.sums.get(name, 0.0) + (value if known else 0.0)
            self.counts[name] = self.counts.get(name, 0) + known

    def take(self):
        """name -> mean since the last call, NaN where nothing was said."""
        means = {name: total / self.counts[name] if self.counts[name] else math.nan
                 for name, total in self.sums.items()}  # fmt: skip
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self):
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state):
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])


class Logger:
    """Appends rows of numbers, each with its step, to `directory`/progress.csv and to TensorBoard.

    directory: what blobfile takes; events are for local ones. start_step: rows beyond it, which a killed run had
    written, are dropped.
    """

    def __init__(self, directory, start_step=0):
        self.path = bf.join(str(directory), "progress.csv")
        rows = [row for row in _read_rows(self.path) if int(row["step"]) <= start_step]
        self.columns = list(rows[0]) if rows else None
        self._write(rows, "w")
        self.events = None if is_remote(directory) else _event_writer(directory, start_step)

    def log(self, step, values):
        """values: name -> number, NaN for none; the first row decides the columns."""
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        header = self.columns is None
        self.columns = self.columns or ["step", *values]
        self._write([{"step": step, **{name: f"{value:.6g}" for name, value in known.items()}}], "a", header)
        if self.events:
            for name, value in known.items():
                self.events.add_scalar(name, value, step)
            self.events.flush()

    def _write(self, rows, mode, header=True):
        text = StringIO()
        writer = csv.DictWriter(text, self.columns or [], extrasaction="ignore", lineterminator="\n")
        if header and self.columns:
            writer.writeheader()
        writer.writerows(rows)
        with bf.BlobFile(self.path, mode, streaming=False) as file:
            file.write(text.getvalue())


def _read_rows(path):
    if not bf.exists(path):
        return []
    with bf.BlobFile(path, "r") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]  # a torn last line is dropped


def _event_writer(directory, start_step):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(directory, purge_step=start_step + 1)
