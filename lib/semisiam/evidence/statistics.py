"""Statistics of differences between ways of training: gains, costs, and how firm they are.

Every standard deviation in this project is the sample one (ddof=1), as in the paper's own tables.
"""

from collections.abc import Iterable
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
from scipy import optimize, stats

from semisiam.evidence.paper import ATTACKS, MODES, ROW, SPLITS, compare_deltas, read_printed
from semisiam.evidence.results import (
    MEAN,
    MixtureError,
    by_split,
    check_scale,
    in_order,
    read_percent,
    select,
)

CONFIDENCE = 0.95
POWER = 0.8
SEVERAL = 3  # labelled sets that a conclusion needs to be `shown`
SUPPORTED, NOT_SUPPORTED, NOT_ENOUGH = "supported", "not supported", "not enough runs"


def compare_paired(differences: np.ndarray, *, shared: float = 0.0) -> dict[str, float]:
    """Estimate a mean difference from paired runs, one difference a split.

    Args:
        differences: float (n,), e.g. accuracy of semi minus supervised on each split's labelled
            set, in points. NaNs are left out.
        shared: for the folds of a cross-validation, which share training images, the number of
            held-out over training images: the corrected resampled t (Nadeau & Bengio, Machine
            Learning 52, 2003). 0 for independent labelled sets.

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
    low, high, p = interval(mean, std * np.sqrt(1 / n + shared), n - 1)
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


def judge(estimates: list[dict[str, float]]) -> str:
    """Judge a claim by the 95 % intervals of the differences that must be positive.

    Args:
        estimates: each with low, high and n, as from `compare_paired`.

    Returns:
        `supported` if every interval lies above 0; `not supported` if one lies below 0, or none
        does but one reaches 0 with at least the paper's five splits; else `not enough runs`.
    """
    if any(estimate["high"] < 0 for estimate in estimates):
        return NOT_SUPPORTED
    if any(np.isnan(estimate["low"]) for estimate in estimates):
        return NOT_ENOUGH
    short = [estimate for estimate in estimates if estimate["low"] <= 0]
    if not short:
        return SUPPORTED
    return NOT_SUPPORTED if all(e["n"] >= SPLITS for e in short) else NOT_ENOUGH


def rate_strength(n: int, p: float, learnt: bool | None = None) -> str:
    """Rate how firm a conclusion is.

    Args:
        n: labelled sets behind it.
        p: of no difference, corrected for all the differences that are read together.
        learnt: from `results.is_learnt`, where the conclusion is on a task.

    Returns:
        `untested` if nothing was run or the task was not learnt; `shown` if at least `SEVERAL`
        labelled sets tell the difference from zero (p below 0.05); `suggestive` otherwise.
    """
    if n == 0 or learnt is False:
        return "untested"
    return "shown" if n >= SEVERAL and p < 1 - CONFIDENCE else "suggestive"


def compare(cells: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """Estimate gains, costs and interactions, paired over splits, as one family of tests.

    A gain is semi - supervised; a cost of the attack is none - pixel; the interaction is the cost
    in semi minus the cost in supervised.

    Returns:
        Indexed by what (`gain`, `cost`, `interaction`), dataset, percent, backbone and at (the
        attack of a gain, the mode of a cost, else ""): the columns of `statistics.compare_paired`
        in points; `published`; `draws` (of the attack's places behind it) and `p_holm`, corrected
        over all rows. Where a data set has several combinations of one scale, means over them stand
        beside, at `MEAN`: each split counts once, and only if it has all that another has.

    Raises:
        MixtureError: see `check_scale`.
    """
    cells = select(cells)
    ours = by_split(cells, measure)
    run = _subtract(pd.Series(1.0, ours.index)).notna()
    ours, printed = (
        _subtract(ours),
        _subtract(read_printed("accuracy").set_index([*ROW, "mode", "attack"])["mean"]),
    )
    rows = {}
    for what, at in ours:
        for dataset, values in ours[what, at][run[what, at]].groupby("dataset"):
            wide = values.unstack("split")
            theirs = printed[what, at].reindex(wide.index)
            for key, row in wide.iterrows():
                rows[what, *key, at] = compare_paired(row) | {"published": theirs[key]}
            if len(wide) > 1 and _is_one_scale(cells[cells["dataset"] == dataset]):
                mean = compare_paired(wide.dropna(axis="columns").mean())
                rows[what, dataset, *MEAN, at] = mean | {"published": theirs.mean(skipna=False)}
    index = pd.MultiIndex.from_tuples(rows, names=["what", *ROW, "at"]) if rows else _NO_ROW
    columns = [*compare_paired([]), "published"]
    table = pd.DataFrame(list(rows.values()), index, columns)
    table["draws"] = [_count_draws(cells, *key) for key in index]
    return in_order(table.assign(p_holm=correct_holm(table["p"])))


_NO_ROW = pd.MultiIndex.from_arrays([[]] * 5, names=["what", *ROW, "at"])


def _subtract(values: pd.Series) -> pd.DataFrame:
    """Subtract modes, attacks, and their differences; columns (what, at)."""
    wide = values.unstack(["mode", "attack"]).reindex(columns=list(product(MODES, ATTACKS)))
    gains = {("gain", a): wide["semi", a] - wide["supervised", a] for a in ATTACKS}
    costs = {("cost", m): wide[m, "none"] - wide[m, "pixel"] for m in MODES}
    more = costs["cost", "semi"] - costs["cost", "supervised"]
    return pd.DataFrame(gains | costs | {("interaction", ""): more})


def _is_one_scale(cells: pd.DataFrame) -> bool:
    try:
        check_scale(cells, within=["dataset"])
    except MixtureError:
        return False
    return True


def _count_draws(cells: pd.DataFrame, what: str, dataset: str, percent: float, *rest: str) -> int:
    backbone, at = rest
    of = cells[(cells["attack"] == "pixel") & (cells["dataset"] == dataset)]
    if percent != MEAN[0]:
        of = of[(of["percent"] == percent) & (of["backbone"] == backbone)]
    draws = [name for name in ("seed", "attack_draw") if name in of]
    return 0 if (what, at) == ("gain", "none") else len(of[draws].drop_duplicates())


def compare_modes(cells: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """Pick the gains of `compare`, one a combination.

    Returns:
        Indexed by dataset, percent, backbone, attack: the columns of `compare` and `difference`
        (from the published Δ).
    """
    table = compare(cells, measure).query("what == 'gain' and backbone != 'mean'").droplevel("what")
    table = table.rename_axis(index={"at": "attack"})
    return table.assign(difference=table["mean"] - table["published"])


def compare_readings(cells: pd.DataFrame) -> pd.DataFrame:
    """Count where re-estimation lowers: it is not neutral where labels are few.

    Returns:
        Indexed by dataset, percent, backbone, mode: n (cells that did not collapse), `lower` (of
        these) and mean (re-estimated - as trained, points).
    """
    cells = select(cells)
    change = read_percent(cells, "accuracy_recalibrated") - read_percent(cells, "accuracy")
    groups = cells.assign(change=change).dropna(subset="change").groupby([*ROW, "mode"])["change"]
    columns = {"n": "count", "lower": lambda values: (values < 0).sum(), "mean": "mean"}
    return in_order(groups.agg(**columns))


def compare_controls(
    controls: pd.DataFrame, pairs: Iterable[tuple[str, str]], measure: str = "re-estimated"
) -> pd.DataFrame:
    """Estimate what one setting changes, paired over the splits of both controls.

    Args:
        controls: from `read_controls`.
        pairs: (control, reference), each a control's name.
        measure: a column of `controls`.

    Returns:
        Indexed by `control - reference`: the columns of `statistics.compare_paired`, in points, and
        `p_holm`, corrected over these pairs.
    """
    values = controls[measure]
    rows = {
        f"{control} - {reference}": compare_paired(values[control] - values[reference])
        for control, reference in pairs
    }
    table = pd.DataFrame(rows).T
    return table.assign(p_holm=correct_holm(table["p"]))


def weigh_deltas() -> pd.DataFrame:
    """Test each printed Δ by its printed spreads: Welch's t for two sets of five runs.

    The printed standard deviations are sample ones (see the notebook of results). The runs were
    paired by split, which the tables do not show, so the intervals err on the wide side.

    Returns:
        `compare_deltas()` with `low`, `high` (95 % interval, points), `p` and `p_holm`.
    """
    std = read_printed("accuracy").pivot(index=[*ROW, "attack"], columns="mode", values="std")
    both = compare_deltas().join(std.add_suffix("_std"), on=[*ROW, "attack"])
    means, stds = both[MODES].to_numpy(), both[["supervised_std", "semi_std"]].to_numpy()
    tests = pd.DataFrame(
        compare_summaries([-1, 1], m, s, SPLITS) for m, s in zip(means, stds, strict=True)
    )
    p_holm = correct_holm(tests["p"])
    return both.join(tests[["low", "high", "p"]]).assign(p_holm=p_holm)
