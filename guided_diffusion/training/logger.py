"""Key-value logging of a training: progress.csv, and TensorBoard events where tensorboard is installed."""

import csv
import math

import blobfile as bf
import pandas as pd
import torch

from ..script.storage import is_remote, unwritable, write_text


def read_numbers(rows):
    """Rows of named numbers, all with the same names -> the same, the tensors () among them made Python's numbers.

    They come from the device in one copy, for which alone the CPU waits.
    """
    names = [name for name, value in rows[0].items() if isinstance(value, torch.Tensor)]
    table = torch.stack([torch.stack([row[name].double() for name in names]) for row in rows]).tolist()
    return [row | dict(zip(names, numbers, strict=True)) for row, numbers in zip(rows, table, strict=True)]


class Means:
    """Means of named numbers since the last row of the log. NaN and infinity are left out.

    state_dict() goes into the checkpoints, so that a resumed training logs the same means.
    """

    def __init__(self):
        self.sums, self.counts = {}, {}

    def add(self, values):
        for name, value in values.items():
            finite = math.isfinite(value)
            self.sums[name] = self.sums.get(name, 0.0) + (value if finite else 0.0)
            self.counts[name] = self.counts.get(name, 0) + finite

    def take(self):
        """name -> mean since the last call, NaN where no number was finite."""
        sums, counts = self.sums, self.counts
        self.sums, self.counts = {}, {}
        return {name: total / counts[name] if counts[name] else math.nan for name, total in sums.items()}

    def state_dict(self):
        return {"sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state):
        self.sums, self.counts = state["sums"], state["counts"]


class Logger:
    """Appends rows of numbers, each with its step, to `directory`/progress.csv and to TensorBoard.

    directory: a path, or a URL that blobfile opens, where no TensorBoard events are written.
    start_step: rows of later steps, which a run that was killed has written, are dropped.
    Columns that the file lacks are added to it. A file that is not such a table is kept as progress.csv.bad.
    """

    def __init__(self, directory, start_step=0):
        self.path = bf.join(str(directory), "progress.csv")
        try:
            rows = [row for row in _read_rows(self.path) if int(row["step"]) <= start_step]
        except (KeyError, ValueError, csv.Error):
            bf.copy(self.path, f"{self.path}.bad", overwrite=True)
            print(f"{self.path} is no log of a training; it is kept as progress.csv.bad", flush=True)
            rows = []
        self.columns = list(rows[0]) if rows else []
        self._rewrite(rows)
        self.events = None if is_remote(directory) else _event_writer(directory, start_step)

    def log(self, step, values):
        """values: name -> number, NaN where there is none. Raises UserError where the file cannot be written."""
        numbers = {name: value for name, value in values.items() if not math.isnan(value)}
        row = {"step": step, **{name: f"{value:.6g}" for name, value in numbers.items()}}
        new = [name for name in ("step", *values) if name not in self.columns]
        self.columns += new
        try:
            if new:
                self._rewrite([*_read_rows(self.path), row])
            else:
                with bf.BlobFile(self.path, "a", streaming=False) as file:
                    file.write(self._lines([row], header=False))
            if self.events:
                for name, value in numbers.items():
                    self.events.add_scalar(name, value, step)
                self.events.flush()
        except OSError as error:
            raise unwritable(f"{self.path}, or the events beside it,", error) from error

    def _rewrite(self, rows):
        write_text(self.path, self._lines(rows, header=bool(self.columns)))

    def _lines(self, rows, header):
        return pd.DataFrame(rows, columns=self.columns).to_csv(index=False, header=header, lineterminator="\n")


def _read_rows(path):
    """The rows of a csv as dicts. A last line without a newline, cut off when a run was killed, is left out."""
    if not bf.exists(path):
        return []
    with bf.BlobFile(path, "r") as file:
        lines = [line for line in file.read().splitlines(keepends=True) if line.endswith("\n")]
    rows = list(csv.DictReader(lines))
    if any(None in row or None in row.values() for row in rows):
        raise csv.Error("a row is longer or shorter than the header")
    return rows


def _event_writer(directory, start_step):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(directory, purge_step=start_step + 1)
