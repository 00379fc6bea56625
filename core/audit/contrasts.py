"""With and without: how far p differs between images that have an attribute and images that have not.

Counterfactuals show what a method could change. Images as they are show the rest: a hat that no method can put on
is on many heads. The other attributes of an image are held alike by a linear model.
"""

from dataclasses import dataclass

import numpy as np

from ..metrics.intervals import LEVEL

FEWEST = 10  # images with an attribute, and without it, below which it is not contrasted
PER_ATTRIBUTE = 3  # images, at least, for each attribute of the model
MOST_INFLATED = (
    10  # a variance inflation above which an attribute cannot be told from the others (Kutner et al., 2004)
)


@dataclass
class Contrast:
    """value: the mean p with an attribute minus that without it, the others alike. with_it: images that have it.

    low, high: its interval, which holds, with 95 %, for all attributes at once.
    """

    value: float
    low: float
    high: float
    with_it: int


def contrast_attributes(p, has):
    """(N,) probabilities, (N, A) booleans -> A Contrasts, None for an attribute of which nothing can be said.

    Least squares of p on the attributes. Where these do not go together its coefficients are the differences of the
    means, whatever p depends on. The errors are White's, corrected for small samples (HC3; MacKinnon and White,
    Journal of Econometrics, 1985), as those of probabilities differ from image to image.
    """
    from statsmodels.regression.linear_model import OLS

    n, found = len(p), [None] * has.shape[1]
    with_it = has.sum(0)
    columns = np.flatnonzero(np.minimum(with_it, n - with_it) >= FEWEST)
    columns = columns[_inflations(has[:, columns]) <= MOST_INFLATED]
    if not len(columns) or n < PER_ATTRIBUTE * len(columns):
        return found
    fitted = OLS(np.asarray(p, float), np.column_stack([np.ones(n), has[:, columns]])).fit(cov_type="HC3")
    intervals = fitted.conf_int((1 - LEVEL) / len(columns))[1:]
    for column, value, (low, high) in zip(columns, fitted.params[1:], intervals, strict=True):
        found[column] = Contrast(float(value), float(low), float(high), int(with_it[column]))
    return found


def _inflations(has):
    """(N, A) booleans, none constant -> (A,): by how much the others inflate the variance of each coefficient.

    That is 1 / (1 - R²) of each on all others: the diagonal of the inverse of their correlations.
    """
    if has.shape[1] < 2:
        return np.ones(has.shape[1])
    values, vectors = np.linalg.eigh(np.corrcoef(has.T))
    return (vectors**2 / np.maximum(values, 1e-9)).sum(1)
