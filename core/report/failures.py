"""The ways in which a counterfactual fails to explain."""

from ..data.words import counted
from ..metrics.scores import SAME_FACE

OUTSIDE = 0.05  # the share of the change outside the mask, above which it counts as a failure
KINDS = {  # name -> (title, what it means)
    "flip": ("Did not flip", "The classifier does not give the counterfactual the answer that was asked for."),
    "oracle": (
        "The oracle disagrees",
        "The classifier gives the other answer, but a second network, which guided nothing, sees no such change: "
        "the counterfactual may be adversarial, made to fool this classifier alone.",
    ),
    "identity": (
        "Identity lost",
        f"A network for faces no longer sees the same person: the cosine of its features is at most {SAME_FACE}.",
    ),
    "outside": (
        "Changed outside the mask",
        f"More than {100 * OUTSIDE:.0f} % of the whole change lies where the method was not to change anything.",
    ),
}
UNMEASURED = {  # kind -> (the field of an ExplainedImage that is None where it is not known, why it is not)
    "oracle": ("agrees", "no verdict of an oracle is recorded (--oracle_path of main.py)"),
    "identity": ("similarity", "not measured (compute_FVA.py does, where the images are photographs of faces)"),
    "outside": ("outside", "no masks were saved (--save_masks of main.py, for methods that have some)"),
}


def failures_of(case):
    """The names of the KINDS of failure of an ExplainedImage."""
    failed = {
        "flip": not case.reached,
        "oracle": case.reached and case.agrees is False,
        "identity": case.similarity is not None and case.similarity <= SAME_FACE,
        "outside": case.outside is not None and case.outside > OUTSIDE,
    }
    return tuple(kind for kind in KINDS if failed[kind])


def count_failures(experiment):
    """kind -> how many images of an experiment failed so, in words, or why that is not known."""
    n, counts = len(experiment.cases), {}
    for kind in KINDS:
        field, why = UNMEASURED.get(kind, ("reached", ""))
        if all(getattr(case, field) is None for case in experiment.cases):
            counts[kind] = why
        else:
            counts[kind] = f"{sum(kind in failures_of(case) for case in experiment.cases)} of {counted(n)}"
    return counts
