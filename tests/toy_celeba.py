"""Small data sets laid out like CelebA."""

import numpy as np
import pandas as pd
from PIL import Image

from core.data.datasets import CELEBA_ATTRIBUTES, SPLITS

SMILING = CELEBA_ATTRIBUTES.index("Smiling")


def csv_rows(path):
    """The rows of a csv file, its header's included."""
    return [line.split(",") for line in path.read_text().splitlines()]


def write_celeba(root, counts=None, layout="csv", attributes=CELEBA_ATTRIBUTES, labels=None, images=True):
    """Images 000001.jpg, 000002.jpg, … of 22 x 18, some brighter, some darker, Smiling where bright -> root.

    counts: images of each split, in which the images lie one after the other.
    layout: "csv", or "txt" for CelebA's own files.
    labels: rows of 1 and -1 in place of those that are drawn.
    images: False writes the lists alone. Equal arguments give equal contents.
    """
    counts = counts or {"train": 4, "val": 3, "test": 5}
    folder = root / "img_align_celeba" if images else root
    folder.mkdir(parents=True, exist_ok=True)
    partition = [SPLITS[split] for split, count in counts.items() for _ in range(count)]
    names = pd.Index([f"{i:06d}.jpg" for i in range(1, len(partition) + 1)], name="image_id")
    rng, levels = np.random.default_rng(0), []
    for name in names:
        levels.append(rng.integers(90, 165))
        pixels = np.clip(levels[-1] + rng.normal(0, 30, (5, 4, 3)), 0, 255).astype(np.uint8)
        if images:
            Image.fromarray(pixels).resize((18, 22)).save(folder / name)
    drawn = rng.choice([-1, 1], (len(names), len(attributes)))
    table = pd.DataFrame(drawn if labels is None else labels, names, attributes)
    if labels is None and "Smiling" in attributes:
        table["Smiling"] = np.where(np.array(levels) > 127, 1, -1)
    partition = pd.Series(partition, names, name="partition")
    write = _write_csv if layout == "csv" else _write_txt
    write(root, table, partition)
    return root


def _write_csv(root, labels, partition):
    labels.to_csv(root / "list_attr_celeba.csv")
    partition.to_csv(root / "list_eval_partition.csv")


def _write_txt(root, labels, partition):
    rows = [f"{name} " + " ".join(f"{value:2d}" for value in row) for name, *row in labels.itertuples()]
    lines = [str(len(labels)), " ".join(labels.columns) + " ", *rows]
    (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    partition.to_csv(root / "list_eval_partition.txt", sep=" ", header=False)
