"""Oracles: the classifiers that judge counterfactuals, never the one that guided them.

The published oracle predicts CelebA's 40 attributes from 128 features of VGGFace2's ResNet-50 (vggface2.py). Its
file calls the layers as Caffe does.
"""

import re

import torch
import torch.nn.functional as F
from torch import nn

from .by_name import load_by_name
from .checkpoints import load_state, read_weights
from .classifiers import classifier_from, from_file, require_names
from .vggface2 import caffe_resnet50

CAFFE_LAYERS = {"1x1_reduce": "1", "3x3": "2", "1x1_increase": "3"}  # of a block: torchvision's number


class Oracle(nn.Module):
    """The published oracle: images (N, 3, H, W) in [-1, 1], RGB -> logits (N, num_outputs)."""

    # Subtracted from blue, green and red in this order: the published weights were trained on that.
    MEAN = (131.0912, 103.8827, 91.4953)

    def __init__(self, num_outputs=40):
        super().__init__()
        self.feat_extract = caffe_resnet50()
        self.feat_extract.fc = nn.Linear(2048, 128, bias=False)
        self.classifier = nn.Linear(128, num_outputs)
        self.register_buffer("mean", torch.tensor(self.MEAN).view(3, 1, 1) / 255, persistent=False)

    def forward(self, images):
        x = ((images + 1) / 2).flip(1) - self.mean
        x = F.interpolate(x, size=(224, 224), mode="bicubic", align_corners=False)
        return self.classifier(self.feat_extract(x))


def load_oracle(path, architecture=None, weights=None, changes=None, image_size=None, run_code=True):
    """The published oracle, or any classifier (see load_classifier) as one -> Classifier.

    UserError for what is neither, with the flags --oracle_... of what should change.
    """
    named = load_by_name(path, architecture, weights, changes, image_size, run_code, "oracle")
    if named is not None:
        return named
    contents = read_weights(path)
    match contents:
        case {
            "feat_extract": {"conv1_7x7_s2.weight": _} as trunk,
            "classifier": {"bias": torch.Tensor(shape=[num_outputs])} as head,
        }:
            require_names(None, num_outputs, path)
            oracle = Oracle(num_outputs)
            state = {_torchvisions_name(name): tensor for name, tensor in trunk.items()}
            if "fc.weight" in state:  # as a convolution of 1 x 1
                state["fc.weight"] = state["fc.weight"].flatten(1)
            load_state(oracle.feat_extract, state, path, kind="40-attribute oracle")
            load_state(oracle.classifier, head, path, kind="40-attribute oracle")
            return from_file(oracle, "oracle_resnet50_128", changes=changes)
    return classifier_from(contents, path, architecture, changes, image_size, "oracle")


def _torchvisions_name(name):
    """The name in torchvision of Caffe's tensor: conv3_1_1x1_reduce_bn.bias is layer2.0.bn1.bias."""
    block = re.fullmatch(r"conv(\d)_(\d)_(1x1_reduce|3x3|1x1_increase|1x1_proj)(_bn)?(\.\w+)", name)
    if block is None:
        return name.replace("conv1_7x7_s2_bn", "bn1").replace("conv1_7x7_s2", "conv1").replace("feat_extract", "fc")
    stage, number, layer, norm, kind = block.groups()
    if layer == "1x1_proj":
        part = "downsample.1" if norm else "downsample.0"
    else:
        part = ("bn" if norm else "conv") + CAFFE_LAYERS[layer]
    return f"layer{int(stage) - 1}.{int(number) - 1}.{part}{kind}"
