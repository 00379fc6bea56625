"""What real images show: which attributes p goes with, and where which colours."""

from dataclasses import dataclass, field

import torch.nn.functional as F

from ..data.images import from_uint8
from ..data.words import counted
from .change_map import BLOCKS
from .colours import ColourMap, map_colours
from .contrasts import contrast_attributes


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
    p_of = networks.p_of(*targets)

    def look(pixels):
        x = from_uint8(pixels)
        return p_of(x), networks.oracle(x) > 0, F.adaptive_avg_pool2d(x, min(BLOCKS, *x.shape[-2:]))

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
