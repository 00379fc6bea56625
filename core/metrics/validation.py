"""How good a classifier is on a split of its data, while it is trained."""

from dataclasses import dataclass

import pandas as pd
from torch.utils.data import Subset

from guided_diffusion.ranks.ranks import Ranks

from ..data.labels import class_numbers
from ..methods.decisions import predicted_class
from .scores import attribute_accuracy, class_accuracy, decide

ONLY_RANK = Ranks()


@dataclass
class Validation:
    """How good a classifier is: a number to compare, where more is better, the same in words, and a table."""

    score: float  # the mean of the accuracies on yes and on no of every attribute, or on every class
    line: str
    table: pd.DataFrame


def validate_attributes(network, dataset, device, ranks=ONLY_RANK):
    """A network, images -> (N, A) logits, on a dataset of A attributes -> Validation. The ranks share the work."""
    decided = decide_together(network, dataset, device, ranks)
    table = attribute_accuracy(decided, dataset.labels[:], dataset.attributes)
    score = float(table["balanced"].mean())
    return Validation(score, f"balanced accuracy {score:.4f}, accuracy {table['accuracy'].mean():.4f}", table)


def validate_classes(network, dataset, device, ranks=ONLY_RANK):
    """A network, images -> (N, K) logits, on a dataset of K classes -> Validation. The ranks share the work."""
    decided = decide_together(network, dataset, device, ranks, decision=predicted_class)
    classes = class_numbers(dataset.labels)
    table = class_accuracy(decided, classes, dataset.attributes)
    score, top_1 = float(table["accuracy"].mean()), float((decided == classes).float().mean())
    return Validation(score, f"top-1 accuracy {top_1:.4f}, mean over the classes {score:.4f}", table)


def decide_together(network, dataset, device, ranks, **options):
    """decide(), with the images shared over the ranks: all of them call it, and all get all decisions.

    options: decide()'s. Where there are fewer images than ranks, some decide on images of others.
    """
    # Every rank has as many, so that they can be gathered: the last ones begin again with the first images.
    each = -(-len(dataset) // ranks.world_size)
    rows = [place % len(dataset) for place in range(ranks.rank * each, (ranks.rank + 1) * each)]
    decided = decide(network, Subset(dataset, rows), device, **options)
    return ranks.gather(decided.to(device)).cpu()[: len(dataset)]
