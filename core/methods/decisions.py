"""What a classifier's logits say: classes, probabilities, targets and scores.

Logits are (N,) for a binary question, positive for class 1, or (N, K) for K exclusive classes. Classes are (N,).
"""

import torch
import torch.nn.functional as F

from .inputs import as_classes, require_classes


def predicted_class(logits):
    """(N,) or (N, K) logits -> (N,) classes."""
    return (logits > 0).long() if logits.dim() == 1 else logits.argmax(1)


def probability(logits, classes):
    """(N,) or (N, K) logits, (N,) classes -> (N,) the classifier's probability of each."""
    if logits.dim() == 1:
        return torch.sigmoid(torch.where(classes == 1, logits, -logits))
    return logits.softmax(1).gather(1, classes[:, None])[:, 0]


def choose_target(logits, target=-1):
    """target, a class, (N,) classes, or -1 -> (N,) classes. -1: the opposite of each prediction; of K classes, the
    runner-up. UserError where there is no such class."""
    target = as_classes(target, len(logits), logits.device)
    require_classes(target, logits, lowest=-1)
    opposite = 1 - predicted_class(logits) if logits.dim() == 1 else logits.topk(2, dim=1).indices[:, 1]
    return torch.where(target == -1, opposite, target)


def selected_score(logits, target, use_logits=True):
    """(N,) or (N, K) logits, (N,) targets -> (N,): the target's logit, or its log-probability (use_logits False).

    For a binary question the logit of target 1 is the network's output, and that of target 0 its negative.
    """
    if logits.dim() == 1:
        logit = torch.where(target == 1, logits, -logits)
        return logit if use_logits else F.logsigmoid(logit)
    scores = logits if use_logits else F.log_softmax(logits, dim=1)
    return scores.gather(1, target[:, None])[:, 0]


def logit_margin(logits, target):
    """(N,) or (N, K) logits, (N,) targets -> (N,): the target's logit minus the highest other one.

    For a binary question it is the target's logit, which is already relative to the other class.
    """
    if logits.dim() == 1:
        return selected_score(logits, target)
    others = logits.scatter(1, target[:, None], -torch.inf)
    return selected_score(logits, target) - others.amax(1)
