"""Which real images attributes are contrasted on: of the run's data, of other data, or the originals of the run."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from guided_diffusion.script.errors import UserError

from ..data.explained_data import AUTO, load_explained_data, settle_dataset
from ..data.images import read_image
from ..data.labels import OneHot
from ..results.layout import REACHED
from ..running.flags import FLAGS, choose_split

DATA = ("dataset", "data_dir", "split", "use_train")  # flags of main.py


@dataclass
class Images:
    """load(item) -> uint8 (3, S, S) of one of the n items. source: in words, what they are.

    labels: attribute -> (n,) booleans, of those that the data tells; {} where it tells none.
    """

    load: Callable
    items: list
    source: str
    labels: dict[str, np.ndarray] = field(default_factory=dict)


def images_to_contrast(run, size, most, data_dir=None, split=None):
    """At most `most` Images, decoded at this size: of a split of --data_dir, or of a Run's data; None for 0."""
    if split and not data_dir:
        raise UserError(f"--split {split} is of --data_dir, which is not given; name it, or leave out --split")
    if data_dir and not most:
        raise UserError(f"--contrast_images 0 and --data_dir {data_dir} contradict each other; leave out one")
    if not most:
        return None
    return images_of_data(data_dir, split or "val", size, most) if data_dir else images_of_run(run, size, most)


def images_of_run(run, size, most):
    """At most `most` Images of the data that a Run explained, evenly spaced.

    Where that cannot be read any more: the originals of the run, whether they reached their target or not.
    """
    flags = {name: FLAGS[name].default for name in DATA} | dict(run.flags)
    try:
        if not flags["data_dir"]:
            raise UserError("the run names no --data_dir")
        name = settle_dataset(flags["dataset"], flags["data_dir"])
        return images_of_data(flags["data_dir"], choose_split(flags | {"dataset": name}), size, most, name)
    except UserError as error:
        pairs = _spread(run.pairs(reached=tuple(REACHED)), most)
        source = f"the originals, as the run's data cannot be read: {error}"
        return Images(lambda pair: read_image(pair.original), pairs, source)


def images_of_data(data_dir, split, size, most, name=AUTO):
    """At most `most` Images of a split of data, evenly spaced. name: its --dataset. UserError where it cannot be
    read."""
    dataset = load_explained_data(settle_dataset(name, data_dir), data_dir, split, size)
    rows = _spread(range(len(dataset)), most)
    labels = {}
    if not isinstance(dataset.labels, OneHot):  # of another class is not the same as without an attribute
        values = dataset.labels[torch.tensor(rows)].numpy().astype(bool)
        labels = dict(zip(dataset.attributes, values.T, strict=True))
    return Images(dataset.pixels, rows, f"{split} of {data_dir}", labels)


def _spread(items, most):
    """At most so many of the items, evenly spaced."""
    rows = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[int(row)] for row in rows]
