"""Train a classifier, or an oracle, of CelebA's attributes, a folder's classes, or the labels of a csv."""

from dataclasses import replace

import blobfile as bf
import torch

from core.data.datasets import attribute_index
from core.data.training_data import TRAINING_DATA_FLAGS, load_training_data, require_labels
from core.metrics.scores import attribute_accuracy, decide
from core.training.attribute_objective import AttributeObjective
from guided_diffusion.checkpoint_folder import complete_steps
from guided_diffusion.dist_util import connect, device_of_rank, find_ranks, keep_freed_memory
from guided_diffusion.flags import Flag, FlagParser, group_flags, with_defaults
from guided_diffusion.script_util import MODEL_FLAGS, args_to_dict, require_flags, run_script
from guided_diffusion.storage import write_file
from guided_diffusion.train_data import Batches
from guided_diffusion.train_flags import GPUS, TRAIN_FLAGS, check_train_flags, smallest_part
from guided_diffusion.train_util import TrainLoop
from guided_diffusion.weight_files import find_weights, load_weights, save_weights
from models.classifiers import build_classifier, classifier_checkpoint, require_trainable

NETWORK_FLAGS = {
    "architecture": Flag("densenet121", "a torchvision network's name, small_cnn, tiny_cnn, or module:function"),
    "image_size": replace(MODEL_FLAGS["image_size"], default=128),
    "use_fp16": MODEL_FLAGS["use_fp16"],
}
OWN_TRAIN_FLAGS = {
    "query_label": Flag(None, "train on this attribute alone, by name or index; all of them where not given"),
    "balanced": Flag(True, "weigh the loss so that yes and no of each attribute count alike, up to tenfold"),
}
FLAGS = group_flags(
    data=TRAINING_DATA_FLAGS,
    networks=NETWORK_FLAGS,
    training=OWN_TRAIN_FLAGS
    | with_defaults(
        TRAIN_FLAGS, lr=1e-3, weight_decay=0.05, ema_rate="0.99", lr_anneal_steps=5000, save_interval=500
    ),
    output={"output_path": Flag(None, "where checkpoints, best.pt, last.pt, attributes.csv and progress.csv go")},
    speed={"gpus": GPUS},
)


def create_argparser():
    return FlagParser(__doc__, FLAGS)


def main():
    args = create_argparser().parse_args()
    ranks = find_ranks()
    require_flags(args, "data_dir", "output_path")
    check_train_flags(args, FLAGS)
    keep_freed_memory()
    device = device_of_rank(args.gpus, ranks)
    connect(ranks, device)
    train, val = load_training_data(args.data_dir, ["train", "val"], args.image_size, ranks.local_size)
    require_labels(train, args.data_dir)
    if args.query_label is not None:
        query = attribute_index(train.attributes, args.query_label)
        for dataset in (train, val):
            dataset.attributes, dataset.labels = (dataset.attributes[query],), dataset.labels[:, [query]]
    torch.manual_seed(args.seed)
    network = build_classifier(args.architecture, len(train.attributes), args.image_size)
    require_trainable(network, args.architecture, args.image_size, smallest_part(args))

    def validate(step, ema_network):
        table = attribute_accuracy(decide(ema_network.eval(), val, device), val.labels, val.attributes)
        score = float(table["balanced"].mean())
        print(f"step {step}: balanced accuracy {score:.4f}, accuracy {table['accuracy'].mean():.4f}", flush=True)
        checkpoint = classifier_checkpoint(ema_network, args.architecture, train.attributes, args.image_size)
        checkpoint["balanced_accuracy"] = score
        # At its first checkpoint a training has nothing to beat: a best in the folder is another training's.
        beat_best = bool(complete_steps(args.output_path))
        save_best_and_last(args.output_path, checkpoint, table, args.save_format, beat_best)

    def batches(start):
        loading = args_to_dict(args, ("batch_size", "seed", "random_flip", "num_workers"))
        place = {"device": device, "rank": ranks.rank, "world_size": ranks.world_size}
        return Batches(train, start=start, **loading, **place)

    TrainLoop(
        model=network,
        batches=batches,
        objective=AttributeObjective(train.labels, args.balanced, device),
        output_path=args.output_path,
        device=device,
        named_state=lambda network: network.state_dict(),
        on_save=validate,
        ranks=ranks,
        flags=vars(args),
    ).run_loop()


def save_best_and_last(output_path, checkpoint, table, save_format, beat_best):
    """Writes the checkpoint as last.<save_format>. The best so far is also written as best.<save_format>, and its
    table as attributes.csv.
    beat_best: compare it with the best in the folder, if there is one; False: it counts as the best.
    """
    save_weights(checkpoint, output_path, "last", save_format)
    best = find_weights(output_path, "best")
    if beat_best and best and load_weights(best)["balanced_accuracy"] >= checkpoint["balanced_accuracy"]:
        return
    write_file(bf.join(output_path, "attributes.csv"), lambda file: file.write(table.to_csv().encode()))
    save_weights(checkpoint, output_path, "best", save_format)


if __name__ == "__main__":
    run_script(main)
