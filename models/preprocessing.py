"""What a library does to an image before its network sees it, in torch: the gradient runs through it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms.functional import center_crop, to_pil_image

from guided_diffusion.script.choices import INTERPOLATIONS
from guided_diffusion.script.errors import UserError

# Pillow rounds to 8 bits after each of the two directions that it resizes in, torch not at all.
TOLERANCE = 2 / 255


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its images; without any argument, as they are, in [-1, 1].

    resize: (h, w) that the whole image is resized to, None: its own size; crop: (h, w) of the centre that is kept
    then, None: all of it. mean, std: what each channel, in [0, 1], is reduced and divided by.
    """

    resize: tuple | None = None
    crop: tuple | None = None
    mean: tuple = (0.5, 0.5, 0.5)
    std: tuple = (0.5, 0.5, 0.5)
    interpolation: str = "bilinear"

    def changed(self, size=None, mean=None, std=None, interpolation=None):
        """The same with what a user asks for instead. size: pixels to resize to, and crop nothing."""
        resize, crop = (self.resize, self.crop) if size is None else ((size, size), None)
        return Preprocessing(resize, crop, mean or self.mean, std or self.std, interpolation or self.interpolation)

    def describe(self):
        """The words after "images"."""
        size = f"resized to {_pixels(self.resize)} ({self.interpolation})" if self.resize else "at their own size"
        cropped = f", the centre {_pixels(self.crop)} kept" if self.crop not in (None, self.resize) else ""
        return f"{size}{cropped}, mean {_numbers(self.mean)}, std {_numbers(self.std)}"


class Preprocess(nn.Module):
    """images (N, 3, H, W) in [-1, 1] -> (N, 3, h, w), as a Preprocessing says.

    Resizing is antialiased, like Pillow's. Beside a sharp edge a bicubic filter makes values beyond black and
    white. They are kept, where Pillow, which has 8 bits, clips them: a clipped pixel has no gradient.
    """

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.register_buffer("mean", torch.tensor(how.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(how.std).view(3, 1, 1), persistent=False)

    def forward(self, images):
        size, mode = self.how.resize, self.how.interpolation
        if size is not None and size != tuple(images.shape[-2:]):
            options = {"mode": "nearest-exact"} if mode == "nearest" else {"mode": mode, "antialias": True}
            images = F.interpolate(images, size, **options)
        images = (images + 1) / 2
        if self.how.crop is not None:
            images = center_crop(images, list(self.how.crop))  # a crop larger than the image adds black
        return (images - self.mean) / self.std


def settle(how, transform, changes, name, role):
    """The Preprocessing that a network gets: the library's, `how`, with the user's changes (see changed).

    transform: the library's own, PIL image -> (3, h, w). `how` is held against it, unless the changes leave nothing
    of it: a library has hundreds of networks, some with a step that no common field of a configuration says.
    UserError, with the flags of the role (classifier or oracle), for what torch cannot do or is not known here.
    """
    possible = how
    if how.interpolation not in INTERPOLATIONS:
        possible = how.changed(interpolation=changes.get("interpolation"))
    if possible.interpolation not in INTERPOLATIONS:
        raise UserError(
            f"{name} wants its images resized by {how.interpolation}, which torch has not; "
            f"give --{role}_interpolation {INTERPOLATIONS[-1]}"
        )
    if not {"size", "mean", "std"} <= changes.keys() and not _same(possible, transform):
        raise UserError(
            f"{name} wants its images in a way that is not known here ({how.describe()} is not all of it); "
            f"give --{role}_size, --{role}_mean and --{role}_std to say what it shall get"
        )
    return how.changed(**changes)


def _same(how, transform):
    """Whether a library's transform makes of square images what `how` does."""
    # Soft spots, which a bicubic filter carries no further than black and white.
    spots = 0.2 + 0.6 * torch.rand(1, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    for size in (48, 256):
        picture = F.interpolate(spots, (size, size), mode="bilinear", align_corners=True)[0]
        pixels = (255 * picture).round().to(torch.uint8)
        try:
            theirs, ours = transform(to_pil_image(pixels)), Preprocess(how)(pixels[None] / 127.5 - 1)[0]
        except Exception:  # a transform may be anybody's, and `how` only half of it
            return False
        std = torch.tensor(how.std).view(3, 1, 1)
        if theirs.shape != ours.shape or ((theirs - ours) * std).abs().max() > TOLERANCE:
            return False
    return True


def _pixels(size):
    height, width = size
    return str(height) if height == width else f"{height} x {width}"


def _numbers(values):
    shown = [f"{value:.4g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else ",".join(shown)
