"""The attributes by what they move: shares, effects, scores and contrasts with intervals, and which are used."""

from dataclasses import dataclass

import numpy as np

from ..metrics.intervals import LEVEL, difference_interval, normal_mean_interval, simultaneous_margin
from .evidence import change_back

LEAST = 0.05  # a mean change of p, below which an attribute does not count as used
MOST = 0.15  # what a contrast below that may be at most, with its interval, to clear an attribute


@dataclass
class Ranked:
    """An attribute's row of attributes.csv. Intervals hold, with 95 %, for all attributes at once.

    Shares are of the n images. effect: the mean fall of p where the attribute alone is changed back, of effect_n
    images; None without any. effect_at_end: the same in the counterfactual itself (see falls). score: the mean over
    all n, where those count 0 in which it did not change or could not be told from the asked attribute. alike: an
    attribute that is named before, in whose pixels this one lies.
    contrast: of Contrast, of images as they are, of which with_it have the attribute; None where it is not known.
    by_change, by_contrast: what shows that the classifier uses it. named: whether it counts as used.
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
    contrast: float | None = None
    contrast_low: float | None = None
    contrast_high: float | None = None
    with_it: int | None = None
    by_change: bool = False
    by_contrast: bool = False
    named: bool = False
    alike: str = ""

    @property
    def strength(self):
        """By how much the attribute moves p, as far as it is known: what the rows are ranked by."""
        return self.score if self.contrast is None else abs(self.contrast)

    @property
    def cleared(self):
        """Whether images with the attribute and without it say that it hardly moves p."""
        if self.contrast is None:
            return False
        return abs(self.contrast) < LEAST and -MOST < self.contrast_low <= self.contrast_high < MOST


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
        score_low=max(score - margin, -1.0),
        score_high=min(score + margin, 1.0),
        asked=asked,
    )


def within(lowest, highest, interval):
    """The interval, cut off at what can be; all that can be, where there is none."""
    if interval is None:
        return lowest, highest
    return max(interval[0], lowest), min(interval[1], highest)


def moves_p(row):
    """Whether changing an attribute back shows that the classifier uses it beside the one it is asked about."""
    moved = row.score_low > 0 and row.excess_low > 0
    return not row.asked and moved and row.effect >= LEAST and row.effect_low > 0


def judge_changes(rows, evidence, pairs, taken, networks, controlled):
    """Sets by_change of the Ranked, and `alike` of those that lie in the pixels of another one that moves p.

    The highest score comes first. Each of the others is changed back anew, outside the pixels of those before it.
    taken: the pixels (n, H, W) of the asked attribute. Returns them with those of the attributes that move p.
    """
    first = ""
    for row in filter(moves_p, rows):
        a = networks.attributes.index(row.attribute)
        its = evidence.changed & (np.arange(len(rows)) == a)
        evidence, with_its = change_back(evidence, pairs, its, taken, networks)
        again = _ranked(evidence, a, row.attribute, False, controlled, simultaneous_margin(evidence.owed))
        if moves_p(again):
            row.by_change, first, taken = True, row.attribute, with_its
        else:
            row.alike = first
    return taken


def judge_contrasts(rows, contrasts):
    """Sets the contrasts of the Ranked, and by_contrast. contrasts: attribute -> its Contrast, or None."""
    for row in rows:
        found = contrasts.get(row.attribute)
        if found is not None:
            row.contrast, row.contrast_low, row.contrast_high = found.value, found.low, found.high
            row.with_it = found.with_it
            row.by_contrast = not row.asked and abs(found.value) >= LEAST and found.low * found.high > 0


def name_used(rows):
    """Sets `named` of the Ranked: either kind of evidence is enough, but not against a contrast that clears it.

    Returns them ranked by their strength.
    """
    for row in rows:
        row.named = row.by_contrast or (row.by_change and not row.cleared)
    return sorted(rows, key=lambda row: -row.strength)
