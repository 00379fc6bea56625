"""The gradients that guide a chain: dLoss/dz_t, each (N, C, H, W).

The UNet is not differentiated here: x_clean depends on z_t through dx_clean/dz_t = 1/sqrt(abar), as DiME assumes
(Jeanneret et al. 2022, eq. 9). Methods that do differentiate it (backward.py) take the parts of a Guidance.
"""

from collections.abc import Callable
from contextlib import contextmanager
from typing import NamedTuple

import torch

from guided_diffusion.script.errors import UserError

from .decisions import logit_margin, selected_score
from .inputs import as_classes, require_classes, require_images, require_logits


def make_guidance(
    x,
    target,
    classifier,
    *,
    classifier_scale,
    use_logits=True,
    l1_loss=0.0,
    l2_loss=0.0,
    l_perc=0.0,
    perceptual=None,
):
    """Returns a Guidance: guidance(z, x_clean, sqrt_abar) -> (g_class + g_perc) / sqrt_abar + g_L1 + g_L2.

    x: (N, C, H, W) in [-1, 1]; target: (N,) classes.
    classifier: images in [-1, 1] -> (N,) logits of a binary question, or (N, K).
    classifier_scale: a number, or (N,) with one for each image.
    use_logits: maximise the target's logit; False: its log-probability.
    l1_loss, l2_loss, l_perc: weights of the distances to x; perceptual: images in [-1, 1] -> features.
    Raises UserError, which is a ValueError, for other images; and, when it is first called, for targets that are no
    classes of the classifier.
    """
    require_images(x)
    target = as_classes(target, len(x), x.device)
    if l_perc and perceptual is None:
        raise ValueError("--l_perc needs a perceptual network")
    scale = torch.as_tensor(classifier_scale, dtype=x.dtype, device=x.device)
    if scale.dim() and scale.shape != x.shape[:1]:
        raise UserError(f"classifier_scale has shape {tuple(scale.shape)}, but must be a number or ({len(x)},)")
    checked = False
    if l_perc:
        with torch.no_grad():
            features = perceptual(x)  # φ(x) is the same at every step

    def classify(images):
        nonlocal checked
        logits = classifier(images)
        if not checked:  # once, as it waits for the device
            require_logits(logits, len(images))
            require_classes(target, logits)
            checked = True
        return logits

    def parts(z, x_clean, sqrt_abar):
        class_part, logits = class_gradient(x_clean, target, classify, scale, use_logits)
        class_part = class_part / sqrt_abar
        distance_part = torch.zeros_like(x_clean)
        if l_perc:
            distance_part = perceptual_gradient(x_clean, features, perceptual, l_perc) / sqrt_abar
        if l1_loss:
            distance_part = distance_part + l1_gradient(z, x, l1_loss)
        if l2_loss:
            distance_part = distance_part + l2_gradient(z, x, l2_loss)
        return Parts(class_part, distance_part, logit_margin(logits, target))

    return Guidance(parts)


class Parts(NamedTuple):
    """The parts of one step's gradient, for methods that need more than the sum."""

    class_part: torch.Tensor  # (N, C, H, W): g_class / sqrt_abar
    distance_part: torch.Tensor  # (N, C, H, W): g_perc / sqrt_abar + g_L1 + g_L2
    margin: torch.Tensor  # (N,): logit_margin of the target at x_clean

    @property
    def total(self):
        return self.class_part + self.distance_part


class Guidance(NamedTuple):
    """guidance(z, x_clean, sqrt_abar) -> dLoss/dz_t; guidance.parts(z, x_clean, sqrt_abar) -> its Parts."""

    parts: Callable

    def __call__(self, z, x_clean, sqrt_abar):
        return self.parts(z, x_clean, sqrt_abar).total


def class_gradient(x_clean, target, classifier, scale, use_logits=True):
    """d/dx_clean of Σ_n -scale_n · selected_n, where `selected` is the target's score (eq. 6 and 9).

    Returns it and the classifier's logits at x_clean, (N,) or (N, K).
    """
    with _leaf(x_clean) as image:
        logits = classifier(image)
        loss = -(scale * selected_score(logits, target, use_logits)).sum()
        return torch.autograd.grad(loss, image)[0], logits.detach()


def perceptual_gradient(x_clean, features, perceptual, weight):
    """d/dx_clean of weight · Σ_n mean over c, h, w of (φ(x_clean) - φ(x))² (eq. 8)."""
    with _leaf(x_clean) as image:
        loss = weight * ((perceptual(image) - features) ** 2).flatten(1).mean(1).sum()
        return torch.autograd.grad(loss, image)[0]


def l1_gradient(z, x, weight):
    """weight · d/dz of |z - x|_1."""
    return weight * torch.sign(z - x)


def l2_gradient(z, x, weight):
    """weight · d/dz of Σ over pixels of the 2-norm over channels of z - x; 0 where z equals x."""
    difference = z - x
    norm = difference.norm(dim=1, keepdim=True)
    return weight * torch.where(norm > 0, difference / norm.clamp(min=1e-12), 0.0)


@contextmanager
def _leaf(image):
    """The image as a leaf to differentiate by. Taking torch.autograd.grad leaves every parameter's .grad alone."""
    with torch.enable_grad():
        yield image.detach().requires_grad_()
