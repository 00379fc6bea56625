"""The audit of an experiment, as audit.py wrote it, for a page of the report."""

from dataclasses import dataclass

from ..audit.change_map import the
from ..audit.clusters import Cluster
from ..audit.files import PICTURE, Findings, read_audit
from ..data.words import words
from .cases import Case, Experiment
from .pictures import address


@dataclass
class Shown:
    """An example: an image before, after, and with the attribute or the place put back."""

    case: Case
    original: str  # addresses
    counterfactual: str
    put_back: str
    p: float
    p_back: float


@dataclass
class AuditPart:
    """An experiment's part of the page. picture: the address of the map, or None.

    stale: whether the experiment has been run again since.
    examples: pairs of a title and its Shown, first of the attributes, then of the places. kinds: the same of the
    clusters, with pairs of addresses, before and after.
    """

    experiment: Experiment
    found: Findings
    stale: bool
    picture: str | None
    examples: list[tuple[str, list[Shown]]]
    kinds: list[tuple[Cluster, list[tuple[str, str, str]]]]


def read_audit_part(experiment, root):
    """The AuditPart of an experiment; None where it was not audited."""
    folder = experiment.run.layout.audit
    found = read_audit(folder)
    if found is None:
        return None
    cases = {case.id: case for case in experiment.cases if case.pair}

    def shown(example):
        picture, case = folder / example.picture, cases.get(example.id)
        if case is None or not picture.is_file():
            return None
        before, after = address(case.pair.original, root), address(case.pair.counterfactual, root)
        return Shown(case, before, after, address(picture, root), example.p, example.p_back)

    named = [(words(row.attribute), row.examples) for row in found.attributes]
    named += [(the(place.place), place.examples) for place in found.places]
    examples = [(title, list(filter(None, map(shown, rows)))) for title, rows in named]
    picture = folder / PICTURE
    kinds = []
    for cluster in found.clusters:
        pairs = [(name, cases[name].pair) for name in cluster.examples if name in cases]
        addresses = [(name, address(p.original, root), address(p.counterfactual, root)) for name, p in pairs]
        kinds.append((cluster, addresses))
    return AuditPart(
        experiment,
        found,
        found.records != experiment.run.records_hash,
        address(picture, root) if picture.is_file() else None,
        [(title, rows) for title, rows in examples if rows],
        kinds,
    )
