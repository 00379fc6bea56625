"""Handwritten digits as a folder of images, a subfolder for each class: the 1,797 that scikit-learn ships.

    python -m demo.digits --data_dir DIR

Alpaydin, Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from core.data.image_lists import list_images
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser
from guided_diffusion.script.run import run_script
from guided_diffusion.script.storage import write_folder

WHITE = 16  # of scikit-learn's 8 × 8 pixels, which begin at 0
VAL, TEST = 20, 4  # images of each class; all others are for training
FLAGS = {"data_dir": Flag(None, "folder to write to")}
REQUIRED = ("data_dir",)


def write_digits(data_dir):
    """Write train/, val/ and test/, each with the classes 0/ to 9/, of 16 × 16 grey PNG files.

    They are named after their index in scikit-learn's array. The folder appears once it is complete; a complete one
    is left alone. Raises UserError where it holds something else.
    """
    from sklearn.datasets import load_digits

    digits, data_dir = load_digits(), Path(data_dir)
    names = name_digits(digits.target)
    if data_dir.exists():
        if not data_dir.is_dir() or list_images(data_dir)[0] != sorted(names):
            raise UserError(f"--data_dir {data_dir} holds something else: name a new folder, or remove it")
        return
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    with write_folder(data_dir, "train") as part:
        for name, pixels in zip(names, digits.images, strict=True):
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            enlarge(pixels).save(part / name)


def name_digits(classes):
    """The file of each digit, such as train/7/0123.png. classes: (N,) 0 … 9. Each class is split at random."""
    splits = np.full(len(classes), "train", object)
    rng = np.random.default_rng(0)
    for each in range(10):
        order = rng.permutation(np.flatnonzero(classes == each))
        splits[order[:TEST]] = "test"
        splits[order[TEST : TEST + VAL]] = "val"
    return [f"{split}/{each}/{i:04d}.png" for i, (split, each) in enumerate(zip(splits, classes, strict=True))]


def enlarge(pixels):
    """(8, 8), 0 to WHITE -> a grey PIL image of 16 × 16 pixels."""
    grey = Image.fromarray(np.round(pixels * 255 / WHITE).astype(np.uint8))
    return ImageOps.expand(grey.resize((14, 14), Image.Resampling.BICUBIC), border=1)  # a UNet can halve 16 × 16


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    write_digits(create_argparser().parse_args().data_dir)


if __name__ == "__main__":
    run_script(main)
