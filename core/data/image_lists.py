"""Images that lie in a folder, that a csv lists, or that are named one by one."""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from guided_diffusion.script.errors import UserError

from .class_names import in_one_line, letters, refuse_near_names, require_distinct
from .datasets import NEAR_PARTITION, SPLITS, ImageDataset, in_split, read_table, to_bytes, to_numbers
from .images import SUFFIXES, read_image
from .labels import OneHot, take

CLASS_COLUMN = "class"  # of a csv: the names of the images' classes
PATH_NAMES = ("path", "imageid", "image", "file", "filename", "filepath")  # what others call the first column
# The images of a folder.
LISTED = (*SUFFIXES, ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
SPLIT_FOLDERS = {  # the names of the splits' folders, in upper or lower case
    **dict.fromkeys(("train", "training"), SPLITS["train"]),
    **dict.fromkeys(("val", "valid", "validation"), SPLITS["val"]),
    **dict.fromkeys(("test", "testing"), SPLITS["test"]),
}
SPLIT_WORDS = {*SPLIT_FOLDERS, "dev", "eval"}


class ImageFolder(ImageDataset):
    """A split of the images in a folder and its subfolders. Each subfolder is a class, and an attribute.

    Where there is a train/, or nothing but val/ and test/, these are the splits and the classes are their
    subfolders; SPLIT_FOLDERS are their other names. Images in no subfolder have no labels. Hidden files and folders
    are left out.
    """

    def __init__(self, data_dir, split, image_size):
        names, self.left_out = list_images(data_dir)
        if not names:
            raise UserError(
                f"--data_dir {data_dir} has neither img_align_celeba/ with its lists nor an image "
                f"({', '.join(LISTED)}), in it or in subfolders"
            )
        _refuse_one_folder_around(names, data_dir)
        partition = named_partition(names)
        self.splits_drawn = not ((partition == SPLITS["train"]).any() or (partition != -1).all())
        if self.splits_drawn:
            partition = draw_partition(len(names))
        else:
            _refuse(names, partition == -1, data_dir, "has train/, but {} is not in train/, val/ or test/")
        depth = 0 if self.splits_drawn else 1
        _refuse_splits_as_classes(names, depth, data_dir)
        classes, attributes = number_classes((_folder_at(depth, name) for name in names), f"--data_dir {data_dir}")
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
        table = read_table(path).apply(lambda column: column.str.strip())
        if str(table.index.name).lower().endswith(LISTED):
            raise UserError(f"{path} begins with an image; give it a header, such as path,Smiling,partition")
        for name in table:
            if letters(name) in PATH_NAMES:
                raise UserError(f"{path} has the column {name}; put the paths of images first, without an index")
        refuse_near_names(table.columns, path, NEAR_PARTITION | {CLASS_COLUMN: ("classes", "classname")})
        if not table.index.all():
            raise UserError(f"{path} has a row without a path")
        places = table.index.map(os.path.normpath)
        if places.has_duplicates:
            raise UserError(f"{path} lists {places[places.duplicated()][0]} twice, written in two ways")
        folder = str(path.parent)  # as text: a Path would take most of the time of a million images
        absent = [name for name in table.index.tolist() if not os.path.isfile(os.path.join(folder, name))]
        if absent:
            raise UserError(f"{path} lists {len(absent)} of {len(table)} images that are not there: {absent[0]}")
        self.splits_drawn = "partition" not in table
        partition = draw_partition(len(table)) if self.splits_drawn else to_numbers(table.pop("partition"))
        labels, attributes = _labels_of_table(table, path)
        rows = np.flatnonzero(in_split(partition, table.index, split, path))
        super().__init__(path.parent, table.index[rows], attributes, take(labels, rows), image_size)


def _labels_of_table(table, path):
    """The columns of labels, or of the classes' names -> (labels (N, A) of 0/1, the A attributes)."""
    if CLASS_COLUMN in table and not to_numbers(table[CLASS_COLUMN]).isin((-1, 0, 1)).all():
        if table.shape[1] > 1:
            raise UserError(f"{path} has labels beside its column {CLASS_COLUMN}; keep that or these")
        names = table[CLASS_COLUMN]
        if not names.all():
            raise UserError(f"{path}: {CLASS_COLUMN} of {names.index[names == ''][0]} is empty; name its class")
        classes, attributes = number_classes(names, path)
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


def number_classes(folders, source):
    """The class of each of N images, a name or None -> ((N,) numbers, -1 for None; the names by number, sorted).

    UserError, which names the source, where two names differ by case, spaces or Unicode's form alone.
    """
    codes, names = pd.factorize(np.array(list(folders), dtype=object), sort=True)
    names = tuple(map(in_one_line, names))
    require_distinct(names, source)
    return codes.astype(np.int32), names


def list_images(root):
    """The images in a folder and its subfolders -> (their paths relative to it, with /, sorted; what is left out).

    The latter: suffix -> number of files of other kinds. Links are followed, but not into a folder that they lie in
    themselves; hidden names are left out without a count.
    """

    def refuse(error):
        raise error

    names, left_out = [], Counter()
    for folder, subfolders, files in os.walk(root, onerror=refuse, followlinks=True):
        paths = {name: Path(folder, name) for name in subfolders if not name.startswith((".", "__MACOSX"))}
        subfolders[:] = [name for name, path in paths.items() if not _leads_back(path)]
        place = Path(folder).relative_to(root).as_posix()
        prefix = "" if place == "." else f"{place}/"
        for name in files:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if suffix in LISTED:
                names.append(prefix + name)
            else:
                left_out[suffix or "no suffix"] += 1
    return sorted(names), left_out


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


def _refuse_one_folder_around(names, data_dir):
    """UserError where all images lie in one folder, and in several below that: these are the classes, or splits."""
    outer, inner = ({_folder_at(depth, name) for name in names} for depth in (0, 1))
    if len(outer) == 1 and len(inner) > 1 and outer != {None} and None not in inner:
        name = outer.pop()
        if name.lower() not in SPLIT_FOLDERS:
            raise UserError(
                f"--data_dir {data_dir} has one folder, {name}, around {', '.join(sorted(inner)[:3])}; "
                f"give --data_dir {Path(data_dir, name)}"
            )


def _refuse_splits_as_classes(names, depth, data_dir):
    """UserError where classes, or folders below them, are called like splits: test images would be trained on."""
    for level in (depth, depth + 1):
        folders = {folder for name in names if (folder := _folder_at(level, name))}
        splits = sorted(folder for folder in folders if set(re.findall("[a-z]+", folder.lower())) & SPLIT_WORDS)
        if len(splits) > 1:
            raise UserError(
                f"--data_dir {data_dir} has folders that are called like splits, {' and '.join(splits[:2])}; put "
                "train/, val/ and test/ around the classes, or call classes otherwise"
            )


def _refuse(names, faulty, data_dir, fault):
    """UserError that names the first image for which `faulty`, (N,) booleans, is True."""
    if faulty.any():
        raise UserError(f"--data_dir {data_dir} {fault.format(names[int(np.argmax(faulty))])}")
