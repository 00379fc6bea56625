"""95 % intervals of metrics, by seeded resampling of the images."""

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 2000
WIDTH = float(stats.norm.ppf((1 + LEVEL) / 2))  # half of an interval, in standard errors


def mean_interval(values, seed=0):
    """(N,) numbers -> (low, high), percentiles of the bootstrap of their mean; None for fewer than two numbers."""
    if len(values) < 2:
        return None
    # batch: all resamples at once would need RESAMPLES times the memory of the values.
    result = stats.bootstrap(
        (np.asarray(values, float),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=100,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def standard_error(statistic, n, seed=0, resamples=500):
    """The bootstrap's standard error of statistic(rows), with n rows drawn from 0 … n-1; None for n < 2."""
    if n < 2:
        return None
    result = stats.bootstrap(
        (np.arange(n),),
        statistic,
        vectorized=False,
        n_resamples=resamples,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.standard_error)


def normal_interval(value, error, lowest=-np.inf):
    """value ± 1.96 standard errors, cut off at `lowest`; None where the error is None or NaN.

    For statistics that are biased on few images. Resamples hold fewer distinct images, so all of them are biased
    more, and the interval between their percentiles need not contain the value.
    """
    if error is None or np.isnan(error):
        return None
    return max(value - WIDTH * error, lowest), value + WIDTH * error
