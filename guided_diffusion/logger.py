"""Key-value logging of a training: progress.csv, and TensorBoard events where tensorboard is installed."""

import csv
from pathlib import Path


class Logger:
    """Appends rows of numbers, each with its step, to `directory`/progress.csv and to TensorBoard.

    start_step: rows beyond it, which a killed run had written, are dropped.
    """

    def __init__(self, directory, start_step=0):
        self.path = Path(directory) / "progress.csv"
        rows = [row for row in _read_rows(self.path) if int(row["step"]) <= start_step]
        self.columns = list(rows[0]) if rows else None
        self._write(rows, "w")
        self.events = _event_writer(directory, start_step)

    def log(self, step, values):
        """values: name -> number; the first row decides the columns."""
        row = {"step": step, **{name: f"{value:.6g}" for name, value in values.items()}}
        header = self.columns is None
        self.columns = self.columns or list(row)
        self._write([row], "a", header)
        if self.events:
            for name, value in values.items():
                self.events.add_scalar(name, value, step)
            self.events.flush()

    def _write(self, rows, mode, header=True):
        with open(self.path, mode, newline="") as file:
            writer = csv.DictWriter(file, self.columns or [])
            if header and self.columns:
                writer.writeheader()
            writer.writerows(rows)


def _read_rows(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]  # a torn last line is dropped


def _event_writer(directory, start_step):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(directory, purge_step=start_step + 1)
