"""Does audit.py find the shortcut of a classifier that has one? Classifiers of drawn faces, whose truth is known.

    python -m benchmarks.audit --output_path DIR
    python -m benchmarks.audit --output_path DIR --shortcuts Mark,Eyeglasses --levels 50,100 --methods inversion

Each classifier is trained for Smiling on faces in which a shortcut goes with the smile in so many percent; at 50 it
does not, and the classifier is clean. The truth is the mean change of p under rendered counterfactuals. Each method
explains held-out faces, and audit.py says what the classifier uses: by the counterfactuals alone, by contrasts of
the attributes on held-out faces as they are, and by both. The same command goes on where it was stopped. One with
other flags adds to what is there: the table is of all that the folder holds.
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import runs
from benchmarks.audit_table import table_of_methods
from benchmarks.methods import SETS, flags_of, processor
from benchmarks.planted import ASKED, SHORTCUTS, SIZE, choose_from_pool, draw_pool, render_held_out, write_held_out
from benchmarks.scoring import CASE, collect, rendered_changes
from core.results.layout import Layout
from core.results.records import flipped, read_records, read_yaml, write_yaml
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import WORKERS, Flag, FlagParser, parse_numbers
from guided_diffusion.script.run import run_script
from guided_diffusion.script.storage import write_text

METHODS = ("inversion", "maskdime", "dime")  # of benchmarks.methods
REDRAWS = ("dime",)  # changes an image without any guidance, too; the others then end at the original itself
CLASSIFIER = f"""--architecture tiny_cnn --image_size {SIZE} --random_flip False --batch_size 64 --lr 2e-3
  --lr_warmup_steps 50 --ema_rate 0.9 --compile False"""
DEMO_CLASSIFIER = "models/demo/faces_classifier.pt"
HELD_OUT = 1000  # faces that there are to explain, and to contrast attributes on
FLAGS = {
    "output_path": Flag(None, "folder of the faces, the classifiers, the results and the table"),
    "shortcuts": Flag(",".join(SHORTCUTS), "what goes with the smile, each in classifiers of its own"),
    "levels": Flag("50,60,70,80,90,100", "in how many percent of the images", parse_numbers, low=50, high=100),
    "seeds": Flag("0,1", "of the classifiers and the choice of images", parse_numbers, low=0, high=2**32 - 1),
    "methods": Flag(",".join(METHODS), "what explains them"),
    "images": Flag(32, "how many held-out faces are explained", low=1, high=HELD_OUT),
    "pool": Flag(2000, "how many faces the training sets are chosen from", low=20, high=10**6),
    "steps": Flag(90, "steps of 64 images that a classifier is trained", low=1, high=10**6),
    "rendered": Flag(96, "held-out faces whose counterfactuals are rendered, for the truth", low=2, high=HELD_OUT),
    "workers": replace(WORKERS, help="processes that draw faces"),
}
REQUIRED = ("output_path",)


@dataclass(frozen=True)
class Planting:
    """The shortcut of a classifier. level: in how many percent of its images it goes with the smile."""

    shortcut: str
    level: int
    seed: int

    @property
    def name(self):
        return f"{self.shortcut}-{self.level}-{self.seed}"


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    plantings, methods = choose(args)
    root = Path(args.output_path).resolve()
    root.mkdir(parents=True, exist_ok=True)
    write_held_out(root / "held_out", HELD_OUT, args.workers)
    renderings = render_held_out(root / f"rendered-{args.rendered}.npz", args.rendered, args.workers)
    print(f"{len(plantings)} classifiers, each explained by {', '.join(methods)}", flush=True)
    for planting in plantings:
        weights = train(root, planting, args)
        rendered_changes(weights.parent / "changes.csv", weights, renderings)
        for method in methods:
            explain(root, planting, method, weights, args.images)
        report(root, renderings)
    print(report(root, renderings))


def choose(args):
    """The Plantings and the methods that the flags name; UserError for those that are unknown."""
    shortcuts = runs.chosen_names(args.shortcuts, "shortcuts", SHORTCUTS)
    methods = runs.chosen_names(args.methods, "methods", METHODS)
    levels, seeds = (parse_numbers(getattr(args, flag), flag) for flag in ("levels", "seeds"))
    if not all(isinstance(number, int) for number in (*levels, *seeds)):
        raise UserError(f"--levels {args.levels} and --seeds {args.seeds} must be whole numbers")
    # The shortcuts change fastest, so that what is done so far says something of each.
    plantings = [Planting(shortcut, level, seed) for seed in seeds for level in levels for shortcut in shortcuts]
    return plantings, methods


def train(root, planting, args):
    """Trains the classifier of a planting, unless it is there -> the path of its weights."""
    folder = root / "classifiers" / planting.name
    if not (folder / "last.pt").exists():
        pool = root / "pools" / f"{planting.shortcut}-{args.pool}"
        pool.parent.mkdir(exist_ok=True)
        draw_pool(pool, planting.shortcut, args.pool, args.workers)
        data = choose_from_pool(pool, args.pool, planting.level, planting.seed)
        length = ("--lr_anneal_steps", args.steps, "--save_interval", args.steps, "--seed", planting.seed)
        places = ("--data_dir", data, "--output_path", folder)
        runs.run("celeba-train-classifier.py", *CLASSIFIER.split(), *length, *places)
    return folder / "last.pt"


def explain(root, planting, method, weights, images):
    """Explains held-out faces to the classifier of a planting, and audits it, unless both is done."""
    name, output_path = f"{planting.name}-{method}", root / "explained"
    layout = Layout(output_path, name)
    path = layout.experiment / CASE
    if path.exists() and read_yaml(path)["images"] == images:
        return
    flags = flags_of(SETS["methods"][method], "faces")
    run_main(root, name, flags, weights, images)
    control = ()
    if method in REDRAWS:  # once for all classifiers: without guidance none has an influence
        control = ("--control", f"unguided-{method}")
        run_main(root, control[1], [*flags, "--classifier_scales", 0], DEMO_CLASSIFIER, images)
    if flipped(read_records(layout.records)).any():  # of no image there is nothing to audit
        runs.run("audit.py", "--output_path", output_path, "--exp_names", name, *control)
    write_yaml(path, asdict(planting) | {"method": method, "images": images})


def run_main(root, name, flags, weights, images):
    """Runs or resumes main.py on the first of the held-out faces. flags: words, of the method."""
    size = math.gcd(images, 16)
    amount = ("--batch_size", size, "--num_batches", images // size)
    flags = (*flags, "--classifier_path", weights, *amount)
    runs.explain(root / "explained", name, "faces", root / "held_out", ASKED, flags)


def report(root, renderings):
    """Writes audit.csv and audit.md of all that is in the folder -> the Markdown."""
    rows = collect(root, renderings)
    write_text(root / "audit.csv", rows.to_csv(index=False))
    text = f"On {processor()}\n\n{table_of_methods(rows)}"
    write_text(root / "audit.md", text)
    return text


if __name__ == "__main__":
    run_script(main)
