"""How good a classifier is on a split of its data, while it is trained."""

from dataclasses import dataclass

import pandas as pd

from ..data.labels import class_numbers
from ..methods.decisions import predicted_class
from .scores import attribute_accuracy, class_accuracy, decide


@dataclass
class Validation:
    """How good a classifier is: a number to compare, where more is better, the same in words, and a table."""

    score: float  # the mean of the accuracies on yes and on no of every attribute, or on every class
    line: str
    table: pd.DataFrame


def validate_attributes(network, dataset, device):
    """A network, images -> (N, A) logits, on a dataset of A attributes -> Validation."""
    table = attribute_accuracy(decide(network, dataset, device), dataset.labels[:], dataset.attributes)
    score = float(table["balanced"].mean())
    return Validation(score, f"balanced accuracy {score:.4f}, accuracy {table['accuracy'].mean():.4f}", table)


def validate_classes(network, dataset, device):
    """A network, images -> (N, K) logits, on a dataset of K classes -> Validation."""
    decided = decide(network, dataset, device, decision=predicted_class)
    classes = class_numbers(dataset.labels)
    table = class_accuracy(decided, classes, dataset.attributes)
    score, top_1 = float(table["accuracy"].mean()), float((decided == classes).float().mean())
    return Validation(score, f"top-1 accuracy {top_1:.4f}, mean over the classes {score:.4f}", table)
