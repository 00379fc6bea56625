"""Where in images as they are the colour goes with p, the attributes alike: a shortcut that no attribute names."""

from dataclasses import dataclass

import numpy as np

from ..metrics.intervals import RESAMPLES
from .change_map import LEVEL, Region, find_regions, pixels_of

LEAST = 0.1  # what the colour of a place has to move p by, to count as used
PER_REGRESSOR = 3  # images, at least, for each attribute that is held alike
NEARLY_NOTHING, NOTHING = 1e-6, 1e-9  # singular values, of the largest and of any, that are no direction
KNOWN = 0.5  # of a place, from which it is that of an attribute


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
    three channels of each block: the root of the share that they explain, times twice its deviation, is the
    difference between two halves of the images that a two-coloured block would make. It is tested by permuting what
    is left of p (Freedman and Lane, 1983), each block against the largest of all.
    """
    n, blocks = len(p), colours.shape[2] * colours.shape[3]
    attributes = _directions(np.column_stack([np.ones(n), has]))
    if n < PER_REGRESSOR * attributes.shape[1]:
        return None

    def left_of(values):
        return values - attributes @ (attributes.T @ values)

    rest = left_of(np.asarray(p, float))
    parts = left_of(colours.transpose(0, 2, 3, 1).reshape(n, -1).astype(float))
    parts = np.stack([_directions(part) for part in parts.reshape(n, blocks, 3).transpose(1, 0, 2)], 1)

    def explained(values):
        """(n, K) -> (blocks, K), the shares of the squares."""
        along = (parts.reshape(n, -1).T @ values).reshape(blocks, 3, -1)
        return (along**2).sum(1) / np.maximum((values**2).sum(0), 1e-12)

    found, rng = explained(rest[:, None])[:, 0], np.random.default_rng(seed)
    drawn = [explained(rng.permuted(np.tile(rest[:, None], 100), axis=0)).max(0) for _ in range(RESAMPLES // 100)]
    largest = np.sort(np.concatenate(drawn))
    as_large = RESAMPLES - np.searchsorted(largest, found * (1 - 1e-9))
    size = colours.shape[2:]
    effect = (2 * np.sqrt(found) * rest.std()).reshape(size)
    p_of = ((1 + as_large) / (1 + RESAMPLES)).reshape(size)
    return ColourMap(effect, p_of, find_regions((p_of < LEVEL) & (effect >= LEAST), effect))


def judge_colours(colour_map, known):
    """The ColourPlaces of a ColourMap, of None []. known: (H, W) booleans, see known_places."""
    places = []
    for region in colour_map.regions if colour_map else ():
        inside = pixels_of(region.blocks, *known.shape)
        share, effect = float(known.numpy()[inside].mean()), float(colour_map.effect[region.blocks].max())
        places.append(ColourPlace(region.place, region.share, region.box, effect, share, share < KNOWN))
    return places


def _directions(columns):
    """(n, K) -> an orthonormal basis (n, K) of what they span, with zeros for each direction that they have not."""
    u, values, _ = np.linalg.svd(columns, full_matrices=False)
    return u * (values > max(NEARLY_NOTHING * values[0], NOTHING))
