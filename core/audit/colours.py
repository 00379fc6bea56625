"""Where in real images the colour goes with p, the attributes alike: a shortcut that no attribute names."""

from dataclasses import dataclass

import numpy as np

from ..metrics.intervals import draw_signs, p_against_largest
from .change_map import FALSE_ALARMS, Region, find_regions, pixels_of
from .places import known_places

LEAST_COLOUR_EFFECT = 0.1  # what the colour of a place has to move p by, to count as used
FEWEST_IMAGES, IMAGES_PER_ATTRIBUTE = 50, 5  # at least: in all, and for each attribute that is held alike
RELATIVE_ZERO, ZERO = 1e-6, 1e-9  # a singular value counts as 0 below this share of the largest, or this
KNOWN_AREA = 0.5  # a place counts as an attribute's from this share of its area
COLOUR_PIXEL_FROM = 0.25  # of the images: a pixel that is an attribute's own in so many is a place of it


@dataclass
class ColourMap:
    """effect: (B, B), by how much p differs between two halves of the images, as their colours in a block differ
    most. p: corrected for the number of blocks. regions: of the blocks that count, the strongest first."""

    effect: np.ndarray
    p: np.ndarray
    regions: list[Region]


@dataclass
class ColourPlace:
    """A Region of a ColourMap. effect: the largest of its blocks. known: the share of it that is the place of the
    asked attribute or of a named one. used: whether it says something new."""

    place: str
    share: float
    box: tuple[float, float, float, float]
    effect: float
    known: float
    used: bool


def map_colours(p, has, colours, seed=0):
    """(n,) probabilities, (n, A) booleans, (n, 3, B, B) mean colours -> the ColourMap; None of few images.

    The attributes are taken out of both p and the colours by least squares. What is left of p is explained by the
    three channels of each block, corrected for their number (adjusted R²). The root of that share, times twice the
    deviation of what is left, is the difference between two halves of the images that a block of two colours makes.
    The test draws the signs of what is left of p, and holds each block against the largest of all (a wild
    bootstrap). It holds where both p and the colours vary more in some images than in others, too.
    """
    n, blocks = len(p), colours.shape[2] * colours.shape[3]
    attributes = _basis(np.column_stack([np.ones(n), has]))
    free = n - int((attributes**2).sum().round())
    if n < max(FEWEST_IMAGES, IMAGES_PER_ATTRIBUTE * (n - free)):
        return None

    def residual(values):
        return values - attributes @ (attributes.T @ values)

    parts = residual(colours.transpose(0, 2, 3, 1).reshape(n, -1).astype(float)).reshape(n, blocks, 3)
    parts = np.stack([_basis(part) for part in parts.transpose(1, 0, 2)], 1).reshape(n, -1)

    def explained(values):
        """(n, K) -> (blocks, K), the shares of the squares."""
        along = (parts.T @ values).reshape(blocks, 3, -1)
        return (along**2).sum(1) / np.maximum((values**2).sum(0), ZERO)

    rest = residual(np.asarray(p, float))[:, None]
    observed = explained(rest)[:, 0]
    largest = np.concatenate([explained(residual(rest * signs)).max(0) for signs in draw_signs(n, seed)])
    share = np.maximum(observed - 3 / free, 0) / (1 - 3 / free)
    effect = (2 * np.sqrt(share) * rest.std()).reshape(colours.shape[2:])
    p_of = p_against_largest(observed * (1 - 1e-9), largest).reshape(effect.shape)
    return ColourMap(effect, p_of, find_regions((p_of < FALSE_ALARMS) & (effect >= LEAST_COLOUR_EFFECT), effect))


def judge_colours(colour_map, known_pixels):
    """The ColourPlaces of a ColourMap, of None []. known_pixels: (n, H, W), as judge_places has it."""
    places, known_map = [], known_places(known_pixels, COLOUR_PIXEL_FROM).numpy()
    for region in colour_map.regions if colour_map else ():
        share = float(known_map[pixels_of(region.blocks, *known_map.shape)].mean())
        effect = float(colour_map.effect[region.blocks].max())
        places.append(ColourPlace(region.place, region.share, region.box, effect, share, share < KNOWN_AREA))
    return places


def _basis(columns):
    """(n, K) -> an orthonormal basis (n, K) of what the columns span; one of zeros for each that adds nothing."""
    u, values, _ = np.linalg.svd(columns, full_matrices=False)
    return u * (values > max(RELATIVE_ZERO * values[0], ZERO))
