"""An audit's verdict in words, and what limits it."""

from ..data.words import counted, words
from ..metrics.intervals import LEVEL

FEW = 100  # images; below this the limits say how many they are
TOO_FEW = 10  # images; below this nothing is named
LEAST_SAID = 0.001  # a fall of p that is called by a number
OFTEN = 0.1  # the share of images from which an attribute that could not be told is mentioned


def verdict(rows, places, n, asked, has_oracle):
    """One or more sentences. rows: the Ranked, of n images; places: the Places; has_oracle: whether there were
    attributes to look at; asked: the one that the classifier is asked about, "" of classes."""
    if n < TOO_FEW:
        few = "is too few" if n == 1 else "are too few"
        return f"{counted(n)} {few} to say what the classifier uses."
    if not has_oracle:
        return _where(places, n)
    used = [place for place in places if place.used]
    said = _attributes(rows, n, asked)
    if used:
        said += f" What no attribute tells, it uses too: {_listed(list(map(_how_much_there, used)))}."
    return said


def _attributes(rows, n, asked):
    beside = f"beside {words(asked)} " if asked else ""
    named = [row for row in rows if row.named]
    if not named:
        margin = max(rows[0].score - rows[0].score_low, LEAST_SAID)
        return (
            f"No attribute {beside}was found to be used ({counted(n)}; what lowers the probability of the target "
            f"by less than {margin:.2g} in the mean over all of them would not have been seen)."
        )
    names = _listed([words(row.attribute) for row in named])
    said = f"Beside {words(asked)}, the classifier uses {names}" if asked else f"The classifier uses {names}"
    return f"{said}: " + "; ".join(map(_how_much, named)) + "."


def _how_much(row):
    return (
        f"changing {words(row.attribute)} back alone, in {row.effect_n} of {row.n} images, lowers the probability "
        f"of the target by {row.effect:.2f} ({row.effect_low:.2f} … {row.effect_high:.2f})"
    )


def _how_much_there(place):
    region = place.region
    return (
        f"changing the {region.place} ({100 * region.share:.2g} % of the image) back lowers the probability of the "
        f"target by {place.effect:.2f} ({place.effect_low:.2f} … {place.effect_high:.2f})"
    )


def _where(places, n):
    if not places:
        return f"No part of the image was found to change more than others ({counted(n)})."
    told = "; ".join(map(_how_much_there, places))
    return f"There is no oracle to say what changed in {counted(n)}. Where they changed most: {told}."


def limits(rows, counts, controlled, asked):
    """What a reader must know beside the verdict, a list of sentences. counts: images, explained, finished."""
    n, told = counts["images"], []
    if n < FEW:
        told.append(f"{counted(n)} {'is' if n == 1 else 'are'} few: only what moves the classifier much is seen.")
    if not counts["finished"]:
        told.append("The run is not finished, or its chunks are not merged: this is what is there so far.")
    if n < counts["explained"]:
        told.append(
            f"Of {counted(counts['explained'])} that were explained, {n:,} are looked at: those that reached their "
            f"target{' and that the control has, too' if controlled else ''}."
        )
    if not controlled:
        told.append("There is no --control: all that changed counts, also what the method changes for any target.")
    return told + (_limits_of_attributes(rows, n, asked) if rows else [])


def _limits_of_attributes(rows, n, asked):
    told = []
    if never := [words(row.attribute) for row in rows if not row.changed]:
        told.append(f"Nothing is known of what changed in no image: {_listed(never)}.")
    alike = [f"{words(row.attribute)} in those of {words(row.alike)}" for row in rows if row.alike]
    if alike:
        told.append(f"Not named, as they changed in the same pixels as another: {_listed(alike)}.")
    lost = {row.attribute: round(row.changed * n) - row.effect_n for row in rows if not row.asked}
    untold = [f"{words(name)} ({count} of {n} images)" for name, count in lost.items() if count >= OFTEN * n]
    if untold and asked:
        told.append(f"Not always to be told from {words(asked)}, in whose pixels they changed: {_listed(untold)}.")
    told.append(f"The intervals hold, with {100 * LEVEL:.0f} %, for all {len(rows)} attributes at once.")
    return told


def _listed(names):
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
