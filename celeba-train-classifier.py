"""Train a classifier, or an oracle, of CelebA's attributes, a folder's classes, or the labels of a csv."""

import guided_diffusion.script.guard  # noqa: F401

from dataclasses import replace
from functools import partial

import blobfile as bf
import torch

from core.data.datasets import attribute_index
from core.data.labels import shares
from core.data.loading import (
    TRAINING_DATA_FLAGS,
    load_training_data,
    require_both_answers,
    require_labels,
    require_one_class,
)
from core.metrics.validation import validate_attributes, validate_classes
from guided_diffusion.script.choices import TASKS
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import Flag, FlagParser, group_flags, with_defaults
from guided_diffusion.script.run import run_script
from guided_diffusion.script.storage import write_text
from guided_diffusion.script_util import MODEL_FLAGS
from guided_diffusion.training.batches import Batches, loading_options
from guided_diffusion.training.checkpoint_folder import complete_steps
from guided_diffusion.training.flags import GPUS, TRAIN_FLAGS, connect_trainer, smallest_part
from guided_diffusion.training.loop import TrainLoop
from guided_diffusion.training.objectives import AttributeObjective, ClassObjective
from guided_diffusion.training.weight_files import find_weights, load_weights, save_weights
from models.classifiers import build_classifier, classifier_checkpoint, classifier_state, require_trainable

NETWORK_FLAGS = {
    "architecture": Flag("densenet121", "a torchvision network's name, small_cnn, tiny_cnn, or module:function"),
    "image_size": replace(MODEL_FLAGS["image_size"], default=128),
    "use_fp16": MODEL_FLAGS["use_fp16"],
}
OWN_TRAIN_FLAGS = {
    "task": Flag(
        None,
        "what to learn. attributes, by default: a yes or no to each of the labels, also to a folder's classes. "
        "classes: which one of them an image has, by cross-entropy",
        choices=TASKS,
    ),
    "query_label": Flag(None, "train on this attribute alone, by name or index; all of them where not given"),
    "balanced": Flag(
        True, "weigh the loss so that yes and no of each attribute, or all classes, count alike, up to tenfold"
    ),
}
FLAGS = group_flags(
    data=TRAINING_DATA_FLAGS,
    networks=NETWORK_FLAGS,
    training=OWN_TRAIN_FLAGS
    | with_defaults(
        TRAIN_FLAGS, lr=1e-3, weight_decay=0.05, ema_rate="0.99", lr_anneal_steps=5000, save_interval=500
    ),
    output={"output_path": Flag(None, "where checkpoints, best.pt, last.pt, the accuracies and progress.csv go")},
    speed={"gpus": GPUS},
)

OBJECTIVES = {"attributes": AttributeObjective, "classes": ClassObjective}
VALIDATE = {"attributes": validate_attributes, "classes": validate_classes}


def create_argparser():
    return FlagParser(__doc__, FLAGS, ("data_dir", "output_path"))


def main():
    args = create_argparser().parse_args()
    ranks, device = connect_trainer(args)
    train, val = load_training_data(args.data_dir, ["train", "val"], args.image_size, ranks, args.decoded_dir)
    require_labels(train, args.data_dir)
    task = args.task or "attributes"
    if task == "classes":
        require_classes(args, train, val)
    elif args.query_label is not None:
        query = attribute_index(train.attributes, args.query_label)
        for dataset in (train, val):
            dataset.attributes, dataset.labels = (dataset.attributes[query],), dataset.labels[:, [query]]
    require_both_answers(train, args.data_dir)
    torch.manual_seed(args.seed)
    network = build_classifier(args.architecture, len(train.attributes), args.image_size)
    require_trainable(network, args.architecture, args.image_size, smallest_part(args))

    about = args.architecture, train.attributes, args.image_size, task

    def validate(step, ema_network):
        validation = VALIDATE[task](ema_network.eval(), val, device)
        if not ranks.first:
            return
        print(f"step {step}: {validation.line}", flush=True)
        checkpoint = classifier_checkpoint(ema_network, *about)
        checkpoint["balanced_accuracy"] = validation.score
        table = bf.join(args.output_path, f"{task}.csv"), validation.table.to_csv()
        # At its first checkpoint a training has nothing to beat: a best in the folder is another training's.
        beat_best = bool(complete_steps(args.output_path))
        save_best_and_last(args.output_path, checkpoint, table, args.save_format, beat_best)

    TrainLoop(
        model=network,
        batches=partial(Batches, train, **loading_options(args), device=device, ranks=ranks),
        objective=OBJECTIVES[task](shares(train.labels).to(device), args.balanced),
        output_path=args.output_path,
        device=device,
        named_state=lambda network: classifier_state(network, *about),
        on_save=validate,
        ranks=ranks,
        flags=vars(args),
    ).run_loop()


def require_classes(args, train, val):
    """UserError where the images do not have one class each, of several, or --query_label asks for one alone."""
    if args.query_label is not None:
        raise UserError(f"--query_label {args.query_label} is for --task attributes; leave it out")
    if len(train.attributes) < 2:
        raise UserError(f"--task classes needs several classes, but --data_dir {args.data_dir} has one")
    for dataset in (train, val):
        require_one_class(dataset, args.data_dir, "--task classes", "--task attributes")


def save_best_and_last(output_path, checkpoint, table, save_format, beat_best):
    """Writes the checkpoint as last.<save_format>. The best so far is also written as best.<save_format>, and its
    table, (path, text), as a csv.
    beat_best: compare it with the best in the folder, if there is one; False: it counts as the best.
    """
    save_weights(checkpoint, output_path, "last", save_format)
    best = find_weights(output_path, "best")
    if beat_best and best and load_weights(best)["balanced_accuracy"] >= checkpoint["balanced_accuracy"]:
        return
    path, text = table
    write_text(path, text)
    save_weights(checkpoint, output_path, "best", save_format)


if __name__ == "__main__":
    run_script(main, hint="the same command goes on from the last checkpoint")
