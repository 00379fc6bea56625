"""What the tests of guided_diffusion/ and core/ share: golden files, stand-ins, tolerances."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from reference_weights import deterministic_array, deterministic_state, deterministic_tensor
from torchvision.models import vgg

from guided_diffusion.script_util import create_model
from models.perceptual import PerceptualFeatures

REFERENCE = Path(__file__).parent / "reference"
TINY_FLAGS = {
    "image_size": 8, "num_channels": 32, "channel_mult": "1,2", "num_res_blocks": 1,
    "attention_resolutions": "4", "num_heads": 2,
}  # fmt: skip


def golden(name):
    """(arrays, model and diffusion flags or None) of reference/<name>.npz."""
    arrays = np.load(REFERENCE / f"{name}.npz")
    return arrays, json.loads(str(arrays["flags"])) if "flags" in arrays else None


def assert_near(actual, expected, tolerance=1e-5):
    """The largest difference is at most `tolerance` times the largest magnitude of `expected`."""
    actual, expected = (torch.as_tensor(each).detach().double() for each in (actual, expected))
    assert actual.shape == expected.shape
    largest = expected.abs().max()
    assert largest > 0, "nothing to be near to"
    difference = (actual - expected).abs().max() / largest
    assert difference <= tolerance, f"relative difference {difference:.2e}"


def filled(model):
    """The model with deterministic weights: fresh ones hold zeroed layers, which would hide faults."""
    model.load_state_dict(deterministic_state(model))
    return model.eval()


def tiny_unet(**flags):
    """A UNet for images of 8 x 8, unless the flags say otherwise, with deterministic weights."""
    return filled(create_model(**TINY_FLAGS | flags))


def stand_in_network(z, t):
    """A network of a learned variance: (N, C, H, W) -> (N, 2C, H, W)."""
    return torch.cat([0.9 * torch.tanh(z), torch.sin(3 * z)], dim=1)


def stand_in_classifier(size=32, name="gradients.W"):
    """Images (N, 3, size, size) -> (N,) logits with a gradient that depends on the image."""
    weights = deterministic_array(name, (3 * size**2,), 0.05)

    def classifier(images):
        return images.flatten(1) @ weights + 0.1 * images.flatten(1).square().sum(1)

    return classifier


def stand_in_features(images):
    """A perceptual network: images (N, 3, H, W) -> (N, 4, H-2, W-2)."""
    return F.conv2d(images, deterministic_array("patterns", (4, 3, 3, 3), 0.3)).tanh()


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


def flat(contents, prefix=""):
    """A nested dict -> path -> value."""
    if not isinstance(contents, dict | list):
        return {prefix: contents}
    items = contents.items() if isinstance(contents, dict) else enumerate(contents)
    return {path: leaf for key, value in items for path, leaf in flat(value, f"{prefix}/{key}").items()}


def assert_identical(one, other):
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys() and len(one) > 0
    for path, value in one.items():
        same = torch.equal(value, other[path]) if isinstance(value, torch.Tensor) else value == other[path]
        assert same, path
