"""Where counterfactuals differ from their originals: a map of change with a test, and named regions."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from ..metrics.batches import progress, read_batches
from ..metrics.intervals import RESAMPLES, p_against_largest

BLOCKS = 16  # a side: what the map is tested in
LEVEL = 0.05  # the probability that chance alone makes any block stand out
EVERYWHERE = "nearly everywhere"  # what a large region is called
MOST = 8  # regions that are looked at, the largest changes


@dataclass
class Region:
    """Adjoining blocks that stand out. place: in words; share: of the image; change: mean, in grey levels."""

    place: str
    share: float
    box: tuple[float, float, float, float]  # left, top, right, bottom, as shares of the image
    change: float
    blocks: np.ndarray  # (B, B) booleans


@dataclass
class ChangeMap:
    """Means over n images of what changed, in grey levels, H × W pixels or B × B blocks.

    change: absolute; signed: brighter less darker; control: the control's change, None without one; original: the
    originals, 0 to 255. images: (n, B, B), the change of each. p: of each block, corrected for their number; found:
    whether it changes more than in the control, or, without one, than its image does in the mean.
    """

    change: np.ndarray
    signed: np.ndarray
    control: np.ndarray | None
    original: np.ndarray
    images: np.ndarray
    p: np.ndarray
    regions: list[Region]

    @property
    def found(self):
        return self.p < LEVEL


def map_change(pairs, control, batch_size, workers=None):
    """The ChangeMap of n Pairs. control: those of the same images in the control experiment, or None."""
    own = _Means(pairs, batch_size, workers)
    other = _Means(control, batch_size, workers) if control else None
    images = own.blocks
    expected = images.mean((1, 2), keepdims=True) if other is None else other.blocks
    p = sign_flip_test((images - expected).reshape(len(pairs), -1)).reshape(images.shape[1:])
    control_change = None if other is None else other.change
    regions = find_regions(p < LEVEL, images.mean(0))
    return ChangeMap(own.change, own.signed, control_change, own.original, images, p, regions)


class _Means:
    """The means over the images of pairs, and the blocks (n, B, B) of each."""

    def __init__(self, pairs, batch_size, workers):
        sums, blocks = None, []
        with progress(total=len(pairs), desc="mapping", unit="image") as bar:
            for original, counterfactual in read_batches(lambda pair: pair.pixels(), pairs, batch_size, workers):
                change = counterfactual.float() - original
                parts = change.abs().mean(1), change.mean(1), original.float().mean(1)
                total = torch.stack([part.sum(0, dtype=torch.float64) for part in parts])
                sums = total if sums is None else sums + total
                blocks.append(F.adaptive_avg_pool2d(parts[0], min(BLOCKS, *change.shape[-2:])))
                bar.update(len(change))
        self.change, self.signed, self.original = (sums / len(pairs)).numpy()
        self.blocks = torch.cat(blocks).numpy()


def sign_flip_test(differences, seed=0):
    """(n, K) differences of n images -> (K,) p, one-sided, that their mean is above 0, corrected for all K.

    The images' signs are flipped at random, each image's all together: exact where a difference is as likely as its
    negative. The largest of the K statistics, Student's t, is what each is held against.
    """
    differences = np.asarray(differences, np.float64)
    n, squares = len(differences), (differences**2).sum(0)
    if n < 2:
        return np.ones(differences.shape[1])

    def t(sums):
        spread = np.maximum(squares - sums**2 / n, 1e-12)
        return sums / np.sqrt(n / (n - 1) * spread)

    rng, found = np.random.default_rng(seed), t(differences.sum(0))
    largest = [t(rng.choice([-1.0, 1.0], (100, n)) @ differences).max(1) for _ in range(RESAMPLES // 100)]
    least = found - 1e-9 - 1e-6 * np.abs(found)  # the signs as they are must count, however they are summed up
    return p_against_largest(least, np.concatenate(largest))


def find_regions(found, change):
    """(B, B) booleans and changes -> the Regions, the largest sum of change first, at most MOST."""
    labels, count = ndimage.label(found, np.ones((3, 3)))
    regions, places = [], {}
    parts = sorted((labels == number for number in range(1, count + 1)), key=lambda part: -change[part].sum())
    for part in parts[:MOST]:
        place = place_of(part)
        places[place] = places.get(place, 0) + 1
        name = place if places[place] == 1 else f"{place} ({places[place]})"
        regions.append(Region(name, float(part.mean()), box_of(part), float(change[part].mean()), part))
    return regions


def box_of(blocks):
    """(B, B) booleans -> left, top, right and bottom of their box, as shares of the image."""
    rows, columns = (np.flatnonzero(blocks.any(axis)) for axis in (1, 0))
    sides = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return tuple(float(side / size) for side, size in zip(sides, blocks.shape[::-1] * 2, strict=True))


def place_of(blocks):
    """Where (B, B) booleans lie, in words: top left corner, right, centre, nearly everywhere."""
    left, top, right, bottom = box_of(blocks)
    rows, columns = np.nonzero(blocks)
    y, x = (rows.mean() + 0.5) / blocks.shape[0], (columns.mean() + 0.5) / blocks.shape[1]
    vertical = "" if bottom - top > 2 / 3 else "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else ""
    horizontal = "" if right - left > 2 / 3 else "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    if not vertical and not horizontal:
        return EVERYWHERE if min(bottom - top, right - left) > 2 / 3 else "centre"
    at_corner = vertical and horizontal and (top == 0 or bottom == 1) and (left == 0 or right == 1)
    return " ".join(filter(None, (vertical, horizontal, "corner" if at_corner else "")))


def the(place):
    """A place as a sentence has it."""
    return place if place == EVERYWHERE else f"the {place}"


def pixels_of(blocks, height, width):
    """(B, B) booleans of blocks -> (H, W) of the pixels in them."""
    rows, columns = (
        np.arange(size) * count // size for size, count in zip((height, width), blocks.shape, strict=True)
    )
    return blocks[rows[:, None], columns]
