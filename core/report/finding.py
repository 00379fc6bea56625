"""What a report says first: one sentence of what was found, and what limits it. All of it computed."""

from dataclasses import dataclass

from ..data.words import counted, words
from ..metrics.intervals import share_interval
from .failures import failures_of

FEW = 100  # images; below this the sentence says how little they tell
WITH = 0.3  # from this correlation on, two attributes go together in the data


@dataclass
class Finding:
    sentence: str
    limits: list[str]


def find(experiment, changes, audit):
    """The Finding of an experiment. changes, audit: what read_changes and read_audit tell of it, or None."""
    return Finding(_sentence(experiment, changes), _limits(experiment, changes, audit))


def percent(share):
    """A share in words; 100 % and 0 % only where it is exactly so."""
    text = f"{100 * share:.0f}"
    if text in ("100", "0") and share not in (0, 1):
        text = f"{100 * share:.1f}"
    return f"{text} %"


def probability(p):
    """A probability in words, never rounded to certainty."""
    if p > 0.999:
        return "> 99.9 %"
    return "< 0.1 %" if p < 0.001 else percent(p)


def _sentence(experiment, changes):
    cases, about = experiment.cases, words(experiment.question.attribute)
    n, reached = len(cases), sum(case.reached for case in cases)
    asked = f"Asked about {about}, the" if about else "The"
    other = "the other answer" if about else "the answer that was asked for"
    if not reached:
        gave = "did not give the only image" if n == 1 else f"gave none of {counted(n)}"
        return f"{asked} classifier {gave} {other}: nothing is explained."
    gave, share = f"{reached} of {counted(n)}", f" ({percent(reached / n)})"
    said = f"{asked} classifier gave {'the only image' if n == 1 else gave} {other}{share * (n != 1)}"
    agreed = [case.agrees for case in cases if case.reached and case.agrees is not None]
    if agreed:
        seen = f"saw the change in {sum(agreed)} of these {len(agreed)}"
        if len(agreed) == 1:
            seen = "saw the change, too" if agreed[0] else "did not see the change"
        said += f"; an oracle, which guided nothing, {seen}"
    if changes and changes.others:
        said += f"; {_most_often(changes)}"
    elif changes:
        said += "; no other attribute changed for the oracle"
    return f"{said}."


def _most_often(changes):
    first, *others = changes.others
    if changes.n == 1:
        more = f" and {counted(len(others), 'other attribute')}" if others else ""
        return f"what changed with it was {words(first.attribute)}{more}"
    times = round(first.often.value * changes.n)
    return f"what changed with it most often was {words(first.attribute)}, in {times} of {changes.n}"


def _limits(experiment, changes, audit):
    cases = experiment.cases
    n, reached = len(cases), sum(case.reached for case in cases)
    limits = []
    if n < FEW:
        low, high = map(percent, share_interval(reached, n))
        few = "is little" if n == 1 else "are few"
        limits.append(f"{counted(n)} {few}: the share that flips lies between {low} and {high} (95 %).")
    if experiment.flags and not experiment.run.finished:
        limits.append("The run is not finished, or its chunks are not merged: this is what is there so far.")
    limits += _judgement(cases)
    limits += _kinds_of_images(experiment)
    if changes and changes.others:
        limits += _company(changes, experiment.question, audit)
    if changes and experiment.oracle.assumed:
        limits.append("The names of the oracle's attributes are assumed from their number: nothing records them.")
    if all(case.pair is None for case in cases):
        limits.append("No images were saved (--save_images False), so nobody can look at what changed.")
    return limits


def _judgement(cases):
    """What the oracle's verdict, or its absence, means."""
    judged = [case for case in cases if case.reached and case.agrees is not None]
    if not any(case.reached for case in cases):
        return []
    if not judged:
        return ["No oracle judged the images: some of the changes may fool this classifier alone."]
    against = sum("oracle" in failures_of(case) for case in judged)
    if not against:
        return []
    which = f"{against} of the {len(judged)} changes {'is' if against == 1 else 'are'}"
    if len(judged) == 1:
        which = "The change is"
    return [f"{which} not seen by the oracle, and may fool this classifier alone."]


def _kinds_of_images(experiment):
    """What there is no image of."""
    cases, limits = experiment.cases, []
    rights, directions = {case.right for case in cases}, {case.direction for case in cases}
    if len(rights) == 1:
        known, unknown = ("right", "wrong") if rights == {True} else ("wrong", "right")
        limits.append(f"The classifier was {known} about every image: where it is {unknown}, nothing is known.")
    if len(directions) == 1 and len(experiment.question.answers) == 2:
        went = "All images" if len(cases) > 1 else "The only image"
        limits.append(f"{went} went one way, {experiment.direction(*directions.pop())}; the other is not known.")
    return limits


def _company(changes, question, audit):
    """Whether what changes most often beside the query goes with it in the data, too."""
    first = changes.others[0]
    if first.expected is None:
        return [
            f"Whether {words(first.attribute)} goes with what was asked in the data, too, is not known here "
            f"({changes.why_unexpected}), {_use_of(first.attribute, audit)}."
        ]
    if abs(first.expected) >= WITH:
        return [
            f"{words(first.attribute)} goes with {words(question.attribute)} in the training labels, too "
            f"(correlation {first.expected:+.2f}), {_use_of(first.attribute, audit)}."
        ]
    return []


def _use_of(attribute, audit):
    """Whether the classifier uses an attribute: what the audit found, or that the change is no proof."""
    named = [row.named for row in (audit.attributes if audit else ()) if row.attribute == attribute]
    if any(named):
        return "but the audit found that the classifier uses it: see the audit's page"
    unsaid = "so its change alone does not show that the classifier uses it"
    return f"{unsaid}, and the audit does not name it: see the audit's page" if named else unsaid
