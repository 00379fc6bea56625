"""The golden files: what was measured on the authors' release, with deterministic weights and noise."""

import json
from pathlib import Path

import numpy as np
import torch
from reference_weights import deterministic_tensor
from torchvision.models import vgg

from models.perceptual import PerceptualFeatures

REFERENCE = Path(__file__).parent / "reference"


def golden(name):
    """(arrays, model and diffusion flags or None) of reference/<name>.npz."""
    arrays = np.load(REFERENCE / f"{name}.npz")
    return arrays, json.loads(str(arrays["flags"])) if "flags" in arrays else None


def reference_vgg19(layer):
    """The VGG19 features of the golden files."""
    layers = vgg.make_layers(vgg.cfgs["E"])[:layer]
    state = layers.state_dict()
    layers.load_state_dict({name: deterministic_tensor(f"features.{name}", state[name]) for name in state})
    return PerceptualFeatures(layers)


class SeededNoise:
    """noise(like) of one numpy stream, which remembers what it gave."""

    def __init__(self, seed=1234):
        self.rng = np.random.default_rng(seed)
        self.given = []

    def __call__(self, like):
        self.given.append(torch.from_numpy(self.rng.standard_normal(like.shape)).to(like.dtype))
        return self.given[-1]
