"""The attributes by what they move: shares, effects and scores with intervals, and which of them are used."""

from dataclasses import dataclass

import numpy as np

from ..metrics.intervals import LEVEL, difference_interval, normal_mean_interval, simultaneous_margin
from .evidence import change_back

LEAST = 0.05  # a mean fall of p, where an attribute is changed back, below which it does not count as used


@dataclass
class Ranked:
    """An attribute's row of audit.csv. Intervals hold, with 95 %, for all attributes at once.

    Shares are of the n images. effect: the mean fall of p where the attribute alone is changed back, of effect_n
    images; None without any. effect_at_end: the same in the counterfactual itself (see falls). score: the mean over
    all n, where those count 0 in which it did not change or could not be told from the asked attribute. alike: an
    attribute that is named before, in whose pixels this one lies.
    """

    attribute: str
    n: int
    changed: float
    control: float
    excess: float
    excess_low: float
    excess_high: float
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    effect_n: int
    effect_at_end: float | None
    score: float
    score_low: float
    score_high: float
    asked: bool
    named: bool = False
    alike: str = ""


def rank(evidence, attributes, asked, controlled):
    """The Ranked, highest score first; none is named yet. controlled: whether there was a control experiment."""
    margin = simultaneous_margin(evidence.owed)
    rows = [_ranked(evidence, a, name, a == asked, controlled, margin) for a, name in enumerate(attributes)]
    return sorted(rows, key=lambda row: -row.score)


def _ranked(evidence, a, name, asked, controlled, margin):
    n, count = evidence.changed.shape
    level = 1 - (1 - LEVEL) / count
    changed, control, effects = evidence.changed[:, a], evidence.control[:, a], evidence.effect[:, a]
    told = ~np.isnan(effects)
    low, high = difference_interval(changed, control if controlled else None, level)
    interval = within(-1, 1, normal_mean_interval(effects[told], level)) if told.any() else (None, None)
    score = float(evidence.owed[:, a].mean())
    return Ranked(
        attribute=name,
        n=n,
        changed=float(changed.mean()),
        control=float(control.mean()),
        excess=float(changed.mean() - control.mean()),
        excess_low=low,
        excess_high=high,
        effect=float(effects[told].mean()) if told.any() else None,
        effect_low=interval[0],
        effect_high=interval[1],
        effect_n=int(told.sum()),
        effect_at_end=float(evidence.at_end[told, a].mean()) if told.any() else None,
        score=score,
        score_low=score - margin,
        score_high=score + margin,
        asked=asked,
    )


def within(lowest, highest, interval):
    """The interval, cut off at what can be; all that can be, where there is none."""
    if interval is None:
        return lowest, highest
    return max(interval[0], lowest), min(interval[1], highest)


def is_used(row):
    """Whether the images show that the classifier uses an attribute beside the one that it is asked about."""
    return not row.asked and row.score_low > 0 and row.excess_low > 0 and row.effect >= LEAST


def name_used(rows, evidence, pairs, taken, networks, controlled):
    """Sets `named` of the Ranked that are used, and `alike` of those that lie in the pixels of a named one.

    The highest score is named first. Each of the others is changed back anew, outside the pixels of those that were
    named before. taken: the pixels (n, H, W) of the asked attribute. Returns them with those of the named ones.
    """
    named = ""
    for row in filter(is_used, rows):
        a = networks.attributes.index(row.attribute)
        its = evidence.changed & (np.arange(len(rows)) == a)
        evidence, with_its = change_back(evidence, pairs, its, taken, networks)
        again = _ranked(evidence, a, row.attribute, False, controlled, simultaneous_margin(evidence.owed))
        if is_used(again):
            row.named, named, taken = True, row.attribute, with_its
        else:
            row.alike = named
    return taken
