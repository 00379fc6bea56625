"""Images that lie in a folder, that a csv lists, or that are named one by one."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from guided_diffusion.script.errors import UserError

from .datasets import SPLITS, ImageDataset, in_split, read_table, to_bytes, to_numbers
from .images import SUFFIXES, read_image
from .labels import OneHot, take

CLASS_COLUMN = "class"  # of a csv: the names of the images' classes
LISTED = (*SUFFIXES, ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff")  # the images of a folder
SPLIT_FOLDERS = {  # the names of the splits' folders, in upper or lower case
    **dict.fromkeys(("train", "training"), SPLITS["train"]),
    **dict.fromkeys(("val", "valid", "validation"), SPLITS["val"]),
    **dict.fromkeys(("test", "testing"), SPLITS["test"]),
}


class ImageFolder(ImageDataset):
    """A split of the images in a folder and its subfolders. Each subfolder is a class, and an attribute.

    Where there is a train/, or nothing but val/ and test/, these are the splits and the classes are their
    subfolders; SPLIT_FOLDERS are their other names. Images in no subfolder have no labels. Hidden files and folders
    are left out.
    """

    def __init__(self, data_dir, split, image_size):
        names = list_images(data_dir)
        if not names:
            raise UserError(
                f"--data_dir {data_dir} has neither img_align_celeba/ with its lists nor an image "
                f"({', '.join(LISTED)}), in it or in subfolders"
            )
        partition = named_partition(names)
        self.splits_drawn = not ((partition == SPLITS["train"]).any() or (partition != -1).all())
        if self.splits_drawn:
            partition = draw_partition(len(names))
        else:
            _refuse(names, partition == -1, data_dir, "has train/, but {} is not in train/, val/ or test/")
        depth = 0 if self.splits_drawn else 1
        classes, attributes = number_classes(_folder_at(depth, name) for name in names)
        if attributes:
            _refuse(names, classes == -1, data_dir, "has a subfolder for each class, but {} lies in none")
        in_train = np.unique(classes[partition == SPLITS["train"]])
        if not self.splits_drawn and in_train.size:
            _refuse(names, ~np.isin(classes, in_train), data_dir, "has {}, but train/ has no image of its class")
        rows = np.flatnonzero(in_split(partition, names, split, f"--data_dir {data_dir}"))
        labels = OneHot(classes[rows], len(attributes)) if attributes else no_labels(len(rows))
        super().__init__(data_dir, [names[row] for row in rows], attributes, labels, image_size)


class ImageTable(ImageDataset):
    """A split of the images listed in a csv with the columns path, labels, and perhaps partition.

    Paths are relative to the csv. A column's labels are 0 and 1, or -1 and 1. Or one column, `class`, holds the
    name of each image's class. partition is 0 (train), 1 (val) or 2 (test).
    """

    def __init__(self, data_dir, split, image_size):
        path = Path(data_dir)
        table = read_table(path, text=(CLASS_COLUMN,), index_col=0, dtype=str)
        if str(table.index.name).lower().endswith(LISTED):
            raise UserError(f"{path} begins with an image; give it a header, such as path,Smiling,partition")
        if table.index.hasnans:
            raise UserError(f"{path} has a row without a path")
        folder = str(path.parent)  # as text: a Path would take most of the time of a million images
        absent = [name for name in table.index.tolist() if not os.path.isfile(os.path.join(folder, name))]
        if absent:
            raise UserError(f"{path} lists {len(absent)} of {len(table)} images that are not there: {absent[0]}")
        self.splits_drawn = "partition" not in table
        partition = draw_partition(len(table)) if self.splits_drawn else table.pop("partition")
        labels, attributes = _labels_of_table(table, path)
        rows = np.flatnonzero(in_split(partition, table.index, split, path))
        super().__init__(path.parent, table.index[rows], attributes, take(labels, rows), image_size)


def _labels_of_table(table, path):
    """The columns of labels, or of the classes' names -> (labels (N, A) of 0/1, the A attributes)."""
    if CLASS_COLUMN in table and not to_numbers(table[CLASS_COLUMN]).isin((-1, 0, 1)).all():
        if table.shape[1] > 1:
            raise UserError(f"{path} has labels beside its column {CLASS_COLUMN}; keep that or these")
        if (unnamed := table.index[table[CLASS_COLUMN].isna()]).size:
            raise UserError(f"{path}: {CLASS_COLUMN} of {unnamed[0]} is empty; name its class")
        classes, attributes = number_classes(table[CLASS_COLUMN])
        return OneHot(classes, len(attributes)), attributes
    table = table.apply(to_numbers)
    for name, column in table.items():
        legal = (-1, 1) if (column == -1).any() else (0, 1)
        if not column.isin(legal).all():
            image = column.index[~column.isin(legal)][0]
            raise UserError(f"{path}: {name} of {image} does not fit; a column holds 0 and 1, or -1 and 1")
    return to_bytes(table > 0), tuple(table.columns)


class ImageFiles(ImageDataset):
    """Images that are named one by one, as paths; they have no labels."""

    def __init__(self, paths, image_size):
        for path in paths:  # they are few: a damaged one is named before anything is computed or written
            read_image(path)
        super().__init__("", paths, (), no_labels(len(paths)), image_size)


def no_labels(count):
    """The labels (N, 0) of images that have none."""
    return torch.zeros((count, 0), dtype=torch.int8)


def number_classes(folders):
    """The class of each of N images, a name or None -> ((N,) numbers, -1 for None; the names by number, sorted)."""
    codes, names = pd.factorize(np.array(list(folders), dtype=object), sort=True)
    return codes.astype(np.int32), tuple(names)


def list_images(root):
    """The images in a folder and its subfolders: their paths relative to it, with /, sorted.

    Links are followed, but not into a folder that they lie in themselves; hidden names are left out.
    """

    def refuse(error):
        raise error

    names = []
    for folder, subfolders, files in os.walk(root, onerror=refuse, followlinks=True):
        paths = {name: Path(folder, name) for name in subfolders if not name.startswith(".")}
        subfolders[:] = [name for name, path in paths.items() if not _leads_back(path)]
        place = Path(folder).relative_to(root).as_posix()
        prefix = "" if place == "." else f"{place}/"
        names += [prefix + name for name in files if name.lower().endswith(LISTED) and not name.startswith(".")]
    return sorted(names)


def _leads_back(path):
    """Whether a path is a link into a folder that it lies in itself."""
    return path.is_symlink() and any(path.samefile(parent) for parent in path.parents)


def named_partition(names):
    """(N,) the split that each path's first folder names, as one of SPLITS, or -1."""
    folders = (name.partition("/")[0].lower() for name in names)
    return np.fromiter((SPLIT_FOLDERS.get(folder, -1) for folder in folders), np.int8, len(names))


def draw_partition(count):
    """(N,) of 1 for a tenth of `count` images, at least one, which is val, else 0. Equal counts, equal splits."""
    partition = np.full(count, SPLITS["train"])
    partition[np.random.default_rng(0).permutation(count)[: max(1, round(count / 10))]] = SPLITS["val"]
    return partition


def _folder_at(depth, name):
    """The folder in a path that has `depth` folders before it; None where the path is shorter."""
    place = name.split("/", depth + 1)
    return place[depth] if len(place) > depth + 1 else None


def _refuse(names, faulty, data_dir, fault):
    """UserError that names the first image for which `faulty`, (N,) booleans, is True."""
    if faulty.any():
        raise UserError(f"--data_dir {data_dir} {fault.format(names[int(np.argmax(faulty))])}")
