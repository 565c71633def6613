"""Statistics of differences between ways of training: gains, costs, and how firm they are."""

from collections.abc import Iterable
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
from scipy import optimize, stats

from semisiam.evidence.paper import ATTACKS, MODES, ROW, SPLITS, read_printed
from semisiam.evidence.results import MEAN, by_split, find_mixture, in_order, keep_paired, select

CONFIDENCE = 0.95
POWER = 0.8
SEVERAL = 3  # labelled sets that a conclusion needs to be `shown`


def compare_paired(differences: np.ndarray, *, shared: float = 0.0) -> dict[str, float]:
    """Estimate a mean difference from paired runs, float (n,), in points; NaNs are left out.

    `shared` is held-out over training images, for folds of a cross-validation, which share them:
    the corrected resampled t (Nadeau & Bengio, Machine Learning 52, 2003). Returns n, mean, std,
    low, high and p (see `interval`), detectable (see `smallest_detectable`); NaN where n is too
    small to tell.
    """
    values = pd.Series(differences, dtype=float)
    n, mean, std = int(values.count()), values.mean(), values.std()
    if std < 1e-9:  # all are equal
        std = 0.0
    low, high, p = interval(mean, std * np.sqrt(1 / max(n, 1) + shared), n - 1)
    result = {"n": n, "mean": mean, "std": std, "low": low, "high": high, "p": p}
    result["detectable"] = smallest_detectable(n) * std if std > 0 else np.nan
    return result


def interval(mean: float, error: float, freedom: float) -> tuple[float, float, float]:
    """Give low and high of a mean's 95 % interval, and p of no difference: Student's t, two-sided.

    A standard error of 0 gives an interval of one number, and p is 0, or 1 for a mean of 0.
    """
    if error == 0:
        return mean, mean, float(abs(mean) < 1e-9)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error
    return mean - reach, mean + reach, float(2 * stats.t.sf(abs(mean) / error, freedom))


@cache
def smallest_detectable(n: int) -> float:
    """Find the smallest true mean that a paired t-test on n pairs detects 4 times in 5.

    In standard deviations of the differences: 1.68 for n = 5, at a level of 5 % (two-sided).
    """
    limit = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
    # of the upper tail: the lower one has almost nothing where the power is 0.8
    return optimize.brentq(lambda d: stats.nct.sf(limit, n - 1, d * np.sqrt(n)) - POWER, 0.01, 30)


def compare_summaries(
    weights: np.ndarray, means: np.ndarray, stds: np.ndarray, n: int
) -> dict[str, float]:
    """Estimate a weighted sum of means, float (k,), of n independent runs each.

    `weights` are e.g. +1 for semi and -1 for supervised. Returns n, mean, low, high and p by
    Welch's t with Satterthwaite's degrees of freedom.
    """
    weights, means, stds = (np.asarray(v, dtype=float) for v in (weights, means, stds))
    variances = (weights * stds) ** 2 / n
    error = np.sqrt(variances.sum())
    freedom = error**4 / (variances**2 / (n - 1)).sum() if error > 0 else np.inf
    mean = float(weights @ means)
    low, high, p = interval(mean, error, freedom)
    return {"n": n, "mean": mean, "low": low, "high": high, "p": p}


def weigh_deltas() -> pd.DataFrame:
    """Test each printed Δ by its printed means and spreads: Welch's t for two sets of five runs.

    The runs were paired by split, which the tables do not show: the intervals err on the wide side.
    Returns one row a Δ (36): table, ROW, attack, `delta` (printed), `supervised`, `semi`, their
    `difference`, `agrees` (with Δ, up to rounding), `low`, `high` (points), `p`, `p_holm`.
    """
    keys, printed = [*ROW, "attack"], read_printed("delta")
    wide = read_printed("accuracy").pivot(index=keys, columns="mode", values=["mean", "std"])
    wide = wide.loc[pd.MultiIndex.from_frame(printed[keys])].reset_index(drop=True)
    pairs = zip(wide["mean"][MODES].to_numpy(), wide["std"][MODES].to_numpy(), strict=True)
    tests = pd.DataFrame(compare_summaries([-1, 1], *pair, SPLITS) for pair in pairs)
    table = printed.join(wide["mean"]).assign(difference=tests["mean"].round(6))
    table["agrees"] = (table["difference"] - table["delta"]).abs() <= 0.15
    return table.join(tests[["low", "high", "p"]]).assign(p_holm=correct_holm(tests["p"]))


def correct_holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values, float (N,), for N tests by Holm's step-down method; NaN stays NaN."""
    known = pd.Series(np.asarray(p, dtype=float)).dropna().sort_values()
    steps = known * np.arange(len(known), 0, -1)
    return steps.cummax().clip(upper=1.0).reindex(range(len(p))).to_numpy()


def rate_strength(n: int, p: float, learnt: bool | None = None) -> str:
    """Rate how firm a conclusion is, from n labelled sets and p, corrected for all that is read.

    `untested` if nothing was run or the task was not learnt (`learnt` is False); `shown` if at
    least `SEVERAL` labelled sets tell the difference from zero (p < 0.05); else `suggestive`.
    """
    if n == 0 or learnt is False:
        return "untested"
    return "shown" if n >= SEVERAL and p < 1 - CONFIDENCE else "suggestive"


def compare(
    cells: pd.DataFrame, measure: str = "accuracy", free: pd.Series | None = None
) -> pd.DataFrame:
    """Estimate gains, costs and interactions, paired over splits, as one family of tests.

    A gain is semi - supervised; a cost of the attack is none - pixel; the interaction is the cost
    in semi minus the cost in supervised; a lead is semi, else supervised, without attack, minus one
    of `free` (see `find_references`). Indexed by what (`gain`, `lead`, `cost`, `interaction`), ROW
    and at (a gain's attack, a lead's reference, a cost's mode, else ""): the columns of
    `compare_paired` in points; `published`; `draws` (of the attack's places behind it) and
    `p_holm`, corrected over all rows that have at least `SEVERAL` splits (two agree too easily).
    Where a data set has several combinations of one scale, means over them stand beside, at `MEAN`:
    each split counts once, and only if it has all that another has. Raises `MixtureError`, see
    `select`.
    """
    cells = keep_paired(select(cells), measure)
    values = by_split(cells, measure)
    ours, run = (_subtract(of, free) for of in (values, pd.Series(1.0, values.index)))
    printed = _subtract(read_printed("accuracy").set_index([*ROW, "mode", "attack"])["mean"])
    marked = cells[cells["attack"] == "pixel"]
    draws = dict(marked.groupby(ROW)["attack_draw"].nunique())
    draws |= {(d, *MEAN): n for d, n in marked.groupby("dataset")["attack_draw"].nunique().items()}
    rows = {}
    for what, at in ours:
        for dataset, of in ours[what, at][run[what, at].notna()].groupby("dataset"):
            wide = of.unstack("split")
            theirs = printed.get((what, at), pd.Series(dtype=float)).reindex(wide.index)
            for key, row in wide.iterrows():
                rows[what, *key, at] = compare_paired(row) | {"published": theirs[key]}
            if len(wide) > 1 and not find_mixture(cells[cells["dataset"] == dataset], ["dataset"]):
                mean = compare_paired(wide.dropna(axis="columns").mean())
                rows[what, dataset, *MEAN, at] = mean | {"published": theirs.mean(skipna=False)}
    index = pd.MultiIndex.from_tuples(list(rows), names=["what", *ROW, "at"])
    table = pd.DataFrame(list(rows.values()), index, [*compare_paired([]), "published"])
    counts = {"pixel", *MODES, ""}  # of `at`: what marks have a part in
    table["draws"] = [draws.get(key[1:-1], 0) * (key[-1] in counts) for key in index]
    return in_order(table.assign(p_holm=correct_holm(table["p"].where(table["n"] >= SEVERAL))))


def _subtract(values: pd.Series, free: pd.Series | None = None) -> pd.DataFrame:
    """Subtract modes, attacks, their differences, and references; columns (what, at)."""
    wide = values.unstack(["mode", "attack"]).reindex(columns=list(product(MODES, ATTACKS)))
    gains = {("gain", a): wide["semi", a] - wide["supervised", a] for a in ATTACKS}
    costs = {("cost", m): wide[m, "none"] - wide[m, "pixel"] for m in MODES}
    more = costs["cost", "semi"] - costs["cost", "supervised"]
    leads = {}
    if free is not None:
        siamese = {key[0] for key in values.index if "semi" in key}  # data sets
        best = wide["semi", "none"].where(
            wide.index.get_level_values("dataset").isin(siamese), wide["supervised", "none"]
        )
        sets = wide.index.droplevel("backbone")
        clean = free[free.index.get_level_values("attack") == "none"].droplevel("attack")
        for name, of in clean.groupby("reference", sort=False):
            of = of.droplevel("reference").reindex(sets).to_numpy()
            leads["lead", name] = best - of
    return pd.DataFrame(gains | leads | costs | {("interaction", ""): more})


def compare_modes(cells: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """Pick the gains of `compare`, by ROW and attack."""
    table = compare(cells, measure).query("what == 'gain' and backbone != 'mean'").droplevel("what")
    return table.rename_axis(index={"at": "attack"})


def compare_controls(
    controls: pd.DataFrame, pairs: Iterable[tuple], measure: str = "re-estimated"
) -> pd.DataFrame:
    """Estimate what one setting changes, paired over splits, in one column of `read_controls`.

    `pairs` are names (control, reference), or for an interaction two such pairs. Indexed by
    `control - reference`: the columns of `compare_paired`, in points, and `p_holm` as in `compare`.
    """

    def change(of: str | tuple) -> pd.Series:
        return controls.loc[of, measure] if isinstance(of, str) else change(of[0]) - change(of[1])

    rows = {" - ".join(map(str, pair)): compare_paired(change(pair)) for pair in pairs}
    table = pd.DataFrame(rows, list(compare_paired([]))).T
    return table.assign(p_holm=correct_holm(table["p"].where(table["n"] >= SEVERAL)))
