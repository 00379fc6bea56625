"""What does the classifier's decision hang on? The attributes that it uses, and where in the image it looks"""

import guided_diffusion.script.guard  # noqa: F401

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from core.audit.auditing import audit, pairs_to_audit
from core.audit.evidence import AuditNetworks
from core.audit.real_images import images_to_contrast
from core.data.datasets import CELEBA_ATTRIBUTES
from core.metrics.flags import CLASSIFIER_FLAGS, DEVICE_FLAGS, ORACLE_FLAGS, OUTPUT_PATH, QUERY_FLAGS
from core.metrics.judges import Judges
from core.results.layout import FINDINGS
from core.running.flags import FLAGS as RUN_FLAGS
from core.running.run import read_run
from guided_diffusion.ranks.connecting import connect
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser, group_flags
from guided_diffusion.script.run import run_script
from guided_diffusion.script.storage import write_folder
from models.judges import LOADERS

LABELS, ORACLE = "labels", "oracle"  # what tells the attributes of real images
CONTROL = Flag(
    None,
    "an experiment of the same images to compare with: the same method with another target, or without guidance; "
    "by default the originals",
)
FLAGS = group_flags(
    data={
        **OUTPUT_PATH,
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
ROWS_SHOWN = 8  # attributes of the table that are printed, and those asked about and named


def create_argparser():
    return FlagParser(__doc__, FLAGS, ("exp_names",))


def main():
    args = create_argparser().parse_args()
    judges = Judges(vars(args), LOADERS, connect())
    runs = [read_run(args.output_path, name, args.query_label) for name in dict.fromkeys(args.exp_names)]
    every = [(run, *pairs_to_audit(run, args.control)) for run in runs]
    for run, pairs, control in every:
        # Ranks that are not the first write where it is lost.
        with write_folder(run.layout.audit, FINDINGS) if judges.ranks.first else TemporaryDirectory() as folder:
            networks, facts = load_networks(run, judges, pairs)
            facts["control"] = args.control
            size = pairs[0].pixels()[0].shape[-1]
            images = images_to_contrast(run, size, args.contrast_images, args.data_dir, args.split)
            if images and args.contrast_by == ORACLE:
                images.labels.clear()
            findings = audit(run, networks, Path(folder), pairs, control, images, facts)
        if judges.ranks.first:
            show(run.name, findings)


def load_networks(run, judges, pairs):
    """The AuditNetworks of a Run, and the facts of the Findings that tell of them."""
    classifier, name = judges.of_role("classifier", run, pairs)
    classify = run.question.logits_of(classifier, name.path)
    facts = {"networks": {**name.weights, **name.options}, "no_attributes": ""}
    oracle, attributes, asked = None, (), None
    try:
        oracle, attributes, asked, name = load_oracle(run, judges, pairs)
        facts["networks"] |= {**name.weights, **name.options}
    except UserError as error:
        if judges.flags["oracle_path"] is not None:
            raise
        facts["no_attributes"] = str(error)
    of_classes = run.question.of_classes
    return AuditNetworks(classify, oracle, attributes, asked, judges.batches, of_classes), facts


def load_oracle(run, judges, pairs):
    """(the oracle, the names of its attributes, which of them the classifier is asked about or None of classes, its
    NetworkName); UserError where there is none, or it does not answer."""
    if judges.flags["oracle_path"] is None and not run.flags.get("oracle_path"):
        raise UserError("neither the run nor --oracle_path names an oracle")
    oracle, name = judges.of_role("oracle", run, pairs)
    if getattr(oracle, "task", None) == "classes":
        raise UserError(f"--oracle_path {name.path} tells classes apart; an audit needs one of attributes")
    if run.question.of_classes:
        return oracle, tuple(oracle.attributes or ()), None, name
    attributes = tuple(oracle.attributes or CELEBA_ATTRIBUTES)
    return oracle, attributes, run.question.place_in(attributes), name


def show(exp_name, findings):
    """Prints the Findings of an experiment."""
    print(f"{exp_name}: {findings.verdict}")
    for limit in findings.limits:
        print(f"- {limit}")
    if findings.attributes:
        print(f"{'attribute':22}{'contrast':>9}{'changed':>9}{'control':>9}{'effect':>8}{'score':>8}")
    for place, row in enumerate(findings.attributes):
        if place < ROWS_SHOWN or row.asked or row.named:
            mark = " asked" if row.asked else " used" if row.named else ""
            contrast, effect = ("–" if value is None else f"{value:.3f}" for value in (row.contrast, row.effect))
            figures = f"{contrast:>9}{row.changed:9.3f}{row.control:9.3f}{effect:>8}{row.score:8.3f}"
            print(f"{row.attribute:22}{figures}{mark}")


if __name__ == "__main__":
    run_script(main)
