"""What a class-conditional network is told, so that it too goes where the explanation is to lead."""

import torch
import torch.nn.functional as F

from guided_diffusion.script.errors import UserError

from ..data.class_names import match_classes
from ..data.training_data import require_labels


def condition_of(args, question, dataset, device):
    """(ids, (N,) targets) -> what the network is told, a function; None for a network that is not conditional.

    UserError where it cannot be told the labels of the dataset, or the class that is the target.
    """
    if not args.class_cond:
        return None
    if question.task == "classes":
        numbers = torch.tensor(_numbers_of_network(args, question, dataset), device=device)
        return lambda ids, target: class_conditions(numbers[target], args.num_classes, args.multiclass)
    require_conditions(args, dataset)
    return lambda ids, target: conditions(dataset.labels[ids].to(device), question.column, target, args.multiclass)


def class_conditions(classes, num_classes, multiclass):
    """(N,) classes to reach -> what the network is told: them, or with multiclass (N, num_classes) of 0 and 1."""
    return F.one_hot(classes, num_classes).float() if multiclass else classes


def _numbers_of_network(args, question, dataset):
    """The network's number of each of the classifier's classes.

    A network that was trained on a folder of classes numbers them as that does. So where the data has all classes
    its order counts, else the classifier's.
    """
    names = question.names
    if args.num_classes != len(names):
        raise UserError(f"--num_classes {args.num_classes} is not the {len(names)} of --classifier_path")
    if len(dataset.attributes) != len(names):
        return list(range(len(names)))
    return match_classes(names, dataset.attributes, "--classifier_path", f"--data_dir {args.data_dir}")


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
    if not args.multiclass and len(dataset.attributes) > 2 and str(args.target_label) != "1":
        raise UserError(
            f"--target_label {args.target_label} with --multiclass False: an image that is to leave its class has "
            f"{len(dataset.attributes) - 1} to go to; give --target_label 1"
        )
