"""The only code that converts between images in [-1, 1] and bytes."""

import torch


def to_uint8(x):
    """Floats in [-1, 1], any shape -> uint8, rounded; values outside are clipped."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(pixels):
    """uint8 -> float32 in [-1, 1]; the inverse of to_uint8 on bytes."""
    return pixels.float() / 127.5 - 1
