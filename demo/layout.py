"""Writing data sets with CelebA's layout: img_align_celeba/, list_attr_celeba.csv, list_eval_partition.csv."""

from pathlib import Path

import pandas as pd

from core.data.datasets import SPLITS
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import write_text


def write_layout(data_dir, attributes, rows, write_images):
    """Write a data set: write_images(folder) writes the images of `rows`, then come the csv files.

    rows: an image's file name, its split and the values of its attributes, for each.

    A complete set with the same csv files is left alone. They are written last, so an incomplete set is
    written again.
    Raises UserError where the folder holds another data set.
    """
    data_dir, rows = Path(data_dir), list(rows)
    labels = [[name, *(1 if value else -1 for value in values)] for name, _, values in rows]
    splits = [[name, SPLITS[split]] for name, split, _ in rows]
    tables = {
        "list_attr_celeba.csv": pd.DataFrame(labels, columns=["image_id", *attributes]).to_csv(index=False),
        "list_eval_partition.csv": pd.DataFrame(splits, columns=["image_id", "partition"]).to_csv(index=False),
    }
    existing = [name for name in tables if (data_dir / name).exists()]
    if any((data_dir / name).read_text() != tables[name] for name in existing):
        raise UserError(f"--data_dir {data_dir} holds another data set: name an empty folder, or remove it")
    if len(existing) == len(tables):
        return

    images = data_dir / "img_align_celeba"
    images.mkdir(parents=True, exist_ok=True)
    write_images(images)
    for name, table in tables.items():
        write_text(data_dir / name, table)
