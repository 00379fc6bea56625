"""The ways in which a counterfactual fails to explain."""

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


def failures_of(case):
    """The names of the KINDS of failure of a Case."""
    failed = {
        "flip": not case.reached,
        "oracle": case.reached and case.agrees is False,
        "identity": case.similarity is not None and case.similarity <= SAME_FACE,
        "outside": case.outside is not None and case.outside > OUTSIDE,
    }
    return tuple(kind for kind in KINDS if failed[kind])


def why_unknown(experiment):
    """kind -> why nothing is known of it in an experiment, for the kinds of which that is so."""
    cases, unknown = experiment.cases, {}
    if all(case.agrees is None for case in cases):
        unknown["oracle"] = "no oracle judged the images (--oracle_path of main.py)"
    if all(case.similarity is None for case in cases):
        unknown["identity"] = "not measured (compute_FVA.py does, where the images are photographs of faces)"
    if all(case.outside is None for case in cases):
        unknown["outside"] = "no masks were saved (--save_masks of main.py, for methods that have some)"
    return unknown
