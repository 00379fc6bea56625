"""Trying a classifier before anything is computed with it: what its answers are, and whether they can guide."""

import torch
from torch import nn

from .script.errors import UserError, as_user_error

SIGMOID = "it gives values from 0 to 1: if they are probabilities, leave out its last sigmoid"
RANDOM = "its answers to the same image differ from call to call: leave out its dropout"
TRAINING = "it is in training mode, in which its answers depend on the batch: call its eval()"
_SAME_LOGITS = 1e-3  # two calls' rounding, as a share of the largest


def probe_images(size):
    """Four images (4, 3, size, size) in [-1, 1] of noise: of three contrasts, in the middle, light and dark."""
    noise = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0)) - 0.5
    contrast, brightness = torch.tensor([[2, 1, 0.2, 1], [0, 0.5, 0, -0.5]]).view(2, 4, 1, 1, 1)
    return noise * contrast + brightness


def probe(network, images, name, require, guides=True):
    """Tries a classifier on images (N, 3, H, W) in [-1, 1] -> (its logits in float32, remarks, texts).

    name: what errors call it. require: a function of the logits that refuses another type or shape. guides: whether
    its gradient is used. UserError where it changes the images, makes probabilities that add up to 1, or numbers
    that are not finite; where it guides, also where its gradient is missing, not finite, or zero everywhere.
    Errors of its own pass.
    """
    logits = _answers(network, images, name, require)
    remarks = [SIGMOID] if ((logits >= 0) & (logits <= 1)).all() else []
    again = _guiding_answers(network, images, name) if guides else logits
    if any(part.training for part in _behaving_otherwise(network)):
        remarks.append(TRAINING)
    elif not _same(again, logits):
        remarks.append(RANDOM)
    return logits, remarks


@torch.no_grad()
def _answers(network, images, name, require):
    given = images.clone()
    logits = network(given)
    require(logits)
    if not torch.equal(given, images):
        raise UserError(f"{name} changes its images in place; let it begin with images = images.clone()")
    # In half precision shares add up to 1 less exactly.
    tolerance, logits = 1e-4 if logits.dtype in (torch.float32, torch.float64) else 1e-2, logits.float()
    if not logits.isfinite().all():
        raise UserError(f"{name} makes NaN or infinite values of images; use other weights")
    if logits.dim() == 2 and logits.shape[1] > 1 and (logits >= 0).all():
        if ((logits.sum(1) - 1).abs() <= tolerance).all():
            raise UserError(
                f"{name} makes probabilities, which add up to 1, of images, not logits; leave out its last softmax"
            )
    return logits


def _guiding_answers(network, images, name):
    """Its logits once more, of which a gradient has been taken; UserError where that cannot guide."""
    images = images.detach().clone().requires_grad_()
    with torch.enable_grad(), as_user_error(f"{name} has no gradient", "write it in torch alone"):
        logits = network(images).float()
        gradient = _gradient(logits, images)
    if gradient is None:
        raise UserError(
            f"{name} has no gradient, so it cannot guide: leave out torch.no_grad, detach, numpy and whole numbers"
        )
    if not gradient.isfinite().all():
        raise UserError(f"{name} has a gradient with NaN or infinite values; look for a root or a division at 0")
    if not gradient.any():
        raise UserError(
            f"{name} has a gradient of zero everywhere, so it cannot guide: leave out what rounds images or answers"
        )
    return logits.detach()


def _gradient(logits, images):
    """Of a weighted sum, because a plain one never changes where answers are relative to each other; None where
    they do not depend on the images."""
    if not logits.requires_grad:
        return None
    weights = torch.linspace(1, 2, logits[0].numel(), device=logits.device)
    return torch.autograd.grad((logits * weights).sum(), images, allow_unused=True)[0]


def _behaving_otherwise(network):
    """The parts of a network that compute otherwise in training."""
    kinds = nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd
    return [part for part in network.modules() if isinstance(part, kinds)] if isinstance(network, nn.Module) else []


def _same(logits, others):
    return (logits - others).abs().max() <= _SAME_LOGITS * others.abs().max().clamp(min=1)
