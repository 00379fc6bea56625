"""VGG-19 features for the perceptual distance (Johnson et al., 2016): images in [-1, 1] -> feature maps."""
from pathlib import Path

import torch
from torch import nn
from torchvision.models import VGG19_Weights, vgg

from .checkpoints import CheckpointError, ModelError, describe, load_state, read_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PerceptualFeatures(nn.Module):
    """Frozen layers behind ImageNet's normalisation: images (N, 3, H, W) in [-1, 1] -> (N, C, h, w)."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images):
        return self.layers(((images.clamp(-1, 1) + 1) / 2 - self.mean) / self.std)


def vgg19_features(layer, path=None, image_size=None):
    """The first `layer` layers (1 to 37) of torchvision's VGG-19 features, counting ReLU and pooling.

    image_size: pixels of the images, None where it is not known; too small ones have no pixel at deep layers.
    path: a file of torchvision's vgg19 state dict, or of its `features.*` alone; None for the ImageNet
    weights in torch.hub's cache (under TORCH_HOME), downloaded when they are not there. Raises ModelError for
    a layer out of range or too deep, and CheckpointError where there are no such weights.
    """
    features = vgg.make_layers(vgg.cfgs["E"])
    if not 1 <= layer <= len(features):
        raise ModelError(f"--l_perc_layer is {layer}; give 1 to {len(features)}, the layers of VGG19")
    halvings = sum(isinstance(module, nn.MaxPool2d) for module in features[:layer])
    if image_size is not None and image_size < 2**halvings:
        raise ModelError(
            f"--l_perc_layer {layer} halves the images {halvings} times, which --image_size {image_size} is too "
            "small for; give a lower layer"
        )
    path = path or _pretrained_file()
    contents = read_weights(path)
    match contents:
        case {"features.0.weight": _}:
            state = {
                name.removeprefix("features."): tensor
                for name, tensor in contents.items()
                if name.startswith("features.")
            }
        case _:
            raise CheckpointError(f"{path} is {describe(contents)}, not a VGG19; check --perceptual_path")
    # All of the layers, though fewer are used: the first of VGG-16 have the same names and shapes.
    load_state(features, state, path, kind="VGG19")
    return PerceptualFeatures(features[:layer])


def _pretrained_file():
    """torch.hub's copy of the ImageNet weights, downloaded first where there is none."""
    url = VGG19_Weights.IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2])
        except (OSError, RuntimeError) as error:  # no network or no room; another hash
            raise CheckpointError(
                f"VGG19's weights are not at {path} and cannot be downloaded ({error}); "
                "put them there, or give --perceptual_path"
            ) from error
    return path
