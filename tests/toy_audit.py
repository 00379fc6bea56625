"""Results folders whose truth is known: pictures of grey with patches, and networks that read a patch each."""

from functools import partial

import numpy as np
import pandas as pd
import torch
import yaml
from toy_results import write_pair

SIZE = 16
PATCHES = {  # attribute -> the rows and columns of its patch, which is bright where the picture has the attribute
    "Smiling": (slice(10, 13), slice(5, 11)),
    "Eyeglasses": (slice(3, 6), slice(5, 11)),
    "Young": (slice(7, 9), slice(1, 4)),
    "Mark": (slice(0, 2), slice(0, 2)),
}
NAMES = ("Smiling", "Eyeglasses", "Young")  # what the oracle knows
DARK, BRIGHT = 64, 191  # grey levels of the patches
LEVEL = BRIGHT / 127.5 - 1  # of a bright patch, in [-1, 1]; a dark one is its negative
SHARPNESS = 10  # of the oracle's logit


class Patches(torch.nn.Module):
    """Images (N, 3, 16, 16) -> (N, A): how bright each patch is, times its weight."""

    image_size, task = SIZE, "attributes"

    def __init__(self, **weights):
        super().__init__()
        self.weights = weights
        self.attributes = list(weights)

    def forward(self, images):
        places = [PATCHES[name] for name in self.weights]
        means = [images[:, :, rows, columns].mean((1, 2, 3)) for rows, columns in places]
        return torch.stack(means, 1) * torch.tensor(list(self.weights.values()))


class Sum(torch.nn.Module):
    """A classifier of Smiling that adds what Patches sees."""

    image_size, task, attributes = SIZE, "attributes", ["Smiling"]

    def __init__(self, **weights):
        super().__init__()
        self.patches = Patches(**weights)

    def forward(self, images):
        return self.patches(images).sum(1, keepdim=True)


oracle = partial(Patches, **dict.fromkeys(NAMES, SHARPNESS))  # as --oracle_path takes it: toy_audit:oracle
other = partial(Patches, Eyeglasses=SHARPNESS, Young=SHARPNESS)  # one that does not know the smile
clean = partial(Sum, Smiling=4)  # a classifier that looks at the smile alone, as --classifier_path takes it
spoiled = partial(Sum, Smiling=4, Eyeglasses=6)  # one that looks at the glasses as well
against = partial(Sum, Smiling=4, Eyeglasses=-6)  # one that holds the glasses against a smile
marked = partial(Sum, Smiling=4, Mark=6)  # one that looks at the corner's mark, which the oracle does not know


class Dazzled(Sum):
    """It sees youth where its patch is brighter than any picture's, as a method may make it."""

    def forward(self, images):
        rows, columns = PATCHES["Young"]
        glare = (images[:, :, rows, columns].mean((1, 2, 3)) - LEVEL - 0.01).relu()
        return super().forward(images) + 20 * glare[:, None]


dazzled = partial(Dazzled, Smiling=4)


class Thousand(torch.nn.Module):
    """A classifier of a thousand classes; the first one is the smile, the last one the glasses."""

    image_size, task, attributes = SIZE, "classes", [f"class {k}" for k in range(1000)]

    def forward(self, images):
        logits = torch.zeros(len(images), 1000)
        seen = Patches(Smiling=20, Eyeglasses=20)(images)
        return logits.index_copy(1, torch.tensor([0, 999]), seen)


def draw(has):
    """A picture, uint8 (3, 16, 16), with these attributes."""
    picture = np.full((3, SIZE, SIZE), 128)
    for name, (rows, columns) in PATCHES.items():
        picture[:, rows, columns] = BRIGHT if name in has else DARK
    return picture


def write_experiment(root, changes, exp_name="exp", reached=True, **flags):
    """An experiment in whose image i the attributes changes[i] appear, or vanish together where i is odd."""
    for i, changed in enumerate(changes):
        has = set(changed) if i % 2 else set()
        place = "CC/CCF" if reached else "CC/ICF"
        write_pair(root, i, draw(has), draw(has ^ set(changed)), place, exp_name, target=1 - i % 2)
    folder = root / "Results" / exp_name
    n = np.arange(len(changes))
    smiles, target = n % 2, 1 - n % 2
    table = {"id": n, "label": smiles, "pred": smiles, "target": target, "cf_pred": target if reached else smiles}
    pd.DataFrame(table | {"attempts": 1, "bkl": 0.1, "l_1": 0.01}).to_csv(folder / "records.csv", index=False)
    (folder / "summary.yaml").write_text(f"n: {len(n)}\n")
    usual = {"query_label": "Smiling", "task": "attributes", "image_size": SIZE}
    (folder / "flags.yaml").write_text(yaml.safe_dump(usual | flags))
