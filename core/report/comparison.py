"""Several experiments on identical images, as far as they ask the same classifier the same question."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from guided_diffusion.script.errors import UserError

from ..data.words import words
from ..methods.flags import method_and_options
from ..metrics.intervals import LEVEL, RESAMPLES, mean_interval
from ..running.flags import FLAGS, SAME_IMAGES, named_flags
from .measures import MEASURES, Measure, Measured, measure
from .provenance import HASH

COMPARED = ("FR", "Oracle FR", "MNAC", "L1")  # of which it is said which experiment is better
TOO_FEW = 10  # images; below this it is not said


@dataclass
class Method:
    """A row of the table of methods. What is not known is None."""

    experiment: object
    method: str
    evaluations: float | None  # of the network, an image
    seconds: float | None  # an image
    memory: float | None  # MiB, the most that a run held
    device: str
    measured: list[Measured]


@dataclass
class Difference:
    """How two experiments differ on the same images: the mean of a - b, its interval, sign_flip_test's p."""

    measure: Measure
    better: str
    worse: str
    value: float
    interval: tuple[float, float]
    p: float

    @property
    def certain(self):
        return self.p <= 1 - LEVEL


@dataclass
class Comparison:
    """Some experiments on the images that all of them explained, with the same target.

    other_oracles: how their oracles differ, so that what these see is left out; "" where they do not.
    """

    ids: list[int]
    methods: list[Method]
    differences: list[Difference]
    other_oracles: str


def compare(experiments):
    """(a Comparison for each group of experiments that may be compared, why there is no single one or "")."""
    groups, apart = [], []
    for experiment in experiments:
        reasons = [_different(group, experiment) for group in groups]
        if "" in reasons:
            groups[reasons.index("")].append(experiment)
        else:
            groups.append([experiment])
            apart += reasons[:1]
    if len(experiments) > 1:
        groups = [group for group in groups if len(group) > 1]
    return [_comparison(group) for group in groups], "; ".join(apart)


def _comparison(group):
    ids = _shared_ids(group)
    judged = [e for e in group if "oracle_flip" in e.table]
    other_oracles = next(filter(None, (_other_network("oracle", judged[0], e) for e in judged[1:])), "")
    measures = [each for each in MEASURES if not (each.of_oracle and other_oracles)]
    methods = [_method(e, e.table[e.table["id"].isin(ids)], measures) for e in group]
    compared = [each for each in measures if each.name in COMPARED]
    told = len(group) > 1 and len(ids) >= TOO_FEW
    return Comparison(ids, methods, _differences(group, ids, compared) if told else [], other_oracles)


def _method(experiment, table, measures):
    timed = sum(experiment.numbers_of_runs("images"))
    return Method(
        experiment,
        str(experiment.flags.get("method", "dime" if experiment.flags else "not recorded")),
        evaluations(experiment, table),
        sum(experiment.numbers_of_runs("seconds")) / timed if timed else None,
        max(experiment.numbers_of_runs("memory_mib"), default=None),
        experiment.texts_of_runs("device"),
        measure(table, measures),
    )


# -- what may be compared ----------------------------------------------------------------------------------------


def same_images(experiments):
    """Whether an id stands for the same image in all of some experiments, and there is one that all have."""
    pairs = [(one, other) for k, other in enumerate(experiments) for one in experiments[:k]]
    shared = set.intersection(*(set(e.table["id"]) for e in experiments))
    return bool(shared) and not any(_other_images(*pair) for pair in pairs)


def _different(group, experiment):
    """Why an experiment may not be compared with those of a group, or ""."""
    for other in group:
        for why in (_other_images, _other_question, _other_classifier):
            if reason := why(other, experiment):
                return reason
    if not _shared_ids([*group, experiment]):
        return f"{group[0].name} and {experiment.name} have no image in common that has the same target"
    return ""


def _shared_ids(experiments):
    """The ids, sorted, that all experiments have with the same target."""
    targets = pd.concat([e.table.set_index("id")["target"] for e in experiments], axis=1, join="inner")
    return sorted(targets.index[targets.eq(targets.iloc[:, 0], axis=0).all(axis=1)])


def _other_images(first, other):
    if first.flags and other.flags and (reason := _other_flags(SAME_IMAGES, first, other)):
        return reason
    images = [{case.id: case.image for case in e.cases} for e in (first, other)]
    for name in images[0].keys() & images[1].keys():
        if images[0][name] != images[1][name]:
            return f"image {name} is {images[0][name]} in {first.name}, but {images[1][name]} in {other.name}"
    return ""


def _other_question(first, other):
    for e in (first, other):
        if not e.flags:
            return f"{e.name} has no flags.yaml that says what was asked"
    questions = [e.question for e in (first, other)]
    if questions[0].task == questions[1].task and questions[0].attribute == questions[1].attribute:
        return ""
    asked = [words(q.attribute) or f"the {q.task}" for q in questions]
    return f"{first.name} asks about {asked[0]}, {other.name} about {asked[1]}"


def _other_classifier(first, other):
    return _other_network("classifier", first, other)


def _other_network(role, first, other):
    """How the classifiers, or oracles, of two experiments differ, the preparing of their images included, or ""."""
    return _other_flags((f"{role}_path", f"{role}_architecture", *named_flags(role)), first, other)


def _other_flags(names, first, other):
    """The first of some flags whose values differ, in words, or "". A file that has a hash is known by it alone."""
    for name in names:
        values = [e.flags.get(name, FLAGS[name].default) for e in (first, other)]
        hashes = [e.flags.get(name + HASH) for e in (first, other)]
        known = hashes if any(hashes) else values
        if known[0] != known[1]:
            if any(hashes):
                values = [f"{v} (sha256 {h or 'not recorded'})" for v, h in zip(values, hashes, strict=True)]
            return f"{first.name} was run with --{name} {values[0]}, {other.name} with --{name} {values[1]}"
    return ""


# -- what it costs, and who is better ------------------------------------------------------------------------------


def evaluations(experiment, table):
    """Network evaluations an image took, the mean over the rows; None where that is not recorded."""
    known = {name: flag.default for name, flag in FLAGS.items()} | dict(experiment.flags)
    if not experiment.flags or "attempts" not in table:
        return None
    try:
        method, options = method_and_options(known)
        steps = None if known["guided_iterations"] == -1 else known["guided_iterations"]
        cost = method.cost(known["start_step"], guided_steps=steps, **options)
    except (UserError, TypeError):  # flags of an older version
        return None
    return float((cost.once + cost.each * table["attempts"]).mean())


def _differences(experiments, ids, measures):
    """For each of some measures, over all images: the best experiment against the second best."""
    found = []
    tables = {e.name: e.table.set_index("id").loc[ids] for e in experiments}
    for each in measures:
        if not all(each.column in table for table in tables.values()):
            continue
        values = {name: each.values(table).astype(float).to_numpy() for name, table in tables.items()}
        best, second = sorted(values, key=lambda name: values[name].mean() * (-1 if each.percent else 1))[:2]
        gaps = values[best] - values[second]
        interval, p = mean_interval(gaps), sign_flip_test(gaps)
        found.append(Difference(each, best, second, float(gaps.mean()), interval, p))
    return found


def sign_flip_test(gaps, seed=0):
    """(N,) differences of the same images -> two-sided p that their mean is 0.

    Were the methods alike, each difference would be as likely as its negative. Where few images differ, the
    bootstrap is too sure. This is exact for up to ten of them; for more, RESAMPLES flips are drawn.
    """
    gaps = gaps[gaps != 0]  # which no flip changes
    if not len(gaps):
        return 1.0
    result = stats.permutation_test(
        (gaps,),
        np.sum,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=100,  # all flips at once would need RESAMPLES times the memory of the differences
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)
