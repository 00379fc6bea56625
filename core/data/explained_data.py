"""What main.py explains: the images of a data set, or those that --images names."""

from guided_diffusion.script.errors import UserError

from .datasets import DATASETS, CelebA, make_dataset
from .image_lists import ImageFiles
from .training_data import find_reader

AUTO = "auto"  # the --dataset that is whatever --data_dir holds


def settle_dataset(name, data_dir):
    """What a --dataset is called: AUTO is CelebA where data_dir is laid out so, as it was before there was AUTO."""
    return "CelebA" if name == AUTO and data_dir and find_reader(data_dir) is CelebA else name


def load_explained_data(name, data_dir, split, image_size, images=None):
    """The ImageDataset to explain. Prints what its validation split is where the data names no splits.

    name: AUTO, or one of DATASETS. images: paths, separated by commas, to explain instead.
    Raises UserError naming what is missing or malformed.
    """
    if images is not None:
        return ImageFiles([path.strip() for path in images.split(",") if path.strip()], image_size)
    try:
        if name in DATASETS:
            return make_dataset(name, data_dir, split, image_size)
        dataset = find_reader(data_dir)(data_dir, split, image_size)
    except OSError as error:
        raise UserError(f"--data_dir {data_dir} cannot be read ({error.filename}: {error.strerror})") from None
    if dataset.splits_drawn and split == "val":
        print(f"{data_dir} names no splits: val is the tenth that trainings hold out; --split all is all")
    return dataset
