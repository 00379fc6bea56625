"""The networks that a run computes with, made for its question: all of them, the oracle, and the class labels."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from guided_diffusion.script.errors import UserError

from ..data.class_names import in_one_line, match_classes, numbered
from ..data.datasets import CELEBA_ATTRIBUTES
from ..data.loading import require_labels
from ..methods.decisions import predicted_class
from .question import find_output


@dataclass
class RunOracle:
    """A second network, which judges originals and counterfactuals. Its decisions are on the CPU."""

    decide: Callable  # images (N, 3, H, W) in [-1, 1] -> decisions (N, A) of 0/1; of classes (N,)
    query: int | None  # the queried attribute among the A; None of classes
    attributes: tuple[str, ...] = ()  # the names of the A


@dataclass
class Networks:
    """What a run computes with, on one device."""

    unet: torch.nn.Module
    diffusion: object  # a SpacedDiffusion
    condition: Callable | None  # ids, (N,) targets -> the class labels of a class-conditional unet
    classify: Callable  # images (N, 3, H, W) in [-1, 1] -> the logits of Question.logits_of
    labels: torch.Tensor | None  # (n,) the classes of the data's n images; None: each is of the predicted one
    oracle: RunOracle | None
    perceptual: Callable | None  # the network of the perceptual distance
    compute: dict  # options of a SamplingNetwork
    device: torch.device
    files: dict = field(default_factory=dict)  # see weight_hashes


# -- the oracle --------------------------------------------------------------------------------------------------


def make_oracle(network, question, device):
    """The RunOracle of a network, images on the device -> logits (N, A); UserError where it does not answer."""
    if question.of_classes:
        predict = class_predictor(network, question.answers)
        return RunOracle(lambda images: predict(images.to(device)).cpu(), None)
    _require_task(network, "attributes")
    names = tuple(network.attributes or CELEBA_ATTRIBUTES)
    query = find_output(question.attribute, names, "oracle_path")
    return RunOracle(lambda images: (network(images.to(device)) > 0).long().cpu(), query, names)


def class_predictor(network, names):
    """images -> (N,) the oracle's predictions, as places in `names`; -1 for a class that is not among them.

    UserError where the oracle is of attributes, or lacks one of the names.
    """
    _require_task(network, "classes")
    own_names = tuple(map(in_one_line, network.attributes or CELEBA_ATTRIBUTES))
    if own_names == numbered(len(own_names)) and set(names) == set(own_names) and tuple(names) != own_names:
        print("the oracle does not name its outputs: they are taken by their numbers, not in the classes' order")
    numbers = torch.full((len(own_names),), -1)
    numbers[match_classes(names, own_names, "--classifier_path", "--oracle_path")] = torch.arange(len(names))
    return lambda images: numbers.to(images.device)[predicted_class(network(images))]


def _require_task(network, task):
    own_task = getattr(network, "task", None)
    if own_task not in (None, task):
        raise UserError(f"--oracle_path is of {own_task}, but the question is of {task}; give another oracle")


# -- class labels for a class-conditional diffusion model ----------------------------------------------------------


def condition_of(run, dataset, device):
    """(ids, (N,) targets) -> class labels for the diffusion model, a function; None where it is unconditional.

    UserError where its classes are not those of the data, or the target is no single class.
    """
    flags, question = run.flags, run.question
    if not flags["class_cond"]:
        return None
    if question.of_classes:
        numbers = torch.tensor(_model_classes(flags, question, dataset), device=device)
        if flags["multiclass"]:
            return lambda ids, target: F.one_hot(numbers[target], flags["num_classes"]).float()
        return lambda ids, target: numbers[target]
    require_conditions(flags, dataset)
    column = dataset.attributes.index(question.attribute)
    return lambda ids, target: conditions(dataset.labels[ids].to(device), column, target, flags["multiclass"])


def _model_classes(flags, question, dataset):
    """The diffusion model's number of each of the classifier's classes.

    A model that was trained on a folder of classes numbers them as the folder does. So the data's order counts
    where they have all the classes, else the classifier's.
    """
    names = question.answers
    if flags["num_classes"] != len(names):
        raise UserError(f"--num_classes {flags['num_classes']} is not the {len(names)} of --classifier_path")
    if len(dataset.attributes) != len(names):
        return list(range(len(names)))
    return match_classes(names, dataset.attributes, "--classifier_path", f"--data_dir {flags['data_dir']}")


def conditions(labels, column, target, multiclass):
    """Class labels for images with labels (N, A) of 0/1 that should reach target (N,) in a column.

    multiclass: (N, A), the labels with the target in place; else (N,), the class: the column where the target is
    1, and of two classes the other one where it is 0.
    """
    if not multiclass:
        return torch.where(target == 1, column, 1 - column)
    labels = labels.float()
    labels[:, column] = target.float()
    return labels


def require_conditions(flags, dataset):
    """UserError where the diffusion model's classes are not the data's, or the target is no single class."""
    require_labels(dataset, flags["data_dir"], flags["num_classes"], one_each=not flags["multiclass"])
    if not flags["multiclass"] and len(dataset.attributes) > 2 and str(flags["target_label"]) != "1":
        raise UserError(
            f"--target_label {flags['target_label']} with --multiclass False: an image that is to leave its class "
            f"has {len(dataset.attributes) - 1} to go to; give --target_label 1"
        )
