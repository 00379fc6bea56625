"""Images to train on that lie in a folder, or that a csv lists."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from guided_diffusion.errors import UserError

from .datasets import SPLITS, ImageDataset, read_table, take_split
from .images import SUFFIXES


class ImageFolder(ImageDataset):
    """A split of the images below a folder, hidden ones left out; each subfolder is a class and an attribute.

    Where the folder has train/, that and val/ and test/ are its splits, and the classes lie in them. Images that
    lie in no subfolder have no label.
    """

    def __init__(self, data_dir, split, image_size):
        names = list_images(data_dir)
        if not names:
            raise UserError(
                f"--data_dir {data_dir} has neither img_align_celeba/ with its lists nor an image "
                f"({', '.join(SUFFIXES)}), in it or in subfolders"
            )
        places = pd.Series([name.split("/") for name in names], index=names)
        self.splits_drawn = not any(name.startswith("train/") for name in names)
        if self.splits_drawn:
            partition = draw_partition(names)
        else:
            partition = places.str[0].map(SPLITS)
            _refuse(partition.isna(), data_dir, "has train/, but {} is not in train/, val/ or test/")
            places = places.str[1:]
        classes = places.map(lambda place: place[0] if len(place) > 1 else None)
        if classes.notna().any():
            _refuse(classes.isna(), data_dir, "has a subfolder for each class, but {} lies in none")
        if not self.splits_drawn:
            known = classes[partition == SPLITS["train"]]
            _refuse(~classes.isin(known), data_dir, "has {}, but train/ has no image of its class")
        labels = pd.get_dummies(classes)
        super().__init__(data_dir, take_split(labels, partition, split, f"--data_dir {data_dir}"), image_size)


class ImageTable(ImageDataset):
    """A split of the images that a csv lists: path (relative to the csv), labels, and perhaps `partition`.

    A column's labels are 0 and 1, or -1 and 1; partition is 0 (train), 1 (val) or 2 (test).
    """

    def __init__(self, data_dir, split, image_size):
        path = Path(data_dir)
        labels = read_table(path, index_col=0, dtype=str)
        if str(labels.index.name).lower().endswith(SUFFIXES):
            raise UserError(f"{path} begins with an image; give it a header, such as path,Smiling,partition")
        if labels.index.hasnans:
            raise UserError(f"{path} has a row without a path")
        absent = [name for name in labels.index if not (path.parent / name).is_file()]
        if absent:
            raise UserError(f"{path} lists {len(absent)} of {len(labels)} images that are not there: {absent[0]}")
        self.splits_drawn = "partition" not in labels
        partition = draw_partition(labels.index) if self.splits_drawn else labels.pop("partition")
        for name, column in labels.items():
            legal = (-1, 1) if (column == -1).any() else (0, 1)
            if not column.isin(legal).all():
                image = column.index[~column.isin(legal)][0]
                raise UserError(f"{path}: {name} of {image} does not fit; a column holds 0 and 1, or -1 and 1")
        super().__init__(path.parent, take_split(labels > 0, partition, split, path), image_size)


def list_images(root):
    """The images below a folder, links followed and hidden names left out: sorted paths with /, relative to it."""

    def refuse(error):
        raise error

    names = []
    for folder, subfolders, files in os.walk(root, onerror=refuse, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        images = [name for name in files if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
        names += [(Path(folder) / name).relative_to(root).as_posix() for name in images]
    return sorted(names)


def draw_partition(names):
    """A tenth of the images, at least one, to val and the others to train: the same for the same names."""
    partition = pd.Series(SPLITS["train"], index=names)
    chosen = np.random.default_rng(0).permutation(len(partition))[: max(1, round(len(partition) / 10))]
    partition.iloc[chosen] = SPLITS["val"]
    return partition


def _refuse(where, data_dir, fault):
    """UserError with the first image that is so."""
    if where.any():
        raise UserError(f"--data_dir {data_dir} {fault.format(where.index[where][0])}")
