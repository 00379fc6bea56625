"""95 % intervals of what was measured, by seeded resampling of the images."""

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 2000
WIDTH = float(stats.norm.ppf((1 + LEVEL) / 2))  # in standard errors


def mean_interval(values, seed=0):
    """(N,) numbers -> (low, high) of their mean, the bootstrap's percentiles; None of fewer than two."""
    if len(values) < 2:
        return None
    # A few resamples at a time: all of them at once would hold RESAMPLES times the values.
    found = stats.bootstrap(
        (np.asarray(values, float),), np.mean, n_resamples=RESAMPLES, batch=100, confidence_level=LEVEL,
        method="percentile", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def standard_error(statistic, n, seed=0, resamples=500):
    """The bootstrap's standard error of statistic(rows), rows (N,) indices drawn from n; None of fewer than two."""
    if n < 2:
        return None
    found = stats.bootstrap(
        (np.arange(n),), statistic, vectorized=False, n_resamples=resamples, confidence_level=LEVEL,
        method="percentile", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.standard_error)


def normal_interval(value, error, lowest=-np.inf):
    """value ± 1.96 standard errors, cut at `lowest`; None where there is no error (None or NaN).

    For what fewer images, and so every resample, bias: the percentiles of the resamples would not hold the value.
    """
    if error is None or np.isnan(error):
        return None
    return max(value - WIDTH * error, lowest), value + WIDTH * error
