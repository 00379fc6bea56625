"""The attributes by what they move: shares, effects, scores and contrasts with intervals, and which are used."""

from dataclasses import dataclass, field

import numpy as np

from ..metrics.intervals import LEVEL, difference_interval, normal_mean_interval, simultaneous_margin
from .evidence import change_back
from .examples import Example

LEAST_EFFECT = 0.05  # a mean change of p, below which an attribute does not count as used
CLEARING_WITHIN = 0.15  # a contrast below that clears an attribute if its interval lies within this


@dataclass
class Ranked:
    """An attribute's row of attributes.csv. Intervals hold, with 95 %, for all attributes at once.

    Shares are of the n images. effect, effect_at_end: means of Undone over the effect_n images in which the
    attribute alone is changed back; None without any. score: the mean effect over all n, 0 in the others. alike: an
    attribute that is named before, in whose pixels this one lies. contrast: of Contrast, of real images, of which
    with_it have the attribute; None where it is not known. by_change, by_contrast: what shows that the classifier
    uses it. named: whether it counts as used.
    ValueError of an effect or a contrast without its interval, or the other way round.
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
    examples: list[Example] = field(default_factory=list)

    def __post_init__(self):
        for name in ("effect", "contrast"):
            if len({getattr(self, f"{name}{end}") is None for end in ("", "_low", "_high")}) > 1:
                raise ValueError(name)

    @property
    def strength(self):
        """By how much the attribute moves p, as far as it is known: what the rows are ranked by."""
        return self.score if self.contrast is None else abs(self.contrast)

    @property
    def cleared(self):
        """Whether images with the attribute and without it say that it hardly moves p."""
        if self.contrast is None or abs(self.contrast) >= LEAST_EFFECT:
            return False
        return -CLEARING_WITHIN < self.contrast_low <= self.contrast_high < CLEARING_WITHIN

    @property
    def moves_p(self):
        """Whether changing it back shows that the classifier uses it beside the one that it is asked about."""
        beyond_chance = self.score_low > 0 and self.excess_low > 0
        return not self.asked and beyond_chance and self.effect >= LEAST_EFFECT and self.effect_low > 0


def rank(evidence, networks):
    """The Ranked of all attributes, highest score first; none is named yet."""
    margin = simultaneous_margin(evidence.owed)
    rows = [_row(evidence, a, networks, margin) for a in range(len(networks.attributes))]
    return sorted(rows, key=lambda row: -row.score)


def _row(evidence, a, networks, margin):
    n, count = evidence.changed.shape
    level = 1 - (1 - LEVEL) / count
    changed, effects = evidence.changed[:, a], evidence.effect[:, a]
    control = None if evidence.control is None else evidence.control[:, a]
    share, in_control = float(changed.mean()), 0.0 if control is None else float(control.mean())
    shares = share, in_control, share - in_control, *difference_interval(changed, control, level)
    clear, effect = ~np.isnan(effects), (None, None, None, 0, None)
    if clear.any():
        interval, at_end = effect_interval(effects[clear], level), float(evidence.at_end[clear, a].mean())
        effect = float(effects[clear].mean()), *interval, int(clear.sum()), at_end
    score = float(evidence.owed[:, a].mean())
    scores = score, max(score - margin, -1.0), min(score + margin, 1.0)
    return Ranked(networks.attributes[a], n, *shares, *effect, *scores, a == networks.asked)


def effect_interval(effects, level):
    """(low, high): Student's interval of the mean of effects (N,), in [-1, 1]; for N = 1 all of that."""
    low, high = normal_mean_interval(effects, level) or (-1.0, 1.0)
    return max(low, -1.0), min(high, 1.0)


def judge_changes(rows, evidence, pairs, known_pixels, networks):
    """Sets by_change of the Ranked, and `alike` of those that lie in the pixels of another one that moves p.

    The highest score comes first. Each of the others is changed back anew, outside the pixels of those before it.
    known_pixels: (n, H, W), those of the asked attribute. Returns them with those of the attributes that move p.
    """
    first = ""
    for row in [row for row in rows if row.moves_p]:
        evidence, with_its_pixels = change_one_back(evidence, row.attribute, pairs, known_pixels, networks)
        a = networks.attributes.index(row.attribute)
        if _row(evidence, a, networks, simultaneous_margin(evidence.owed)).moves_p:
            row.by_change, first, known_pixels = True, row.attribute, with_its_pixels
        else:
            row.alike = first
    return known_pixels


def change_one_back(evidence, attribute, pairs, known_pixels, networks):
    """change_back of one attribute, named, wherever it changed."""
    own = evidence.changed & (np.array(networks.attributes) == attribute)
    return change_back(evidence, pairs, own, known_pixels, networks)


def judge_contrasts(rows, contrasts):
    """Sets the contrasts of the Ranked, and by_contrast. contrasts: attribute -> its Contrast, or None."""
    for row in rows:
        if c := contrasts.get(row.attribute):
            row.contrast, row.contrast_low, row.contrast_high, row.with_it = c.value, c.low, c.high, c.with_it
            row.by_contrast = not row.asked and abs(c.value) >= LEAST_EFFECT and c.low * c.high > 0


def name_used(rows):
    """Sets `named` of the Ranked: either kind of evidence is enough, but not against a contrast that clears it.

    Returns them ranked by their strength.
    """
    for row in rows:
        row.named = row.by_contrast or (row.by_change and not row.cleared)
    return sorted(rows, key=lambda row: -row.strength)
