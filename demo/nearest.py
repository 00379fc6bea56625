"""Reads the attributes that a picture of a drawn face shows: those of the nearest rendering."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np

from core.data.images import read_image
from demo.faces import JPEG_QUALITY, VISIBLE_ATTRIBUTES, render

VISIBLE_CHANGE = 24  # grey levels, at the pixel that a toggle changes most


@dataclass(frozen=True)
class Reading:
    """What a picture shows.

    attributes: those of the nearest rendering. told: the attributes other than the query that it can tell, because
    their change would be visible.
    query_share: how much of the query's change the picture has: 0 none, 1 as much as the rendering with the wanted
    attributes, above 1 more than that; NaN where the change would not be visible.
    """

    attributes: dict[str, bool]
    told: list[str]
    query_share: float


class Portraits:
    """The renderings with one nuisance seed. portraits(attributes) -> the image as a data set of S × S images holds
    it, (3, S, S) in 0 … 255."""

    def __init__(self, nuisance, size):
        self.nuisance, self.size = nuisance, size
        self._drawn = {}

    def __call__(self, attributes):
        key = frozenset(name for name, value in attributes.items() if value)
        if key not in self._drawn:
            file = BytesIO()
            render(attributes, self.nuisance).save(file, "JPEG", quality=JPEG_QUALITY)
            self._drawn[key] = read_image(file, self.size).numpy().astype(float)
        return self._drawn[key]

    def change(self, attributes, name):
        """The difference (3, S, S) that toggling an attribute makes to the rendering."""
        return self(toggled(attributes, name)) - self(attributes)

    def tells(self, attributes, name):
        """Whether toggling an attribute is visible. Below a hat it may not be, or where another overrides it."""
        return bool(np.abs(self.change(attributes, name)).max() >= VISIBLE_CHANGE)


def toggled(attributes, name):
    return attributes | {name: not attributes[name]}


def read_attributes(pixels, attributes, query, portraits):
    """The Reading of a picture of a face, (3, S, S) in 0 … 255. The search starts at `attributes`.

    Greedy search: toggle the attribute that brings the rendering nearest to the picture, until none brings it
    nearer. So an attribute is toggled if the picture has more than half of the difference that this makes to the
    rendering, by projection. Noise, which is orthogonal to it, has no influence, and a difference that two
    attributes could explain counts once.
    Distances are squared, and leave out the direction of the query's change. Otherwise a query that has changed by
    half, or too much, would be explained by other attributes.
    """
    visible = [name for name in VISIBLE_ATTRIBUTES if name != query and portraits.tells(attributes, name)]
    query_change = portraits.change(attributes, query)

    def distance(candidate):
        difference = pixels - portraits(candidate)
        orthogonal = difference - _share(difference, query_change) * query_change
        return float((orthogonal**2).sum())

    shown, smallest, candidates = attributes, distance(attributes), visible
    while True:
        distances = {name: distance(toggled(shown, name)) for name in candidates}
        helpful = [name for name in candidates if distances[name] < smallest]
        if helpful:
            best = min(helpful, key=distances.get)
            shown, smallest, candidates = toggled(shown, best), distances[best], helpful
        elif candidates is not visible:  # toggles that did not help before may help now
            candidates = visible
        else:
            break

    if not portraits.tells(shown, query):
        return Reading(shown, visible, float("nan"))
    share = 1 - _share(pixels - portraits(shown), portraits.change(shown, query))
    return Reading(shown if share > 0.5 else toggled(shown, query), visible, share)


def _share(difference, change):
    """The share of `change` that `difference` has, by projection; 0 where `change` is 0."""
    return float((difference * change).sum() / max((change**2).sum(), 1))
