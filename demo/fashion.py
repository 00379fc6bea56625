"""Fashion-MNIST with CelebA's layout: real photographs of clothes, small enough to train on without a GPU.

    python -m demo.fashion --data_dir DIR --classes Trouser,Dress --train 12000 --val 1000 --test 1000

Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747. The classes are the attributes: with the set above,
`--query_label Dress` of main.py turns trousers into dresses, and dresses into what is none.
"""

import tempfile
from pathlib import Path

from torch.nn.functional import pad
from torchvision.datasets import FashionMNIST
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.datasets.utils import extract_archive
from tqdm import tqdm

from core.data.datasets import SPLITS
from core.data.images import write_png
from demo.layout import write_layout
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser
from guided_diffusion.script.run import run_script
from guided_diffusion.script_util import args_to_dict

CLASSES = tuple("T-shirt Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle_boot".split())  # labels 0 … 9
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
STEMS = tuple(Path(name).stem for name, _ in FashionMNIST.resources)
BORDER = 2  # pixels of black on each side: 28 × 28 becomes 32 × 32, which a UNet can halve

FLAGS = {
    "data_dir": Flag(None, "folder to write to"),
    "classes": Flag(",".join(CLASSES), "which classes, separated by commas, in the order of the attributes"),
    "train": Flag(12000, "at most this many training images; -1: all", low=-1, high=10**6),
    "val": Flag(1000, "at most this many validation images; -1: all", low=-1, high=10**6),
    "test": Flag(1000, "at most this many test images; -1: all", low=-1, high=10**6),
    "source": Flag(
        None,
        "folder of Fashion-MNIST's four files, or torchvision's root over them; without it "
        f"{DEBIAN_FOLDER} (Debian's dataset-fashion-mnist), else a download to --data_dir",
    ),
}
REQUIRED = ("data_dir",)


def write_fashion(data_dir, counts, classes=CLASSES, source=None):
    """Write the images of some classes with CelebA's layout: 32 × 32 grey PNG files, one attribute per class.

    counts: a split of `SPLITS` to its largest number of images, -1 for all. The last 10,000 of the 60,000
    training images are the validation split. Images keep the order of Fashion-MNIST, so that a smaller
    split is the beginning of a larger one. They are named after their index in its files: val_50003.png is
    number 50,003 of the training images. A complete set with the same contents is left alone.
    Raises UserError for an unknown class, a folder that holds another data set, or a source that is missing
    or damaged.
    """
    if not set(classes) <= set(CLASSES) or len(set(classes)) < len(classes):
        raise UserError(f"--classes {','.join(classes)} must be some of {','.join(CLASSES)}, each once")
    raw = find_raw(source, data_dir)
    rows, pixels = [], {}
    for split in SPLITS:
        first, images, labels = read_split(raw, split)
        chosen = [i for i, label in enumerate(labels) if CLASSES[label] in classes]
        limit = counts.get(split, 0)
        for i in chosen if limit < 0 else chosen[:limit]:
            name = f"{split}_{first + i:05d}.png"
            rows.append((name, split, [each == CLASSES[labels[i]] for each in classes]))
            pixels[name] = images[i]

    def write_images(folder):
        for name, image in tqdm(pixels.items(), desc="images"):
            write_png(folder / name, pad(image, [BORDER] * 4))

    write_layout(data_dir, classes, rows, write_images)


def find_raw(source, data_dir):
    """The folder with Fashion-MNIST's four files, gzipped or not: in `source`, Debian's, or downloaded to data_dir.

    Raises UserError where `source` lacks some of them, or the download fails.
    """
    folder = Path(source or DEBIAN_FOLDER)
    for raw in (folder, folder / "FashionMNIST" / "raw"):
        if all((raw / stem).is_file() or (raw / f"{stem}.gz").is_file() for stem in STEMS):
            return raw
    remedy = "install Debian's package dataset-fashion-mnist, or name a folder that has them with --source"
    if source:
        raise UserError(f"--source {source} lacks some of {', '.join(STEMS)} (or .gz): {remedy}")
    try:
        return Path(FashionMNIST(data_dir, download=True).raw_folder)
    except (OSError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise UserError(f"Fashion-MNIST's files cannot be downloaded ({cause}): {remedy}") from None


def read_split(raw, split):
    """(index of the first image in its file, images (N, 28, 28) uint8, their N labels 0 … 9)."""
    part = "t10k" if split == "test" else "train"
    images = _read_idx(raw, f"{part}-images-idx3-ubyte", read_image_file)
    labels = _read_idx(raw, f"{part}-labels-idx1-ubyte", read_label_file)
    if images.shape != (len(labels), 28, 28) or (labels >= len(CLASSES)).any():
        raise UserError(f"{raw} does not hold Fashion-MNIST: its {part} files have other sizes or labels")
    cut = len(labels) * 5 // 6
    first, last = {"train": (0, cut), "val": (cut, len(labels)), "test": (0, len(labels))}[split]
    return first, images[first:last], labels[first:last].tolist()


def _read_idx(raw, stem, read):
    path = raw / stem
    try:
        if path.is_file():
            return read(path)
        path = raw / f"{stem}.gz"
        with tempfile.TemporaryDirectory() as extracted:
            return read(extract_archive(path, extracted))
    except Exception as error:  # gzip, zlib and torchvision's reader each raise another one for a damaged file
        raise UserError(f"{path} cannot be read ({type(error).__name__}); restore it") from None


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    write_fashion(args.data_dir, args_to_dict(args, SPLITS), args.classes.split(","), args.source)


if __name__ == "__main__":
    run_script(main)
