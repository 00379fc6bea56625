"""The networks that metrics are measured with, each loaded once, and how they are run over images."""

from functools import cached_property

import torch

from guided_diffusion.dist_util import device_from

from ..data.images import from_uint8
from .batches import Batching


class Judges:
    """flags: name -> value of a script that measures. loaders: kind of network -> the function that loads it.

    ranks: those that share the work. All run the networks; the first alone makes metrics of the results.
    """

    def __init__(self, flags, loaders, ranks):
        self.flags, self.loaders, self.ranks, self._loaded = flags, loaders, ranks, {}

    @cached_property
    def batches(self):
        device = device_from(self.flags["gpu"], self.ranks)
        return Batching(device, self.flags["batch_size"], self.flags["num_workers"])

    def of_role(self, role, run, pairs):
        """(the classifier or the oracle of a Run, for images as large as those of its pairs; its NetworkName).

        UserError where it was trained on images of another size.
        """
        name, size = run.network(role, self.flags), pairs[0].pixels()[0].shape[-1]
        load = self.loaders[role]
        network = self._once((str(name), size), lambda: load(*name.arguments, size, name.typed))
        name.require_size(network, size)
        return network, name

    def of_kind(self, kind, path):
        """The network of a kind, such as faces, with the weights in a file; None: those that its loader knows."""
        return self._once((kind, path), lambda: self.loaders[kind](path))

    def _once(self, key, load):
        if key not in self._loaded:
            self._loaded[key] = load().to(self.batches.device)
        return self._loaded[key]


def judge_pairs(see, pairs, batches, desc="oracle"):
    """What is seen in N pairs: (in the originals (N, ...), in the counterfactuals (N, ...)).

    see: images (N, 3, H, W) in [-1, 1] -> a tensor with a row for each.
    """

    def see_both(*originals_and_counterfactuals):
        return [see(from_uint8(pixels)) for pixels in originals_and_counterfactuals]

    return batches.map(see_both, lambda pair: pair.pixels(), pairs, desc)


def decisions_of(oracle):
    """images -> the oracle's decisions (N, A), 0 or 1."""
    return lambda images: (oracle(images) > 0).long()


def load_pair_with_classes(pair):
    """The original and the counterfactual, uint8 (3, H, W), the class of its label, and that of its target."""
    info = pair.info()
    return *pair.pixels(), torch.tensor(int(info["label"])), torch.tensor(int(info["target"]))
