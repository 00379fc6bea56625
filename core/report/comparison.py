"""Several experiments on identical images, as far as they ask the same classifier the same question."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from guided_diffusion.script.errors import UserError

from ..data.words import words
from ..methods.flags import method_and_options
from ..metrics.intervals import LEVEL, RESAMPLES, difference_interval, mean_interval
from ..running.flags import FLAGS, SAME_IMAGES, named_flags
from .cases import Experiment
from .measures import MEASURES, Measure, Measured, measure
from .provenance import HASH

COMPARED = ("FR", "Oracle FR", "MNAC", "L1")  # of which it is said which experiment is better
TOO_FEW = 10  # images; below this it is not said


@dataclass
class MethodRow:
    """A row of the table of methods. What is not known is None."""

    experiment: Experiment
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
    methods: list[MethodRow]
    differences: list[Difference]
    other_oracles: str


def compare(experiments):
    """(a Comparison for each group of experiments that may be compared, why there is no single one or "")."""
    groups, apart = [], []
    for experiment in experiments:
        reasons = [_why_apart(group, experiment) for group in groups]
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
    judged = [e for e in group if "oracle_flip" in e.run.records]
    other_oracles = next(filter(None, (_other_network("oracle", judged[0], e) for e in judged[1:])), "")
    measures = [each for each in MEASURES if not (each.of_oracle and other_oracles)]
    methods = [_method(e, e.run.records[e.run.records["id"].isin(ids)], measures) for e in group]
    compared = [each for each in measures if each.name in COMPARED]
    enough = len(group) > 1 and len(ids) >= TOO_FEW
    return Comparison(ids, methods, _differences(group, ids, compared) if enough else [], other_oracles)


def _method(experiment, table, measures):
    timed = sum(experiment.numbers_of_runs("images"))
    return MethodRow(
        experiment,
        _evaluations(experiment, table),
        sum(experiment.numbers_of_runs("seconds")) / timed if timed else None,
        max(experiment.numbers_of_runs("memory_mib"), default=None),
        experiment.texts_of_runs("device"),
        measure(table, measures),
    )


# -- what may be compared ----------------------------------------------------------------------------------------


def same_images(experiments):
    """Whether an id stands for the same image in all of some experiments, and there is one that all have."""
    shared = set.intersection(*(set(e.run.records["id"]) for e in experiments))
    return bool(shared) and not any(_other_images(*pair) for pair in combinations(experiments, 2))


def _why_apart(group, experiment):
    """Why an experiment may not be compared with those of a group, or ""."""
    for other in group:
        pair = other, experiment
        if reason := _other_images(*pair) or _other_question(*pair) or _other_network("classifier", *pair):
            return reason
    if not _shared_ids([*group, experiment]):
        return f"{group[0].name} and {experiment.name} have no image in common that has the same target"
    return ""


def _shared_ids(experiments):
    """The ids, sorted, that all experiments have with the same target."""
    targets = pd.concat([e.run.records.set_index("id")["target"] for e in experiments], axis=1, join="inner")
    return sorted(targets.index[targets.eq(targets.iloc[:, 0], axis=0).all(axis=1)])


def _other_images(first, other):
    if first.run.flags and other.run.flags and (reason := _other_flags(SAME_IMAGES, first, other)):
        return reason
    images = {case.id: case.image for case in first.cases}
    for case in other.cases:
        if images.get(case.id, case.image) != case.image:
            return f"image {case.id} is {images[case.id]} in {first.name}, but {case.image} in {other.name}"
    return ""


def _other_question(first, other):
    for e in (first, other):
        if not e.run.flags:
            return f"{e.name} has no flags.yaml that says what was asked"
    asked = [words(e.run.question.attribute) or f"the {e.run.question.task}" for e in (first, other)]
    return "" if asked[0] == asked[1] else f"{first.name} asks about {asked[0]}, {other.name} about {asked[1]}"


def _other_network(role, first, other):
    """How the classifiers, or oracles, of two experiments differ, the preparing of their images included, or ""."""
    return _other_flags((f"{role}_path", f"{role}_architecture", *named_flags(role)), first, other)


def _other_flags(names, first, other):
    """The first of some flags whose values differ, in words, or "". Files that have a hash differ where it does."""
    for name in names:
        values = [e.run.flags.get(name, FLAGS[name].default) for e in (first, other)]
        hashes = [e.run.flags.get(name + HASH) for e in (first, other)]
        if any(hashes):
            values = [f"{v} (sha256 {h or 'not recorded'})" for v, h in zip(values, hashes, strict=True)]
        compared = hashes if any(hashes) else values
        if compared[0] != compared[1]:
            return f"{first.name} was run with --{name} {values[0]}, {other.name} with --{name} {values[1]}"
    return ""


# -- what it costs, and who is better ------------------------------------------------------------------------------


def _evaluations(experiment, table):
    """Network evaluations an image took, the mean over the rows; None where that is not recorded."""
    if not experiment.run.flags or "attempts" not in table:
        return None
    flags = {name: flag.default for name, flag in FLAGS.items()} | dict(experiment.run.flags)
    try:
        method, options = method_and_options(flags)
        cost = method.cost(flags["start_step"], **options)
    except (UserError, TypeError):  # flags of an older version
        return None
    return float((cost.once + cost.each * table["attempts"]).mean())


def _differences(experiments, ids, measures):
    """For each of some measures, over all images: the best experiment against the second best."""
    differences = []
    tables = {e.name: e.run.records.set_index("id").loc[ids] for e in experiments}
    for each in measures:
        if not all(each.column in table for table in tables.values()):
            continue
        values = {name: each.values(table).to_numpy() for name, table in tables.items()}
        best, second = sorted(values, key=lambda name: values[name].mean() * (-1 if each.percent else 1))[:2]
        gaps = values[best].astype(float) - values[second]
        of_shares = values[best].dtype == bool
        interval = difference_interval(values[best], values[second]) if of_shares else mean_interval(gaps)
        p = sign_flip_test(gaps)
        differences.append(Difference(each, best, second, float(gaps.mean()), interval, p))
    return differences


def sign_flip_test(gaps, seed=0):
    """(N,) differences of the same images -> two-sided p that their mean is 0.

    Were the methods alike, each difference would be as likely as its negative. Where few images differ, the
    bootstrap is too sure. This is exact for up to ten of them; for more, RESAMPLES flips are drawn.
    """
    gaps = gaps[gaps != 0]  # which no flip changes
    if not len(gaps):
        return 1.0
    # batch: all flips at once would need RESAMPLES times the memory of the differences.
    options = {"n_resamples": RESAMPLES, "batch": 100, "rng": np.random.default_rng(seed)}
    return float(stats.permutation_test((gaps,), np.sum, permutation_type="samples", **options).pvalue)
