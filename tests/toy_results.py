"""Results folders of a few pairs, as the tests of the metrics need them."""

import numpy as np
import torch
from PIL import Image

from core.data.images import to_uint8

PLACES = ("CC/CCF", "IC/CCF", "CC/ICF", "CC/CCF", "CC/CCF", "IC/ICF")


def write_pair(root, i, x, counterfactual, place="CC/CCF", exp_name="exp", suffixes=("png", "png"), target=0):
    """An original and its counterfactual, uint8 (3, H, W), as main.py writes them; target: the class asked for."""
    folder = root / "Results" / exp_name / place
    original = root / "Original" / ("Correct" if place.startswith("CC") else "Incorrect")
    for directory in (original, folder / "CF", folder / "Info"):
        directory.mkdir(parents=True, exist_ok=True)
    for directory, pixels, suffix in ((original, x, suffixes[0]), (folder / "CF", counterfactual, suffixes[1])):
        array = np.asarray(pixels, np.uint8).transpose(1, 2, 0)
        Image.fromarray(array).save(directory / f"{i:07d}.{suffix}", quality=100)
    (folder / "Info" / f"{i:07d}.txt").write_text(f"label: {1 - target}\npred: {1 - target}\ntarget: {target}\n")


def write_random_pairs(root, exp_name="exp", seed=0, size=16, suffixes=("png", "png"), places=PLACES):
    """Random pictures and brighter or darker counterfactuals, one for each place; originals depend on no seed."""
    originals, changes = np.random.default_rng(0), np.random.default_rng([seed, 1])
    for i, place in enumerate(places):
        x = np.kron(originals.integers(40, 215, (3, 4, 4)), np.ones((1, size // 4, size // 4))).astype(int)
        change = changes.integers(-40, 41, (3, size, size)) + changes.choice([-25, 25])
        write_pair(root, i, x, np.clip(x + change, 0, 255), place, exp_name, suffixes, target=i % 2)
    return root


class Colours(torch.nn.Module):
    """An oracle of three attributes, each of them "this channel is bright": a pixel's colour decides."""

    attributes = ["Smiling", "Young", "Male"]
    image_size = None

    def forward(self, images):
        return 40 * images.mean((2, 3))


def flat(*bits, size=4):
    """The uint8 picture that Colours decides so: a channel is bright where the bit is 1."""
    levels = torch.tensor([0.5 if bit else -0.5 for bit in bits])
    return to_uint8(levels[:, None, None].expand(3, size, size)).numpy()
