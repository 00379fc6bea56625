"""Auditing an experiment: the pairs that are looked at, and everything that is found in them."""

import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from guided_diffusion.script.errors import UserError
from guided_diffusion.script.storage import write_folder

from ..running.flags import SAME_IMAGES
from ..running.run import read_run
from .as_they_are import BOTH
from .change_map import map_change
from .clusters import cluster_changes
from .colours import judge_colours
from .evidence import change_back, gather_evidence, no_pixels, own_changes, undo
from .examples import draw_examples, strongest
from .kept import write_findings, write_tables
from .places import judge_places
from .ranking import judge_changes, judge_contrasts, name_used, rank
from .seen import Seen, look_at
from .verdict import TOO_FEW, limits, verdict

SHOWN = 6  # attributes, the first of the ranking, that get examples; all that are named do


def pairs_to_audit(run, control):
    """(the Pairs of an experiment that reached their target, those of the same images in the control or None).

    control: another experiment of the same folder, or None. UserError where there is nothing to look at, and where
    the control is of other images.
    """
    output_path, exp_name, pairs = run.layout.output_path, run.name, run.require_pairs()
    if control is None:
        return pairs, None
    if control == exp_name:
        raise UserError(f"--control {control} is the experiment itself; name another one, of the same images")
    try:
        other = read_run(output_path, control)
    except UserError as error:
        raise UserError(f"--control {control} is not there; name another experiment ({error})") from None
    flags, others = run.flags, other.flags
    for name in SAME_IMAGES:
        if flags and others and flags.get(name) != others.get(name):
            raise UserError(
                f"--control {control} is of other images than {exp_name}: its --{name} is {others.get(name)}, not "
                f"{flags.get(name)}; name one of the same"
            )
    known = {pair.id: pair for pair in other.pairs(reached=BOTH)}
    pairs = [pair for pair in pairs if pair.id in known]
    if not pairs:
        raise UserError(f"--control {control} has none of the images of {exp_name}; name one of the same images")
    return pairs, [known[pair.id] for pair in pairs]


@contextmanager
def audit_folder(run, first):
    """In this context an experiment's audit is written, and replaces an earlier one at the end -> the folder.

    UserError, before any work, where it cannot be written. Ranks that are not the first write where it is lost.
    """
    if first:
        with write_folder(run.layout.audit) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def audit(folder, run, pairs, control, as_they_are, networks, facts):
    """Audits an experiment, and writes what was found into the folder -> what audit.yaml holds.

    pairs, control: of pairs_to_audit. as_they_are: the Images to contrast attributes on, None for none. facts: what
    else audit.yaml is to hold: control, networks, and no_attributes, why there is no oracle.
    """
    rows, evidence, asked_pixels, taken, seen = _audit_attributes(pairs, control, as_they_are, networks)
    change_map = map_change(pairs, control, networks.batch_size, networks.workers)
    places = judge_places(change_map, pairs, taken, networks)
    colours = judge_colours(seen.colours, taken)
    clusters = cluster_changes(change_map.images)
    counts = _counts(run, pairs) | seen.facts | {"no_attributes": facts["no_attributes"]}
    write_tables(folder, rows, change_map, seen.colours)
    of_attributes = _examples_of_attributes(folder, rows, evidence, asked_pixels, pairs, networks)
    of_places = _examples_of_places(folder, places, pairs)
    findings = {
        "verdict": verdict(rows, places, colours, counts, control is not None, networks.asked_name),
        "limits": limits(rows, colours, counts, control is not None, networks.asked_name),
        "asked": networks.asked_name,
        **counts,
        "records": run.records_hash,
        **facts,
        "attributes": [
            asdict(row) | {"examples": examples} for row, examples in zip(rows, of_attributes, strict=True)
        ],
        "places": [place.facts() | {"examples": drawn} for place, drawn in zip(places, of_places, strict=True)],
        "colours": [asdict(place) for place in colours],
        "clusters": [asdict(each) | {"examples": [pairs[row].id for row in each.examples]} for each in clusters],
    }
    write_findings(folder, findings)
    return findings


def _counts(run, pairs):
    table = run.records
    return {
        "images": len(pairs),
        "explained": None if table is None else len(table),
        "finished": run.finished,
    }


def _audit_attributes(pairs, control, as_they_are, networks):
    """(the Ranked, the Evidence, the pixels of the asked attribute, those of the named ones as well, and what was
    Seen of the images as they are)."""
    if networks.oracle is None:
        none = no_pixels(pairs)
        return [], None, none, none, Seen()
    evidence, asked_pixels = gather_evidence(pairs, control, networks)
    rows, taken = rank(evidence, networks.attributes, networks.asked, control is not None), asked_pixels
    if len(pairs) >= TOO_FEW:
        taken = judge_changes(rows, evidence, pairs, asked_pixels, networks, control is not None)
    seen = look_at(as_they_are, pairs, networks)
    judge_contrasts(rows, seen.contrasts)
    rows = name_used(rows)
    for row in rows:
        if row.named and not row.by_change:  # what else changes where it lies, is not asked again
            its = evidence.changed & (np.array(networks.attributes) == row.attribute)
            taken = change_back(evidence, pairs, its, taken, networks)[1]
    return rows, evidence, asked_pixels, taken, seen


def _examples_of_attributes(folder, rows, evidence, asked_pixels, pairs, networks):
    """The examples of each of the Ranked, a list of dicts; [] for those that are not shown."""
    found = []
    for place, row in enumerate(rows):
        a = networks.attributes.index(row.attribute)
        chosen = strongest(evidence.effect[:, a]) if place < SHOWN or row.named else []
        if not chosen:
            found.append([])
            continue
        kept_out = no_pixels(pairs) if row.asked else asked_pixels
        own, _ = own_changes([(k, a) for k in chosen], pairs, kept_out, networks)
        examples = draw_examples(folder, f"attribute-{a}", chosen, own, undo(chosen, own, pairs, networks), pairs)
        found.append([asdict(each) for each in examples])
    return found


def _examples_of_places(folder, places, pairs):
    found = []
    for number, place in enumerate(places, start=1):
        chosen = strongest(place.undone.effect)
        own = place.pixels.expand(len(chosen), -1, -1)
        examples = draw_examples(folder, f"place-{number}", chosen, own, place.undone.of(chosen), pairs)
        found.append([asdict(each) for each in examples])
    return found
