"""What a script that was killed left behind: files that are half-written, or differ from an undisturbed run's."""

import csv
import io
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image

TIMED = ["images_per_s", "memory_mib"]  # columns of progress.csv
TEXTS = (".csv", ".txt", ".yaml")  # end with a line feed


def files_in(folder):
    """The names of all files below a folder, relative to it, but for locks."""
    paths = (Path(directory, name) for directory, _, names in os.walk(folder) for name in names)
    return {str(path.relative_to(folder)) for path in paths if not path.name.endswith("lock")}


def half_written(folder):
    """The files below a folder, .part apart, that are not whole."""
    broken = []
    for name in files_in(folder):
        with suppress(FileNotFoundError):  # a process that outlived its starter has just replaced it
            if not name.endswith(".part") and not _is_whole(folder / name):
                broken.append(name)
    return broken


def _is_whole(path):
    content = path.read_bytes()
    try:
        READERS.get(path.suffix, io.BytesIO)(content)
    except Exception:  # what readers raise on half a file is nearly anything
        return False
    return path.suffix not in TEXTS or content.endswith(b"\n")


def _read_table(content):
    if len({len(row) for row in csv.reader(io.StringIO(content.decode()))}) != 1:
        raise ValueError("its rows differ in length")


READERS = {  # suffix -> a function of the bytes, which raises an error where they are half a file
    ".csv": _read_table,
    ".png": lambda content: Image.open(io.BytesIO(content)).load(),
    ".pt": lambda content: torch.load(io.BytesIO(content), weights_only=True),
    ".yaml": lambda content: yaml.safe_load(content).keys(),
}


def differing(folder, whole, by_ranks):
    """The files below a folder whose contents are not those of the undisturbed run, or that one of them lacks.

    by_ranks: one grey level of an image counts as equal; of the difference maps and tables, which follow from the
    images and are scaled, only that they are there. Otherwise every byte counts, but for the clock's: runs.yaml,
    TensorBoard's events, two columns of progress.csv. Of a checkpoint every number, name and bit of a tensor
    counts: pickle writes two equal strings otherwise than one that is used twice.
    """
    ours, theirs = (
        {name for name in files_in(each) if "tfevents" not in name and not name.endswith(("runs.yaml", ".part"))}
        for each in (folder, whole)
    )
    equal = _within_a_level if by_ranks else _identical
    return sorted(ours ^ theirs) + [
        name for name in sorted(ours & theirs) if not equal(folder / name, whole / name)
    ]


def _identical(path, other):
    if path.read_bytes() == other.read_bytes():
        return True
    if not (_is_whole(path) and _is_whole(other)):
        return False
    if path.name == "progress.csv":
        table, other_table = (pd.read_csv(each).drop(columns=TIMED, errors="ignore") for each in (path, other))
        return table.equals(other_table)
    return path.suffix == ".pt" and _equal(*(torch.load(each, weights_only=True) for each in (path, other)))


def _equal(value, other):
    """Whether two contents of a checkpoint are the same."""
    if isinstance(value, torch.Tensor):
        return value.dtype == other.dtype and torch.equal(value, other)
    if isinstance(value, dict):
        return list(value) == list(other) and all(_equal(value[name], other[name]) for name in value)
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(_equal, value, other))
    return type(value) is type(other) and value == other


def _within_a_level(path, other):
    if path.suffix != ".png" or path.parent.name == "SM":
        return True
    pixels, others = (np.asarray(Image.open(each), int) for each in (path, other))
    return pixels.shape == others.shape and np.abs(pixels - others).max() <= 1
