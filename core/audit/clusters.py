"""Kinds of change: images whose counterfactuals differ from the originals in the same places."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist, pdist

from .change_map import find_regions

MOST_CLUSTERS = 6
ONE_CLUSTER_BELOW = 10  # images
CLEAR_SILHOUETTE = 0.25  # the mean from which clusters count as such (Kaufman and Rousseeuw, 1990)
SAME_KIND = 0.8  # the cosine from which the means of two clusters are the same kind of change
SAMPLE = 2000  # images that clusters are formed from; the others join the nearest
CLUSTER_EXAMPLES = 4


@dataclass
class Cluster:
    """n images. place: of the blocks that change the most. examples: the ids of those nearest to their mean."""

    n: int
    place: str
    examples: list[str]


def cluster_changes(images, ids):
    """(n, B, B) changes of n images, and their ids -> the Clusters of those that change, the largest first.

    Ward's clustering of the changes, each image's scaled to length 1: where it changed matters, and not how much.
    As many clusters as have the largest mean silhouette, if that is clear and their means differ; else one.
    """
    points = images.reshape(len(images), -1)
    length = np.linalg.norm(points, axis=1)
    rows = np.flatnonzero(length > 0)
    if not len(rows):
        return []
    points = points[rows] / length[rows, None]
    labels, clusters = _labels(points), []
    for label in np.unique(labels):
        members, own = rows[labels == label], points[labels == label]
        mean = own.mean(0)
        nearest = ((own - mean) ** 2).sum(1).argsort(kind="stable")[:CLUSTER_EXAMPLES]
        strong, shape = mean >= np.sort(mean)[-max(1, len(mean) // 20)], images.shape[1:]
        place = find_regions(strong.reshape(shape), mean.reshape(shape))[0].place
        clusters.append(Cluster(len(members), place, [ids[row] for row in members[nearest]]))
    return sorted(clusters, key=lambda cluster: -cluster.n)


def _labels(points):
    """(n, D) of length 1 -> (n,) the number of each one's cluster."""
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import silhouette_score

    labels, clearest = np.zeros(len(points), int), CLEAR_SILHOUETTE
    if len(points) < ONE_CLUSTER_BELOW:
        return labels
    chosen = np.sort(np.random.default_rng(0).permutation(len(points))[:SAMPLE])
    sample = points[chosen]
    for count in range(2, MOST_CLUSTERS + 1):
        of_sample = AgglomerativeClustering(count, linkage="ward").fit_predict(sample)
        silhouette = silhouette_score(sample, of_sample)
        if silhouette <= clearest:
            continue
        centres = np.stack([sample[of_sample == label].mean(0) for label in range(count)])
        if 1 - pdist(centres, "cosine").min() < SAME_KIND:
            clearest, labels = silhouette, cdist(points, centres).argmin(1)
            labels[chosen] = of_sample
    return labels
