"""Writing the files of explained images: pictures, difference maps, Info, and trajectories."""

from concurrent.futures import ThreadPoolExecutor

import torch

from guided_diffusion.script.storage import write_text

from ..data.images import to_uint8, write_png
from .layout import PARTS, image_id
from .records import correct, flipped


def parts_of(masks, pre_explanations):
    """The names of the folders of an image's files. masks, pre_explanations: whether these are written, too."""
    return (*PARTS, *["Mask"] * bool(masks), *["Pre"] * bool(pre_explanations))


def write_images(layout, table, images, explanation, masks=False, pre_explanations=False):
    """Writes the files of a batch.

    table: the batch's records; images (N, 3, H, W) in [-1, 1]; explanation: their Explanation.
    """
    pictures = {"CF": to_uint8(explanation.counterfactual).cpu(), "Noise": to_uint8(explanation.start).cpu()}
    pixels, right, reached = to_uint8(images).cpu(), correct(table), flipped(table)
    if masks:
        pictures["Mask"] = 255 * explanation.mask[:, 0].to(torch.uint8).cpu()
    if pre_explanations:
        pictures["Pre"] = to_uint8(explanation.pre_explanation).cpu()

    def write_row(row, record):
        name, place = f"{image_id(record['id'])}.png", (right[row], reached[row])
        folders = {part: layout.part(*place, part) for part in parts_of(masks, pre_explanations)}
        original = layout.originals(right[row])
        for folder in (original, *folders.values()):
            folder.mkdir(parents=True, exist_ok=True)
        write_png(original / name, pixels[row])
        for part, batch in pictures.items():
            write_png(folders[part] / name, batch[row])
        write_png(folders["SM"] / name, difference_map(pixels[row], pictures["CF"][row]))
        write_text(folders["Info"] / f"{image_id(record['id'])}.txt", _info(record))

    with ThreadPoolExecutor() as pool:  # so that no image waits until the one before is on the disk
        list(pool.map(write_row, range(len(table)), table.to_dict("records")))


def write_step(layout, kind, ids, step, images):
    """Writes one step of trajectories. kind: x_t or z_t; images: (N, 3, H, W) in [-1, 1], one for each id."""
    for i, pixels in zip(ids, to_uint8(images).cpu(), strict=True):
        folder = layout.trajectory(kind, image_id(i))
        folder.mkdir(parents=True, exist_ok=True)
        write_png(folder / f"{step:04d}.png", pixels)


def difference_map(pixels, cf_pixels):
    """Two uint8 (3, H, W) -> uint8 (H, W): Σ_c |x - cf| scaled to its maximum; all 0 where they are equal."""
    difference = (pixels.float() - cf_pixels.float()).abs().sum(0)
    return (255 * difference / difference.max().clamp(min=1)).round().to(torch.uint8)


def _info(record):
    return (
        f"label: {record['label']}\npred: {record['pred']}\ntarget: {record['target']}\n"
        f"cf pred: {record['cf_pred']}\nBKL: {record['bkl']:.6f}\nl_1: {record['l_1']:.6f}\n"
    )
