import struct
import zlib

import numpy as np
import pytest
import torch
from assertions import refusal
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from core.data.images import centre_crop, from_uint8, read_image, to_uint8, write_png
from guided_diffusion.errors import UserError

BYTES = torch.arange(256, dtype=torch.uint8)


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
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path, header = tmp_path / "a.png", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    assert str(path) in refusal(UserError, read_image, path)


@pytest.mark.parametrize("shape", [(3, 5, 7), (5, 7)])
def test_what_is_written_is_read_back(tmp_path, shape):
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    write_png(tmp_path / "a.png", pixels)
    assert torch.equal(read_image(tmp_path / "a.png"), pixels.expand(3, 5, 7))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]  # no part of a file is left beside it


def test_an_old_image_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path, pixels = tmp_path / "a.png", torch.zeros(3, 5, 7, dtype=torch.uint8)
    write_png(path, pixels)

    def full_disk(image, file, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(UserError, match="No space left"):
        write_png(path, pixels + 1)
    assert torch.equal(read_image(path), pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
