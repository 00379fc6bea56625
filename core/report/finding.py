"""What a report says first: one sentence of what was found, and what limits it. All of it computed."""

from ..audit.verdict import listed
from ..data.words import counted, words
from ..metrics.intervals import share_interval
from .failures import failures_of

FEW = 100  # images; below this the sentence says how little they tell
WITH = 0.3  # from this correlation on, two attributes go together in the data


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


def finding(experiment, changes):
    """The sentence. changes: what read_changes tells of the experiment, or None."""
    cases, about = experiment.cases, words(experiment.run.question.attribute)
    n, reached = len(cases), sum(case.reached for case in cases)
    asked = f"Asked about {about}, the" if about else "The"
    answer = "the other answer" if about else "the answer that was asked for"
    if not reached:
        gave = "did not give the only image" if n == 1 else f"gave none of {counted(n)}"
        return f"{asked} classifier {gave} {answer}: nothing is explained."
    sentence = f"{asked} classifier gave the only image {answer}"
    if n > 1:
        sentence = f"{asked} classifier gave {reached} of {counted(n)} {answer} ({percent(reached / n)})"
    if agreed := [case.agrees for case in cases if case.reached and case.agrees is not None]:
        saw = f"saw the change in {sum(agreed)} of these {len(agreed)}"
        if len(agreed) == 1:
            saw = "saw the change, too" if agreed[0] else "did not see the change"
        sentence += f"; an oracle, which guided nothing, {saw}"
    if changes:
        sentence += f"; {_most_often(changes)}"
    return f"{sentence}."


def _most_often(changes):
    if not changes.others:
        return "no other attribute changed for the oracle"
    first, *others = changes.others
    if changes.n == 1:
        more = f" and {counted(len(others), 'other attribute')}" if others else ""
        return f"what changed with it was {words(first.attribute)}{more}"
    times = round(first.often.value * changes.n)
    return f"what changed with it most often was {words(first.attribute)}, in {times} of {changes.n}"


def limits_of(experiment, changes, audit):
    """Yields sentences. changes, audit: what read_changes and read_audit tell of the experiment, or None."""
    cases = experiment.cases
    n, reached = len(cases), sum(case.reached for case in cases)
    if n < FEW:
        low, high = map(percent, share_interval(reached, n))
        few = "is little" if n == 1 else "are few"
        yield f"{counted(n)} {few}: the share that flips lies between {low} and {high} (95 %)."
    if not experiment.run.flags:
        yield f"Nothing records {listed(_unrecorded(experiment))}: there is no flags.yaml."
    if experiment.run.finished is False:
        yield "The run is not finished, or its chunks are not merged: this is what is there so far."
    if reached:
        yield from _limits_of_oracle([case for case in cases if case.reached and case.agrees is not None])
    yield from _limits_of_images(experiment)
    if changes and changes.others:
        yield from _company(changes, experiment.run.question, audit)
    if changes and experiment.oracle.assumed:
        yield "The names of the oracle's attributes are assumed from their number: nothing records them."
    if all(case.pair is None for case in cases):
        yield "No images were saved (--save_images False), so nobody can look at what changed."


def _unrecorded(experiment):
    """What nobody can know without a flags.yaml, and with records that have fewer columns than main.py's."""
    columns = {"p_target_before": "the probabilities before", "attempts": "the number of attempts"}
    missing = [what for column, what in columns.items() if column not in experiment.run.records]
    return ["the question", "the method", "the command", *missing]


def _limits_of_oracle(judged):
    """What the oracle's verdict on the changes, or its absence, means."""
    against = sum("oracle" in failures_of(case) for case in judged)
    if not judged:
        yield "No verdict of an oracle is recorded: some of the changes may fool this classifier alone."
    elif against:
        which = f"{against} of the {len(judged)} changes {'is' if against == 1 else 'are'}"
        if len(judged) == 1:
            which = "The change is"
        yield f"{which} not seen by the oracle, and may fool this classifier alone."


def _limits_of_images(experiment):
    """What there is no image of."""
    cases = experiment.cases
    rights, directions = {case.right for case in cases}, {case.direction for case in cases}
    if len(rights) == 1:
        always, never = ("right", "wrong") if rights == {True} else ("wrong", "right")
        yield f"The classifier was {always} about every image: where it is {never}, nothing is known."
    if len(directions) == 1 and len(experiment.run.question.answers) == 2:
        went = "All images" if len(cases) > 1 else "The only image"
        yield f"{went} went one way, {experiment.direction(*directions.pop())}; the other is not known."


def _company(changes, question, audit):
    """Whether what changes most often beside the query goes with it in the data, too."""
    first = changes.others[0]
    name, use = words(first.attribute), _use_of(first.attribute, audit)
    if first.expected is None:
        why = changes.why_unexpected
        yield f"Whether {name} goes with what was asked in the data, too, is not known here ({why}), {use}."
    elif abs(first.expected) >= WITH:
        correlation = f"correlation {first.expected:+.2f}"
        yield f"{name} goes with {words(question.attribute)} in the training labels, too ({correlation}), {use}."


def _use_of(attribute, audit):
    """Whether the classifier uses an attribute: what the audit found, or that the change is no proof."""
    named = [row.named for row in (audit.attributes if audit else ()) if row.attribute == attribute]
    if any(named):
        return "but the audit found that the classifier uses it: see the audit's page"
    unsaid = "so its change alone does not show that the classifier uses it"
    return f"{unsaid}, and the audit does not name it: see the audit's page" if named else unsaid
