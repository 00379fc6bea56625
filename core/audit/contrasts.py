"""With and without: how far p differs between images that have an attribute and images that have not.

Counterfactuals show what a method could change. Images as they are show the rest: a hat that no method can put on
is on many heads. The other attributes of an image are held alike by a linear model.
"""

from dataclasses import dataclass

import numpy as np

from ..metrics.intervals import LEVEL, draw_signs

FEWEST = 20  # images with an attribute, and without it, below which its contrast is not told
PER_ATTRIBUTE = 3  # images, at least, for each attribute of the model
MOST_INFLATED = 10  # the variance inflation from which an attribute is not told from others (Kutner et al., 2004)
NOTHING = 1e-9  # of the largest singular value, below which a direction is none; and a standard error that is none


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

    Least squares of p on the attributes, all that vary. Where these do not go together the coefficients are the
    differences of the means, whatever p depends on. The errors are White's, corrected for small samples (HC3;
    MacKinnon and White, Journal of Econometrics, 1985), as those of probabilities differ from image to image. How
    many of them an interval is wide comes from a wild bootstrap: the signs of the residuals are drawn, and the
    largest error of all attributes, in its own standard error, is kept (Davidson and Flachaire, ibid., 2008).
    """
    n, found = len(p), [None] * has.shape[1]
    with_it = has.sum(0)
    columns = np.flatnonzero((with_it > 0) & (with_it < n))
    if n < PER_ATTRIBUTE * (1 + len(columns)):
        return found
    told = np.minimum(with_it, n - with_it)[columns] >= FEWEST
    told &= _inflations(has[:, columns]) <= MOST_INFLATED
    if not told.any():
        return found
    values, errors, draw = _least_squares(np.asarray(p, float), has[:, columns].astype(float))
    width = np.quantile(np.concatenate([draw(signs)[told].max(0) for signs in draw_signs(n, seed)]), LEVEL)
    for k in np.flatnonzero(told):
        low, high = values[k] - width * errors[k], values[k] + width * errors[k]
        found[columns[k]] = Contrast(float(values[k]), float(low), float(high), int(with_it[columns[k]]))
    return found


def _least_squares(p, has):
    """-> the coefficients (A,) of the attributes, their standard errors (A,), and a function: signs (N, K) of the
    residuals -> (A, K), by how many of their standard errors the coefficients are then off."""
    design = np.column_stack([np.ones(len(p)), has])
    inverse = np.linalg.pinv(design, rcond=NOTHING)
    leverage = np.einsum("ij,ji->i", design, inverse).clip(max=1 - 1e-6)[:, None]

    def errors_of(residuals):
        return np.sqrt((inverse**2) @ (residuals / (1 - leverage)) ** 2)[1:]

    values = inverse @ p
    residuals = (p - design @ values)[:, None]

    def draw(signs):
        drawn = residuals / np.sqrt(1 - leverage) * signs
        off = inverse @ drawn
        return np.abs(off[1:]) / np.maximum(errors_of(drawn - design @ off), NOTHING)

    return values[1:], errors_of(residuals)[:, 0], draw


def _inflations(has):
    """(N, A) booleans, none constant -> (A,): by how much the others inflate the variance of each coefficient.

    That is 1 / (1 - R²) of each on all others: the diagonal of the inverse of their correlations.
    """
    if has.shape[1] < 2:
        return np.ones(has.shape[1])
    values, vectors = np.linalg.eigh(np.corrcoef(has.T))
    return (vectors**2 / np.maximum(values, 1e-9)).sum(1)
