"""The correlations of the training faces' labels, for CD, without drawing a face.

    python -m demo.correlations --data_dir DIR

The demo draws test faces alone; what its networks were trained on is known from the labels, which cost nothing.
"""

import argparse

import numpy as np

from core.data.datasets import CELEBA_ATTRIBUTES
from core.metrics.correlations import correlation_table, keep_correlations
from demo.faces import face_of
from guided_diffusion.script_util import add_dict_to_argparser, require_flags, run_script

FLAGS = {
    "data_dir": (None, "the folder that demo.faces has written"),
    "train": (12000, "number of training faces"),
    "seed": (0, "seed of the whole set"),
}


def training_labels(seed, count):
    """(count, 40) of 0/1: the labels of the first training faces of a data set."""
    return np.array([list(face_of(seed, "train", k)[0].values()) for k in range(count)], int)


def create_argparser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add_dict_to_argparser(parser, FLAGS)
    return parser


def main():
    args = create_argparser().parse_args()
    require_flags(args, "data_dir", "train")
    labels = training_labels(args.seed, args.train)
    keep_correlations(args.data_dir, correlation_table(labels, CELEBA_ATTRIBUTES))


if __name__ == "__main__":
    run_script(main)
