import csv
import os

import numpy as np
import pytest
import torch
from golden import golden
from PIL import Image
from toy_networks import filled

from core.data.datasets import CELEBA_ATTRIBUTES, SPLITS
from guided_diffusion.script_util import create_model_and_diffusion

os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the Hub for anything
torch.set_num_threads(1)
pytest_plugins = ["metric_fixtures"]


@pytest.fixture(scope="session")
def golden_unet():
    """(UNet with deterministic weights, diffusion) of the golden files' flags; nobody may change them."""
    _, flags = golden("unet_tiny")
    unet, diffusion = create_model_and_diffusion(**flags)
    return filled(unet), diffusion


@pytest.fixture
def make_celeba(tmp_path):
    """make_celeba(...) -> a folder laid out like CelebA, of images named 000001.jpg, 000002.jpg, …

    counts: images of each split, in which the images lie one after the other.
    layout: "csv", or "txt" for CelebA's own files. Equal counts and attributes give equal contents.
    """

    def make(counts=None, layout="csv", attributes=CELEBA_ATTRIBUTES, size=(20, 24), images=True):
        counts = counts or {"train": 4, "val": 3, "test": 5}
        root = tmp_path / f"celeba-{layout}"
        (root / "img_align_celeba").mkdir(parents=True)
        splits = [split for split, count in counts.items() for _ in range(count)]
        names = [f"{i:06d}.jpg" for i in range(1, len(splits) + 1)]
        rng = np.random.default_rng(0)
        labels = rng.choice([-1, 1], (len(names), len(attributes))).tolist()
        if images:
            for name in names:
                pixels = rng.integers(0, 256, (4, 3, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize(size).save(root / "img_align_celeba" / name)
        write = _write_csv if layout == "csv" else _write_txt
        write(root, attributes, {name: row for name, row in zip(names, labels, strict=True)},
              {name: SPLITS[split] for name, split in zip(names, splits, strict=True)})  # fmt: skip
        return root

    return make


def _write_csv(root, attributes, labels, partition):
    tables = {
        "list_attr_celeba": [["image_id", *attributes], *([name, *row] for name, row in labels.items())],
        "list_eval_partition": [["image_id", "partition"], *partition.items()],
    }
    for name, rows in tables.items():
        with open(root / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)


def _write_txt(root, attributes, labels, partition):
    rows = [f"{name} " + " ".join(f"{value:2d}" for value in row) for name, row in labels.items()]
    text = "\n".join([str(len(labels)), " ".join(attributes) + " ", *rows])
    (root / "list_attr_celeba.txt").write_text(text + "\n")
    lines = [f"{name} {split}\n" for name, split in partition.items()]
    (root / "list_eval_partition.txt").write_text("".join(lines))
