"""The pictures of a report: small ones of large images, the signed difference, and the addresses of the rest."""

from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from PIL import Image

from ..data.images import read_image
from ..results.layout import TRAJECTORIES
from ..results.reading import read_trajectory

SMALL = 128  # pixels of a thumbnail; images up to this size are their own
FULL = 48  # grey levels of change that are drawn in full colour
LEVELS = 32  # steps of a difference, up and down
DARKER, BRIGHTER = (47, 107, 214), (221, 92, 36)  # of a difference
STEPS = 12  # of a trajectory that are shown


@dataclass
class Pictures:
    """The addresses of a case's pictures, relative to the report. small_: what the gallery shows."""

    original: str
    counterfactual: str
    small_original: str
    small_counterfactual: str
    difference: str | None  # None where the two are not of one size
    mask: str | None
    size: str  # such as 128 × 128
    start: str | None
    steps: dict[str, list[str]]  # x_t, z_t -> pictures of some steps


def address(path, root):
    """The address of a file of the results folder, as a page in its folder report/ needs it."""
    return "/".join(["..", *(quote(part) for part in path.relative_to(root).parts)])


def change_of(pair):
    """(H, W) signed change of a pixel in grey levels: how much, a mean over the channels; its sign says whether it
    became brighter. None where the images are not of one size."""
    original, counterfactual = (read_image(p).numpy().astype(float) for p in (pair.original, pair.counterfactual))
    if original.shape != counterfactual.shape:
        return None
    difference = counterfactual - original
    return np.sign(difference.mean(0)) * np.abs(difference).mean(0)


def outside_mask(pair, change):
    """The share of a change (H, W) outside the mask of the pair; None without such a mask, or without a change."""
    path = pair.part("Mask")
    mask = None if path is None else read_image(path).numpy()[0] > 127
    if mask is None or change is None or mask.shape != change.shape or not change.any():
        return None
    return float(np.abs(change)[~mask].sum() / np.abs(change).sum())


def draw_pictures(case, experiment, root, folder):
    """Writes what the report needs of a case's images into the report's `folder` -> Pictures."""
    pair = case.pair
    change, name = change_of(pair), f"{experiment.place}-{case.id}"
    original, counterfactual = (address(path, root) for path in (pair.original, pair.counterfactual))
    mask, start = (pair.part(part) for part in ("Mask", "Noise"))
    with Image.open(pair.counterfactual) as image:
        width, height = image.size
    return Pictures(
        original,
        counterfactual,
        _thumbnail(pair.original, folder / f"{pair.classified}-{case.id}.jpg") or original,
        _thumbnail(pair.counterfactual, folder / f"{name}.jpg") or counterfactual,
        None if change is None else _draw_change(change, folder / f"{name}-difference.png"),
        address(mask, root) if mask else None,
        f"{width} × {height}",
        address(start, root) if start else None,
        _trajectories(experiment.run.layout, case.id),
    )


def _thumbnail(path, small):
    """Writes a small copy of a larger image -> its address; None for one that is small itself."""
    with Image.open(path) as image:
        if max(image.size) <= SMALL:
            return None
    if not small.exists():
        image = Image.fromarray(read_image(path).permute(1, 2, 0).numpy())
        image.thumbnail((SMALL, SMALL))
        image.save(small, quality=82)
    return f"{small.parent.name}/{small.name}"


def _draw_change(change, path):
    """Draws (H, W) signed grey levels: clear where nothing changed, blue where darker, orange where brighter."""
    if max(change.shape) > SMALL:
        image = Image.fromarray(change.astype(np.float32))
        image.thumbnail((SMALL, SMALL))
        change = np.asarray(image)
    levels = np.clip(np.round(change / FULL * LEVELS), -LEVELS, LEVELS).astype(int) + LEVELS
    picture = Image.frombytes("P", levels.shape[::-1], levels.astype(np.uint8).tobytes())
    picture.putpalette([*DARKER * LEVELS, 128, 128, 128, *BRIGHTER * LEVELS])
    strength = np.abs(np.arange(-LEVELS, LEVELS + 1)) / LEVELS
    picture.save(path, transparency=bytes(np.round(255 * strength**0.7).astype(np.uint8)), optimize=True)
    return f"{path.parent.name}/{path.name}"


def _trajectories(layout, name):
    """x_t, z_t -> the addresses of up to STEPS pictures, evenly spaced, the last one included; where saved."""
    trajectories = {}
    for kind in TRAJECTORIES:
        if paths := read_trajectory(layout, kind, name):
            steps = np.unique(np.linspace(0, len(paths) - 1, STEPS).round().astype(int))
            trajectories[kind] = [address(paths[step], layout.output_path) for step in steps]
    return trajectories
