"""What does the classifier's decision hang on? The attributes that it uses, and where in the image it looks"""

if __name__ == "__main__":
    from guided_diffusion.script.interrupts import end_on_interrupt

    end_on_interrupt()

from argparse import Namespace
from dataclasses import replace

from core.audit.as_they_are import LABELS, ORACLE, images_to_contrast
from core.audit.audited import audit, audit_folder, pairs_to_audit
from core.audit.evidence import Networks
from core.metrics.inference import (
    CLASSIFIER_FLAGS,
    DEVICE_FLAGS,
    ORACLE_FLAGS,
    QUERY_FLAGS,
    RESULTS_FLAGS,
    find_query,
    find_question,
    flags_of_run,
    require_size,
    size_of,
    start_ranks,
    take_from_run,
    task_of_run,
    what_was_used,
)
from core.running.flags import FLAGS as RUN_FLAGS
from core.running.flags import network_arguments
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser, check_flags, group_flags
from guided_diffusion.script.run import require_flags, run_script
from models.classifiers import load_classifier
from models.oracles import load_oracle

CONTROL = Flag(
    None,
    "an experiment of the same images to compare with: the same method with another target, or without guidance; "
    "by default the originals",
)
FLAGS = group_flags(
    data={
        "output_path": RESULTS_FLAGS["output_path"],
        "exp_names": Flag([], "the experiments, each audited by itself", many=True),
        "control": CONTROL,
        "data_dir": Flag(None, "images as they are, to contrast attributes on; by default those of the run's data"),
        "split": replace(RUN_FLAGS["split"], help="of --data_dir, val where not given; all: every image"),
        "contrast_images": Flag(1000, "how many of them, evenly spaced; 0: none", low=0, high=10**7),
        "contrast_by": Flag(
            LABELS, "what tells their attributes: the data's labels, where it has any", choices=(LABELS, ORACLE)
        ),
    },
    question=QUERY_FLAGS,
    networks=CLASSIFIER_FLAGS | ORACLE_FLAGS,
    speed=DEVICE_FLAGS,
)
REQUIRED = ("exp_names",)
SHOWN = 8  # attributes of the table that are printed, and those asked about and named


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    require_flags(args, *REQUIRED)
    device, first = start_ranks(args)
    every = {name: pairs_to_audit(args.output_path, name, args.control) for name in dict.fromkeys(args.exp_names)}
    for name, (pairs, control) in every.items():
        with audit_folder(args.output_path, name, first) as folder:
            found = audit_one(folder, Namespace(**vars(args), exp_name=name), pairs, control, device)
        if first:
            show(name, found)


def audit_one(folder, args, pairs, control, device):
    networks, facts = load_networks(args, pairs, device)
    facts |= {"control": args.control}
    as_they_are = images_to_contrast(args, size_of(pairs))
    return audit(folder, args.output_path, args.exp_name, pairs, control, as_they_are, networks, facts)


def show(exp_name, found):
    """Prints what audit() found."""
    print(f"{exp_name}: {found['verdict']}")
    for limit in found["limits"]:
        print(f"- {limit}")
    if found["attributes"]:
        print(f"{'attribute':22}{'contrast':>9}{'changed':>9}{'control':>9}{'effect':>8}{'score':>8}")
    for place, row in enumerate(found["attributes"]):
        if place >= SHOWN and not row["asked"] and not row["named"]:
            continue
        mark = " asked" if row["asked"] else " used" if row["named"] else ""
        contrast, effect = ("–" if row[name] is None else f"{row[name]:.3f}" for name in ("contrast", "effect"))
        print(
            f"{row['attribute']:22}{contrast:>9}{row['changed']:9.3f}{row['control']:9.3f}{effect:>8}"
            f"{row['score']:8.3f}{mark}"
        )


def load_networks(args, pairs, device):
    """The Networks of an experiment, and what audit.yaml says of them."""
    oracle_given = args.oracle_path is not None
    taken = take_from_run(args, "classifier_path", "oracle_path", "query_label")
    named = network_arguments(args, "classifier")
    classifier = load_classifier(*named, size_of(pairs), "classifier_path" not in taken).to(device)
    require_size(classifier, pairs, "classifier_path")
    classify, asked = find_question(args, classifier)
    try:
        oracle, attributes, query = load_judge(args, pairs, device, oracle_given)
        why_not = ""
    except UserError as error:
        if oracle_given:
            raise
        oracle, attributes, query, why_not = None, (), None, str(error)
    of_classes = task_of_run(args) == "classes"
    networks = Networks(classify, oracle, attributes, query, device, args.batch_size, args.num_workers, of_classes)
    facts = {"question": asked, "networks": {}, "no_attributes": why_not}
    for role in ("classifier", "oracle")[: 1 + (oracle is not None)]:
        weights, options = what_was_used(args, role)
        facts["networks"] |= weights | options
    return networks, facts


def load_judge(args, pairs, device, given):
    """(the oracle, the names of its attributes, which of them the classifier is asked about or None of classes)."""
    if not given and not flags_of_run(args.output_path, args.exp_name).get("oracle_path"):
        raise UserError("the run had no oracle, and --oracle_path names none")
    oracle = load_oracle(*network_arguments(args, "oracle"), size_of(pairs), given).to(device)
    require_size(oracle, pairs, "oracle_path")
    if getattr(oracle, "task", None) == "classes":
        raise UserError(f"--oracle_path {args.oracle_path} tells classes apart; an audit needs one of attributes")
    if task_of_run(args) == "classes":
        return oracle, tuple(oracle.attributes or ()), None
    return oracle, *find_query(args, oracle)


if __name__ == "__main__":
    run_script(main)
