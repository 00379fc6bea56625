"""Where in images as they are the colour goes with p, the attributes alike: a shortcut that no attribute names."""

from dataclasses import dataclass

import numpy as np

from ..metrics.intervals import draw_signs, p_against_largest
from .change_map import LEVEL, Region, find_regions, pixels_of
from .places import known_places

LEAST = 0.1  # what the colour of a place has to move p by, to count as used
FEWEST, PER_ATTRIBUTE = 50, 5  # images, at least: in all, and for each attribute that is held alike
NEARLY_NOTHING, NOTHING = 1e-6, 1e-9  # singular values, of the largest and of any, that are no direction
KNOWN = 0.5  # of a place, from which it is that of an attribute
OFTEN = 0.25  # of the counterfactuals, in which a pixel must be an attribute's own to be a place of it here


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
    It is tested by drawing the signs of what is left of p, each block against the largest of all: that holds where
    both p and the colours vary more in some images than in others, too (a wild bootstrap).
    """
    n, blocks = len(p), colours.shape[2] * colours.shape[3]
    attributes = _directions(np.column_stack([np.ones(n), has]))
    free = n - int((attributes**2).sum().round())
    if n < max(FEWEST, PER_ATTRIBUTE * (n - free)):
        return None

    def left_of(values):
        return values - attributes @ (attributes.T @ values)

    parts = left_of(colours.transpose(0, 2, 3, 1).reshape(n, -1).astype(float)).reshape(n, blocks, 3)
    parts = np.stack([_directions(part) for part in parts.transpose(1, 0, 2)], 1).reshape(n, -1)

    def explained(values):
        """(n, K) -> (blocks, K), the shares of the squares."""
        along = (parts.T @ values).reshape(blocks, 3, -1)
        return (along**2).sum(1) / np.maximum((values**2).sum(0), NOTHING)

    rest = left_of(np.asarray(p, float))[:, None]
    found = explained(rest)[:, 0]
    largest = np.concatenate([explained(left_of(rest * signs)).max(0) for signs in draw_signs(n, seed)])
    share = np.maximum(found - 3 / free, 0) / (1 - 3 / free)
    effect = (2 * np.sqrt(share) * rest.std()).reshape(colours.shape[2:])
    p_of = p_against_largest(found * (1 - 1e-9), largest).reshape(effect.shape)
    return ColourMap(effect, p_of, find_regions((p_of < LEVEL) & (effect >= LEAST), effect))


def judge_colours(colour_map, taken):
    """The ColourPlaces of a ColourMap, of None []. taken: (n, H, W), as judge_places has it."""
    places, known = [], known_places(taken, OFTEN).numpy()
    for region in colour_map.regions if colour_map else ():
        inside = pixels_of(region.blocks, *known.shape)
        share, effect = float(known[inside].mean()), float(colour_map.effect[region.blocks].max())
        places.append(ColourPlace(region.place, region.share, region.box, effect, share, share < KNOWN))
    return places


def _directions(columns):
    """(n, K) -> an orthonormal basis (n, K) of what they span, with zeros for each direction that they have not."""
    u, values, _ = np.linalg.svd(columns, full_matrices=False)
    return u * (values > max(NEARLY_NOTHING * values[0], NOTHING))
