"""The oracle: a second network that judges originals and counterfactuals, and guides none."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from guided_diffusion.script.errors import UserError

from ..data.class_names import in_one_line, match_classes
from ..data.datasets import CELEBA_ATTRIBUTES
from ..methods.decisions import predicted_class
from .question import find_output


@dataclass
class Oracle:
    """How an oracle decides. Its decisions are on the CPU."""

    decide: Callable  # images (N, 3, H, W) in [-1, 1] -> decisions (N, A) of 0/1; of classes (N,)
    query: int | None  # the queried attribute among the A; None of classes
    attributes: tuple[str, ...] = ()  # the names of the A


def make_oracle(network, question, device):
    """The Oracle that a network, images on the device -> logits (N, A), is for a question; UserError for none."""
    if question.of_classes:
        see = class_seer(network, question.answers)
        return Oracle(lambda images: see(images.to(device)).cpu(), None)
    require_task(network, "attributes")
    names = tuple(network.attributes or CELEBA_ATTRIBUTES)
    query = find_output(question.attribute, names, "oracle_path")
    return Oracle(lambda images: (network(images.to(device)) > 0).long().cpu(), query, names)


def class_seer(network, names):
    """images -> (N,) the classes that an oracle sees, by their numbers in `names`; -1 for one that is not there.

    UserError where the oracle is of attributes, or does not know all of the names.
    """
    require_task(network, "classes")
    known = tuple(map(in_one_line, network.attributes or CELEBA_ATTRIBUTES))
    places = match_classes(names, known, "--classifier_path", "--oracle_path")
    numbers = torch.full((len(known),), -1)
    numbers[places] = torch.arange(len(names))
    return lambda images: numbers.to(images.device)[predicted_class(network(images))]


def require_task(network, task):
    """UserError where the oracle's file says that it is of another task."""
    said = getattr(network, "task", None)
    if said not in (None, task):
        raise UserError(f"--oracle_path is of {said}, but the question is of {task}; give another oracle")
