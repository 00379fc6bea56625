"""Loading what --data_dir holds, for a training or to be explained: a CelebA, a folder of images, or a csv."""

import os
from contextlib import contextmanager
from pathlib import Path

from guided_diffusion.ranks.ranks import Ranks
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag

from .datasets import DATASETS, CelebA
from .decoded import MIB, SMALL, provide_decoded
from .image_lists import CLASS_COLUMN, ImageFiles, ImageFolder, ImageTable
from .labels import first_without_one_class, shares

TRAINING_DATA_FLAGS = {
    "data_dir": Flag(
        None,
        "a folder with img_align_celeba/, list_attr_celeba and list_eval_partition; or a folder of images, "
        "each subfolder a class, perhaps below train/, val/ and test/; or a csv with a header: path (relative "
        "to the csv), a column of 0/1 or -1/1 for each label, perhaps `partition` (0 train, 1 val, 2 test)",
    ),
    "random_flip": Flag(True, "mirror half of the images"),
    "num_workers": Flag(4, "threads that load images ahead of the training", low=1, high=1024, group="speed"),
    "decoded_dir": Flag(
        None,
        "a folder of this machine for a file of the decoded images, which is made once and shared by its ranks; by "
        f"default ~/.cache/dime, where there are several ranks and all copies would take over {SMALL // MIB} MiB",
        group="speed",
    ),
}
AUTO = "auto"  # the --dataset that is whatever --data_dir holds
ONLY_RANK = Ranks()
MOST_COMMAS = 8  # parts of a path between commas


def load_training_data(data_dir, splits, image_size, ranks=ONLY_RANK, decoded_dir=None):
    """An ImageDataset for each of the splits. Prints what they hold, and where decoded images are kept.

    Where the data names no splits, a tenth of the images, always the same, are val and the others train.
    ranks: every rank must call this. decoded_dir: see provide_decoded.
    Raises UserError naming what is missing or malformed.
    """
    with _readable(data_dir):
        reader = find_reader(data_dir)
        datasets = [reader(data_dir, split, image_size) for split in splits]
    counts = ", ".join(f"{len(dataset):,} {split}" for dataset, split in zip(datasets, splits, strict=True))
    attributes = len(datasets[0].attributes)
    drawn = "; it names no splits: a tenth, always the same, is held out as val" if datasets[0].splits_drawn else ""
    print(f"{data_dir}: {counts} images with {attributes or 'no'} attributes{drawn}", flush=True)
    _tell_left_out(datasets[0], data_dir)
    provide_decoded(datasets, splits, data_dir, ranks, decoded_dir)
    return datasets


def load_explained_data(name, data_dir, split, image_size, images=None):
    """The ImageDataset to explain. Prints what its validation split is where the data names no splits.

    name: AUTO, or one of DATASETS. images: paths, separated by commas, to explain instead.
    Raises UserError naming what is missing or malformed.
    """
    if images is not None:
        return ImageFiles(split_paths(images), image_size)
    with _readable(data_dir):
        if name in DATASETS:
            return DATASETS[name](data_dir, split, image_size)
        dataset = find_reader(data_dir)(data_dir, split, image_size)
    _tell_left_out(dataset, data_dir)
    if dataset.splits_drawn and split == "val":
        print(f"{data_dir} names no splits: val is the tenth that trainings hold out; --split all is all")
    return dataset


def split_paths(text):
    """Paths separated by commas -> a list. A path with commas in it is one where it exists."""
    paths, parts = [], text.split(",")
    while parts:
        lengths = range(min(len(parts), MOST_COMMAS), 0, -1)
        length = next((each for each in lengths if os.path.isfile(",".join(parts[:each]).strip())), 1)
        paths.append(",".join(parts[:length]).strip())
        parts = parts[length:]
    return [path for path in paths if path]


def _tell_left_out(dataset, data_dir):
    if dataset.left_out:
        kinds = ", ".join(f"{number:,} {suffix}" for suffix, number in sorted(dataset.left_out.items()))
        print(f"{data_dir}: files that are no images are left out: {kinds}", flush=True)


def settle_dataset(name, data_dir):
    """The --dataset to record: CelebA where AUTO meets data laid out so, as in runs older than AUTO."""
    return "CelebA" if name == AUTO and data_dir and find_reader(data_dir) is CelebA else name


def find_reader(data_dir):
    """The class that reads --data_dir, called with (data_dir, split, image_size)."""
    root = Path(data_dir)
    if root.is_file() and root.suffix.lower() == ".csv":
        return ImageTable
    if not root.is_dir():
        raise UserError(f"--data_dir {data_dir} is neither a folder nor a csv file")
    celeba = ("img_align_celeba", "list_attr_celeba.csv", "list_attr_celeba.txt")
    return CelebA if any((root / name).exists() for name in celeba) else ImageFolder


@contextmanager
def _readable(data_dir):
    """UserError where a file or folder of the data may not be read."""
    try:
        yield
    except OSError as error:
        raise UserError(f"--data_dir {data_dir} cannot be read ({error.filename}: {error.strerror})") from None


# -- labels that the data must have ------------------------------------------------------------------------------


def require_labels(dataset, data_dir, num_classes=None, one_each=False):
    """UserError where the dataset has no labels, or not num_classes of them. one_each: each image must have one."""
    count = len(dataset.attributes)
    if not count:
        raise UserError(f"--data_dir {data_dir} has no labels: give a subfolder for each class, or a csv of labels")
    if num_classes not in (None, count):
        raise UserError(f"--num_classes {num_classes} must be {count}, as many as --data_dir {data_dir} has")
    if one_each:
        require_one_class(dataset, data_dir, "--multiclass False", "--multiclass True")


def require_both_answers(dataset, data_dir):
    """UserError where no label has both answers, so that nothing can be learned; prints which of several have one.

    A single class, such as a folder around the classes, would be learned to an accuracy of 1.
    """
    share = shares(dataset.labels)
    constant = [name for name, part in zip(dataset.attributes, share, strict=True) if part in (0, 1)]
    if constant and len(constant) == len(share):
        raise UserError(
            f"--data_dir {data_dir}: all {len(dataset)} images to train on have the same answer to {constant[0]}; "
            "give images of both, such as a subfolder for each class"
        )
    if constant:
        print(f"{data_dir}: {len(constant)} labels have one answer alone, such as {constant[0]}: none is learned")


def require_one_class(dataset, data_dir, flag, remedy):
    """UserError where an image has not exactly one class, as `flag` needs; `remedy` is a flag that does not."""
    row, count = first_without_one_class(dataset.labels) or (None, 1)
    if count == 1:
        return
    if dataset.attributes == (CLASS_COLUMN,):
        raise UserError(
            f"{flag} needs the names of classes, but --data_dir {data_dir} has 0 and 1 in its column "
            f"{CLASS_COLUMN}, which are no and yes; write the names there"
        )
    raise UserError(
        f"{flag} needs one class an image, but {dataset.names[row]} of --data_dir {data_dir} has {count}; "
        f"give {remedy}, or a subfolder for each class"
    )
