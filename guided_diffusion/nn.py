"""Small layers and functions that the UNet needs and torch does not have."""

import math

import torch
from torch import nn


class GroupNorm32(nn.GroupNorm):
    """GroupNorm(groups, channels), computed in float32 whatever the input's precision."""

    def forward(self, x):
        if x.device.type == "cpu":  # its kernel computes in float32 by itself, and spares two copies
            return super().forward(x)
        return super().forward(x.float()).to(x.dtype)


def zeroed(module):
    """Sets every parameter of `module` to zero, so that a residual branch begins as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def timestep_embedding(timesteps, dim, max_period=10000):
    """(N,) timesteps, fractional ones too -> (N, dim) float32: cosines, then sines.

    The frequencies fall geometrically from 1 to 1 / max_period (Vaswani et al. 2017, section 3.5).
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32) / half)
    angles = timesteps[:, None].float() * frequencies.to(timesteps.device)
    embedding = torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)
    return nn.functional.pad(embedding, (0, dim % 2))
