"""Auditing an experiment: the pairs that are looked at, and everything that is found in them."""

from dataclasses import asdict

import torch

from guided_diffusion.errors import UserError
from guided_diffusion.storage import write_folder

from ..metrics.inference import flags_of_run, require_pairs
from ..results.folder import ResultsFolder, experiment_folder
from ..results.reading import read_all_records, read_pairs
from .change_map import map_change, pixels_of
from .clusters import cluster_changes
from .evidence import gather_evidence, no_pixels, own_changes, undo
from .examples import draw_examples, strongest
from .kept import write_findings, write_tables
from .places import judge_places
from .ranking import name_used, rank
from .verdict import TOO_FEW, limits, verdict

BOTH = ("CCF", "ICF")
SAME_DATA = ("dataset", "data_dir", "images", "split", "use_train", "image_size")  # flags that name the images
SHOWN = 6  # attributes, the first of the ranking, that get examples; all that are named do


def pairs_to_audit(output_path, exp_name, control):
    """(the Pairs of an experiment that reached their target, those of the same images in the control or None).

    control: another experiment of the same folder, or None. UserError where there is nothing to look at, and where
    the control is of other images.
    """
    if not experiment_folder(output_path, exp_name).is_dir():
        raise UserError(f"{experiment_folder(output_path, exp_name)} is not there; check --exp_names")
    pairs = require_pairs(output_path, exp_name)
    if control is None:
        return pairs, None
    if control == exp_name:
        raise UserError(f"--control {control} is the experiment itself; name another one, of the same images")
    if not experiment_folder(output_path, control).is_dir():
        raise UserError(f"--control {control} is not there; name an experiment in {output_path}/Results")
    flags, others = (flags_of_run(output_path, name) for name in (exp_name, control))
    for name in SAME_DATA:
        if flags and others and flags.get(name) != others.get(name):
            raise UserError(
                f"--control {control} is of other images than {exp_name}: its --{name} is {others.get(name)}, not "
                f"{flags.get(name)}; name one of the same"
            )
    known = {pair.id: pair for pair in read_pairs(output_path, control, reached=BOTH)}
    pairs = [pair for pair in pairs if pair.id in known]
    if not pairs:
        raise UserError(f"--control {control} has none of the images of {exp_name}; name one of the same images")
    return pairs, [known[pair.id] for pair in pairs]


def audit(output_path, exp_name, pairs, control, networks, facts):
    """Audits an experiment, and writes what was found into its folder -> what audit.yaml holds.

    pairs, control: of pairs_to_audit. facts: what else audit.yaml is to hold, such as the networks' files.
    """
    folder = ResultsFolder(output_path, exp_name)
    rows, evidence, asked_pixels, taken = _audit_attributes(pairs, control, networks)
    change_map = map_change(pairs, control, networks.batch_size, networks.workers)
    places = judge_places(change_map.regions, pairs, taken, networks)
    clusters = cluster_changes(change_map.images)
    table = read_all_records(output_path, exp_name)
    counts = {
        "images": len(pairs),
        "explained": len(pairs) if table is None else len(table),
        "finished": folder.summary_path.exists(),
    }
    asked = "" if networks.asked is None else networks.attributes[networks.asked]
    folder.audit_path.unlink(missing_ok=True)  # while it is there, all other files are of the same audit
    write_tables(folder, rows, change_map)
    with write_folder(folder.audit_examples_path) as drawn:
        of_attributes = _examples_of_attributes(drawn, rows, evidence, asked_pixels, pairs, networks)
        of_places = _examples_of_places(drawn, places, taken, pairs)
    findings = {
        "verdict": verdict(rows, places, len(pairs), asked, networks.oracle is not None),
        "limits": limits(rows, counts, control is not None, asked),
        "asked": asked,
        **counts,
        **facts,
        "attributes": [
            asdict(row) | {"examples": examples} for row, examples in zip(rows, of_attributes, strict=True)
        ],
        "places": [
            {
                "place": place.region.place,
                "share": place.region.share,
                "box": place.region.box,
                "change": place.region.change,
                "known": place.known,
                "effect": place.effect,
                "effect_low": place.effect_low,
                "effect_high": place.effect_high,
                "used": place.used,
                "examples": examples,
            }
            for place, examples in zip(places, of_places, strict=True)
        ],
        "clusters": [asdict(each) | {"examples": [pairs[row].id for row in each.examples]} for each in clusters],
    }
    write_findings(folder, findings)
    return findings


def _audit_attributes(pairs, control, networks):
    """(the Ranked, the Evidence, the pixels of the asked attribute, those of the named ones as well)."""
    if networks.oracle is None:
        nothing = no_pixels(pairs)
        return [], None, nothing, nothing
    evidence, asked_pixels = gather_evidence(pairs, control, networks)
    rows, taken = rank(evidence, networks.attributes, networks.asked, control is not None), asked_pixels
    if len(pairs) >= TOO_FEW:
        taken = name_used(rows, evidence, pairs, asked_pixels, networks, control is not None)
    return rows, evidence, asked_pixels, taken


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


def _examples_of_places(folder, places, taken, pairs):
    found = []
    for number, place in enumerate(places, start=1):
        chosen = strongest(place.undone.effect)
        own = ~taken[chosen] & torch.from_numpy(pixels_of(place.region.blocks, *taken.shape[1:]))
        examples = draw_examples(folder, f"place-{number}", chosen, own, place.undone.of(chosen), pairs)
        found.append([asdict(each) for each in examples])
    return found
