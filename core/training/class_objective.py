"""What a classifier of exclusive classes is trained by."""

import torch
import torch.nn.functional as F

from guided_diffusion.training.objectives import Objective

from ..data.labels import class_numbers, shares


class ClassObjective(Objective):
    """Cross-entropy over K classes, of which each image has one. balanced: rare classes count more."""

    def __init__(self, labels, balanced, device):
        """labels (N, K) of 0/1: those of the training split, for the shares."""
        self.weight = class_weights(labels, balanced).to(device)

    def losses(self, network, batch):
        logits, classes = network(batch.images).float(), class_numbers(batch.labels)
        return {"loss": F.cross_entropy(logits, classes, self.weight, reduction="none")}


def class_weights(labels, balanced):
    """labels (N, K) of 0/1 -> weights of the classes, (K,). balanced: 1/K over the class's share, at most 10;
    otherwise 1."""
    share = shares(labels)
    return (1 / (len(share) * share)).clamp(max=10) if balanced else torch.ones_like(share)
