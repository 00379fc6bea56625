"""Reading, cropping and writing image files. (guided_diffusion.pixels converts bytes to [-1, 1] and back.)"""

import os
import re

import numpy as np
import torch
from PIL import ExifTags, Image

from guided_diffusion.pixels import from_uint8 as from_uint8
from guided_diffusion.pixels import to_uint8 as to_uint8
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import write_file

SUFFIXES = (".png", ".jpg", ".jpeg")  # of image files, in lower case
TURNS = {  # EXIF's orientation -> what puts the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LEAST_WHITE = 64  # of 255, that something in an image of 16 bits, or of floats, must reach
LONGEST = 16  # of a side, in short sides: what lies further from the centre is never seen
ANIMATED = ("GIF", "PNG", "WEBP")  # formats of moving pictures; in others several images are no animation


def read_image(path, size=None):
    """An image file -> uint8 (3, H, W). With a size: resized on the short side, and cropped to a central square.

    path: a path, or an open file. The image is turned as its EXIF orientation says, and lies on white where it is
    transparent.
    Raises UserError, naming the file, where it is missing, is no image, is an animation, is larger than Pillow
    deems safe, or has numbers that are no colours (_to_8_bits).
    """
    if not hasattr(path, "read"):
        require_image_file(path)
    try:
        with Image.open(path) as image:
            if image.format in ANIMATED and getattr(image, "n_frames", 1) > 1:
                raise UserError(f"{path} is an animation of {image.n_frames} images; save one of them as a file")
            deep = _has_16_bits(image)  # of which Pillow keeps the upper 8
            image = _on_white(_to_8_bits(_upright(image)))
            if deep and 0 < (brightest := max(high for _, high in image.getextrema())) < LEAST_WHITE:
                raise ValueError(f"its 16 bits use no more than {brightest + 1} of 256 parts; save it in 8 bits")
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image ({error}); restore it") from None
    if size is not None:
        image = centre_crop(image, size)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def require_image_file(path):
    """UserError where there is nothing at the path, or no file: reading a named pipe might never end."""
    if not os.path.exists(path):
        raise UserError(f"{path} is listed but not there; restore it or remove it from the list")
    if not os.path.isfile(path):
        raise UserError(f"{path} is no file; name an image")


def _has_16_bits(image):
    """Whether a PIL image that is not loaded has them for a colour, by Pillow's raw mode or by PPM's maximum."""
    for _, _, _, about in image.tile:
        raw_mode, *further = about if isinstance(about, tuple) else (about,)
        if re.search(";16[BLN]", str(raw_mode)) or image.format == "PPM" and further and further[0] > 255:
            return True
    return False


def _upright(image):
    """A PIL image turned as its EXIF orientation says; as it is where EXIF is damaged or says nothing."""
    image.load()  # Pillow turns a TIFF itself when it loads it, and then takes the orientation out of its EXIF
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # the reader of EXIF raises nearly anything on damaged bytes, which say nothing of the pixels
        return image
    return image if turn is None else image.transpose(turn)  # exif_transpose writes EXIF too, or fails to


def _to_8_bits(image):
    """A PIL image of greys in 16 bits, or in floats up to 1 or up to 255 -> the same in 8 bits; others as they are.

    ValueError where its numbers lie beyond, or reach no quarter of white, as 12-bit x-rays do in 16 bits and floats
    that overshoot 1: nothing says which of them is white.
    """
    if image.mode.startswith("I"):
        white = 65535
    elif image.mode == "F":
        white = 1 if image.getextrema()[1] <= 1 else 255
    else:
        return image
    greys = np.asarray(image)
    unused = white > 1 and 0 < greys.max() < LEAST_WHITE * (white // 255)
    if unused or not ((greys >= 0) & (greys <= white)).all():
        raise ValueError(f"its greys go from {greys.min():g} to {greys.max():g} of {white}; save them in 8 bits")
    return Image.fromarray(np.round(greys * (255 / white)).astype(np.uint8))


def _on_white(image):
    """A PIL image -> it in RGB. Transparent pixels become white: their own colours are whatever was left there."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def centre_crop(image, size):
    """A PIL image -> its central square, size x size: the short side is resized (bilinear, antialiased) to size."""
    short = min(image.size)
    if max(image.size) > LONGEST * short:  # resized whole it would take gigabytes
        image = image.crop(_centre_box(image.size, *(min(side, LONGEST * short) for side in image.size)))
    width, height = (size * side // short for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop(_centre_box(image.size, size, size))


def _centre_box(size, width, height):
    """Pillow's (left, top, right, bottom) of the centre, width x height, of an image of a size (W, H)."""
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    return left, top, left + width, top + height


def encode_png(file, pixels):
    """Writes pixels, uint8 (3, H, W) or (H, W), as a PNG to a path or an open file."""
    array = pixels.cpu().numpy()
    Image.fromarray(array.transpose(1, 2, 0) if array.ndim == 3 else array).save(file, format="PNG")


def write_png(path, pixels):
    """Writes pixels as a PNG, whole or not at all (write_file). pixels: as for encode_png."""
    write_file(path, lambda file: encode_png(file, pixels))
