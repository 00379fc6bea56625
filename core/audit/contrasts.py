"""With and without: how far p differs between images that have an attribute and images that have not.

Counterfactuals show what a method could change. Real images show the rest: a hat that no method can put on is on
many heads. A linear model holds the other attributes of an image alike.

Why the regression is not that of statsmodels: the bootstrap needs its errors for thousands of draws at once, so the
formula stands here all the same; its HC3 divides 0 by 0 where only one image has an attribute; and its variance
inflations take 200 times as long. Where none of this matters both agree to the last digits.
"""

from dataclasses import dataclass

import numpy as np

from ..metrics.intervals import LEVEL, draw_signs

RARE_BELOW = 20  # images with an attribute, or without it: too few for a contrast
IMAGES_PER_COEFFICIENT = 3  # at least
MOST_INFLATED = 10  # the variance inflation up to which an attribute can be told from others (Kutner et al., 2004)
RANK_TOLERANCE = 1e-9  # a singular value below this share of the largest counts as 0
SMALLEST_ERROR = 1e-9  # a standard error is never divided by less


@dataclass
class Contrast:
    """value: the mean p with an attribute minus that without it, the others alike. with_it: images that have it.

    low, high: its interval, which holds, with 95 %, for all attributes at once.
    """

    value: float
    low: float
    high: float
    with_it: int


def contrast_attributes(p, has, seed=0):
    """(N,) probabilities, (N, A) booleans -> A Contrasts, None for an attribute of which nothing can be said.

    Least squares of p on all attributes that vary. Where these do not go together the coefficients are the
    differences of the means, whatever p depends on. The spread of probabilities differs from image to image. So the
    errors are White's, corrected for small samples (HC3; MacKinnon and White, Journal of Econometrics, 1985). A
    wild bootstrap says how many errors wide an interval is. It draws the signs of the residuals, and keeps the
    largest of all attributes' errors, each in its own standard error (Davidson and Flachaire, ibid., 2008).
    """
    n, contrasts, with_it = len(p), [None] * has.shape[1], has.sum(0)
    columns = np.flatnonzero((with_it > 0) & (with_it < n))
    common = np.minimum(with_it, n - with_it)[columns] >= RARE_BELOW
    if n < IMAGES_PER_COEFFICIENT * (1 + len(columns)) or not common.any():
        return contrasts
    clear = common & (_inflations(has[:, columns]) <= MOST_INFLATED)
    if not clear.any():
        return contrasts
    values, errors, draw = _least_squares(np.asarray(p, float), has[:, columns].astype(float))
    width = np.quantile(np.concatenate([draw(signs)[clear].max(0) for signs in draw_signs(n, seed)]), LEVEL)
    for k in np.flatnonzero(clear):
        value, margin = float(values[k]), float(width * errors[k])
        contrasts[columns[k]] = Contrast(value, value - margin, value + margin, int(with_it[columns[k]]))
    return contrasts


def _least_squares(p, has):
    """-> the coefficients (A,) of the attributes, their standard errors (A,), and a function: signs (N, K) of the
    residuals -> (A, K), by how many of their standard errors the coefficients are then off."""
    design = np.column_stack([np.ones(len(p)), has])
    inverse = np.linalg.pinv(design, rcond=RANK_TOLERANCE)
    leverage = np.einsum("ij,ji->i", design, inverse).clip(max=1 - 1e-6)[:, None]

    def errors_of(residuals):
        return np.sqrt((inverse**2) @ (residuals / (1 - leverage)) ** 2)[1:]

    values = inverse @ p
    residuals = (p - design @ values)[:, None]

    def draw(signs):
        drawn = residuals / np.sqrt(1 - leverage) * signs
        off = inverse @ drawn
        return np.abs(off[1:]) / np.maximum(errors_of(drawn - design @ off), SMALLEST_ERROR)

    return values[1:], errors_of(residuals)[:, 0], draw


def _inflations(has):
    """(N, A) booleans, none constant -> (A,): by how much the others inflate the variance of each coefficient.

    That is 1 / (1 - R²) of each on all others: the diagonal of the inverse of their correlations.
    """
    values, vectors = np.linalg.eigh(np.atleast_2d(np.corrcoef(has.T)))
    return (vectors**2 / np.maximum(values, 1e-9)).sum(1)
