"""Classifiers for small images. Torchvision's networks halve the resolution too early to see a mouth in these."""

from functools import partial

import torch
from torch import nn


class SmallCNN(nn.Module):
    """images (N, 3, H, W), best with H and W from 32 to 128 -> logits (N, num_outputs).

    small_cnn, with width 32, has 0.9 M parameters for 40 outputs; tiny_cnn, with width 16, 0.2 M for 5.
    """

    def __init__(self, num_outputs, width=32):
        super().__init__()
        self.features = nn.Sequential(
            *_conv(3, width, stride=2),
            *_conv(width, 2 * width, stride=2),
            *_conv(2 * width, 2 * width),
            *_conv(2 * width, 4 * width, stride=2),
            *_conv(4 * width, 4 * width),
            *_conv(4 * width, 6 * width, stride=2),
            *_conv(6 * width, 6 * width),
        )
        self.pool = nn.AdaptiveAvgPool2d(4)  # not 1: where in the image something lies matters
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(6 * width * 16, num_outputs)

    def forward(self, x):
        x = self.features(x)  # (N, 6 width, H/16, W/16)
        x = torch.flatten(self.pool(x), 1)  # (N, 96 width)
        return self.classifier(self.dropout(x))


def _conv(channels, out_channels, stride=1):
    conv = nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(out_channels), nn.SiLU()


ARCHITECTURES = {"small_cnn": SmallCNN, "tiny_cnn": partial(SmallCNN, width=16)}
