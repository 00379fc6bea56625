"""What the regions of the map of change do to p: the classifier's use of what no attribute names."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..metrics.intervals import LEVEL, normal_mean_interval, simultaneous_margin
from .change_map import Region, pixels_of
from .evidence import Undone, undo
from .ranking import LEAST, within

KNOWN = 0.25  # of a region's change, from which it counts as a place of the attributes that are known to be used
OFTEN = 0.05  # of the images, in which a pixel must be a known attribute's to be a place of it
AROUND = 1 / 16  # of the image's side: as near to such a pixel is still the same place


@dataclass
class Place:
    """A Region, and how far p falls where it is changed back; the places of known attributes stay as they are.

    known: how much of its change those have. used: whether p hangs on the rest. undone: of each image.
    """

    region: Region
    pixels: torch.Tensor  # (H, W) booleans: those that are changed back
    known: float
    effect: float
    effect_low: float
    effect_high: float
    score_low: float
    undone: Undone

    def facts(self):
        """What is kept of it, but for its pixels."""
        region = {name: getattr(self.region, name) for name in ("place", "share", "box", "change")}
        return region | {
            name: getattr(self, name) for name in ("known", "effect", "effect_low", "effect_high", "used")
        }

    @property
    def used(self):
        moves_p = self.effect >= LEAST and self.effect_low > 0 and self.score_low > 0
        return self.known < KNOWN and moves_p


def judge_places(change_map, pairs, taken, networks):
    """The Places of a ChangeMap of n pairs. taken: (n, H, W), the pixels of the asked and the named attributes."""
    regions, n = change_map.regions, len(pairs)
    if not regions:
        return []
    known = known_places(taken)
    inside = [torch.from_numpy(pixels_of(region.blocks, *known.shape)) for region in regions]
    undone = [undo(range(n), (each & ~known).expand(n, -1, -1), pairs, networks) for each in inside]
    margin = simultaneous_margin(np.stack([found.effect for found in undone], 1))
    level = 1 - (1 - LEVEL) / len(regions)
    places = []
    for region, pixels, found in zip(regions, inside, undone, strict=True):
        low, high = within(-1, 1, normal_mean_interval(found.effect, level))
        effect, share = float(found.effect.mean()), _share(change_map.change, pixels, known)
        places.append(Place(region, pixels & ~known, share, effect, low, high, effect - margin, found))
    return places


def known_places(taken, often=OFTEN):
    """(n, H, W) booleans, the pixels of attributes in each image -> (H, W), where these attributes lie.

    An attribute's own pixels in one image are the fewest that bring it back; where it lies is known from all.
    often: the share of the images in which a pixel must be an attribute's.
    """
    width = 2 * round(AROUND * min(taken.shape[1:])) + 1
    there = (taken.float().mean(0) >= often).float()
    return F.max_pool2d(there[None, None], width, 1, width // 2)[0, 0] > 0


def _share(change, pixels, known):
    """How much of the change (H, W) in some pixels (H, W) lies in the known ones (H, W)."""
    change = torch.from_numpy(change)
    return float(change[pixels & known].sum() / change[pixels].sum().clamp(min=1e-12))
