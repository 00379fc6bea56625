"""A classifier for small images, where torchvision's networks halve the resolution too soon to see a mouth."""

import torch
from torch import nn


class SmallCNN(nn.Module):
    """images (N, 3, H, W), best of 32 to 128 pixels -> logits (N, num_outputs). 0.9 M parameters for 40."""

    def __init__(self, num_outputs):
        super().__init__()
        self.features = nn.Sequential(
            *_conv(3, 32, stride=2),
            *_conv(32, 64, stride=2),
            *_conv(64, 64),
            *_conv(64, 128, stride=2),
            *_conv(128, 128),
            *_conv(128, 192, stride=2),
            *_conv(192, 192),
        )
        self.pool = nn.AdaptiveAvgPool2d(4)  # where in the image something lies is part of the answer
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(192 * 16, num_outputs)

    def forward(self, x):
        x = self.features(x)  # (N, 192, H/16, W/16)
        x = torch.flatten(self.pool(x), 1)  # (N, 3072)
        return self.classifier(self.dropout(x))


def _conv(channels, out_channels, stride=1):
    conv = nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(out_channels), nn.SiLU()
