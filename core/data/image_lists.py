"""Images to train on: those in a folder, or those listed in a csv."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from guided_diffusion.errors import UserError

from .datasets import SPLITS, ImageDataset, read_table, take_split
from .images import SUFFIXES


class ImageFolder(ImageDataset):
    """A split of the images in a folder and its subfolders. Each subfolder is a class, and an attribute.

    Where there is a train/, then train/, val/ and test/ are the splits and the classes are their subfolders.
    Images in no subfolder have no labels. Hidden files and folders are left out.
    """

    def __init__(self, data_dir, split, image_size):
        names = list_images(data_dir)
        if not names:
            raise UserError(
                f"--data_dir {data_dir} has neither img_align_celeba/ with its lists nor an image "
                f"({', '.join(SUFFIXES)}), in it or in subfolders"
            )
        parts = pd.Series([name.split("/") for name in names], index=names)
        self.splits_drawn = not any(name.startswith("train/") for name in names)
        if self.splits_drawn:
            partition = draw_partition(names)
        else:
            partition = parts.str[0].map(SPLITS)
            _refuse(partition.isna(), data_dir, "has train/, but {} is not in train/, val/ or test/")
            parts = parts.str[1:]
        classes = parts.map(lambda path: path[0] if len(path) > 1 else None)
        if classes.notna().any():
            _refuse(classes.isna(), data_dir, "has a subfolder for each class, but {} lies in none")
        if not self.splits_drawn:
            in_train = classes[partition == SPLITS["train"]]
            _refuse(~classes.isin(in_train), data_dir, "has {}, but train/ has no image of its class")
        labels = pd.get_dummies(classes)
        super().__init__(data_dir, take_split(labels, partition, split, f"--data_dir {data_dir}"), image_size)


class ImageTable(ImageDataset):
    """A split of the images listed in a csv with the columns path, labels, and perhaps partition.

    Paths are relative to the csv. A column's labels are 0 and 1, or -1 and 1. partition is 0 (train), 1 (val) or
    2 (test).
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
    """The images in a folder and its subfolders: their paths relative to it, with /, sorted.

    Links are followed, hidden names left out.
    """

    def refuse(error):
        raise error

    names = []
    for folder, subfolders, files in os.walk(root, onerror=refuse, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        images = [name for name in files if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
        names += [(Path(folder) / name).relative_to(root).as_posix() for name in images]
    return sorted(names)


def draw_partition(names):
    """Puts a tenth of the images, at least one, in val and the rest in train. Equal names give equal splits."""
    partition = pd.Series(SPLITS["train"], index=names)
    chosen = np.random.default_rng(0).permutation(len(partition))[: max(1, round(len(partition) / 10))]
    partition.iloc[chosen] = SPLITS["val"]
    return partition


def _refuse(faulty, data_dir, fault):
    """UserError that names the first image for which `faulty`, a Series of booleans, is True."""
    if faulty.any():
        raise UserError(f"--data_dir {data_dir} {fault.format(faulty.index[faulty][0])}")
