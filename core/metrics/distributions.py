"""Distances between sets of images, from their Inception activations: FID, sFID, KID.

An image and its counterfactual resemble each other, which makes the two sets look nearer than they are. FID
compares them all the same, as is usual. sFID and KID never compare an image with its own counterfactual.
"""

import numpy as np
import torch
from tqdm import tqdm

HALVES = 20  # random halves that a standard error is computed from
KID_SUBSETS, KID_SIZE = 100, 1000


class Activations:
    """Activations of originals (N, D) and counterfactuals (M, D). origin (M,): the row of each one's original."""

    def __init__(self, originals, counterfactuals, origin):
        self.originals, self.counterfactuals, self.origin = originals, counterfactuals, origin

    def __len__(self):
        return len(self.originals)

    def split(self, generator):
        """Two random halves of the originals, as masks (N,). Where N is odd the second has one more."""
        mask = np.zeros(len(self), bool)
        mask[generator.permutation(len(self))[: len(self) // 2]] = True
        return mask, ~mask

    def counterfactuals_of(self, mask):
        """The counterfactuals of the originals in `mask`."""
        return self.counterfactuals[mask[self.origin]]

    def part(self, mask):
        """The originals in `mask` and their counterfactuals."""
        new_row = np.cumsum(mask) - 1
        chosen = mask[self.origin]
        return Activations(self.originals[mask], self.counterfactuals[chosen], new_row[self.origin[chosen]])


def frechet_distance(a, b):
    """Activations (N, D) and (M, D) -> the Fréchet distance of their Gaussians (Heusel et al., NeurIPS 2017).

    |mean_a - mean_b|² + Tr(C_a + C_b - 2 (C_a C_b)^½). With C = FᵀF the trace of the root is the nuclear norm of
    F_a F_bᵀ. So no root of a singular matrix is needed where there are fewer images than dimensions, and it takes a
    tenth of pytorch-fid's time, which matters for resampling. NaN for fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    factors = [_covariance_factor(x) for x in (a, b)]
    cross = factors[0] @ factors[1].T
    gram = cross @ cross.T if len(factors[0]) <= len(factors[1]) else cross.T @ cross
    root_trace = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().sum()
    means = torch.from_numpy(a.mean(0, dtype=float) - b.mean(0, dtype=float))
    return float(means.square().sum() + sum(f.square().sum() for f in factors) - 2 * root_trace)


def _covariance_factor(x):
    """(N, D) -> F (min(N, D), D), where FᵀF is the covariance of the columns."""
    centred = torch.from_numpy(np.asarray(x, float) - x.mean(0, dtype=float)) / (len(x) - 1) ** 0.5
    return centred if len(centred) <= centred.shape[1] else torch.linalg.qr(centred, mode="r").R


def statistics(x):
    """(N, D) -> mean (D,) and covariance (D, D), in double precision, as pytorch-fid computes them."""
    x = np.asarray(x, float)
    return x.mean(0), np.cov(x, rowvar=False)


def fid(activations, distance=frechet_distance):
    """FID between all originals and the counterfactuals. distance: activations (N, D), (M, D) -> a number."""
    return distance(activations.originals, activations.counterfactuals)


def sfid(activations, seed=0, distance=frechet_distance):
    """sFID (Jeanneret et al., CVPR 2023): the originals are split in two seeded halves, and the FIDs between each
    half and the counterfactuals of the other are averaged."""
    first, second = activations.split(np.random.default_rng(seed))
    there = distance(activations.originals[first], activations.counterfactuals_of(second))
    back = distance(activations.originals[second], activations.counterfactuals_of(first))
    return (there + back) / 2


def error_by_halves(distance, activations, seed=0):
    """The standard error of distance(activations): its deviation over random halves (Shao and Wu, 1989).

    A half, drawn without repetition, differs from all images about as much as all images differ from the truth.
    """
    generator = np.random.default_rng(seed)
    halves = (activations.part(activations.split(generator)[0]) for _ in range(HALVES))
    return float(np.std([distance(half) for half in tqdm(halves, "resampling", HALVES, unit="half")], ddof=1))


def kernel_distance(a, b):
    """(N, D), (M, D) -> the unbiased squared MMD with the kernel (x·y / D + 1)³ (Bińkowski et al., ICLR 2018).
    NaN for fewer than two rows."""
    if min(len(a), len(b)) < 2:
        return float("nan")
    n, m = len(a), len(b)
    within_a, within_b = (_kernel(x, x) for x in (a, b))
    np.fill_diagonal(within_a, 0)
    np.fill_diagonal(within_b, 0)
    return float(within_a.sum() / (n * (n - 1)) + within_b.sum() / (m * (m - 1)) - 2 * _kernel(a, b).mean())


def _kernel(a, b):
    return (np.asarray(a, float) @ np.asarray(b, float).T / a.shape[1] + 1) ** 3


def kid(activations, seed=0):
    """KID over 100 seeded subsets -> (mean, deviation of a subset, standard error of the mean).

    A subset holds originals of one random half and counterfactuals of the other, at most 1,000 of each.
    """
    generator = np.random.default_rng(seed)
    n, distances = len(activations), []
    size = min(KID_SIZE, n // 2)
    for _ in tqdm(range(KID_SUBSETS), "KID", unit="subset"):
        first, second = activations.split(generator)
        rows = generator.permutation(np.flatnonzero(first))[:size]
        cf_rows = generator.permutation(np.flatnonzero(second[activations.origin]))[:size]
        distances.append(kernel_distance(activations.originals[rows], activations.counterfactuals[cf_rows]))
    deviation = float(np.std(distances, ddof=1))
    # The variance over subsets of these n images goes with (1/size - 1/n), that of all n images with 1/n.
    return float(np.mean(distances)), deviation, deviation * (size / (n - size)) ** 0.5
