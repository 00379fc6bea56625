"""What the oracle and the classifier say of pairs of images: what changed, and what changing it back does to p."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..data.images import from_uint8
from ..methods.decisions import probability
from ..metrics.batches import Batching
from ..metrics.judges import judge_pairs
from .own_change import own_change, put_back

MOVED_FROM = 0.25  # of the way from a typical no to a typical yes: the asked attribute takes its pixels
CONTEXTS = 9  # how much of all else is changed back, from nothing to all, where p is compared


@dataclass
class AuditNetworks:
    """The two networks of an audit, and how they are run. Both take images (N, 3, H, W) in [-1, 1]."""

    classify: Callable  # -> logits, (N,) of an attribute or (N, K) of classes
    oracle: Callable | None  # -> logits (N, A), positive for yes; None: no attributes are audited
    attributes: tuple[str, ...]  # what the A are called
    asked: int | None  # the one among them that the classifier is asked about; None of classes
    batches: Batching
    of_classes: bool = False  # whether the classifier tells K classes apart, not an attribute's yes from its no

    @property
    def asked_name(self):
        """The attribute that the classifier is asked about, "" of classes."""
        return "" if self.asked is None else self.attributes[self.asked]

    def p(self, images, target):
        """(N,) the classifier's probability of the targets, (N,) or one for all."""
        classes = torch.as_tensor(target, device=images.device).expand(len(images))
        return probability(self.classify(images), classes)


@dataclass
class Evidence:
    """A row for each of n images, a column for each of A attributes.

    changed, control: whether the oracle's decision differs between the original and the counterfactual, of the
    experiment and of the control; None without a control. effect, at_end: of Undone, where the attribute alone is
    changed back. NaN where it did not change, and where the pixels that are not another attribute's do not bring
    it back.
    """

    changed: np.ndarray
    control: np.ndarray | None
    effect: np.ndarray
    at_end: np.ndarray

    @property
    def owed(self):
        """(n, A): the fall of p that is owed to each attribute; 0 where it did not change or cannot be told."""
        return np.nan_to_num(self.effect)


def gather_evidence(pairs, control, networks):
    """The Evidence of n pairs, and the pixels (n, H, W) of the asked attribute's own change.

    control: the pairs of the same images in the control experiment; None: the originals, in which nothing changed.
    The asked attribute is changed back first. No other attribute may have its pixels.
    """
    changed, moved = _changes(pairs, networks)
    unknown = np.full(changed.shape, np.nan)
    in_control = _changes(control, networks)[0] if control else None
    evidence = Evidence(changed, in_control, unknown, unknown)
    asked = np.arange(changed.shape[1]) == (-1 if networks.asked is None else networks.asked)
    visible = asked & (changed | (moved >= MOVED_FROM))
    evidence, asked_pixels = change_back(evidence, pairs, visible, no_pixels(pairs), networks)
    return change_back(evidence, pairs, ~asked & changed, asked_pixels, networks)[0], asked_pixels


def no_pixels(pairs):
    """(n, H, W) booleans, all False."""
    return torch.zeros(len(pairs), *pairs[0].pixels()[0].shape[1:], dtype=torch.bool)


def _changes(pairs, networks):
    """Two (n, A): whether the oracle's decisions differ between originals and counterfactuals, and how far its
    logits moved; 1 is the way from a typical no to a typical yes."""
    before, after = judge_pairs(networks.oracle, pairs, networks.batches)
    typical = 2 * before.abs().mean(0)
    return ((before > 0) != (after > 0)).numpy(), ((after - before).abs() / typical).numpy()


def change_back(evidence, pairs, which, excluded, networks):
    """Changes attributes back, each alone, where `which` (n, A) says -> (Evidence, `excluded` with their pixels).

    excluded: (n, H, W) booleans, the pixels of attributes that were changed back before.
    """
    items = [tuple(map(int, item)) for item in np.argwhere(which)]
    if not items:
        return evidence, excluded
    effect, at_end, with_theirs = evidence.effect.copy(), evidence.at_end.copy(), excluded.clone()
    own, possible = own_changes(items, pairs, excluded, networks)
    undone = undo([row for row, _ in items], own, pairs, networks)
    effect[which] = np.where(possible, undone.effect, np.nan)
    at_end[which] = np.where(possible, undone.at_end, np.nan)
    for (row, _), pixels in zip(items, own, strict=True):
        with_theirs[row] |= pixels
    return replace(evidence, effect=effect, at_end=at_end), with_theirs


def own_changes(items, pairs, excluded, networks):
    """own_change of some (image, attribute), M of them -> pixels (M, H, W), and whether they bring it back (M,)."""

    def load(item):
        row, attribute = item
        return *pairs[row].pixels(), torch.tensor(attribute), excluded[row]

    def find(pixels, cf_pixels, attribute, out):
        return own_change(networks.oracle, attribute, from_uint8(pixels), from_uint8(cf_pixels), out)

    return networks.batches.map(find, load, items, "attributes")


@dataclass
class Undone:
    """What putting pixels back did to p, of M images: (M,) each.

    p: in the counterfactual; at_end: how far it falls there. effect: the mean of its falls after more and more of
    all else has been changed back, from nothing to all. Counterfactuals go further than they must, so that p is
    nearly 1 in them whatever is changed back; as all else goes back, p comes to depend on what is left.
    """

    effect: np.ndarray
    at_end: np.ndarray
    p: np.ndarray


def undo(rows, own, pairs, networks):
    """The Undone of putting the pixels own (M, H, W) back in the counterfactuals of M rows of the pairs."""

    def load(index):
        pair = pairs[rows[index]]
        return *pair.pixels(), torch.tensor(int(pair.info()["target"])), own[index]

    def evaluate(pixels, cf_pixels, target, back):
        x, counterfactual, falls = from_uint8(pixels), from_uint8(cf_pixels), []
        for share in torch.linspace(0, 1, CONTEXTS).tolist():
            rest = counterfactual + share * (x - counterfactual)
            before, after = put_back(counterfactual, rest, back), put_back(x, rest, back)
            falls.append(networks.p(before, target) - networks.p(after, target))
        return torch.stack(falls).mean(0), falls[0], networks.p(counterfactual, target)

    parts = networks.batches.map(evaluate, load, range(len(rows)), "changing back")
    return Undone(*(part.double().numpy() for part in parts))
