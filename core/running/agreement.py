"""How well a classifier agrees with the labels of the data: said before a run, because outputs may be mistaken."""

import sys

import torch

from ..data.datasets import batches_of, load_images
from ..methods.decisions import predicted_class

MOST = 200  # images that are looked at
FEWEST = 12  # of fewer, any agreement may be chance
NEAR_CHANCE = 0.2  # of Cohen's kappa: 0 is chance, 1 is full agreement


@torch.no_grad()
def tell_agreement(dataset, indices, networks, batch_size):
    """Prints the share of labels that the classifier predicts, and warns where it is no better than chance.

    indices: of images, of which at most MOST, evenly spread, are looked at. networks: a run's Networks.
    """
    from sklearn.metrics import cohen_kappa_score  # its import takes a second

    some = indices[:: -(-len(indices) // MOST)]
    batches = (load_images(dataset, ids).to(networks.device) for ids in batches_of(some, batch_size))
    predictions = torch.cat([predicted_class(networks.classify(images)).cpu() for images in batches])
    labels = networks.labels[some].cpu()
    share = f"{100 * (predictions == labels).float().mean():.1f} % of the labels of {len(some)} images"
    print(f"the classifier predicts {share}", flush=True)
    if len(some) >= FEWEST and len(labels.unique()) > 1 and cohen_kappa_score(labels, predictions) < NEAR_CHANCE:
        print(
            f"warning: the classifier predicts {share}, hardly better than chance: does each output mean what it "
            "is taken for (--class_names, --query_label), and are images prepared as in its training?",
            file=sys.stderr,
        )
