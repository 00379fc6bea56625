"""The correlations of the training faces' labels, for CD, without drawing a face.

    python -m demo.correlations --data_dir DIR

The demo only draws test faces. The labels of the training faces can be computed without drawing them.
"""

from dataclasses import replace

import numpy as np

from core.data.datasets import CELEBA_ATTRIBUTES
from core.metrics.correlations import correlation_table, keep_correlations
from demo.faces import face_of
from guided_diffusion.script.flags import SEED, Flag, FlagParser, check_flags
from guided_diffusion.script.run import require_flags, run_script

FLAGS = {
    "data_dir": Flag(None, "the folder that demo.faces has written"),
    "train": Flag(12000, "number of training faces", low=1, high=10**6),
    "seed": replace(SEED, help="seed of the whole set"),
}
REQUIRED = ("data_dir",)


def training_labels(seed, count):
    """(count, 40) of 0/1: the labels of the first training faces of a data set."""
    return np.array([list(face_of(seed, "train", k)[0].values()) for k in range(count)], int)


def create_argparser():
    return FlagParser(__doc__, FLAGS, REQUIRED)


def main():
    args = create_argparser().parse_args()
    check_flags(args, FLAGS)
    require_flags(args, *REQUIRED)
    labels = training_labels(args.seed, args.train)
    keep_correlations(args.data_dir, correlation_table(labels, CELEBA_ATTRIBUTES))


if __name__ == "__main__":
    run_script(main)
