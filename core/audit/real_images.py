"""Real images: which ones are looked at, which attributes p goes with in them, and where which colours."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from guided_diffusion.script.errors import UserError

from ..data.images import from_uint8, read_image
from ..data.labels import OneHot
from ..data.loading import AUTO, load_explained_data, settle_dataset
from ..data.words import counted
from ..results.layout import REACHED
from ..running.flags import FLAGS, choose_split
from .change_map import BLOCKS
from .colours import ColourMap, map_colours
from .contrasts import contrast_attributes

DATA = ("dataset", "data_dir", "split", "use_train")  # flags of main.py


@dataclass
class Images:
    """load(item) -> uint8 (3, S, S) of one of the n items. source: in words, what they are.

    labels: attribute -> (n,) booleans, of those that the data tells; {} where it tells none.
    """

    load: Callable
    items: list
    source: str
    labels: dict[str, np.ndarray] = field(default_factory=dict)


def images_to_contrast(run, size, most, data_dir=None, split=None):
    """At most `most` Images, decoded at this size: of a split of --data_dir, or of a Run's data; None for 0."""
    if split and not data_dir:
        raise UserError(f"--split {split} is of --data_dir, which is not given; name it, or leave out --split")
    if data_dir and not most:
        raise UserError(f"--contrast_images 0 and --data_dir {data_dir} contradict each other; leave out one")
    if not most:
        return None
    return images_of_data(data_dir, split or "val", size, most) if data_dir else images_of_run(run, size, most)


def images_of_run(run, size, most):
    """At most `most` Images of the data that a Run explained, evenly spaced.

    Where that cannot be read any more: the originals of the run, whether they reached their target or not.
    """
    flags = {name: FLAGS[name].default for name in DATA} | dict(run.flags)
    try:
        if not flags["data_dir"]:
            raise UserError("the run names no --data_dir")
        name = settle_dataset(flags["dataset"], flags["data_dir"])
        return images_of_data(flags["data_dir"], choose_split(flags | {"dataset": name}), size, most, name)
    except UserError as error:
        pairs = run.pairs(reached=tuple(REACHED))
        chosen = [pairs[row] for row in _spread(len(pairs), most)]
        source = f"the originals, as the run's data cannot be read: {error}"
        return Images(lambda pair: read_image(pair.original), chosen, source)


def images_of_data(data_dir, split, size, most, name=AUTO):
    """At most `most` Images of a split of data, evenly spaced. name: its --dataset. UserError where it cannot be
    read."""
    dataset = load_explained_data(settle_dataset(name, data_dir), data_dir, split, size)
    rows, labels = _spread(len(dataset), most), {}
    if not isinstance(dataset.labels, OneHot):  # of another class is not the same as without an attribute
        values = dataset.labels[torch.tensor(rows)].numpy().astype(bool)
        labels = dict(zip(dataset.attributes, values.T, strict=True))
    return Images(dataset.pixels, rows, f"{split} of {data_dir}", labels)


def _spread(count, most):
    """At most so many of 0 … count - 1, evenly spaced."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()


@dataclass
class RealEvidence:
    """contrasts: attribute -> its Contrast, or None. colours: None of few images. facts: for the Findings: how many
    images, from where, whose labels, or why they say nothing."""

    contrasts: dict = field(default_factory=dict)
    colours: ColourMap | None = None
    facts: dict = field(default_factory=dict)


def gather_real_evidence(images, pairs, networks):
    """The RealEvidence of Images, None for none, by AuditNetworks. pairs: those of the experiment."""
    if images is None:
        return RealEvidence(facts={"no_contrasts": "--contrast_images is 0"})
    targets = {int(pair.info()["target"]) for pair in pairs} if networks.of_classes else {1}
    if len(targets) > 1:
        return RealEvidence(facts={"no_contrasts": "the experiment has several target classes"})

    def look(pixels):
        x = from_uint8(pixels)
        return networks.p(x, *targets), networks.oracle(x) > 0, F.adaptive_avg_pool2d(x, min(BLOCKS, *x.shape[-2:]))

    batches = networks.batches.map(look, lambda item: (images.load(item),), images.items, "as they are")
    p, has, colours = (part.numpy() for part in batches)
    labelled = [name for name in networks.attributes if name in images.labels]
    for name in labelled:
        has[:, networks.attributes.index(name)] = images.labels[name]
    contrasts, colour_map = contrast_attributes(p, has), map_colours(p, has, colours)
    facts = {}
    if not any(contrasts):
        why = f"{counted(len(p))} ({images.source}) cannot tell them apart; see --data_dir and --contrast_images"
        facts["no_contrasts"] = why
    if any(contrasts) or colour_map is not None:
        facts |= {"contrasted": len(p), "contrasted_source": images.source, "labelled": labelled}
    return RealEvidence(dict(zip(networks.attributes, contrasts, strict=True)), colour_map, facts)
