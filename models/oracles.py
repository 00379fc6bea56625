"""Oracles: the classifiers that judge counterfactuals, never the one that guided them.

The published oracle predicts CelebA's 40 attributes from the 128 features of a ResNet-50 that was pretrained
on VGGFace2 (Cao et al., 2018) in its Caffe layout: a block strides in its first convolution. Its modules
carry the Caffe layers' names, so that the published file fits without renaming.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .by_name import load_by_name
from .checkpoints import load_state, read_weights
from .classifiers import classifier_from, from_file, require_names

STAGES = {2: (64, 3), 3: (128, 4), 4: (256, 6), 5: (512, 3)}  # stage: (width, number of bottlenecks)


class OracleFeatures(nn.Module):
    """ResNet-50: preprocessed images (N, 3, 224, 224) -> features (N, 128)."""

    def __init__(self):
        super().__init__()
        self._add_conv("conv1_7x7_s2", 3, 64, kernel_size=7, stride=2, padding=3)
        channels = 64
        for stage, (width, depth) in STAGES.items():
            for block in range(1, depth + 1):
                name = f"conv{stage}_{block}"
                stride = 2 if block == 1 and stage > 2 else 1
                self._add_conv(f"{name}_1x1_reduce", channels, width, kernel_size=1, stride=stride)
                self._add_conv(f"{name}_3x3", width, width, kernel_size=3, padding=1)
                self._add_conv(f"{name}_1x1_increase", width, 4 * width, kernel_size=1)
                if block == 1:
                    self._add_conv(f"{name}_1x1_proj", channels, 4 * width, kernel_size=1, stride=stride)
                channels = 4 * width
        self.feat_extract = nn.Conv2d(channels, 128, kernel_size=1, bias=False)

    def forward(self, x):  # (N, 3, 224, 224)
        x = F.relu(self._conv("conv1_7x7_s2", x))  # (N, 64, 112, 112)
        x = F.max_pool2d(x, kernel_size=3, stride=2, ceil_mode=True)  # (N, 64, 56, 56)
        for stage, (_, depth) in STAGES.items():
            for block in range(1, depth + 1):
                x = self._bottleneck(f"conv{stage}_{block}", x)
        x = F.avg_pool2d(x, kernel_size=7)  # (N, 2048, 1, 1)
        return self.feat_extract(x).flatten(1)  # (N, 128)

    def _bottleneck(self, name, x):
        y = F.relu(self._conv(f"{name}_1x1_reduce", x))
        y = F.relu(self._conv(f"{name}_3x3", y))
        y = self._conv(f"{name}_1x1_increase", y)
        skip = self._conv(f"{name}_1x1_proj", x) if hasattr(self, f"{name}_1x1_proj") else x
        return F.relu(y + skip)

    def _add_conv(self, name, channels_in, channels_out, **options):
        self.add_module(name, nn.Conv2d(channels_in, channels_out, bias=False, **options))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(channels_out))

    def _conv(self, name, x):
        return getattr(self, f"{name}_bn")(getattr(self, name)(x))


class Oracle(nn.Module):
    """The published oracle: images (N, 3, H, W) in [-1, 1], RGB -> logits (N, num_outputs)."""

    # Subtracted from blue, green and red in this order: the published weights were trained on that.
    MEAN = (131.0912, 103.8827, 91.4953)

    def __init__(self, num_outputs=40):
        super().__init__()
        self.feat_extract = OracleFeatures()
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
            load_state(oracle.feat_extract, trunk, path, kind="40-attribute oracle")
            load_state(oracle.classifier, head, path, kind="40-attribute oracle")
            return from_file(oracle, "oracle_resnet50_128", changes=changes)
    return classifier_from(contents, path, architecture, changes, image_size, "oracle")
