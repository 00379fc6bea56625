"""95 % intervals of metrics: of shares exact, of all else by seeded resampling of the images.

scipy has the simple ones. Two stand here: the difference of shares of the same images (statsmodels has it of
independent ones), and the bootstrap of the largest of many errors, a matrix product.
"""

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 2000
WIDTH = float(stats.norm.ppf((1 + LEVEL) / 2))  # half of an interval, in standard errors


def mean_interval(values, seed=0):
    """(N,) numbers -> (low, high), percentiles of the bootstrap of their mean; None for fewer than two numbers."""
    if len(values) < 2:
        return None
    interval = _bootstrap(np.asarray(values, float), np.mean, RESAMPLES, seed).confidence_interval
    return float(interval.low), float(interval.high)


def standard_error(statistic, n, seed=0, resamples=500):
    """The bootstrap's standard error of statistic(rows), with n rows drawn from 0 … n-1; None for n < 2."""
    if n < 2:
        return None
    return float(_bootstrap(np.arange(n), statistic, resamples, seed, vectorized=False).standard_error)


def _bootstrap(data, statistic, resamples, seed, **options):
    # batch: all resamples at once would need as many times the memory of the data.
    options |= {"n_resamples": resamples, "batch": 100, "confidence_level": LEVEL, "method": "percentile"}
    return stats.bootstrap((data,), statistic, rng=np.random.default_rng(seed), **options)


def normal_interval(value, error, lowest=-np.inf):
    """value ± 1.96 standard errors, cut off at `lowest`; None where the error is None or NaN.

    For statistics that are biased on few images. Resamples hold fewer distinct images, so all of them are biased
    more, and the interval between their percentiles need not contain the value.
    """
    if error is None or np.isnan(error):
        return None
    return max(value - WIDTH * error, lowest), value + WIDTH * error


def share_interval(count, n, level=LEVEL):
    """The exact (Clopper-Pearson) interval of a share."""
    return tuple(stats.binomtest(int(count), n).proportion_ci(level, "exact"))


def difference_interval(first, second, level=LEVEL):
    """Two (N,) booleans of the same images -> the interval of the first share minus the second.

    Newcombe's square-and-add (Statistics in Medicine, 1998) of the exact intervals of the two shares in which the
    images differ. An image cannot differ in both ways, so the shares go against each other, and their difference
    varies more than that of independent ones. second: None for a share that is known to be 0.
    """
    n = len(first)
    if second is None:
        return share_interval(first.sum(), n, level)
    more, less = (first & ~second).mean(), (second & ~first).mean()
    more_low, more_high = share_interval((first & ~second).sum(), n, level)
    less_low, less_high = share_interval((second & ~first).sum(), n, level)
    opposed = np.sqrt(more * less / ((1 - more) * (1 - less))) if more * less else 0.0

    def added(a, b):
        return np.sqrt(a**2 + b**2 + 2 * opposed * a * b)

    below, above = added(more - more_low, less_high - less), added(more_high - more, less - less_low)
    return float(more - less - below), float(more - less + above)


def normal_mean_interval(values, level=LEVEL):
    """(N,) numbers -> Student's interval of their mean, exact where they are normal; None for fewer than two."""
    if len(values) < 2:
        return None
    width = stats.t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return float(np.mean(values) - width), float(np.mean(values) + width)


def draw_signs(n, seed=0):
    """Yields (n, 100) of 1 and -1 by chance, RESAMPLES columns in all."""
    rng = np.random.default_rng(seed)
    for _ in range(RESAMPLES // 100):
        yield rng.choice([-1.0, 1.0], (n, 100))


def p_against_largest(values, largest):
    """(K,) statistics, (RESAMPLES,) the largest of all in each resample -> (K,) p, corrected for all K."""
    as_large = RESAMPLES - np.searchsorted(np.sort(largest), values)
    return (1 + as_large) / (1 + RESAMPLES)


def simultaneous_margin(values, seed=0):
    """(N, A) numbers -> by how much at most, with 95 %, any of the A means is off.

    The bootstrap of the largest error. It is one number for all means, so those that hardly vary do not widen it.
    That of few numbers is too small, so it is never less than half of Student's interval of the mean that varies
    most. Infinite for N = 1.
    """
    n, values = len(values), np.asarray(values, float)
    if n < 2:
        return float("inf")
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    largest = np.quantile(np.abs(drawn @ values - values.mean(0)).max(1), LEVEL)
    students = stats.t.ppf((1 + LEVEL) / 2, n - 1) * values.std(0, ddof=1).max() / n**0.5
    return float(max(largest, students))
