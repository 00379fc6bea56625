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
    _require_batch(images, name)
    if channels not in (None, images.shape[1]):
        raise UserError(
            f"{name} has {images.shape[1]} channels (shape {_shape(images)}), but must have {channels}; "
            f"grey images are made RGB by {name}.expand(-1, 3, -1, -1)"
        )
    if images.dtype != torch.float32:
        bytes_ = images.dtype == torch.uint8
        remedy = f"{name} / 127.5 - 1 makes it so of 0 … 255" if bytes_ else f"give {name}.float()"
        raise UserError(f"{name} is {images.dtype}, but must be torch.float32 in [-1, 1]; {remedy}")
    largest = images.detach().abs().amax().item()
    if math.isnan(largest):
        raise UserError(f"{name} has NaN values; it must be images in [-1, 1]")
    if largest > LARGEST:
        raise UserError(
            f"{name} has values up to {largest:g} in size, but must be images in [-1, 1]; "
            f"{name} / 127.5 - 1 makes them so of 0 … 255"
        )


def _require_batch(images, name):
    if not isinstance(images, torch.Tensor):
        raise UserError(f"{name} is a {type(images).__name__}, but must be a torch.Tensor (N, C, H, W) in [-1, 1]")
    if images.dim() != 4:
        remedy = f"; {name}[None] is a batch of one" if images.dim() == 3 else ""
        raise UserError(f"{name} has shape {_shape(images)}, but must be (N, C, H, W){remedy}")
    if not images.numel():
        raise UserError(f"{name} is empty (shape {_shape(images)}); give at least one image")


def require_logits(logits, count):
    """UserError unless a classifier made logits of `count` images: (N,) of a binary question, or (N, K)."""
    if not isinstance(logits, torch.Tensor):
        raise UserError(f"classifier makes a {type(logits).__name__} of images, but must make a tensor of logits")
    if logits.shape[:1] != (count,) or logits.dim() > 2 or logits.dim() == 2 and logits.shape[1] < 2:
        raise UserError(
            f"classifier makes shape {_shape(logits)} of {count} images, but must make logits (N,) of a binary "
            "question, such as logits[:, 0], or (N, K) of K classes"
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
        raise UserError(f"target has shape {_shape(classes)}, but must be a class or (N,) classes, here ({count},)")
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


def _shape(tensor):
    return tuple(tensor.shape)
