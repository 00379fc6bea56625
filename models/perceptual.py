"""VGG features for perceptual distances (Johnson et al., 2016): images in [-1, 1] -> feature maps."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import VGG16_Weights, VGG19_Weights, vgg

from guided_diffusion.script.errors import UserError

from .checkpoints import describe, load_state, read_weights
from .downloads import published_weights

# kind: (torchvision's configuration, its ImageNet weights)
VGGS = {"VGG16": ("D", VGG16_Weights.IMAGENET1K_V1), "VGG19": ("E", VGG19_Weights.IMAGENET1K_V1)}
VGG19_LAYERS = 37
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PerceptualFeatures(nn.Module):
    """ImageNet's normalisation, then frozen layers: images (N, 3, H, W) in [-1, 1] -> features (N, C, h, w)."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images):
        # hardtanh computes clamp(-1, 1). Its gradient at -1 and 1, where clipped images lie, is 0; clamp's is 1 in
        # torch 2.6 and 0 in 2.14, with which the golden numbers were computed.
        return self.layers(((F.hardtanh(images) + 1) / 2 - self.mean) / self.std)


def vgg19_features(layer, path=None, image_size=None):
    """The first `layer` layers (1 to 37) of torchvision's VGG-19 features, counting ReLU and pooling.

    image_size: height and width of the images, None where it is not known. path: see vgg_layers. UserError for a
    layer out of range, for one so deep that the images have no pixel left, and where there are no weights.
    """
    if not 1 <= layer <= VGG19_LAYERS:
        raise UserError(f"--l_perc_layer is {layer}; give 1 to {VGG19_LAYERS}, the layers of VGG19")
    with torch.device("meta"):
        halvings = sum(isinstance(module, nn.MaxPool2d) for module in vgg.make_layers(vgg.cfgs["E"])[:layer])
    if image_size is not None and image_size < 2**halvings:
        raise UserError(
            f"--l_perc_layer {layer} halves the images {halvings} times, which --image_size {image_size} is too "
            "small for; give a lower layer"
        )
    return PerceptualFeatures(vgg_layers("VGG19", path, "perceptual_path")[0][:layer])


def vgg_layers(kind, path, flag):
    """(the convolutional layers of torchvision's VGG16 or VGG19, which `kind` names; the path of their weights).

    path: a file of torchvision's state dict, or only its `features.*`; None: its ImageNet weights, which are
    downloaded. UserError, naming `flag`, for another file.
    """
    config, weights = VGGS[kind]
    path = path or published_weights(weights.url, kind, flag)
    contents = read_weights(path)
    if not isinstance(contents, dict) or "features.0.weight" not in contents:
        raise UserError(f"{path} is {describe(contents)}, not a {kind}; check --{flag}")
    prefix = "features."
    state = {name.removeprefix(prefix): each for name, each in contents.items() if name.startswith(prefix)}
    # All layers are loaded, though fewer may be used: the first ones of VGG16 and VGG19 look the same.
    return load_state(vgg.make_layers(vgg.cfgs[config]), state, path, kind=kind), path
