"""Images as they are, of the run's data, of other data or of what it explained, and what is seen in them."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F

from guided_diffusion.errors import UserError

from ..data.explained_data import AUTO, load_explained_data, settle_dataset
from ..data.images import from_uint8, read_image
from ..data.words import counted
from ..metrics.inference import flags_of_run
from ..results.reading import read_pairs
from ..running.flags import FLAGS, choose_split
from .change_map import BLOCKS
from .colours import ColourMap, map_colours
from .contrasts import contrast_attributes

BOTH = ("CCF", "ICF")
LABELS, ORACLE = "labels", "oracle"  # what tells the attributes of an image
NOTHING = {"contrasted": 0, "contrasted_source": "", "labelled": [], "no_contrasts": ""}
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


def images_to_contrast(args, size):
    """The Images that audit.py's flags ask for, decoded at this size; None for --contrast_images 0."""
    if args.split and not args.data_dir:
        raise UserError(f"--split {args.split} is of --data_dir, which is not given; name it, or leave out --split")
    if not args.contrast_images:
        return None
    if args.data_dir:
        images = images_of_data(args.data_dir, args.split or "val", size, args.contrast_images)
    else:
        images = images_of_run(args.output_path, args.exp_name, size, args.contrast_images)
    return images if args.contrast_by == LABELS else replace(images, labels={})


def images_of_run(output_path, exp_name, size, most):
    """At most `most` Images of the data that an experiment was explained from, evenly spaced.

    Where that cannot be read any more: the originals of the experiment, however it answered.
    """
    run = Namespace(**{name: FLAGS[name].default for name in DATA} | flags_of_run(output_path, exp_name))
    try:
        if not run.data_dir:
            raise UserError("the run names no --data_dir")
        run.dataset = settle_dataset(run.dataset, run.data_dir)
        return _of_data(run.data_dir, choose_split(run), size, most, run.dataset)
    except UserError:
        pairs = _spread(read_pairs(output_path, exp_name, reached=BOTH), most)
        return Images(lambda pair: read_image(pair.original), pairs, "the originals")


def images_of_data(data_dir, split, size, most):
    """At most `most` Images of a split of other data, evenly spaced. UserError where it cannot be read."""
    return _of_data(data_dir, split, size, most, settle_dataset(AUTO, data_dir))


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
    contrasts = contrast_attributes(p, has)
    if not any(contrasts):
        few = f"the {counted(len(p))} are too few, or too much alike"
        return Seen(facts=NOTHING | {"no_contrasts": f"{few} ({images.source}); see --data_dir, --contrast_images"})
    facts = {"contrasted": len(p), "contrasted_source": images.source, "labelled": labelled}
    return Seen(
        dict(zip(networks.attributes, contrasts, strict=True)), map_colours(p, has, colours), NOTHING | facts
    )


def _of_data(data_dir, split, size, most, name):
    dataset = load_explained_data(name, data_dir, split, size)
    rows = _spread(range(len(dataset)), most)
    labels = dict(zip(dataset.attributes, dataset.labels[torch.tensor(rows)].numpy().astype(bool).T, strict=True))
    return Images(dataset.pixels, rows, f"{split} of {data_dir}", labels)


def _spread(items, most):
    """At most so many of the items, evenly spaced."""
    rows = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[int(row)] for row in rows]
