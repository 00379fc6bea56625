"""What the regions of the map of change do to p: the classifier's use of what no attribute names."""

from dataclasses import dataclass

import numpy as np
import torch

from ..metrics.intervals import LEVEL, normal_mean_interval, simultaneous_margin
from .change_map import Region, pixels_of
from .evidence import Undone, undo
from .ranking import LEAST, within

KNOWN = 0.25  # of a region's change, from which it counts as a place of the attributes that are known to be used


@dataclass
class Place:
    """A Region, and how far p falls where it is changed back; the pixels of known attributes stay as they are.

    known: how much of its change those pixels have. used: whether p hangs on the rest. undone: of each image.
    """

    region: Region
    known: float
    effect: float
    effect_low: float
    effect_high: float
    score_low: float
    undone: Undone

    @property
    def used(self):
        return self.known < KNOWN and self.effect >= LEAST and self.score_low > 0


def judge_places(regions, pairs, taken, networks):
    """The Places of the Regions of n pairs. taken: (n, H, W), the pixels of the asked and the named attributes."""
    if not regions:
        return []
    pixels = [torch.from_numpy(pixels_of(region.blocks, *taken.shape[1:])) for region in regions]
    undone = [undo(range(len(pairs)), ~taken & inside, pairs, networks) for inside in pixels]
    margin = simultaneous_margin(np.stack([found.effect for found in undone], 1))
    level = 1 - (1 - LEVEL) / len(regions)
    known = _known_shares(pixels, pairs, taken)
    places = []
    for region, found, share in zip(regions, undone, known, strict=True):
        low, high = within(-1, 1, normal_mean_interval(found.effect, level))
        effect = float(found.effect.mean())
        places.append(Place(region, share, effect, low, high, effect - margin, found))
    return places


def _known_shares(pixels, pairs, taken):
    """How much of the change in each of some pixels (H, W) lies in the taken ones (n, H, W), over all pairs."""
    whole, known = np.zeros(len(pixels)), np.zeros(len(pixels))
    for pair, own in zip(pairs, taken, strict=True):
        original, counterfactual = pair.pixels()
        change = (counterfactual.float() - original).abs().mean(0)
        whole += [float(change[inside].sum()) for inside in pixels]
        known += [float(change[inside & own].sum()) for inside in pixels]
    return [float(share) for share in known / np.maximum(whole, 1e-12)]
