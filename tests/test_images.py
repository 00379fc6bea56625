import os
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from assertions import refusal
from PIL import ExifTags, Image, ImageOps
from torchvision.transforms import CenterCrop, Compose, Resize

from core.data.images import centre_crop, from_uint8, read_image, to_uint8, write_png
from guided_diffusion.script.errors import UserError

BYTES = torch.arange(256, dtype=torch.uint8)


def chunk(kind, data):
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def photo(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_every_byte_survives_the_way_to_floats_and_back():
    x = from_uint8(BYTES)
    assert x.dtype is torch.float32 and x.min() == -1 and x.max() == 1
    assert torch.equal(to_uint8(x), BYTES)
    torch.testing.assert_close(torch.diff(x), torch.full((255,), 2 / 255))


@pytest.mark.parametrize(
    "value, byte", [(-7.0, 0), (7.0, 255), (0.0, 128), (0.003, 128), (-0.005, 127), (1.001, 255)]
)
def test_floats_are_rounded_and_clipped(value, byte):
    assert to_uint8(torch.tensor([value])).tolist() == [byte]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_bytes_too(dtype):
    x = from_uint8(BYTES).to(dtype)
    assert to_uint8(x).dtype is torch.uint8
    assert (to_uint8(x).int() - BYTES.int()).abs().max() <= (0 if dtype is torch.float64 else 1)


@pytest.mark.parametrize("width, height", [(178, 218), (218, 178), (61, 47), (64, 64), (33, 90), (20, 24)])
@pytest.mark.parametrize("size", [64, 47])
def test_resizing_and_cropping_is_torchvisions(width, height, size):
    image = photo(width, height)
    expected = Compose([Resize(size), CenterCrop(size)])(image)
    found = centre_crop(image, size)
    assert found.size == (size, size)
    np.testing.assert_array_equal(np.array(found), np.array(expected))


def test_an_image_is_read_as_channels_of_bytes(tmp_path):
    image = photo(20, 24)
    image.save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert pixels.dtype is torch.uint8 and pixels.shape == (3, 24, 20)
    np.testing.assert_array_equal(pixels.permute(1, 2, 0), np.array(image))
    assert read_image(tmp_path / "a.png", 16).shape == (3, 16, 16)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_images_of_any_mode_are_read_as_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    photo(10, 12).convert(mode).save(path)
    pixels = read_image(path)
    assert pixels.shape == (3, 12, 10)
    if mode in "L1":
        assert torch.equal(pixels[0], pixels[2])


def test_16_bits_of_grey_become_8(tmp_path):
    greys = torch.arange(256).repeat_interleave(2).reshape(16, 32).numpy().astype(np.uint16)
    Image.fromarray(greys * 257).save(tmp_path / "deep.png")
    Image.fromarray(greys.astype(np.uint8)).save(tmp_path / "plain.png")
    assert torch.equal(read_image(tmp_path / "deep.png"), read_image(tmp_path / "plain.png"))


def test_an_image_that_is_not_there_is_an_error_that_names_it(tmp_path):
    assert f"{tmp_path}/a.jpg" in refusal(UserError, read_image, tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "damage", [lambda whole: b"", lambda whole: b"text", lambda whole: whole[:600], lambda whole: whole[100:]]
)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_damaged_image_is_an_error_that_names_it(tmp_path, damage, suffix):
    path = tmp_path / f"a.{suffix}"
    photo(64, 64).save(path)
    path.write_bytes(damage(path.read_bytes()))
    assert str(path) in refusal(UserError, read_image, path)


def test_an_image_that_claims_to_be_huge_is_an_error_that_names_it(tmp_path):
    path, header = tmp_path / "a.png", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    assert str(path) in refusal(UserError, read_image, path)


@pytest.mark.parametrize("shape", [(3, 5, 7), (5, 7)])
def test_what_is_written_is_read_back(tmp_path, shape):
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    write_png(tmp_path / "a.png", pixels)
    assert torch.equal(read_image(tmp_path / "a.png"), pixels.expand(3, 5, 7))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]  # no part of a file is left beside it


# -- what is odd about an image ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_an_image_is_turned_as_its_exif_says(tmp_path, orientation, suffix):
    about = Image.Exif()
    about[ExifTags.Base.Orientation] = orientation
    photo(20, 24).save(tmp_path / f"a.{suffix}", exif=about)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        upright = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    found = read_image(tmp_path / f"a.{suffix}")
    assert found.shape == ((3, 20, 24) if orientation > 4 else (3, 24, 20))
    np.testing.assert_array_equal(found.permute(1, 2, 0), upright)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_takes_no_image_away(tmp_path):
    about = Image.Exif()
    about[ExifTags.Base.Orientation] = 6
    about[ExifTags.Base.ImageDescription] = "a picture"
    photo(20, 24).save(tmp_path / "whole.jpg", exif=about)
    whole = (tmp_path / "whole.jpg").read_bytes()
    at, rng, shapes = whole.index(b"MM\0*"), random.Random(0), set()
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[at + rng.randrange(40)] = rng.randrange(256)
        (tmp_path / "damaged.jpg").write_bytes(damaged)
        shapes.add(tuple(read_image(tmp_path / "damaged.jpg").shape))
    assert shapes == {(3, 20, 24), (3, 24, 20)}


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_is_refused_and_its_still_image_is_read(tmp_path, suffix):
    path, frames = tmp_path / f"a.{suffix}", [photo(20, 24, seed) for seed in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    message = refusal(UserError, read_image, path)
    assert message == f"{path} is an animation of 3 images; save one of them as a file"
    frames[0].save(path)
    assert read_image(path).shape == (3, 24, 20)


def test_several_photographs_in_one_file_are_no_animation(tmp_path):
    photo(20, 24).save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[photo(20, 24, 1)])
    assert read_image(tmp_path / "a.jpg").shape == (3, 24, 20)


def test_the_colours_of_cmyk_are_those_that_pillow_makes_of_it(tmp_path):
    red = Image.new("RGB", (8, 8), (250, 10, 10)).convert("CMYK")
    red.save(tmp_path / "a.jpg", quality=100)
    colour = read_image(tmp_path / "a.jpg", 4).float().mean((1, 2))
    assert colour[0] > 200 and (colour[1:] < 60).all()


def test_16_bits_of_colour_become_8(tmp_path):
    header, row = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0), struct.pack(">6H", *range(0, 61_680, 10_280))
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    assert read_image(tmp_path / "a.png").flatten().tolist() == [0, 120, 40, 160, 80, 200]


def test_an_image_of_one_pixel_is_a_square_of_its_colour(tmp_path):
    Image.new("RGB", (1, 1), (10, 200, 30)).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png", 16)
    assert pixels.shape == (3, 16, 16) and (pixels == torch.tensor([10, 200, 30])[:, None, None]).all()


def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert f"{tmp_path}/a.png is no file" in refusal(UserError, read_image, tmp_path / "a.png")
    assert f"{tmp_path} is no file" in refusal(UserError, read_image, tmp_path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_what_is_transparent_is_white_and_not_its_hidden_colour(tmp_path, mode):
    image = Image.new("RGBA", (4, 1), (200, 200, 200, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 127))
    if mode in ("P", "PA"):  # a palette holds one transparent colour
        image.putpixel((2, 0), (200, 200, 200, 255))
        image = image.quantize(4)
    path = tmp_path / f"a.{'tif' if mode == 'PA' else 'png'}"
    image.convert(mode).save(path)
    found = read_image(path)
    expected = [200, 255, 200 if mode in ("P", "PA") else 128, 200]
    assert found[0, 0].tolist() == expected and torch.equal(found[0], found[2])


def test_one_colour_may_be_declared_transparent(tmp_path):
    image = photo(4, 1)
    image.putpixel((1, 0), (1, 2, 3))
    image.save(tmp_path / "a.png", transparency=(1, 2, 3))
    found = read_image(tmp_path / "a.png")
    assert found[:, 0, 1].tolist() == [255] * 3 and found[:, 0, 0].tolist() == list(image.getpixel((0, 0)))


def test_an_opaque_alpha_changes_nothing(tmp_path):
    photo(20, 24).convert("RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").permute(1, 2, 0), np.array(photo(20, 24)))


@pytest.mark.parametrize("white", [1, 255])
def test_greys_in_floats_become_8_bits(tmp_path, white):
    greys = np.linspace(0, white, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(greys).save(tmp_path / "a.tif")
    assert torch.equal(read_image(tmp_path / "a.tif")[0].flatten(), BYTES)


@pytest.mark.parametrize(
    "greys, words",
    [
        (np.array([[-1.0, 1.0]], np.float32), "from -1 to 1"),
        (np.array([[0.0, 300.0]], np.float32), "from 0 to 300"),
        (np.array([[0.0, np.nan]], np.float32), "nan"),
        (np.array([[0, 70_000]], np.int32), "from 0 to 70000"),
    ],
)
def test_greys_of_which_none_is_known_to_be_white_are_refused(tmp_path, greys, words):
    Image.fromarray(greys).save(tmp_path / "a.tif")
    message = refusal(UserError, read_image, tmp_path / "a.tif")
    assert f"{tmp_path}/a.tif" in message and words in message and "save them in 8 bits" in message
