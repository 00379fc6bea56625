"""Contact sheets of images, and of samples that a diffusion model draws."""

import torch
from torchvision.utils import make_grid

from guided_diffusion.script.storage import write_file

from .images import encode_png, to_uint8


def write_sheet(path, images, columns, scale=1):
    """Writes a PNG of images (N, 3, H, W) in [-1, 1], in rows of `columns`, each pixel enlarged `scale` times."""
    pixels = to_uint8(images.cpu()).repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    grid = make_grid(pixels, nrow=columns, padding=2 * scale, pad_value=255)
    write_file(path, lambda file: encode_png(file, grid))


def sample_images(diffusion, model, image_size, num, device, stream):
    """(num, 3, S, S) images that the model makes of noise. stream: a torch.Generator of the CPU, for all noise."""

    def noise(like):
        return torch.randn(like.shape, generator=stream).to(like.device)

    z = torch.randn((num, 3, image_size, image_size), generator=stream).to(device)
    return diffusion.p_sample_loop(model, z, noise)


def sample_sheet(diffusion, model, image_size, path, device, num=16, seed=0):
    """Samples `num` images and writes their sheet. The noise is the same at every call, to compare checkpoints."""
    stream = torch.Generator().manual_seed(seed)
    write_sheet(path, sample_images(diffusion, model, image_size, num, device, stream), columns=8)
