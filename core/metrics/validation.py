"""How good a classifier is on a split of its data, while it is trained."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..data.labels import class_numbers
from ..methods.decisions import predicted_class
from .batches import Batching


@dataclass
class Validation:
    """How good a classifier is: a number to compare, where more is better, the same in words, and a table."""

    score: float  # the mean of the accuracies on yes and on no of every attribute, or on every class
    line: str
    table: pd.DataFrame


def validate_attributes(network, dataset, device):
    """A network, images -> (N, A) logits, on a dataset of A attributes -> Validation. The ranks share the work."""
    table = attribute_accuracy(decide(network, dataset, device), dataset.labels[:], dataset.attributes)
    score = float(table["balanced"].mean())
    return Validation(score, f"balanced accuracy {score:.4f}, accuracy {table['accuracy'].mean():.4f}", table)


def validate_classes(network, dataset, device):
    """A network, images -> (N, K) logits, on a dataset of K classes -> Validation. The ranks share the work."""
    decisions, classes = decide(network, dataset, device, predicted_class), class_numbers(dataset.labels)
    table = class_accuracy(decisions, classes, dataset.attributes)
    score, top_1 = float(table["accuracy"].mean()), float((decisions == classes).float().mean())
    return Validation(score, f"top-1 accuracy {top_1:.4f}, mean over the classes {score:.4f}", table)


def decide(network, dataset, device, decision=lambda logits: (logits > 0).long(), batch_size=64):
    """network, images -> (N, A) logits, and a dataset of N images -> its decisions on them, (N, A) of 0/1.

    decision: logits -> decisions; with predicted_class these are (N,) classes. Ranks share the images: all of them
    call this, and all get all decisions.
    """
    batches = Batching(device, batch_size)
    load = range(len(dataset)), "validating"
    (decisions,) = batches.map(lambda x: (decision(network(x)),), lambda i: (dataset[i][0],), *load)
    return decisions


def attribute_accuracy(decisions, labels, attributes):
    """decisions and labels (N, A) of 0/1 -> a DataFrame with a row for each attribute.

    Columns: accuracy; balanced, the mean of the accuracies on the images with label 1 and with label 0 (where there
    are only images of one kind, the accuracy on these); yes, the share of labels that are 1.
    """
    right, yes = (decisions == labels).numpy(), (labels == 1).numpy()
    kinds = np.ma.stack([np.ma.masked_array(right, ~kind).mean(0) for kind in (yes, ~yes)])
    columns = {"accuracy": right.mean(0), "balanced": kinds.mean(0), "yes": yes.mean(0)}
    return pd.DataFrame(columns, index=list(attributes)).rename_axis("attribute")


def class_accuracy(decisions, classes, names):
    """Decided and true classes (N,) -> a table by class: accuracy on its images, how many there are.

    Classes without an image are left out.
    """
    right = pd.Series((decisions == classes).numpy(), dtype=float).groupby(classes.numpy())
    table = right.agg(accuracy="mean", images="size")
    return table.set_axis([names[number] for number in table.index]).rename_axis("class")
