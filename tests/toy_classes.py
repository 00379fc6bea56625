"""Pictures of three classes, red, green and blue, and a classifier that tells them apart."""

import numpy as np
import torch
from main_runs import main_flags
from PIL import Image
from toy_networks import Channels

ARCHITECTURE = "toy_networks:Channels"
COLOURS = ("blue", "green", "red")  # as a folder sorts them
CHANNELS = ("red", "green", "blue")  # as the classifier does
RED, GREEN, BLUE = range(3)  # by the classifier's numbers


def draw_colour(path, colour, seed):
    """A picture of 18 x 22 in which one channel is the brightest, by less or more."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(110, 25, (22, 18, 3))
    pixels[..., CHANNELS.index(colour)] += rng.integers(10, 40)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


def write_colours(root, each=3):
    """A folder with a subfolder for each colour, of `each` pictures -> root."""
    for number, colour in enumerate(COLOURS):
        for i in range(each):
            draw_colour(root / colour / f"{i}.png", colour, [number, i])
    return root


def write_classifier(path, names=CHANNELS, **about):
    """Weights of Channels, as celeba-train-classifier.py --task classes writes them -> path."""
    contents = {
        "architecture": ARCHITECTURE, "attributes": list(names), "task": "classes", "image_size": 16,
        "state_dict": Channels(len(names)).state_dict(),
    }  # fmt: skip
    torch.save(contents | about, path)
    return path


def class_flags(toy_files, tmp_path):
    """A command line that explains nine pictures; one is blue for its folder and red for the classifier."""
    draw_colour(write_colours(tmp_path / "colours") / "blue/0.png", "red", 7)
    return main_flags(toy_files, tmp_path / "out") | {
        "data_dir": tmp_path / "colours",
        "split": "all",
        "classifier_path": write_classifier(tmp_path / "channels.pt"),
        "classifier_architecture": ARCHITECTURE,
    }


def unnamed(names=None):
    """The classifier, saying nothing but, perhaps, the names of its outputs."""
    network = Channels(3).requires_grad_(False)
    network.attributes, network.task, network.image_size = names, None, None
    return network


def logits(images):
    """What the classifier makes of images (N, 3, H, W) in [-1, 1]."""
    return Channels(3).requires_grad_(False)(images)
