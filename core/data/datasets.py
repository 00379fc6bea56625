"""Labelled images to explain or to train on: CelebA, its mini-validation set, chunks of either."""

import random
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from guided_diffusion.script.errors import UserError

from .class_names import in_one_line, refuse_near_names, require_distinct, shown
from .images import from_uint8, read_image

CELEBA_ATTRIBUTES = tuple(
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair "
    "Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup "
    "High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose "
    "Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat "
    "Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young".split()
)
SPLITS = {"train": 0, "val": 1, "test": 2}
ALL = "all"  # what --split calls all of them together
# What others call the column of the splits.
NEAR_PARTITION = {
    "partition": (
        *("partitions", "split", "splits", "datasplit", "set", "subset", "dataset", "fold", "phase", "usage"),
        *("train", "istrain", "test", "istest", "val", "isval", "eval"),
    )
}
SEPARATORS = {";": "semicolons", "\t": "tabs"}  # of tables that are no csv


class ImageDataset(Dataset):
    """Labelled image files. Item i: (image (3, S, S) in [-1, 1], labels (A,) int64 of 0/1).

    names: the N paths of the files in image_dir. attributes: what the A labels are called, () for none.
    labels: (N, A) of 0/1, int8 or a OneHot. Raises UserError naming the file where an image cannot be read.
    """

    splits_drawn = False  # True where the data names no splits, so that they were drawn at random
    left_out = {}  # suffix -> number of files beside the images that are none

    def __init__(self, image_dir, names, attributes, labels, image_size):
        self.image_dir, self.image_size = Path(image_dir), image_size
        self.names, self.attributes, self.labels = list(names), tuple(attributes), labels
        self.decoded = None  # DecodedImages, after provide_decoded()

    def __len__(self):
        return len(self.names)

    def decode(self, i):
        """Image i, read from its file, as uint8 (3, S, S)."""
        return read_image(self.image_dir / self.names[i], self.image_size)

    def pixels(self, i):
        """Image i, decoded now or before, as uint8 (3, S, S)."""
        return self.decode(i) if self.decoded is None else self.decoded[i]

    def __getitem__(self, i):
        return from_uint8(self.pixels(i)), self.labels[i].long()


class CelebA(ImageDataset):
    """A split of CelebA, or of anything laid out like it.

    data_dir holds img_align_celeba/ with list_attr_celeba and list_eval_partition, each as .csv or as CelebA's
    own .txt. `attributes` are the names of its columns: CelebA's 40, or those of another domain.
    Raises UserError naming what is missing or malformed.
    """

    def __init__(self, data_dir, split, image_size):
        image_dir = Path(data_dir) / "img_align_celeba"
        if not image_dir.is_dir():
            raise UserError(f"--data_dir {data_dir} has no folder img_align_celeba")
        table = read_labels(data_dir, split)
        super().__init__(image_dir, table.index, table.columns, to_bytes(table), image_size)


class CelebAMV(CelebA):
    """The mini-validation set of the authors' release: 1,000 draws, with repetition, from the validation split.

    That is used whatever `split` says.
    """

    def __init__(self, data_dir, split, image_size):
        super().__init__(data_dir, "val", image_size)
        rows = sorted(random.Random(5).choices(range(len(self.names)), k=1000))
        self.names, self.labels = [self.names[row] for row in rows], self.labels[rows]


DATASETS = {"CelebA": CelebA, "CelebAMV": CelebAMV}


def load_images(dataset, indices):
    """The dataset's images at these indices: (N, 3, S, S) in [-1, 1]."""
    return torch.stack([dataset[i][0] for i in indices])


def read_labels(data_dir, split, flag="data_dir"):
    """The labels of a split of CelebA, or of data laid out like it, without its images.

    Returns a table of booleans: a row for each image, by its file name, a column for each attribute.
    Raises UserError naming the flag or the file where a list is missing or malformed.
    """
    root = Path(data_dir)
    table = _read_list(root, "list_attr_celeba", flag)
    refuse_near_names(table.columns, f"{root}/list_attr_celeba", NEAR_PARTITION)
    faulty = table.index[~table.isin((1, -1)).all(axis=1)]
    if faulty.size:
        raise UserError(f"{root}/list_attr_celeba holds values other than 1 and -1 for {faulty[0]}")
    if split == ALL:
        return table > 0
    partitions = _read_list(root, "list_eval_partition", flag)
    if "partition" not in partitions:
        raise UserError(f"{root}/list_eval_partition has no column partition, but {', '.join(partitions)}")
    partition = partitions["partition"]
    if (strangers := table.index.difference(partition.index)).size:
        raise UserError(
            f"{root}/list_attr_celeba names {strangers[0]}, but list_eval_partition does not (it begins with "
            f"{partition.index[0]}); name each image alike in both"
        )
    partition = partition.reindex(table.index)
    return table[in_split(partition, table.index, split, f"{root}/list_eval_partition")] > 0


def to_bytes(table):
    """A DataFrame of 0/1 or booleans -> an int8 tensor."""
    return torch.from_numpy(table.to_numpy().astype("int8"))


def attribute_index(attributes, query, flag="query_label"):
    """A name such as Smiling, or an index such as 31 -> the index; UserError names the flag."""
    if str(query) in attributes:
        return attributes.index(str(query))
    if str(query).isdecimal() and int(query) < len(attributes):
        return int(query)
    names = shown(attributes, query, "attributes")
    raise UserError(f"--{flag} {query} is neither an attribute here, nor the number of one; there are {names}")


def data_attributes(data_dir):
    """The attributes of data in CelebA's layout; () for other data; CelebA's 40 where there is no data_dir."""
    root = Path(data_dir or "")
    if not data_dir or not root.exists():
        return CELEBA_ATTRIBUTES
    if not any((root / f"list_attr_celeba.{suffix}").is_file() for suffix in ("csv", "txt")):
        return ()
    return tuple(_read_list(root, "list_attr_celeba", nrows=2).columns)


def chunk_indices(n, chunk, num_chunks):
    """The indices i of 0 … n-1 with i mod num_chunks = chunk; UserError names the flags."""
    if not 0 <= chunk < num_chunks:
        raise UserError(f"--chunk {chunk} must be from 0 to {num_chunks - 1} for --num_chunks {num_chunks}")
    return range(chunk, n, num_chunks)


def batches_of(indices, size):
    """Indices in pieces of this size, the last one shorter."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def in_split(partition, names, split, source):
    """(N,) booleans: which images are in a split, as `partition` says with 0, 1 or 2 for each of the N names.

    split: one of SPLITS, or ALL. source: the flag or the file that `partition` comes from, which a UserError names.
    """
    partition = np.asarray(partition)
    if split == ALL:
        return np.ones(len(partition), bool)
    legal = np.isin(partition, list(SPLITS.values()))
    if not legal.all():
        raise UserError(f"{source} puts {names[int(np.argmin(legal))]} in none of 0 (train), 1 (val), 2 (test)")
    is_in = partition == SPLITS[split]
    if not is_in.any():
        raise UserError(f"{source} has no images in its {split} split; take another split, or other data")
    return is_in


def read_table(path, names=None, **options):
    """A table of images in a csv or text file -> a DataFrame of texts, indexed by image, a column for each name.

    names: of the columns; None: the first row has them, and before them that of the images' column. Spaces around
    names are left out. options: pandas.read_csv's.
    UserError where it is no table, has no rows, a row of another length, or an image or a name twice.
    """
    images = None  # the name of their column
    if names is None:
        _refuse_other_separators(path)
    try:
        table = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig", **options)
    except ValueError as error:
        reason = str(error).strip().splitlines()[0].removeprefix("Error tokenizing data. C error: ")
        raise UserError(f"{path} cannot be read as a table ({reason}); save it in UTF-8, its rows alike") from None
    if names is None:
        (images, *names), table = table.iloc[0], table.iloc[1:]
    names = [in_one_line(name) for name in names]
    if not len(table):
        raise UserError(f"{path} holds no rows")
    if len(names) != table.shape[1] - 1:
        counts = f"{len(names)} names for {table.shape[1] - 1} columns beside the images"
        raise UserError(f"{path} has {counts}; give its first row a name for each")
    table = table.set_index(0).rename_axis(images).set_axis(names, axis=1)
    table.index = table.index.str.strip()
    if not all(names):
        raise UserError(f"{path} has a column without a name; name it or leave it out")
    require_distinct(names, path)
    if table.index.has_duplicates:
        raise UserError(f"{path} lists {table.index[table.index.duplicated()][0]} twice")
    return table


def _refuse_other_separators(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        header = file.readline()
    for mark, called in SEPARATORS.items():
        if mark in header and "," not in header:
            raise UserError(f"{path} is separated by {called}; save it with commas")


def to_numbers(column):
    """A column of a table -> its numbers, in as few bytes as hold them. Values that are no numbers become NaN."""
    return pd.to_numeric(column, errors="coerce", downcast="integer")


def _read_list(root, stem, flag="data_dir", **limits):
    """list_*.csv, or the .txt that CelebA ships -> a DataFrame of numbers, NaN for what is none, by image."""
    csv, txt = root / f"{stem}.csv", root / f"{stem}.txt"
    if csv.is_file():
        path, options = csv, {}
    elif not txt.is_file():
        raise UserError(f"--{flag} {root} has neither {csv.name} nor {txt.name}")
    elif stem == "list_attr_celeba":  # a count, which some leave out, the names of the columns, one row an image
        path = txt
        with open(path, encoding="utf-8", errors="replace") as file:
            first, second = file.readline().split(), file.readline().split()
        counted = len(first) == 1
        options = {"sep": r"\s+", "skiprows": 1 + counted, "names": second if counted else first}
    else:
        path, options = txt, {"sep": r"\s+", "names": ["partition"]}
    table = read_table(path, **options, **limits)
    if table.shape[1] == 0:
        raise UserError(f"{path} holds no columns beside the images")
    return table.apply(to_numbers)
