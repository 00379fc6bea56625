"""Handwritten digits as a folder of images, a subfolder for each class: the 1,797 that scikit-learn ships.

    python -m demo.digits --data_dir DIR

Alpaydin, Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository.
"""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from core.data.image_lists import list_images
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import SEED, Flag, FlagParser
from guided_diffusion.script.run import run_script
from guided_diffusion.script_util import args_to_dict

WHITE = 16  # of scikit-learn's 8 × 8 pixels, which begin at 0

FLAGS = {
    "data_dir": Flag(None, "folder to write to"),
    "val": Flag(20, "validation images of each class", low=1, high=80),
    "test": Flag(4, "test images of each class; all others are for training", low=1, high=80),
    "seed": SEED,
}
REQUIRED = ("data_dir",)


def write_digits(data_dir, val, test, seed):
    """Write train/, val/ and test/, each with the classes 0/ to 9/, of 16 × 16 grey PNG files.

    val, test: how many images of each class; the others are for training. They are named after their index in
    scikit-learn's array. The folder appears once it is complete; a complete one is left alone.
    Raises UserError where the folder cannot be made or holds something else.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    names = name_digits(digits.target, val, test, seed)
    data_dir = Path(data_dir)
    if data_dir.exists():
        if not data_dir.is_dir() or list_images(data_dir) != sorted(names):
            raise UserError(f"--data_dir {data_dir} holds something else: name a new folder, or remove it")
        return
    part = data_dir.with_name(f".{data_dir.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        for folder in {part / Path(name).parent for name in names}:
            folder.mkdir(parents=True)
        for name, pixels in zip(names, digits.images, strict=True):
            enlarge(pixels).save(part / name)
        part.rename(data_dir)
    except OSError as error:
        raise UserError(f"--data_dir {data_dir} cannot be made ({error.strerror}): name another") from None


def name_digits(classes, val, test, seed):
    """The file of each digit, such as train/7/0123.png. classes: (N,) 0 … 9. Each class is split by the seed."""
    splits = np.full(len(classes), "train", object)
    rng = np.random.default_rng(seed)
    for each in range(10):
        order = rng.permutation(np.flatnonzero(classes == each))
        splits[order[:test]] = "test"
        splits[order[test : test + val]] = "val"
    return [f"{split}/{each}/{i:04d}.png" for i, (split, each) in enumerate(zip(splits, classes, strict=True))]


def enlarge(pixels):
    """(8, 8), 0 to WHITE -> a grey PIL image of 16 × 16 pixels."""
    grey = Image.fromarray(np.round(pixels * 255 / WHITE).astype(np.uint8))
    return ImageOps.expand(grey.resize((14, 14), Image.Resampling.BICUBIC), border=1)  # a UNet can halve 16 × 16


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    write_digits(**args_to_dict(args, ("data_dir", "val", "test", "seed")))


if __name__ == "__main__":
    run_script(main)
