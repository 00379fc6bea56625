"""The loss of an attribute classifier."""

import torch
import torch.nn.functional as F

from guided_diffusion.training.objectives import Objective

from ..data.labels import shares


class AttributeObjective(Objective):
    """Binary cross-entropy, averaged over the attributes."""

    def __init__(self, labels, balanced, device):
        """balanced: weigh labels so that 0 and 1 count alike in each attribute, by their shares in `labels`, those
        of the training split, (N, A) of 0/1."""
        self.no_weight, self.yes_weight = (each.to(device) for each in class_weights(labels, balanced))

    def losses(self, network, batch):
        logits, labels = network(batch.images).float(), batch.labels.float()
        weights = torch.where(labels == 1, self.yes_weight, self.no_weight)
        return {"loss": F.binary_cross_entropy_with_logits(logits, labels, weights, reduction="none").mean(1)}


def class_weights(labels, balanced):
    """labels (N, A) of 0/1 -> weights of 0 and of 1, (A,) each. balanced: 1/2 over the share of that label, at most
    10; otherwise 1."""
    share = shares(labels)
    if not balanced:
        return torch.ones_like(share), torch.ones_like(share)
    return (0.5 / (1 - share)).clamp(max=10), (0.5 / share).clamp(max=10)
