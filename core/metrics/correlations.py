"""How attributes correlate in the training data, which CD compares the counterfactuals with."""

import os
from contextlib import suppress
from pathlib import Path

import pandas as pd

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import write_text

from ..data.datasets import read_labels
from .scores import correlation_matrix

FILE = "train_correlations.csv"


def train_correlations(data_dir, flag="data_dir"):
    """(A, A) Pearson correlations of the train split's labels, as a DataFrame with the attributes' names.

    data_dir: a folder with CelebA's two lists, list_attr_celeba and list_eval_partition; its images are not needed.
    Computed once a data folder: they are kept in its train_correlations.csv, until its lists change.
    Raises UserError, naming the flag, where the lists are missing, or the file where it cannot be read.
    """
    path = Path(data_dir) / FILE
    if not _up_to_date(path):
        labels = read_labels(data_dir, "train", flag)
        table = correlation_table(labels.to_numpy(int), labels.columns)
        with suppress(UserError):  # the data may lie where nothing can be written
            keep_correlations(data_dir, table)
        return table
    try:
        # As text first: Python reads a number back as it was written, to the last bit.
        table = pd.read_csv(path, index_col=0, dtype=str).astype(float)
    except ValueError as error:
        raise UserError(f"{path} cannot be read as a table ({error}); remove it") from None
    if list(table.index) != list(table.columns):
        raise UserError(f"{path} is not a table of correlations; remove it")
    return table


def correlation_table(labels, attributes):
    """Labels (N, A) -> (A, A) correlations of the attributes, as a DataFrame with their names."""
    return pd.DataFrame(correlation_matrix(labels), index=list(attributes), columns=list(attributes))


def keep_correlations(data_dir, table):
    """Writes a correlation_table into the file of the data folder that train_correlations reads."""
    write_text(Path(data_dir) / FILE, table.to_csv())


def _up_to_date(path):
    lists = [os.path.getmtime(file) for file in path.parent.glob("list_*")]
    return path.exists() and os.path.getmtime(path) >= max(lists, default=0)
