"""What is seen in images as they are: which attributes p goes with, and where which colours."""

from dataclasses import dataclass, field

import torch.nn.functional as F

from ..data.images import from_uint8
from ..data.words import counted
from .change_map import BLOCKS
from .colours import ColourMap, map_colours
from .contrasts import contrast_attributes

NOTHING = {"contrasted": 0, "contrasted_source": "", "labelled": [], "no_contrasts": ""}


@dataclass
class Seen:
    """What was found in images as they are. contrasts: attribute -> its Contrast, or None. colours: None of few
    images. facts: what audit.yaml holds of them: how many, whence, whose labels, and why they say nothing."""

    contrasts: dict = field(default_factory=dict)
    colours: ColourMap | None = None
    facts: dict = field(default_factory=lambda: {**NOTHING})


def look_at(images, pairs, networks):
    """What is Seen in Images, None for none, by an audit's Networks. pairs: those of the experiment."""
    if images is None:
        return Seen(facts=NOTHING | {"no_contrasts": "--contrast_images is 0"})
    targets = {int(pair.info()["target"]) for pair in pairs} if networks.of_classes else {1}
    if len(targets) > 1:
        return Seen(facts=NOTHING | {"no_contrasts": "the experiment has several target classes"})
    p_of = networks.p_of(*targets)

    def look(pixels):
        x = from_uint8(pixels)
        return p_of(x), networks.oracle(x) > 0, F.adaptive_avg_pool2d(x, min(BLOCKS, *x.shape[-2:]))

    def load(item):
        return (images.load(item),)

    p, has, colours = (part.numpy() for part in networks.run(look, load, images.items, "as they are"))
    labelled = [name for name in networks.attributes if name in images.labels]
    for name in labelled:
        has[:, networks.attributes.index(name)] = images.labels[name]
    contrasts, colour_map = contrast_attributes(p, has), map_colours(p, has, colours)
    facts = {}
    if not any(contrasts):
        why = f"{counted(len(p))} ({images.source}) cannot tell them apart; see --data_dir and --contrast_images"
        facts = {"no_contrasts": why}
    if any(contrasts) or colour_map is not None:
        facts |= {"contrasted": len(p), "contrasted_source": images.source, "labelled": labelled}
    return Seen(dict(zip(networks.attributes, contrasts, strict=True)), colour_map, NOTHING | facts)
