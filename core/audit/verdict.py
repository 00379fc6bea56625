"""An audit's verdict in words, and what limits it."""

from ..metrics.intervals import LEVEL

FEW = 100  # images; below this the limits say how many they are
TOO_FEW = 10  # images; below this nothing is named


def verdict(rows, n, asked):
    """One or more sentences. rows: the Ranked, of n images; asked: the attribute asked about, "" of classes."""
    beside = f"beside {words(asked)} " if asked else ""
    if n < TOO_FEW:
        few = "is too few" if n == 1 else "are too few"
        return f"{_images(n)} {few} to say which attributes {beside}the classifier uses."
    used = [row for row in rows if row.named]
    if not used:
        margin = rows[0].score - rows[0].score_low
        return (
            f"No attribute {beside}was found to be used ({_images(n)}; what lowers the probability of the target "
            f"by less than {margin:.2g} in the mean over all of them would not have been seen)."
        )
    names = _listed([words(row.attribute) for row in used])
    said = f"Beside {words(asked)}, the classifier uses {names}" if asked else f"The classifier uses {names}"
    return f"{said}: " + "; ".join(map(_how_much, used)) + "."


def _how_much(row):
    return (
        f"changing {words(row.attribute)} back alone, in {row.effect_n} of {row.n} images, lowers the probability "
        f"of the target by {row.effect:.2f} ({row.effect_low:.2f} … {row.effect_high:.2f})"
    )


def limits(rows, n, explained, finished, control):
    """What a reader must know beside the verdict, a list of sentences. explained: how many images main.py lists."""
    told = []
    if n < FEW:
        told.append(f"{_images(n)} {'is' if n == 1 else 'are'} few: only what moves the classifier much is seen.")
    if not finished:
        told.append("The run is not finished, or its chunks are not merged: this is what is there so far.")
    if n < explained:
        told.append(f"Of {_images(explained)} only {n:,} could be audited.")
    if not control:
        told.append(
            "Without --control an attribute's changes are compared with the originals, in which nothing changes: "
            "changes that the method makes for any target count, too."
        )
    if never := [words(row.attribute) for row in rows if not row.changed]:
        told.append(f"Nothing is known of what changed in no image: {_listed(never)}.")
    alike = [f"{words(row.attribute)} in those of {words(row.alike)}" for row in rows if row.alike]
    if alike:
        told.append(f"Not named, as they changed in the same pixels as another: {_listed(alike)}.")
    untold = [
        f"{words(row.attribute)} (in {lost} of {round(row.changed * n)} images)"
        for row in rows
        if (lost := round(row.changed * n) - row.effect_n) > 0 and row.changed >= 0.1
    ]
    if untold:
        told.append(f"Not to be told from the asked attribute, in whose pixels they changed: {_listed(untold)}.")
    if rows:
        told.append(f"The intervals hold, with {100 * LEVEL:.0f} %, for all {len(rows)} attributes at once.")
    return told


def words(name):
    """An attribute's name as it is read: High_Cheekbones as High Cheekbones."""
    return name.replace("_", " ")


def _listed(names):
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _images(n):
    return f"{n:,} image{'s' * (n != 1)}"
