"""Reading, cropping and writing image files. (guided_diffusion.pixels converts bytes to [-1, 1] and back.)"""

import numpy as np
import torch
from PIL import Image

from guided_diffusion.errors import UserError
from guided_diffusion.pixels import from_uint8 as from_uint8
from guided_diffusion.pixels import to_uint8 as to_uint8
from guided_diffusion.storage import write_file

SUFFIXES = (".png", ".jpg", ".jpeg")  # of image files, in lower case


def read_image(path, size=None):
    """An image file -> uint8 (3, H, W). With a size: resized on the short side, and cropped to a central square.

    Raises UserError, naming the file, where it is missing, is no image, or is larger than Pillow deems safe.
    """
    try:
        with Image.open(path) as image:
            image = _to_8_bits(image).convert("RGB")
    except FileNotFoundError:
        raise UserError(f"{path} is listed but not there; restore it or remove it from the list") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image ({error}); restore it") from None
    if size is not None:
        image = centre_crop(image, size)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _to_8_bits(image):
    """A PIL image of 16-bit greys -> the same in 8 bits, as Pillow would make it white; any other as it is."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))


def centre_crop(image, size):
    """A PIL image -> its central square, size x size: the short side is resized (bilinear, antialiased) to size."""
    short = min(image.size)
    width, height = (size * side // short for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def encode_png(file, pixels):
    """Writes pixels, uint8 (3, H, W) or (H, W), as a PNG to a path or an open file."""
    array = pixels.cpu().numpy()
    Image.fromarray(array.transpose(1, 2, 0) if array.ndim == 3 else array).save(file, format="PNG")


def write_png(path, pixels):
    """Writes pixels as a PNG, whole or not at all (write_file). pixels: as for encode_png."""
    write_file(path, lambda file: encode_png(file, pixels))
