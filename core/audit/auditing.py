"""Auditing an experiment: the pairs that are looked at, what they and real images show, and the Findings."""

from guided_diffusion.script.errors import UserError

from ..results.layout import REACHED
from ..running.flags import SAME_IMAGES
from ..running.run import read_run
from .change_map import map_change
from .clusters import cluster_changes
from .colours import judge_colours
from .evidence import gather_evidence, no_pixels, own_changes
from .examples import draw_examples, strongest
from .files import Findings, write_audit
from .places import judge_places
from .ranking import change_one_back, judge_changes, judge_contrasts, name_used, rank
from .real_images import RealEvidence, gather_real_evidence
from .verdict import TOO_FEW, limits, verdict

WITH_EXAMPLES = 6  # attributes, the first of the ranking, that get examples; all that are named do


def pairs_to_audit(run, control):
    """(the Pairs of a Run that reached their target, those of the same images in the control or None).

    control: another experiment of the same folder, or None. UserError where there is nothing to look at, and where
    the control is of other images.
    """
    pairs = run.require_pairs()
    if control is None:
        return pairs, None
    if control == run.name:
        raise UserError(f"--control {control} is the experiment itself; name another one, of the same images")
    other = read_run(run.layout.output_path, control)
    for name in SAME_IMAGES:
        if run.flags and other.flags and run.flags.get(name) != other.flags.get(name):
            raise UserError(
                f"--control {control} is of other images than {run.name}: its --{name} is {other.flags.get(name)}, "
                f"not {run.flags.get(name)}; name one of the same"
            )
    in_control = {pair.id: pair for pair in other.pairs(reached=tuple(REACHED))}
    pairs = [pair for pair in pairs if pair.id in in_control]
    if not pairs:
        raise UserError(f"--control {control} has none of the images of {run.name}; name one of the same images")
    return pairs, [in_control[pair.id] for pair in pairs]


def audit(run, networks, folder, pairs, control, real_images, facts):
    """Audits a Run with AuditNetworks, and writes the files of its audit into the folder -> the Findings.

    pairs, control: of pairs_to_audit. real_images: the Images to contrast attributes on, None for none. facts: what
    else the Findings hold: control, networks, and no_attributes, why there is no oracle.
    """
    real, rows, known_pixels = RealEvidence(), [], no_pixels(pairs)
    if networks.oracle is not None:
        real = gather_real_evidence(real_images, pairs, networks)
        rows, known_pixels = _audit_attributes(folder, pairs, control, real.contrasts, networks)
    change_map = map_change(pairs, control, networks.batches)
    findings = Findings(
        asked=networks.asked_name,
        images=len(pairs),
        explained=None if run.records is None else len(run.records),
        finished=run.finished,
        records=run.records_hash,
        question=run.question.facts | ({} if run.question.title else {"assumed": True}),
        attributes=rows,
        places=_audit_places(folder, change_map, pairs, known_pixels, networks),
        colours=judge_colours(real.colours, known_pixels),
        clusters=cluster_changes(change_map.images, [pair.id for pair in pairs]),
        **real.facts,
        **facts,
    )
    findings.verdict, findings.limits = verdict(findings), list(limits(findings))
    write_audit(folder, findings, change_map, real.colours)
    return findings


def _audit_attributes(folder, pairs, control, contrasts, networks):
    """(the Ranked with their examples, the pixels (n, H, W) of the asked and the named attributes)."""
    evidence, asked_pixels = gather_evidence(pairs, control, networks)
    rows, known_pixels = rank(evidence, networks), asked_pixels
    if len(pairs) >= TOO_FEW:
        known_pixels = judge_changes(rows, evidence, pairs, asked_pixels, networks)
    judge_contrasts(rows, contrasts)
    rows = name_used(rows)
    for place, row in enumerate(rows):
        if row.named and not row.by_change:  # what else changes where it lies, is not asked again
            known_pixels = change_one_back(evidence, row.attribute, pairs, known_pixels, networks)[1]
        a = networks.attributes.index(row.attribute)
        chosen = strongest(evidence.effect[:, a]) if place < WITH_EXAMPLES or row.named else []
        if chosen:
            excluded = no_pixels(pairs) if row.asked else asked_pixels
            own, _ = own_changes([(k, a) for k in chosen], pairs, excluded, networks)
            row.examples = draw_examples(folder, f"attribute-{a}", chosen, own, pairs, networks)
    return rows, known_pixels


def _audit_places(folder, change_map, pairs, known_pixels, networks):
    """The Places with their examples."""
    places = []
    for number, (place, pixels, effects) in enumerate(judge_places(change_map, pairs, known_pixels, networks), 1):
        rows = strongest(effects)
        own = pixels.expand(len(rows), -1, -1)
        place.examples = draw_examples(folder, f"place-{number}", rows, own, pairs, networks)
        places.append(place)
    return places
