"""The attributes that a picture of a drawn face shows: those of the rendering that is nearest to it."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np

from core.data.images import read_image
from demo.faces import JPEG_QUALITY, VISIBLE_ATTRIBUTES, render

VISIBLE_CHANGE = 24  # grey levels, at the pixel that a toggle moves most


@dataclass(frozen=True)
class Reading:
    """attributes: what the picture shows. told: the attributes, but for the query, that it can tell about.
    query_share: how much of the query's change is in the picture: 0 as it is not, 1 as it is in `attributes`
    given to the search, more where the change is overdone; NaN where it would not be seen.
    """

    attributes: dict[str, bool]
    told: list[str]
    query_share: float


class Portraits:
    """The renderings of one nuisance seed, each as a data set of S × S images holds it: (3, S, S), 0 … 255."""

    def __init__(self, nuisance: int, size: int):
        self.nuisance, self.size = nuisance, size
        self._drawn: dict[frozenset[str], np.ndarray] = {}

    def __call__(self, attributes: dict[str, bool]) -> np.ndarray:
        key = frozenset(name for name, value in attributes.items() if value)
        if key not in self._drawn:
            file = BytesIO()
            render(attributes, self.nuisance).save(file, "JPEG", quality=JPEG_QUALITY)
            self._drawn[key] = read_image(file, self.size).numpy().astype(float)
        return self._drawn[key]

    def change(self, attributes: dict[str, bool], name: str) -> np.ndarray:
        """What toggling an attribute adds to the rendering."""
        return self(toggled(attributes, name)) - self(attributes)

    def tells(self, attributes: dict[str, bool], name: str) -> bool:
        """Whether the toggle would be seen: not below a hat, say, and not where another attribute decides."""
        return bool(np.abs(self.change(attributes, name)).max() >= VISIBLE_CHANGE)


def toggled(attributes: dict[str, bool], name: str) -> dict[str, bool]:
    return attributes | {name: not attributes[name]}


def read_attributes(pixels, attributes: dict[str, bool], query: str, portraits: Portraits) -> Reading:
    """The attributes that a picture (3, S, S) in 0 … 255 of a face shows, the search starting at `attributes`.

    Greedy: of the toggles of one attribute the one that brings the rendering nearest to the picture is made,
    until none brings it nearer. So a toggle is made where more than half of what it adds to the rendering is
    found in the picture, by projection. What lies across it, as noise does, has no say, and a difference that two
    attributes could explain counts once.
    Distances are squared, and measured across the query's change, so that a query which changed by half, or too
    much, is not taken for other attributes.
    """
    told = [name for name in VISIBLE_ATTRIBUTES if name != query and portraits.tells(attributes, name)]
    query_change = portraits.change(attributes, query)

    def distance(candidate):
        left = pixels - portraits(candidate)
        across = left - _share(left, query_change) * query_change
        return float((across**2).sum())

    shown, nearest, trying = attributes, distance(attributes), told
    while True:
        tried = {name: distance(toggled(shown, name)) for name in trying}
        helpful = [name for name in trying if tried[name] < nearest]
        if helpful:
            best = min(helpful, key=tried.get)
            shown, nearest, trying = toggled(shown, best), tried[best], helpful
        elif trying is not told:  # what did not help at first, as paler skin hid it, may help now
            trying = told
        else:
            break

    if not portraits.tells(shown, query):
        return Reading(shown, told, float("nan"))
    share = 1 - _share(pixels - portraits(shown), portraits.change(shown, query))
    return Reading(shown if share > 0.5 else toggled(shown, query), told, share)


def _share(difference: np.ndarray, change: np.ndarray) -> float:
    """How much of `change` there is in `difference`, by projection; 0 where nothing changes."""
    return float((difference * change).sum() / max((change**2).sum(), 1))
