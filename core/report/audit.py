"""The audit of an experiment, as audit.py wrote it, for a page of the report."""

from dataclasses import dataclass

from ..audit.change_map import the
from ..audit.clusters import Cluster
from ..audit.files import PICTURE, Findings, read_audit
from ..data.words import words
from .cases import Experiment, ExplainedImage
from .pictures import address


@dataclass
class Shown:
    """An example: the addresses of an image, its counterfactual, and this with the attribute or place put back."""

    case: ExplainedImage
    original: str
    counterfactual: str
    put_back: str
    p: float
    p_back: float


@dataclass
class AuditPart:
    """An experiment's part of the page. picture: the address of the map, or None.

    stale: whether the experiment has been run again since.
    examples: pairs of a title and its Shown, first of the attributes, then of the places. kinds: the same of the
    clusters, with ids and the addresses of the images before and after.
    """

    experiment: Experiment
    findings: Findings
    stale: bool
    picture: str | None
    examples: list[tuple[str, list[Shown]]]
    kinds: list[tuple[Cluster, list[tuple[str, str, str]]]]


def read_audit_part(experiment, root):
    """The AuditPart of an experiment; None where it was not audited."""
    folder = experiment.run.layout.audit
    findings = read_audit(folder)
    if findings is None:
        return None
    cases = {case.id: case for case in experiment.cases if case.pair}

    def images_of(name):
        return address(cases[name].pair.original, root), address(cases[name].pair.counterfactual, root)

    def shown(examples):
        inside = [each for each in examples if (folder / each.picture).resolve().is_relative_to(folder.resolve())]
        there = [each for each in inside if each.id in cases and (folder / each.picture).is_file()]
        return [
            Shown(cases[e.id], *images_of(e.id), address(folder / e.picture, root), e.p, e.p_back) for e in there
        ]

    examples = [(words(row.attribute), shown(row.examples)) for row in findings.attributes]
    examples += [(the(place.place), shown(place.examples)) for place in findings.places]
    return AuditPart(
        experiment,
        findings,
        findings.records != experiment.run.records_hash,
        address(folder / PICTURE, root) if (folder / PICTURE).is_file() else None,
        [(title, rows) for title, rows in examples if rows],
        [(each, [(k, *images_of(k)) for k in each.examples if k in cases]) for each in findings.clusters],
    )
