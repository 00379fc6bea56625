"""An audit's verdict in words, and what limits it. Both are of its Findings."""

import numpy as np

from ..data.words import counted, words
from ..metrics.intervals import LEVEL
from .change_map import EVERYWHERE, the
from .ranking import LEAST_EFFECT

FEW = 100  # images; below this the limits say how many they are
TOO_FEW = 10  # images; below this nothing is named
MIXED_FROM = 0.1  # the share of images in which an attribute is not told from the asked one, to be mentioned
MOST_LISTED = 8  # attributes that a limit lists


def verdict(findings):
    """One or more sentences."""
    f, rows = findings, findings.attributes
    colours = [place for place in f.colours if place.used]
    if f.images < TOO_FEW and not colours and all(row.contrast is None for row in rows):
        few = "is too few" if f.images == 1 else "are too few"
        return f"{counted(f.images, 'counterfactual')} {few} to say what the classifier uses."
    if not rows:
        return _where(f)
    if any(row.named for row in rows):
        sentences = [_used(f), _unnamed(f, colours, "also ")]
    else:
        sentences = [_unnamed(f, colours), _nothing_used(f)]
    return " ".join(filter(None, sentences))


def _unnamed(f, colours, also=""):
    """What is used and no attribute tells, in a sentence; "" for nothing."""
    parts = [_effect_of_place(place) for place in f.places if place.used]
    if colours:
        where = listed(f"{_of(each.place)} ({_percent(each.share)}; by {each.effect:.2f})" for each in colours)
        parts.append(f"in {counted(f.contrasted)} as they are, its answer goes with the colour {where}")
    return f"The classifier {also}uses what no attribute tells: {'; '.join(parts)}." if parts else ""


def _used(f):
    named = [row for row in f.attributes if row.named]
    who = f"Beside {words(f.asked)}, the classifier" if f.asked else "The classifier"
    sentences = [f"{who} uses {listed(words(row.attribute) for row in named)}."]
    for direction in ("more", "less"):
        if rows := [r for r in named if r.by_contrast and (r.contrast > 0) == (direction == "more")]:
            sentences.append(
                f"In {counted(f.contrasted)} as they are, {words(f.asked) or 'the target'} is {direction} "
                f"probable with {listed(map(_contrast, rows))} than without."
            )
    if changed := [_effect(row) for row in named if row.by_change]:
        sentences.append(f"Changing {listed(changed)} back alone lowers the probability of the target.")
    return " ".join(sentences)


def _contrast(row):
    low, high = sorted((abs(row.contrast_low), abs(row.contrast_high)))
    return f"{words(row.attribute)} (by {abs(row.contrast):.2f}; {low:.2f} … {high:.2f})"


def _effect(row):
    interval = _interval(row.effect_low, row.effect_high)
    return f"{words(row.attribute)} (by {row.effect:.2f}; {interval}; in {row.effect_n} of {counted(row.n)})"


def _nothing_used(f):
    n, others = f.images, [row for row in f.attributes if not row.asked]
    changed = [row for row in others if row.changed] if n >= TOO_FEW else []
    contrasted = [row for row in others if row.contrast is not None]
    beside = f"beside {words(f.asked)} " if f.asked else ""
    if not changed and not contrasted:
        return f"No attribute {beside}changed in {counted(n)}, so nothing is known of what else is used."
    sentences = [f"No attribute {beside}was found to be used."]
    if changed:
        # What no image shows may, with 95 %, be in this share of all images, and decide there.
        unseen = 1 - (1 - LEVEL) ** (1 / n)
        margin = max(max(row.score_high - row.score for row in changed), unseen)
        sentences.append(
            f"Of those that changed in {counted(n)}, one that lowers the probability of the target by less than "
            f"{margin:.2g} in the mean over all of them would not have been seen."
        )
    if contrasted:
        ends = [max(-row.contrast_low, row.contrast_high) for row in contrasted]
        sentences.append(
            f"In {counted(f.contrasted)} as they are, the probability of {words(f.asked) or 'the target'} does not "
            f"differ by {LEAST_EFFECT} or more, beyond chance, with and without any of "
            f"{counted(len(contrasted), 'attribute')}; by less than {max(np.median(ends), 0.01):.2g} for half of "
            f"them, by less than {max(*ends, 0.01):.2g} for all."
        )
    return " ".join(sentences)


def _effect_of_place(place):
    lowers, sign = ("lowers", 1) if place.effect >= 0 else ("raises", -1)
    interval = _interval(*sorted((sign * place.effect_low, sign * place.effect_high)))
    return (
        f"changing {the(place.place)} ({_percent(place.share)}) back {lowers} the probability of the target by "
        f"{abs(place.effect):.2f} ({interval})"
    )


def _where(f):
    rest = "in the control" if f.control else "the rest of the image"
    if not f.places:
        return f"No part of the image was found to change more than {rest} ({counted(f.images)})."
    effects = "; ".join(map(_effect_of_place, f.places))
    return f"No oracle says what changed in {counted(f.images)}. What changed more than {rest}: {effects}."


def limits(findings):
    """What a reader must know beside the verdict: yields sentences."""
    f, n, rows = findings, findings.images, findings.attributes
    are = "is" if n == 1 else "are"
    if n < FEW:
        yield f"{counted(n, 'counterfactual')} {are} few: they show only what moves the classifier much."
    if f.finished is False:
        yield "The run is not finished, or its chunks are not merged: this is what is there so far."
    if f.question.get("assumed"):
        yield f"Nothing records what was asked: {f.question['query_label']} is assumed (--query_label)."
    if f.explained is None:
        yield "Nothing records how many images did not reach their target."
    elif n < f.explained:
        which = f"those that reached their target{' and that the control has, too' if f.control else ''}"
        yield f"Of {counted(f.explained)} that were explained, {n:,} {are} looked at: {which}."
    if not f.control:
        yield "There is no --control: all that changed counts, also what the method changes for any target."
    if not rows and f.no_attributes:
        yield f"No attributes were looked at: {f.no_attributes}."
    if rows and f.no_contrasts:
        yield f"Attributes are not contrasted on images as they are: {f.no_contrasts}."
    if rows and f.contrasted:
        yield f"As they are: {counted(f.contrasted)}, {f.contrasted_source}."
    if any(row.by_contrast for row in rows) or any(place.used for place in f.colours):
        yield (
            "Images as they are show what the answer goes with, not why: something that goes with it and that no "
            "attribute tells may be the cause."
        )
    yield from (sentence for attributes, sentence in _limits_of_attributes(f) if attributes)
    if len(rows) > 1:
        every = f"for all {len(rows)} attributes at once"
        yield f"The intervals hold, with {100 * LEVEL:.0f} %, in each column {every}."


def _limits_of_attributes(f):
    """Yields pairs of some attributes, [] for none, and a sentence that names them."""
    n, others = f.images, [row for row in f.attributes if not row.asked]
    rows = [row for row in others if not row.changed and row.contrast is None]
    yield rows, f"No counterfactual changed these, so nothing is known of them: {_names(rows)}."
    rows = [row for row in f.attributes if row.contrast is None and not f.no_contrasts]
    yield rows, f"Not contrasted, being too rare or always with or without others: {_names(rows)}."
    alike = [f"{words(row.attribute)} in those of {words(row.alike)}" for row in others if row.alike]
    yield alike, f"Not named, as they changed in the same pixels as another: {listed(alike)}."
    rows = [row for row in others if row.by_change and row.cleared]
    yield rows, f"Not named, as images with and without hardly differ: {_names(rows)}."
    rows = [row for row in others if f.control and row.score_low > 0 >= row.excess_low]
    yield rows, f"Not named, as they change about as often in the control: {_names(rows)}."
    lost = {row.attribute: round(row.changed * n) - row.effect_n for row in others if f.asked}
    mixed = [f"{words(name)} ({count} of {counted(n)})" for name, count in lost.items() if count >= MIXED_FROM * n]
    yield mixed, f"Not always to be told from {words(f.asked)}, in whose pixels they changed: {listed(mixed)}."


def _names(rows):
    """The names of some attributes, of many the first ones and how many more."""
    names = [words(row.attribute) for row in rows]
    if len(names) > MOST_LISTED:
        names = [*names[: MOST_LISTED - 1], f"{len(names) - MOST_LISTED + 1} more"]
    return listed(names)


def _of(place):
    return place if place == EVERYWHERE else f"of {the(place)}"


def _percent(share):
    return f"{100 * share:.2g} % of the image" if share < 0.995 else "all of the image"


def _interval(low, high):
    """Two numbers, with a minus as it is printed."""
    return f"{low:.2f} … {high:.2f}".replace("-", "−")


def listed(names):
    """Names as a sentence lists them: a, b and c."""
    *others, last = [*names] or [""]
    return f"{', '.join(others)} and {last}" if others else last
