"""COUT: how few of the changed pixels turn the classifier's mind (Khorram and Fuxin, CVPR 2022)."""

import torch

from ..data.images import from_uint8
from ..methods.decisions import probability
from .judges import load_pair_with_classes
from .metric import Source, mean_of

NAMES = ("COUT",)


def measure(run, judges):
    """The Metric of a Run, of all images that were classified correctly."""
    pairs = run.require_pairs(classified=("CC",), reached=("CCF", "ICF"))
    classifier, name = judges.of_role("classifier", run, pairs)
    if run.question.of_classes:
        run.require_classes()
    classify = run.question.logits_of(classifier, name.path)

    def evaluate(pixels, cf_pixels, original, target):
        return (cout(classify, from_uint8(pixels), from_uint8(cf_pixels), original, target),)

    (values,) = judges.batches.map(evaluate, load_pair_with_classes, pairs, "insertions")
    source = Source(name.weights, run.question.facts | name.options)
    return [mean_of("COUT", values, "correctly classified images, flipped or not", source)]


def cout(classifier, x, counterfactual, original, target, steps=50):
    """COUT (N,) in [-1, 1] (Khorram and Fuxin, CVPR 2022), of images (N, C, H, W) and classes (N,).

    classifier: images -> logits (N,) or (N, K). Pixels of the counterfactual are inserted into x, step by step; the
    target's probability minus the original class's is integrated over the share of inserted pixels.
    """
    shares, gains = [], []
    for share, mixed in insertions(x, counterfactual, steps):
        logits = classifier(mixed)
        shares.append(share)
        gains.append(probability(logits, target) - probability(logits, original))
    return torch.trapezoid(torch.stack(gains), torch.tensor(shares, device=x.device), dim=0)


def insertions(x, counterfactual, steps):
    """Two images (N, C, H, W) -> yields (the share of pixels taken from the counterfactual, the mixed image).

    From none to all in equal steps. The pixels that differ most come first.
    """
    difference = (x - counterfactual).abs().sum(1).flatten(1)  # (N, H·W)
    # Rounded to hundredths of a grey level, so that equal differences tie exactly, and sorted stably, so that ties
    # have the same order on every device.
    difference = (difference * 12750).round()
    rank = difference.sort(dim=1, descending=True, stable=True).indices.argsort(1).view(len(x), 1, *x.shape[2:])
    pixels = difference.shape[1]
    for step in range(steps + 1):
        inserted = round(step / steps * pixels)
        yield inserted / pixels, torch.where(rank < inserted, counterfactual, x)
