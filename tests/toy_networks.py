"""Networks small enough for tests: stand-ins with a closed form, tiny UNets, and weights of them on disk."""

import torch
import torch.nn.functional as F
from reference_weights import deterministic_array, deterministic_state

from core.data.datasets import CELEBA_ATTRIBUTES
from guided_diffusion.script_util import create_model
from models.checkpoints import attach_flags

TINY_FLAGS = {
    "image_size": 8,
    "num_channels": 32,
    "channel_mult": "1,2",
    "num_res_blocks": 1,
    "attention_resolutions": "4",
    "num_heads": 2,
}
MODEL_FLAGS = {
    "image_size": 16,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,1",
    "attention_resolutions": "8",
    "num_heads": 2,
    "resblock_updown": True,
    "learn_sigma": True,
    "diffusion_steps": 40,
    "noise_schedule": "linear",
}


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


def grey_denoiser(z, t):
    """A network without a learned variance, which knows little but that images lie in [-1, 1]."""
    return 0.95 * torch.tanh(z)


def brightness_logit(images):
    """A binary question: is the image brighter than grey?"""
    return 20 * images.mean((1, 2, 3))


def stand_in_classifier(size=32, name="gradients.W"):
    """Images (N, 3, size, size) -> (N,) logits with a gradient that depends on the image."""
    weights = deterministic_array(name, (3 * size**2,), 0.05)

    def classifier(images):
        return images.flatten(1) @ weights + 0.1 * images.flatten(1).square().sum(1)

    return classifier


def stand_in_features(images):
    """A perceptual network: images (N, 3, H, W) -> (N, 4, H-2, W-2)."""
    return F.conv2d(images, deterministic_array("patterns", (4, 3, 3, 3), 0.3)).tanh()


class Brightness(torch.nn.Module):
    """A classifier of 40 attributes, each of them "the image is brighter than a threshold"."""

    def __init__(self, num_outputs):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((num_outputs,), 20.0))
        self.threshold = torch.nn.Parameter(torch.linspace(-0.1, 0.1, num_outputs))

    def forward(self, images):
        return self.scale * (images.mean((1, 2, 3))[:, None] - self.threshold)


def brightness():
    """Brightness as --classifier_path takes it: built without arguments, with the names of its answers."""
    network = Brightness(40)
    network.attributes = list(CELEBA_ATTRIBUTES)
    return network


class Channels(torch.nn.Module):
    """A classifier of at most three classes: how bright is each channel?"""

    def __init__(self, num_outputs):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((num_outputs,), 20.0))

    def forward(self, images):
        return self.scale * images.mean((2, 3))[:, : len(self.scale)]


def write_weights(root):
    """ddpm.pt and classifier.pt, of random weights and of Brightness."""
    torch.manual_seed(0)
    unet = create_model(**MODEL_FLAGS)
    for parameter in unet.parameters():
        if not parameter.any():  # what begins at zero, so that every layer matters
            torch.nn.init.normal_(parameter, std=0.02)
    torch.save(attach_flags(unet.state_dict(), MODEL_FLAGS), root / "ddpm.pt")
    classifier = {"architecture": "toy_networks:Brightness", "attributes": list(CELEBA_ATTRIBUTES)}
    classifier |= {"image_size": 16, "state_dict": Brightness(40).state_dict()}
    torch.save(classifier, root / "classifier.pt")
    return root
