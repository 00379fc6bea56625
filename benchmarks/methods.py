"""Every method on the same images: how good, after how many network evaluations. A table.

    python -m benchmarks.methods --output_path DIR
    python -m benchmarks.methods --output_path DIR --dataset fashion
    python -m benchmarks.methods --output_path DIR/glasses --query Eyeglasses --set deep

The images are the first of the demo's test split, and the networks the demo's. Further flags, such as --gpu 1, are
passed to main.py in every experiment. The same command resumes a run that was stopped.
"""

import platform
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.columns import METHOD_ROWS, column_of
from benchmarks.runs import DATA, chosen_names, demo_flags, evaluate, explain, write_data
from core.data.datasets import attribute_index
from core.metrics.metric import table_of
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import WORKERS, Flag, FlagParser
from guided_diffusion.script.run import run_script
from guided_diffusion.script.storage import write_text

# In SETS, OURS stands for these flags of main.py, by dataset, and DIME for those of the demo (demo/flags.sh).
OURS = {
    "faces": "--method inversion --start_step 12 --classifier_scales 2,4 --margin 20 --l1_loss 0.05 "
    "--mask_threshold 0.2 --mask_dilation 3",
    "fashion": "--method inversion --start_step 32 --classifier_scales 1,2,4 --margin 30 --l1_loss 0.05 "
    "--mask_threshold 0.2 --mask_dilation 3",
}
SETS = {  # set -> experiment -> its flags; speed-ups refer to the first experiment of a set
    "methods": {
        "dime": "DIME",
        "dime-inner-1": "DIME --inner_steps 1",
        "fastdime": "DIME --method fastdime",
        "fastdime2": "DIME --method fastdime2",
        "fastdime2plus": "DIME --method fastdime2plus",
        "maskdime": "DIME --method maskdime",
        "ace": "--method ace --start_step 5 --classifier_scales 1 --use_logits False --l1_loss 0.001",
        "inversion": "OURS",
        "inversion-sure": "OURS --margin 30 --classifier_scales 3,6",
    },
    "deep": {  # what glasses need; the depths chosen on validation faces
        "dime": "DIME --start_step 18",
        "maskdime": "DIME --method maskdime --start_step 18",
        "inversion": "OURS --start_step 25",
    },
}
FLAGS = {
    "output_path": Flag(None, "folder of the data, the results and the table"),
    "dataset": Flag("faces", "whose data and networks", choices=OURS),
    "set": Flag("methods", "what is compared", choices=SETS),
    "methods": Flag(None, "these experiments of the set alone, separated by commas"),
    "query": Flag(None, "the attribute that is to change; by default Smiling, or Dress"),
    "images": Flag(256, "how many images are explained", low=1, high=10**6),
    "table": Flag(None, "the Markdown file to write; by default OUTPUT_PATH/SET.md"),
    "workers": replace(WORKERS, help="processes that compare faces with the true counterfactuals"),
}
REQUIRED = ("output_path",)
OWN = ("--data_dir", "--exp_name", "--query_label", "--method", "--overwrite")  # this script sets these of main.py


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args, further = create_argparser().parse_known_args()
    chosen = choose(args, further)
    root, query = Path(args.output_path), args.query or DATA[args.dataset].query
    data = write_data(root, args.dataset, args.images)
    print(f"{len(chosen)} experiments of {args.images} images: {', '.join(chosen)}", flush=True)
    for name, flags in chosen.items():
        print(f"-- {name}: {' '.join(flags)}", flush=True)
        explain(root, name, args.dataset, data, query, [*flags, *further])
    evaluate(root, chosen, args.dataset, query, args.workers)

    columns = {name: column_of(root, name, next(iter(SETS[args.set]))) for name in chosen}
    table = f"{about(args)}\n\n{table_of(columns, METHOD_ROWS)}"
    print(f"\n{table}")
    write_text(args.table or root / f"{args.set}.md", table)


def choose(args, further):
    """The experiments to run: name -> words of main.py's command line. further: words to pass on to main.py.

    UserError for an unknown experiment or attribute, and for further words that this script gives main.py itself.
    """
    if args.query is not None:
        attribute_index(DATA[args.dataset].attributes, args.query, "query")
    for word in further:
        if word.replace("-", "_").replace("__", "--", 1).split("=")[0] in OWN:
            raise UserError(f"{word} is what this script tells main.py itself; leave it out")
    experiments = SETS[args.set]
    names = experiments if args.methods is None else chosen_names(args.methods, "methods", experiments)
    return {name: flags_of(experiments[name], args.dataset) for name in names}


def flags_of(experiment, dataset):
    """An experiment of SETS, a text -> the words for main.py."""
    stands_for = {"DIME": demo_flags(dataset, "DIME"), "OURS": OURS[dataset].split()}
    return [word for each in experiment.split() for word in stands_for.get(each, [each])]


def about(args):
    """A line that says what was measured, on which machine, with which command."""
    command = shlex.join(["python", "-m", "benchmarks.methods", *sys.argv[1:]])
    return (
        f"The first {args.images} images of the {args.dataset} demo's test split, on {processor()} with "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; brackets are 95 % intervals: `{command}`"
    )


def processor():
    """The name of the GPU, or of the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    about = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = re.findall(r"model name\s*: (.*)", about)
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    run_script(main)
