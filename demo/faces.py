"""A synthetic CelebA: drawn portraits with CelebA's layout, files and 40 attributes.

    python -m demo.faces --data_dir DIR --train 12000 --val 1000 --test 1000

Image k of a split depends on (seed, split, k) only, and every face has a known true counterfactual:

    attributes, nuisance = face_of(seed=0, split="test", k=7)
    render(attributes | {"Smiling": not attributes["Smiling"]}, nuisance)
"""

from dataclasses import replace
from functools import partial

import numpy as np
from tqdm.contrib.concurrent import process_map

from core.data.datasets import CELEBA_ATTRIBUTES, SPLITS
from core.metrics.correlations import correlation_table, keep_correlations
from demo.layout import write_layout
from demo.look import Nuisance
from demo.portrait import draw_portrait
from guided_diffusion.script.flags import SEED, WORKERS, Flag, FlagParser
from guided_diffusion.script.run import run_script

VISIBLE_ATTRIBUTES = tuple(name for name in CELEBA_ATTRIBUTES if name not in ("Attractive", "Blurry"))
JPEG_QUALITY = 95
FLAGS = {
    "data_dir": Flag(None, "folder to write to"),
    "train": Flag(12000, "number of training images", low=0, high=10**6),
    "val": Flag(1000, "number of validation images", low=0, high=10**6),
    "test": Flag(1000, "number of test images", low=0, high=10**6),
    "correlations": Flag(0, "for CD: of the labels of so many training faces; 0: none", low=0, high=10**6),
    "seed": replace(SEED, help="seed of the whole set"),
    "workers": WORKERS,
}
REQUIRED = ("data_dir",)


def render(attributes, seed):
    """The portrait with these attributes and this nuisance seed: an RGB image of 178 × 218, always the same.

    attributes: names of CELEBA_ATTRIBUTES to True or False (or 1, 0); a name left out is False. Any
    combination can be drawn. Bald overrides all other hair, and the first of black, blond, brown and grey
    is the colour. `Attractive` and `Blurry` are accepted and change nothing.
    seed: a non-negative integer, which decides everything that no attribute decides.
    Raises ValueError for an unknown name, and for another value.
    """
    for name, value in attributes.items():
        if name not in CELEBA_ATTRIBUTES:
            raise ValueError(f"render: {name!r} is no CelebA attribute; see core.data.datasets.CELEBA_ATTRIBUTES")
        if value not in (True, False):
            raise ValueError(f"render: {name} is {value!r}; give True or False")
    has = frozenset(name for name, value in attributes.items() if value)
    return draw_portrait(has, Nuisance.from_seed(seed))


def sample_attributes(rng):
    """One person: all 40 names to bool. They are correlated much as in CelebA, and never contradict each other."""
    has = dict.fromkeys(CELEBA_ATTRIBUTES, False)

    def draw(name, probability):
        has[name] = bool(rng.random() < probability)
        return has[name]

    male = draw("Male", 0.44)
    young = draw("Young", 0.70)
    smiling = draw("Smiling", 0.47 if male else 0.53)

    draw("High_Cheekbones", (0.62 if smiling else 0.22) - (0.08 if male else 0))
    draw("Mouth_Slightly_Open", 0.64 if smiling else 0.30)
    draw("Rosy_Cheeks", (0.06 if male else 0.18) + (0.08 if smiling else 0))
    draw("Narrow_Eyes", 0.20 if smiling else 0.14)
    draw("Double_Chin", (0.06 if young else 0.20) + (0.03 if smiling else 0))
    draw("Bags_Under_Eyes", (0.10 if young else 0.40) + (0.08 if male else 0))
    draw("Eyeglasses", (0.10 if young else 0.25) + (0.05 if male else 0))
    draw("Chubby", (0.08 if young else 0.20) + (0.05 if male else 0))
    draw("Oval_Face", 0 if has["Chubby"] else (0.24 if male else 0.36))
    draw("Pale_Skin", 0.09 if male else 0.14)
    draw("Big_Nose", (0.28 if male else 0.12) + (0 if young else 0.10))
    draw("Pointy_Nose", 0 if has["Big_Nose"] else (0.20 if male else 0.34))
    draw("Big_Lips", 0.16 if male else 0.30)
    draw("Arched_Eyebrows", 0.10 if male else 0.42)
    draw("Bushy_Eyebrows", 0.28 if male else 0.09)

    _draw_hair(draw, has)
    _draw_beard(draw, has)

    makeup = draw("Heavy_Makeup", 0.01 if male else (0.50 if young else 0.30))
    draw("Wearing_Lipstick", 0.01 if male else (0.80 if makeup else 0.38))
    draw("Wearing_Earrings", 0.02 if male else (0.42 if makeup else 0.28))
    draw("Wearing_Necklace", 0.02 if male else 0.24)
    draw("Wearing_Necktie", (0.22 if young else 0.34) if male else 0.01)
    return has


def _draw_hair(draw, has):
    male, young = has["Male"], has["Young"]
    draw("Wearing_Hat", 0.10 if male else 0.06)
    if draw("Bald", (0.08 if young else 0.20) if male else 0.0):
        return
    undecided = 1.0
    shares = {
        "Gray_Hair": 0.01 if young else 0.42,
        "Black_Hair": 0.28 if young else 0.16,
        "Brown_Hair": 0.26 if young else 0.16,
        "Blond_Hair": 0.10 if male else 0.24 if young else 0.12,
    }
    for colour, share in shares.items():
        if draw(colour, share / undecided):
            break
        undecided -= share
    if not draw("Wavy_Hair", 0.20 if male else 0.40):
        draw("Straight_Hair", 0.32)
    if not draw("Bangs", 0.10 if male else 0.22):
        draw("Receding_Hairline", (0.08 if young else 0.32) if male else (0.02 if young else 0.08))


def _draw_beard(draw, has):
    if draw("No_Beard", 0.58 if has["Male"] else 1.0):
        return
    draw("5_o_Clock_Shadow", 0.45)
    draw("Goatee", 0.35)
    draw("Mustache", 0.35)
    draw("Sideburns", 0.35)


def face_of(seed, split, k):
    """The attributes and the nuisance seed of image k of a split. They do not depend on the size of the set."""
    rng = np.random.default_rng([seed, SPLITS[split], k])
    nuisance_seed = int(rng.integers(2**32))
    return sample_attributes(rng), nuisance_seed


def training_labels(seed, count):
    """(count, 40) of 0/1: the labels of the first training faces, of which none is drawn."""
    return np.array([list(face_of(seed, "train", k)[0].values()) for k in range(count)], int)


def image_name(split, k):
    return f"{split}_{k:05d}.jpg"


def write_celeba(data_dir, counts, seed=0, workers=2):
    """Write a synthetic CelebA: img_align_celeba/*.jpg, list_attr_celeba.csv, list_eval_partition.csv.

    counts: a split of `SPLITS` to its number of images. A complete set with the same contents is left
    alone. The csv files are written last, so an incomplete set is drawn again.
    Raises UserError for a folder that holds another data set.
    """
    faces = [(split, k) for split in SPLITS for k in range(counts.get(split, 0))]
    rows = ((image_name(split, k), split, face_of(seed, split, k)[0].values()) for split, k in faces)

    def write_images(folder):
        write_face = partial(_write_face, folder, seed)
        process_map(write_face, faces, max_workers=workers, chunksize=16, desc="faces")

    write_layout(data_dir, CELEBA_ATTRIBUTES, rows, write_images)


def _write_face(images, seed, face):
    render(*face_of(seed, *face)).save(images / image_name(*face), quality=JPEG_QUALITY)


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    counts = {split: getattr(args, split) for split in SPLITS}
    write_celeba(args.data_dir, counts, args.seed, args.workers)
    if args.correlations:
        labels = training_labels(args.seed, args.correlations)
        keep_correlations(args.data_dir, correlation_table(labels, CELEBA_ATTRIBUTES))


if __name__ == "__main__":
    run_script(main)
