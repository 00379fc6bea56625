"""What the regions of the map of change do to p: the classifier's use of what no attribute names."""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from ..metrics.intervals import LEVEL, simultaneous_margin
from .change_map import pixels_of
from .evidence import undo
from .examples import Example
from .ranking import LEAST_EFFECT, effect_interval

KNOWN_CHANGE = 0.25  # a region counts as a place of known attributes from this share of its change
PLACE_PIXEL_FROM = 0.05  # of the images: a pixel that is an attribute's own in so many is a place of it
AROUND = 1 / 16  # of the image's side: as near to such a pixel is still the same place


@dataclass
class Place:
    """A Region, and how far p falls where it is changed back; the places of known attributes stay as they are.

    known: how much of its change those have. used: whether p hangs on the rest.
    """

    place: str
    share: float
    box: tuple[float, float, float, float]
    change: float
    known: float
    effect: float
    effect_low: float
    effect_high: float
    used: bool
    examples: list[Example] = field(default_factory=list)


def judge_places(change_map, pairs, known_pixels, networks):
    """A list of (Place, the pixels (H, W) that are changed back, the effects (n,)), for each region of a ChangeMap.

    known_pixels: (n, H, W), of n pairs, those of the asked and the named attributes.
    """
    regions, n, places = change_map.regions, len(pairs), []
    if not regions:
        return []
    known, change = known_places(known_pixels), torch.from_numpy(change_map.change)
    inside = [torch.from_numpy(pixels_of(region.blocks, *known.shape)) for region in regions]
    effects = [undo(range(n), (each & ~known).expand(n, -1, -1), pairs, networks).effect for each in inside]
    margin = simultaneous_margin(np.stack(effects, 1))
    level = 1 - (1 - LEVEL) / len(regions)
    for r, pixels, falls in zip(regions, inside, effects, strict=True):
        effect, (low, high) = float(falls.mean()), effect_interval(falls, level)
        known_change = float(change[pixels & known].sum() / change[pixels].sum().clamp(min=1e-12))
        used = known_change < KNOWN_CHANGE and effect >= LEAST_EFFECT and low > 0 and effect > margin
        place = Place(r.place, r.share, r.box, r.change, known_change, effect, low, high, used)
        places.append((place, pixels & ~known, falls))
    return places


def known_places(known_pixels, often=PLACE_PIXEL_FROM):
    """(n, H, W) booleans, the pixels of attributes in each image -> (H, W), where these attributes lie.

    An attribute's own pixels in one image are the fewest that bring it back; where it lies is known from all.
    often: the share of the images in which a pixel must be an attribute's.
    """
    width = 2 * round(AROUND * min(known_pixels.shape[1:])) + 1
    there = (known_pixels.float().mean(0) >= often).float()
    return F.max_pool2d(there[None, None], width, 1, width // 2)[0, 0] > 0
