"""Small data sets laid out like CelebA."""

import csv

import numpy as np
from PIL import Image

from core.data.datasets import CELEBA_ATTRIBUTES

SMILING = CELEBA_ATTRIBUTES.index("Smiling")


def write_data(root, counts=(0, 8, 0)):
    """A CelebA of `counts` train, val and test images, some brighter, some darker, Smiling where bright."""
    (root / "img_align_celeba").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names, splits, labels = [], [], []
    for split, count in enumerate(counts):
        for _ in range(count):
            names.append(f"{len(names):06d}.png")
            level = rng.integers(90, 165)
            pixels = np.clip(level + rng.normal(0, 30, (5, 4, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((18, 22)).save(root / "img_align_celeba" / names[-1])
            splits.append(split)
            labels.append([1 if level > 127 else -1] * 40)
    _write_csv(root / "list_attr_celeba.csv", [["image_id", *CELEBA_ATTRIBUTES]] + [
        [name, *row] for name, row in zip(names, labels, strict=True)])  # fmt: skip
    _write_csv(root / "list_eval_partition.csv", [["image_id", "partition"], *zip(names, splits, strict=True)])
    return root


def _write_csv(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
