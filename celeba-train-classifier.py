"""Train a classifier, or an oracle, of CelebA's attributes, a folder's classes, or the labels of a csv."""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

from core.datasets import attribute_index
from core.metrics import attribute_accuracy, decide
from core.training_data import TRAINING_DATA_FLAGS, load_training_data, require_labels
from guided_diffusion.dist_util import pick_device
from guided_diffusion.script_util import add_dict_to_argparser, args_to_dict, require_flags, run_script
from guided_diffusion.train_data import Batches
from guided_diffusion.train_util import TRAIN_FLAGS, TrainLoop, save_aside
from models.checkpoints import ModelError, read_weights
from models.classifiers import build_classifier, classifier_checkpoint

FLAGS = {
    "output_path": (None, "where checkpoints, best.pt, last.pt, attributes.csv and progress.csv go"),
    "gpus": ("0", "index of the GPU; without one the CPU is used"),
    "architecture": ("densenet121", "a torchvision classification network, small_cnn, or module:function"),
    "query_label": (None, "train on this attribute alone, by name or index; all of them where not given"),
    "image_size": (128, "height and width of the images in pixels"),
    "balanced": (True, "weigh the loss so that yes and no of each attribute count alike, up to tenfold"),
    "use_fp16": (False, "half precision: float16 on CUDA, bfloat16 on a CPU that computes in it, else float32"),
}
DEFAULTS = {"lr": 1e-3, "weight_decay": 0.05, "ema_rate": "0.99", "lr_anneal_steps": 5000, "save_interval": 500}


def create_argparser():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    train_flags = {name: (DEFAULTS.get(name, default), text) for name, (default, text) in TRAIN_FLAGS.items()}
    add_dict_to_argparser(parser, TRAINING_DATA_FLAGS | FLAGS | train_flags)
    return parser


def main():
    args = create_argparser().parse_args()
    require_flags(args, "data_dir", "output_path")
    device = pick_device(args.gpus)
    train, val = load_training_data(args.data_dir, ["train", "val"], args.image_size)
    require_labels(train, args.data_dir)
    if args.query_label is not None:
        query = attribute_index(train.attributes, args.query_label)
        for dataset in (train, val):
            dataset.attributes, dataset.labels = (dataset.attributes[query],), dataset.labels[:, [query]]
    torch.manual_seed(args.seed)
    network = build_classifier(args.architecture, len(train.attributes))
    no_weight, yes_weight = (each.to(device) for each in class_weights(train.labels, args.balanced))

    def loss_fn(network, batch):
        logits, labels = network(batch.images).float(), batch.labels.float()
        weights = torch.where(labels == 1, yes_weight, no_weight)
        return {"loss": F.binary_cross_entropy_with_logits(logits, labels, weights, reduction="none").mean(1)}

    def validate(step, ema_network):
        folder = Path(args.output_path)
        table = attribute_accuracy(decide(ema_network.eval(), val, device), val.labels, val.attributes)
        score = float(table["balanced"].mean())
        print(f"step {step}: balanced accuracy {score:.4f}, accuracy {table['accuracy'].mean():.4f}", flush=True)
        checkpoint = classifier_checkpoint(ema_network, args.architecture, train.attributes, args.image_size)
        checkpoint["balanced_accuracy"] = score
        save_aside(checkpoint, folder / "last.pt")
        best = folder / "best.pt"
        if not best.exists() or read_weights(best)["balanced_accuracy"] < score:
            save_aside(checkpoint, best)
            table.to_csv(folder / "attributes.csv")

    TrainLoop(
        model=network,
        batches=lambda start: Batches(
            train, args.batch_size, args.seed, start, args.random_flip, args.num_workers, device
        ),
        loss_fn=loss_fn,
        output_path=args.output_path,
        device=device,
        named_state=lambda network: network.state_dict(),
        on_save=validate,
        use_fp16=args.use_fp16,
        **args_to_dict(args, TRAIN_FLAGS),
    ).run_loop()


def class_weights(labels, balanced):
    """labels (N, A) of 0/1 -> weights of no and of yes, (A,) each: 1/2 over their share, at most 10."""
    share = labels.float().mean(0)
    if not balanced:
        return torch.ones_like(share), torch.ones_like(share)
    return (0.5 / (1 - share)).clamp(max=10), (0.5 / share).clamp(max=10)


if __name__ == "__main__":
    run_script(main, ModelError)
