"""Kinds of change: images whose counterfactuals differ from the originals in the same places."""

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist, pdist, squareform

from .change_map import find_regions

MOST = 6  # clusters
FEWEST = 10  # images, below which they are one cluster
CLEAR = 0.25  # the mean silhouette from which clusters count as such (Kaufman and Rousseeuw, 1990)
ALIKE = 0.8  # the cosine from which the means of two clusters are the same kind of change
SAMPLE = 2000  # images that clusters are formed from; the others join the nearest
EXAMPLES = 4


@dataclass
class Cluster:
    """n images, given by rows; examples: those nearest to their mean. place: of the blocks that change the most."""

    n: int
    place: str
    examples: list[int]


def cluster_changes(images):
    """(n, B, B) changes of each image -> the Clusters, the largest first. Images without a change are in none.

    Ward's clustering of each image's changes, scaled to length 1, so that it matters where it changed and not how
    much. As many clusters as have the largest mean silhouette, if that is clear and their means differ; else one.
    """
    points = images.reshape(len(images), -1)
    length = np.linalg.norm(points, axis=1)
    rows = np.flatnonzero(length > 0)
    if not len(rows):
        return []
    points = points[rows] / length[rows, None]
    labels = _labels(points)
    clusters = []
    for label in np.unique(labels):
        members = rows[labels == label]
        mean = points[labels == label].mean(0)
        nearest = np.argsort(((points[labels == label] - mean) ** 2).sum(1), kind="stable")
        strong = (mean >= np.sort(mean)[::-1][: max(1, len(mean) // 20)].min()).reshape(images.shape[1:])
        examples = [int(row) for row in members[nearest[:EXAMPLES]]]
        clusters.append(Cluster(len(members), find_regions(strong, mean.reshape(strong.shape))[0].place, examples))
    return sorted(clusters, key=lambda cluster: -cluster.n)


def _labels(points):
    """(n, D) of length 1 -> (n,) the number of each one's cluster."""
    if len(points) < FEWEST:
        return np.zeros(len(points), int)
    chosen = np.sort(np.random.default_rng(0).permutation(len(points))[:SAMPLE])
    sample = points[chosen]
    tree, distances = linkage(sample, "ward"), squareform(pdist(sample))
    best, most = np.zeros(len(sample), int), CLEAR
    for count in range(2, MOST + 1):
        labels = fcluster(tree, count, "maxclust")
        found = silhouette(distances, labels)
        if found > most and _differ(_centres(sample, labels)):
            best, most = labels, found
    nearest = np.unique(best)[cdist(points, _centres(sample, best)).argmin(1)]
    nearest[chosen] = best
    return nearest


def _centres(points, labels):
    return np.stack([points[labels == label].mean(0) for label in np.unique(labels)])


def _differ(centres):
    """Whether no two of some vectors (K, D) are alike."""
    return (1 - pdist(centres, "cosine")).max() < ALIKE


def silhouette(distances, labels):
    """(n, n) distances, (n,) labels -> the mean silhouette (Rousseeuw, 1987); that of a single member is 0."""
    numbers, members = np.unique(labels, return_inverse=True)
    if len(numbers) < 2:
        return -1.0
    belongs = members[:, None] == np.arange(len(numbers))
    sizes, sums = belongs.sum(0), distances @ belongs
    own = sums[belongs] / np.maximum(sizes[members] - 1, 1)
    other = np.where(belongs, np.inf, sums / sizes).min(1)
    scores = (other - own) / np.maximum(np.maximum(other, own), 1e-12)
    return float(np.where(sizes[members] > 1, scores, 0).mean())
