"""The labels of a class-conditional network, so that it too goes where the explanation is to lead."""

import torch
import torch.nn.functional as F

from guided_diffusion.script.errors import UserError

from ..data.class_names import match_classes
from ..data.training_data import require_labels


def condition_of(run, dataset, device):
    """(ids, (N,) targets) -> the labels for the network, a function; None for a network that is not conditional.

    UserError where it has no labels for those of the dataset, or for the class that is the target.
    """
    flags, question = run.flags, run.question
    if not flags["class_cond"]:
        return None
    if question.of_classes:
        numbers = torch.tensor(_numbers_of_network(flags, question, dataset), device=device)
        return lambda ids, target: class_conditions(numbers[target], flags["num_classes"], flags["multiclass"])
    require_conditions(flags, dataset)
    column = dataset.attributes.index(question.attribute)
    return lambda ids, target: conditions(dataset.labels[ids].to(device), column, target, flags["multiclass"])


def class_conditions(classes, num_classes, multiclass):
    """(N,) classes to reach -> the network's labels: them, or with multiclass (N, num_classes) of 0 and 1."""
    return F.one_hot(classes, num_classes).float() if multiclass else classes


def _numbers_of_network(flags, question, dataset):
    """The network's number of each of the classifier's classes.

    A network that was trained on a folder of classes numbers them as that does. So where the data has all classes
    its order counts, else the classifier's.
    """
    names = question.answers
    if flags["num_classes"] != len(names):
        raise UserError(f"--num_classes {flags['num_classes']} is not the {len(names)} of --classifier_path")
    if len(dataset.attributes) != len(names):
        return list(range(len(names)))
    return match_classes(names, dataset.attributes, "--classifier_path", f"--data_dir {flags['data_dir']}")


def conditions(labels, column, target, multiclass):
    """The network's labels for images with labels (N, A) of 0/1, to reach target (N,) in a column.

    multiclass: (N, A), the labels with the target in place; else (N,), the class: the column where the target is
    1, and of two classes the other one where it is 0.
    """
    if not multiclass:
        return torch.where(target == 1, column, 1 - column)
    labels = labels.float()
    labels[:, column] = target.float()
    return labels


def require_conditions(flags, dataset):
    """UserError where the network has no labels for those of the dataset, or for the class that is the target."""
    if not flags["class_cond"]:
        return
    require_labels(dataset, flags["data_dir"], flags["num_classes"], one_each=not flags["multiclass"])
    if not flags["multiclass"] and len(dataset.attributes) > 2 and str(flags["target_label"]) != "1":
        raise UserError(
            f"--target_label {flags['target_label']} with --multiclass False: an image that is to leave its class "
            f"has {len(dataset.attributes) - 1} to go to; give --target_label 1"
        )
