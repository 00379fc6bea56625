"""What a class-conditional network is told, so that it too goes where the explanation is to lead."""

import torch

from guided_diffusion.errors import UserError

from ..data.training_data import require_labels


def conditions(labels, column, target, multiclass):
    """What the network is told of images with labels (N, A) of 0/1, to reach target (N,) in a column.

    multiclass: (N, A), the labels with the target in place; else (N,), the class: the column where the target is
    1, and of two classes the other one where it is 0.
    """
    if not multiclass:
        return torch.where(target == 1, column, 1 - column)
    labels = labels.float()
    labels[:, column] = target.float()
    return labels


def require_conditions(args, dataset):
    """UserError where the network cannot be told the labels of the dataset, or the class that is the target."""
    if not args.class_cond:
        return
    require_labels(dataset, args.data_dir, args.num_classes, one_each=not args.multiclass)
    if not args.multiclass and len(dataset.attributes) > 2 and args.target_label != 1:
        raise UserError(
            f"--target_label {args.target_label} with --multiclass False: an image that is to leave its class has "
            f"{len(dataset.attributes) - 1} to go to; give --target_label 1"
        )
