"""Auditing an experiment: the pairs that are looked at, and everything that is found in them."""

from guided_diffusion.errors import UserError

from ..metrics.inference import flags_of_run, require_pairs
from ..results.folder import ResultsFolder, experiment_folder
from ..results.reading import read_all_records, read_pairs
from .evidence import gather_evidence
from .kept import write_audit
from .ranking import name_used, rank
from .verdict import TOO_FEW, limits, verdict

BOTH = ("CCF", "ICF")
SAME_DATA = ("dataset", "data_dir", "images", "split", "use_train", "image_size")  # flags that name the images


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


def audit(output_path, exp_name, pairs, control, networks, facts, control_name=None):
    """Audits an experiment, and writes what was found into its folder -> (the verdict, its limits, the Ranked).

    facts: what else audit.yaml holds, such as the networks' files.
    """
    folder = ResultsFolder(output_path, exp_name)
    table = read_all_records(output_path, exp_name)
    explained = len(pairs) if table is None else len(table)
    asked = "" if networks.asked is None else networks.attributes[networks.asked]
    evidence, taken = gather_evidence(pairs, control, networks)
    rows = rank(evidence, networks.attributes, networks.asked, control is not None)
    if len(pairs) >= TOO_FEW:
        name_used(rows, evidence, pairs, taken, networks, control is not None)
    said = verdict(rows, len(pairs), asked)
    told = limits(rows, len(pairs), explained, folder.summary_path.exists(), control is not None)
    found = {"verdict": said, "limits": told, "images": len(pairs), "asked": asked, "control": control_name}
    write_audit(folder, found | facts, rows)
    return said, told, rows
