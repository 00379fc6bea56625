"""Distances between sets of images, from their Inception activations: FID, sFID, KID.

An image and its counterfactual resemble each other, which makes the two sets look nearer than they are. FID
compares them all the same, as is usual; sFID and KID never let an image meet its own counterfactual.
"""

import numpy as np
import torch
from tqdm import tqdm

HALVES = 20  # random halves behind a standard error
KID_SUBSETS, KID_SIZE = 100, 1000


class Activations:
    """Of originals (N, D) and of counterfactuals (M, D); origin (M,): the row of each one's original."""

    def __init__(self, originals, counterfactuals, origin):
        self.originals, self.counterfactuals, self.origin = originals, counterfactuals, origin

    def __len__(self):
        return len(self.originals)

    def split(self, generator):
        """Two random halves of the originals, as masks (N,); of an odd number the second has one more."""
        mask = np.zeros(len(self), bool)
        mask[generator.permutation(len(self))[: len(self) // 2]] = True
        return mask, ~mask

    def of(self, mask):
        """The counterfactuals of the originals in `mask`."""
        return self.counterfactuals[mask[self.origin]]

    def part(self, mask):
        """The originals in `mask` and their counterfactuals."""
        row = np.cumsum(mask) - 1
        chosen = mask[self.origin]
        return Activations(self.originals[mask], self.counterfactuals[chosen], row[self.origin[chosen]])


def frechet_distance(a, b):
    """Activations (N, D) and (M, D) -> the Fréchet distance of their Gaussians (Heusel et al., NeurIPS 2017).

    |mean_a - mean_b|² + Tr(C_a + C_b - 2 (C_a C_b)^½), where the root's trace is the nuclear norm of F_a F_bᵀ,
    with C = FᵀF: no root of a singular matrix is taken where images are fewer than dimensions, and it takes a tenth
    of the time of pytorch-fid's, for resampling needs many. NaN of fewer than two rows.
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
    """(N, D) -> F (min(N, D), D) with FᵀF the covariance of the columns."""
    centred = torch.from_numpy(np.asarray(x, float) - x.mean(0, dtype=float)) / (len(x) - 1) ** 0.5
    return centred if len(centred) <= centred.shape[1] else torch.linalg.qr(centred, mode="r").R


def statistics(x):
    """(N, D) -> mean (D,) and covariance (D, D), in double precision, as pytorch-fid takes them."""
    x = np.asarray(x, float)
    return x.mean(0), np.cov(x, rowvar=False)


def fid(activations, distance=frechet_distance):
    """FID between all originals and the counterfactuals. distance: of activations (N, D) and (M, D)."""
    return distance(activations.originals, activations.counterfactuals)


def sfid(activations, seed=0, distance=frechet_distance):
    """sFID (Jeanneret et al., CVPR 2023): the mean FID of each seeded half against the other's counterfactuals."""
    first, second = activations.split(np.random.default_rng(seed))
    there = distance(activations.originals[first], activations.of(second))
    back = distance(activations.originals[second], activations.of(first))
    return (there + back) / 2


def error_by_halves(distance, activations, seed=0):
    """The standard error of distance(activations): its deviation over random halves (Shao and Wu, 1989).

    Half of the images vary about themselves, drawn without repetition, as much as all of them about the truth.
    """
    generator = np.random.default_rng(seed)
    halves = (activations.part(activations.split(generator)[0]) for _ in range(HALVES))
    return float(np.std([distance(half) for half in tqdm(halves, "resampling", HALVES, unit="half")], ddof=1))


def kernel_distance(a, b):
    """(N, D) and (M, D) -> the unbiased squared MMD of the kernel (x·y / D + 1)³ (Bińkowski et al., ICLR 2018)."""
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
    n, found = len(activations), []
    size = min(KID_SIZE, n // 2)
    for _ in tqdm(range(KID_SUBSETS), "KID", unit="subset"):
        first, second = activations.split(generator)
        rows = generator.permutation(np.flatnonzero(first))[:size]
        cf_rows = generator.permutation(np.flatnonzero(second[activations.origin]))[:size]
        found.append(kernel_distance(activations.originals[rows], activations.counterfactuals[cf_rows]))
    deviation = float(np.std(found, ddof=1))
    # Subsets of a part of the images vary by (1/size - 1/n); all of the images vary by 1/n.
    return float(np.mean(found)), deviation, deviation * (size / (n - size)) ** 0.5
