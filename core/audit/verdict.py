"""An audit's verdict in words, and what limits it."""

import numpy as np

from ..data.words import counted, words
from ..metrics.intervals import LEVEL
from .change_map import EVERYWHERE, the
from .ranking import LEAST

FEW = 100  # images; below this the limits say how many they are
TOO_FEW = 10  # images; below this nothing is named
OFTEN = 0.1  # the share of images from which an attribute that could not be told is mentioned
MOST_LISTED = 8  # attributes that a limit lists


def verdict(rows, places, colours, counts, controlled, asked):
    """One or more sentences. rows: the Ranked, [] without an oracle; places: the Places; colours: the ColourPlaces;
    asked: the attribute that the classifier is asked about, "" of classes; the others: see limits()."""
    n, named = counts["images"], [row for row in rows if row.named]
    colours = [place for place in colours if place.used]
    if n < TOO_FEW and not colours and all(row.contrast is None for row in rows):
        few = "is too few" if n == 1 else "are too few"
        return f"{counted(n, 'counterfactual')} {few} to say what the classifier uses."
    if not rows:
        return _where(places, n, controlled)
    untold = _untold([place for place in places if place.used], colours, counts, also=bool(named))
    if named:
        return f"{_used(named, counts, asked)}{untold and ' '}{untold}"
    return f"{untold}{untold and ' '}{_nothing_used(rows, counts, asked)}"


def _untold(places, colours, counts, also):
    """What no attribute tells, in a sentence; "" for nothing."""
    said = list(map(_how_much_there, places))
    if colours:
        where = [f"{_of(place.place)} ({_percent(place.share)}; by {place.effect:.2f})" for place in colours]
        said.append(
            f"in {counted(counts['contrasted'])} as they are, its answer goes with the colour {listed(where)}"
        )
    return f"The classifier {'also ' * also}uses what no attribute tells: {'; '.join(said)}." if said else ""


def _used(named, counts, asked):
    names = listed([words(row.attribute) for row in named])
    said = f"Beside {words(asked)}, the classifier uses {names}." if asked else f"The classifier uses {names}."
    contrasted = [row for row in named if row.by_contrast]
    for more, direction in ((True, "more"), (False, "less")):
        if rows := [row for row in contrasted if (row.contrast > 0) == more]:
            said += (
                f" In {counted(counts['contrasted'])} as they are, {words(asked) or 'the target'} is {direction} "
                f"probable with {listed(list(map(_contrast, rows)))} than without."
            )
    if changed := [row for row in named if row.by_change]:
        said += f" Changing {listed(list(map(_effect, changed)))} back alone lowers the probability of the target."
    return said


def _contrast(row):
    interval = (f"{abs(end):.2f}" for end in sorted((row.contrast_low, row.contrast_high), key=abs))
    return f"{words(row.attribute)} (by {abs(row.contrast):.2f}; {' … '.join(interval)})"


def _effect(row):
    interval = f"{number(row.effect_low)} … {number(row.effect_high)}"
    return f"{words(row.attribute)} (by {row.effect:.2f}; {interval}; in {row.effect_n} of {counted(row.n)})"


def _nothing_used(rows, counts, asked):
    n, beside = counts["images"], f"beside {words(asked)} " if asked else ""
    changed = [row for row in rows if not row.asked and row.changed] if n >= TOO_FEW else []
    contrasted = [row for row in rows if not row.asked and row.contrast is not None]
    if not changed and not contrasted:
        return f"No attribute {beside}changed in {counted(n)}, so nothing is known of what else is used."
    said = f"No attribute {beside}was found to be used."
    if changed:
        # What is in no image seen may, with 95 %, be in so many of all, and decide there.
        unseen = 1 - (1 - LEVEL) ** (1 / n)
        margin = max(max(row.score_high - row.score for row in changed), unseen)
        said += (
            f" Of those that changed in {counted(n)}, one that lowers the probability of the target by less "
            f"than {margin:.2g} in the mean over all of them would not have been seen."
        )
    if contrasted:
        ends = [max(-row.contrast_low, row.contrast_high) for row in contrasted]
        said += (
            f" In {counted(counts['contrasted'])} as they are, the probability of {words(asked) or 'the target'} "
            f"does not differ by {LEAST} or more, beyond chance, with and without any of "
            f"{counted(len(contrasted), 'attribute')}; by less than {max(np.median(ends), 0.01):.2g} for half of "
            f"them, by less than {max(*ends, 0.01):.2g} for all."
        )
    return said


def _how_much_there(place):
    region = place.region
    does = "lowers" if place.effect >= 0 else "raises"
    interval = f"{number(place.effect_low)} … {number(place.effect_high)}"
    if place.effect < 0:
        interval = f"{number(-place.effect_high)} … {number(-place.effect_low)}"
    return (
        f"changing {the(region.place)} ({_percent(region.share)}) back {does} the probability of the target by "
        f"{abs(place.effect):.2f} ({interval})"
    )


def _where(places, n, controlled):
    if not places:
        return f"No part of the image was found to change more than {_rest(controlled)} ({counted(n)})."
    told = "; ".join(map(_how_much_there, places))
    more = f"What changed more than {_rest(controlled)}"
    return f"No oracle says what changed in {counted(n)}. {more}: {told}."


def _rest(controlled):
    return "in the control" if controlled else "the rest of the image"


def limits(rows, colours, counts, controlled, asked):
    """What a reader must know beside the verdict, a list of sentences.

    counts: images, that are looked at; explained, None where there is no records.csv; finished; contrasted, the
    images as they are, 0 for none; no_contrasts and no_attributes, why there are none.
    """
    n, told = counts["images"], []
    if n < FEW:
        few = "is" if n == 1 else "are"
        told.append(f"{counted(n, 'counterfactual')} {few} few: they show only what moves the classifier much.")
    if not counts["finished"]:
        told.append("The run is not finished, or its chunks are not merged: this is what is there so far.")
    if counts["explained"] is None:
        told.append("There is no records.csv: how many images did not reach their target is not known.")
    elif n < counts["explained"]:
        told.append(
            f"Of {counted(counts['explained'])} that were explained, {n:,} {'is' if n == 1 else 'are'} looked at: "
            f"those that reached their target{' and that the control has, too' if controlled else ''}."
        )
    if not controlled:
        told.append("There is no --control: all that changed counts, also what the method changes for any target.")
    if not rows and counts["no_attributes"]:
        told.append(f"No attributes were looked at: {counts['no_attributes']}.")
    if rows and counts["no_contrasts"]:
        told.append(f"Attributes are not contrasted on images as they are: {counts['no_contrasts']}.")
    if rows and counts["contrasted"]:
        told.append(f"As they are: {counted(counts['contrasted'])}, {counts['contrasted_source']}.")
    if any(row.by_contrast for row in rows) or any(place.used for place in colours):
        told.append(
            "Images as they are show what the answer goes with, not why: something that goes with it and that no "
            "attribute tells may be the cause."
        )
    return told + (_limits_of_attributes(rows, counts, controlled, asked) if rows else [])


def _limits_of_attributes(rows, counts, controlled, asked):
    n, others, told = counts["images"], [row for row in rows if not row.asked], []
    unknown = [row for row in others if not row.changed and row.contrast is None]
    if unknown:
        told.append(f"Nothing is known of what changed in no counterfactual: {_names(unknown)}.")
    if not counts["no_contrasts"] and (untold := [row for row in rows if row.contrast is None]):
        told.append(f"Not contrasted, being too rare or always with or without others: {_names(untold)}.")
    alike = [f"{words(row.attribute)} in those of {words(row.alike)}" for row in others if row.alike]
    if alike:
        told.append(f"Not named, as they changed in the same pixels as another: {listed(alike)}.")
    if cleared := [row for row in others if row.by_change and row.cleared]:
        told.append(f"Not named, as images with and without hardly differ: {_names(cleared)}.")
    if controlled and (common := [row for row in others if row.score_low > 0 >= row.excess_low]):
        told.append(f"Not named, as they change about as often in the control: {_names(common)}.")
    lost = {row.attribute: round(row.changed * n) - row.effect_n for row in others}
    mixed = [f"{words(name)} ({count} of {counted(n)})" for name, count in lost.items() if count >= OFTEN * n]
    if mixed and asked:
        told.append(f"Not always to be told from {words(asked)}, in whose pixels they changed: {listed(mixed)}.")
    if len(rows) > 1:
        told.append(
            f"The intervals hold, with {100 * LEVEL:.0f} %, in each column for all {len(rows)} attributes at once."
        )
    return told


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


def number(value):
    """A number in words, with a minus as it is printed."""
    return f"{value:.2f}".replace("-", "−")


def listed(names):
    """Names as a sentence lists them: a, b and c."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
