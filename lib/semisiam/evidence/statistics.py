"""Statistics of a difference between two ways of training: plain arrays in, plain numbers out.

Every standard deviation in this project is the sample one (ddof=1), as in the paper's own tables
(see `paper.compare_classwise`).
"""

from functools import cache

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
POWER = 0.8


def compare_paired(differences: np.ndarray) -> dict[str, float]:
    """Estimate a mean difference from paired runs, one difference a split.

    Args:
        differences: float (n,), e.g. accuracy of semi minus supervised on each split's labelled
            set, in points. NaNs are left out.

    Returns:
        n; mean; std (sample); low and high (95 % interval of the mean, Student's t with n - 1
        degrees of freedom); p (two-sided paired t-test of no difference); effect (Cohen's d_z,
        mean / std); detectable (see `smallest_detectable`). NaN where n is too small to tell.
        Where all differences are equal the interval is that one number, and p is 0, or 1 if
        they are all 0.
    """
    differences = np.asarray(differences, dtype=float)
    differences = differences[~np.isnan(differences)]
    n = len(differences)
    mean = differences.mean() if n else np.nan
    result = {"n": n, "mean": mean} | dict.fromkeys(
        ("std", "low", "high", "p", "effect", "detectable"), np.nan
    )
    if n < 2:
        return result
    std = differences.std(ddof=1)
    if std < 1e-9:
        return result | {"std": 0.0, "low": mean, "high": mean, "p": float(abs(mean) < 1e-9)}
    low, high, p = interval(mean, std / np.sqrt(n), n - 1)
    return result | {
        "std": std,
        "low": low,
        "high": high,
        "p": p,
        "effect": mean / std,
        "detectable": smallest_detectable(n) * std,
    }


def interval(mean: float, error: float, freedom: float) -> tuple[float, float, float]:
    """95 % interval of an estimate with its standard error, and the p-value of no difference.

    Returns:
        low, high and p (two-sided), by Student's t with `freedom` degrees of freedom. A standard
        error of 0 gives an interval of one number.
    """
    if error == 0:
        return mean, mean, float(mean == 0)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error
    return mean - reach, mean + reach, float(2 * stats.t.sf(abs(mean) / error, freedom))


@cache
def smallest_detectable(n: int) -> float:
    """Smallest true mean difference that a paired t-test on n pairs finds 4 times in 5.

    Returns:
        In standard deviations of the differences: 1.68 for n = 5, at a level of 5 % (two-sided)
        and a power of 80 %.
    """
    limit = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
    shares = (np.arange(5000) + 0.5) / 5000  # the estimated std, relative to the true one
    spread = np.sqrt(stats.chi2.ppf(shares, n - 1) / (n - 1))

    def missing_power(d):
        shift = d * np.sqrt(n)
        missed = stats.norm.cdf(limit * spread - shift) - stats.norm.cdf(-limit * spread - shift)
        return 1 - missed.mean() - POWER

    return float(optimize.brentq(missing_power, 0.01, 100))


def compare_summaries(
    weights: np.ndarray, means: np.ndarray, stds: np.ndarray, n: int
) -> dict[str, float]:
    """Estimate a weighted sum of independent means from printed means and standard deviations.

    Args:
        weights: float (k,), e.g. +1 for semi and -1 for supervised.
        means: float (k,).
        stds: float (k,), sample standard deviations of n runs each.
        n: runs behind every mean.

    Returns:
        n, mean, low, high and p by Welch's t with Satterthwaite's degrees of freedom.
    """
    weights, means, stds = (np.asarray(v, dtype=float) for v in (weights, means, stds))
    variances = (weights * stds) ** 2 / n
    error = np.sqrt(variances.sum())
    freedom = error**4 / (variances**2 / (n - 1)).sum() if error > 0 else np.inf
    mean = float(weights @ means)
    low, high, p = interval(mean, error, freedom)
    return {"n": n, "mean": mean, "low": low, "high": high, "p": p}


def correct_holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values, float (N,), for N tests by Holm's step-down method; NaN stays NaN."""
    p = np.asarray(p, dtype=float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    corrected = np.full(len(p), np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
