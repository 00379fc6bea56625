"""What the oracle and the classifier say of pairs of images: what changed, and what changing it back does to p."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..data.images import from_uint8
from ..methods.decisions import probability
from ..metrics.batches import Batches
from ..metrics.judges import judge_pairs
from .own_change import own_change, put_back

MOVED = 0.25  # of the way from a typical no to a typical yes, from which the asked attribute takes its pixels
CONTEXTS = 9  # how much of all else is changed back, from nothing to all, where p is compared


@dataclass
class Networks:
    """The two networks of an audit, and how they are run. Both take images (N, 3, H, W) in [-1, 1]."""

    classify: Callable  # -> logits, (N,) of an attribute or (N, K) of classes
    oracle: Callable | None  # -> logits (N, A), positive for yes; None: no attributes are audited
    attributes: tuple[str, ...]  # what the A are called
    asked: int | None  # the one among them that the classifier is asked about; None of classes
    device: torch.device
    batch_size: int
    workers: int | None = None
    of_classes: bool = False  # whether the classifier tells K classes apart, not an attribute's yes from its no

    @property
    def asked_name(self):
        """The attribute that the classifier is asked about, "" of classes."""
        return "" if self.asked is None else self.attributes[self.asked]

    def run(self, function, load, items, desc):
        """Batches.map on the device of the networks."""
        return self.batches.map(function, load, items, desc)

    @property
    def batches(self):
        return Batches(self.device, self.batch_size, self.workers)

    def p_of(self, target):
        """images -> (N,) the classifier's probability of the targets, (N,) or one for all."""

        def p(images):
            classes = torch.as_tensor(target, device=images.device).expand(len(images))
            return probability(self.classify(images), classes)

        return p


@dataclass
class Evidence:
    """What was found: a row for each of n images, a column for each of A attributes.

    changed, control: whether the oracle's decision differs between the original and the counterfactual, of the
    experiment and of the control. effect, at_end: what changing the attribute alone back does to p (falls). NaN
    where it did not change, and where it cannot be told from an attribute that was looked at before: the pixels
    that are not among that one's do not bring it back.
    """

    changed: np.ndarray
    control: np.ndarray
    effect: np.ndarray
    at_end: np.ndarray

    @property
    def owed(self):
        """(n, A): the fall of p that is owed to each attribute; 0 where it did not change or cannot be told."""
        return np.nan_to_num(self.effect)


def gather_evidence(pairs, control, networks):
    """The Evidence of n pairs, and the pixels (n, H, W) of the asked attribute's own change.

    control: the pairs of the same images in the control experiment; None: the originals, in which nothing changed.
    The asked attribute is changed back first, and its pixels are kept out of the others' own changes.
    """
    changed, moved = _changes(pairs, networks)
    unknown = np.full(changed.shape, np.nan)
    in_control = _changes(control, networks)[0] if control else np.zeros_like(changed)
    evidence, taken = Evidence(changed, in_control, unknown, unknown), no_pixels(pairs)
    asked = np.arange(changed.shape[1]) == (-1 if networks.asked is None else networks.asked)
    evidence, taken = change_back(evidence, pairs, asked & (changed | (moved >= MOVED)), taken, networks)
    return change_back(evidence, pairs, ~asked & changed, taken, networks)[0], taken


def no_pixels(pairs):
    """(n, H, W) booleans, all False."""
    return torch.zeros(len(pairs), *pairs[0].pixels()[0].shape[1:], dtype=torch.bool)


def _changes(pairs, networks):
    """Two (n, A): whether the oracle's decisions differ between originals and counterfactuals, and how far its
    logits moved; 1 is the way from a typical no to a typical yes."""
    before, after = judge_pairs(networks.oracle, pairs, networks.batches)
    typical = 2 * before.abs().mean(0)
    return ((before > 0) != (after > 0)).numpy(), ((after - before).abs() / typical).numpy()


def change_back(evidence, pairs, which, taken, networks):
    """Changes attributes back, each alone, where `which` (n, A) says -> (Evidence, the taken pixels with theirs).

    taken: (n, H, W) booleans, the pixels of attributes that were looked at before.
    """
    chosen = [tuple(map(int, item)) for item in np.argwhere(which)]
    effect, at_end, all_taken = evidence.effect.copy(), evidence.at_end.copy(), taken.clone()
    if chosen:
        own, possible = own_changes(chosen, pairs, taken, networks)
        found = undo([row for row, _ in chosen], own, pairs, networks)
        for index, (row, attribute) in enumerate(chosen):
            told = bool(possible[index])
            effect[row, attribute] = found.effect[index] if told else np.nan
            at_end[row, attribute] = found.at_end[index] if told else np.nan
            all_taken[row] |= own[index]
    return replace(evidence, effect=effect, at_end=at_end), all_taken


def own_changes(chosen, pairs, taken, networks):
    """own_change of some (image, attribute), M of them -> pixels (M, H, W), and whether they bring it back (M,)."""

    def load(item):
        row, attribute = item
        return *pairs[row].pixels(), torch.tensor(attribute), taken[row]

    def find(pixels, cf_pixels, attribute, kept_out):
        def logit(images):
            return networks.oracle(images).gather(1, attribute[:, None])[:, 0]

        return own_change(logit, from_uint8(pixels), from_uint8(cf_pixels), kept_out)

    return networks.run(find, load, chosen, "attributes")


@dataclass
class Undone:
    """What putting pixels back did to p, of M images: (M,) each. p: in the counterfactual."""

    effect: np.ndarray
    at_end: np.ndarray
    p: np.ndarray

    def of(self, rows):
        """The same of some of the images."""
        return Undone(self.effect[rows], self.at_end[rows], self.p[rows])


def undo(rows, own, pairs, networks):
    """The Undone of putting the pixels own (M, H, W) back in the counterfactuals of M rows of the pairs."""

    def load(index):
        pair = pairs[rows[index]]
        return *pair.pixels(), torch.tensor(int(pair.info()["target"])), own[index]

    def evaluate(pixels, cf_pixels, target, back):
        p, x, counterfactual = networks.p_of(target), from_uint8(pixels), from_uint8(cf_pixels)
        return *falls(p, x, counterfactual, back), p(counterfactual)

    found = networks.run(evaluate, load, range(len(rows)), "changing back")
    return Undone(*(part.double().numpy() for part in found))


def falls(p, x, counterfactual, own):
    """How far p falls when these pixels (N, H, W) are changed back: (N,) in the mean, and (N,) at the end.

    p: images -> (N,). At the end: in the counterfactual itself. In the mean: over how much of all else has been
    changed back before, from nothing to all. Counterfactuals go further than they must, so that p is nearly 1 in
    them whatever is changed back; as all else goes back, p comes to depend on what is left.
    """
    found = []
    for done in torch.linspace(0, 1, CONTEXTS).tolist():
        rest = counterfactual + done * (x - counterfactual)
        found.append(p(put_back(counterfactual, rest, own)) - p(put_back(x, rest, own)))
    return torch.stack(found).mean(0), found[0]
