"""How often classifiers are right about each attribute, as a Markdown table for a card.

python -m demo.accuracy --data_dir DIR --split test models/demo/faces_classifier.pt models/demo/faces_oracle.pt
"""

import pandas as pd
import torch

from core.data.datasets import SPLITS, make_dataset
from core.metrics.validation import attribute_accuracy, decide
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser, check_flags
from guided_diffusion.script.run import require_flags, run_script
from models.classifiers import load_classifier

FLAGS = {
    "data_dir": Flag(None, "a folder laid out like CelebA"),
    "split": Flag("test", "whose images", choices=SPLITS),
}
REQUIRED = ("data_dir",)


def accuracy_table(paths, data_dir, split):
    """Classifier files -> a DataFrame with a row for each attribute and a column of accuracies for each file."""
    columns = {}
    for path in paths:
        classifier = load_classifier(path)
        dataset = make_dataset("CelebA", data_dir, split, classifier.image_size)
        if list(classifier.attributes or dataset.attributes) != list(dataset.attributes):
            raise UserError(f"{path} knows other attributes than --data_dir {data_dir} has; name its own data")
        decisions = decide(classifier, dataset, torch.device("cpu"))
        columns[path] = attribute_accuracy(decisions, dataset.labels, dataset.attributes)["accuracy"]
    return pd.DataFrame(columns)


def create_argparser():
    parser = FlagParser(__doc__, FLAGS, REQUIRED)
    parser.usage += " WEIGHTS ..."
    parser.add_argument("weights", nargs="+", help="files of celeba-train-classifier.py, packed or not")
    return parser


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    require_flags(args, *REQUIRED)
    table = accuracy_table(args.weights, args.data_dir, args.split)
    print("| attribute | " + " | ".join(table.columns) + " |")
    print("|---" * (1 + len(table.columns)) + "|")
    for name, row in [*table.iterrows(), ("mean", table.mean())]:
        print(f"| {name} | " + " | ".join(f"{100 * value:.1f} %" for value in row) + " |")


if __name__ == "__main__":
    run_script(main)
