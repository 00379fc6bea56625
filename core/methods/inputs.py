"""Checks of the arguments of the Python interface: a UserError, which is a ValueError, names the wrong one.

A check that looks at values waits for the device. None is made at every step of a chain.
"""

import math

import torch

from guided_diffusion.script.errors import UserError

LARGEST = 1.01  # of an image in [-1, 1]: rounding may go a little beyond


def require_images(images, name="x", channels=None):
    """UserError, naming the argument, unless images are (N, C, H, W) float32 in [-1, 1], at least one.

    channels: how many they must have; None: any number.
    """
    if fault := _fault_of(images, channels):
        raise UserError(f"{name} {fault}; give images (N, C, H, W) in [-1, 1], a torch.Tensor of float32")


def _fault_of(images, channels):
    """What require_images finds wrong, in words; "" for nothing."""
    if not isinstance(images, torch.Tensor):
        return f"is a {type(images).__name__}"
    if images.dim() != 4:
        return f"has shape {tuple(images.shape)}, where [None] would make a batch of one image"
    if not images.numel():
        return f"is empty (shape {tuple(images.shape)})"
    if channels not in (None, images.shape[1]):
        return f"has {images.shape[1]} channels instead of {channels}, which expand(-1, 3, -1, -1) makes of grey"
    if images.dtype != torch.float32:
        return f"is {images.dtype}"
    largest = images.detach().abs().amax().item()
    if math.isnan(largest):
        return "has NaN values"
    return f"has values up to {largest:g} in size" if largest > LARGEST else ""


def require_logits(logits, count):
    """UserError unless a classifier made logits of `count` images: (N,) of a binary question, or (N, K)."""
    if not isinstance(logits, torch.Tensor):
        raise UserError(f"classifier makes a {type(logits).__name__} of images, but must make a tensor of logits")
    if logits.shape[:1] != (count,) or logits.dim() > 2 or logits.dim() == 2 and logits.shape[1] < 2:
        raise UserError(
            f"classifier makes shape {tuple(logits.shape)} of {count} images, but must make logits (N,) of a "
            "binary question, such as logits[:, 0], or (N, K) of K classes"
        )


def as_classes(target, count, device):
    """A class, or (N,) classes -> (N,) int64 on the device; UserError where they are none, or not N."""
    try:
        classes = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise UserError(f"target {target!r} is no class; give its number, or a tensor (N,) of numbers") from None
    if classes.dtype.is_floating_point or classes.dtype.is_complex:
        raise UserError(f"target is {classes.dtype}, but must be whole numbers, the classes' own")
    if classes.dim() and classes.shape != (count,):
        raise UserError(f"target has shape {tuple(classes.shape)}, but must be a class, or ({count},) classes")
    return classes.to(device, torch.int64).expand(count)


def require_classes(target, logits, lowest=0):
    """UserError where one of the (N,) targets is below `lowest` or no class of the logits. Waits for the device."""
    count = 2 if logits.dim() == 1 else logits.shape[1]
    first, last = target.aminmax()
    for value in (int(first), int(last)):
        if not lowest <= value < count:
            raise UserError(
                f"target {value} is no class of the classifier; it must be from {lowest} to {count - 1}"
            )
