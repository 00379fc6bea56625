"""Where counterfactuals differ from their originals: a map of change with a test, and named regions.

Why the test is not scipy's permutation_test: of 1,000 images and 256 blocks that takes 20 seconds, and the matrix
products below a tenth of one.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from ..metrics.batches import progress, read_batches
from ..metrics.intervals import draw_signs, p_against_largest

BLOCKS = 16  # a side: what the map is tested in
FALSE_ALARMS = 0.05  # the probability that chance alone makes any block stand out
EVERYWHERE = "nearly everywhere"  # what a large region is called
MOST_REGIONS = 8  # that are looked at, the largest changes


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
    originals, 0 to 255. images: (n, B, B), the change of each. p: of each block, that it changes more than in the
    control, or, without one, than its image does in the mean; corrected for the number of blocks.
    """

    change: np.ndarray
    signed: np.ndarray
    control: np.ndarray | None
    original: np.ndarray
    images: np.ndarray
    p: np.ndarray
    regions: list[Region]


def map_change(pairs, control, batches):
    """The ChangeMap of n Pairs. control: those of the same images in the control experiment, or None."""
    (change, signed, original), images = _mean_change(pairs, batches)
    control_change, expected = None, images.mean((1, 2), keepdims=True)
    if control:
        (control_change, *_), expected = _mean_change(control, batches)
    p = max_t_test((images - expected).reshape(len(pairs), -1)).reshape(images.shape[1:])
    regions = find_regions(p < FALSE_ALARMS, images.mean(0))
    return ChangeMap(change, signed, control_change, original, images, p, regions)


def _mean_change(pairs, batches):
    """(the means over the pairs (3, H, W): change, signed change, original; the changes in blocks (n, B, B))."""
    sums, blocks = 0, []
    in_batches = read_batches(lambda pair: pair.pixels(), pairs, batches.size, batches.workers)
    with progress(total=len(pairs), desc="mapping", unit="image") as bar:
        for original, counterfactual in in_batches:
            change = counterfactual.float() - original
            parts = change.abs().mean(1), change.mean(1), original.float().mean(1)
            sums = sums + torch.stack([part.sum(0, dtype=torch.float64) for part in parts])
            blocks.append(F.adaptive_avg_pool2d(parts[0], min(BLOCKS, *change.shape[-2:])))
            bar.update(len(change))
    return (sums / len(pairs)).numpy(), torch.cat(blocks).numpy()


def max_t_test(differences, seed=0):
    """(n, K) differences of n images -> (K,) p, one-sided, that their mean is above 0, corrected for all K.

    The signs of the images are flipped at random, those of an image all together: exact where a difference is as
    likely as its negative. Each of the K statistics, Student's t, is held against the largest of all (Westfall and
    Young, 1993).
    """
    differences = np.asarray(differences, np.float64)
    n, squares = len(differences), (differences**2).sum(0)
    if n < 2:
        return np.ones(differences.shape[1])

    def t(sums):
        spread = np.maximum(squares - sums**2 / n, 1e-12)
        return sums / np.sqrt(n / (n - 1) * spread)

    observed = t(differences.sum(0))
    largest = np.concatenate([t(signs.T @ differences).max(1) for signs in draw_signs(n, seed)])
    # A little less than observed: these signs count as well, in whatever order a draw of them is summed up.
    return p_against_largest(observed - 1e-9 - 1e-6 * np.abs(observed), largest)


def find_regions(blocks, change):
    """(B, B) booleans and changes -> the Regions, the largest sum of change first, at most MOST_REGIONS."""
    labels, count = ndimage.label(blocks, np.ones((3, 3)))
    parts = sorted((labels == number for number in range(1, count + 1)), key=lambda part: -change[part].sum())
    regions, times = [], Counter()
    for part in parts[:MOST_REGIONS]:
        place = place_of(part)
        times[place] += 1
        name = f"{place} ({times[place]})" if times[place] > 1 else place
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
    rows, columns = np.arange(height) * len(blocks) // height, np.arange(width) * blocks.shape[1] // width
    return blocks[np.ix_(rows, columns)]
