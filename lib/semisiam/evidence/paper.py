"""The paper's printed numbers (Tables I-X) as data, and checks of their arithmetic.

The CSV files in `printed/` hold what is printed, slips included: accuracies in percent, class-wise
numbers as fractions. `dataset`, `backbone`, `mode` and `attack` are spelt as in a `Cell`;
`percent` is the labelled share. The paper's "uninf." and "parasit." are written out.
"""

from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from semisiam.evidence.statistics import compare_summaries, correct_holm

SPLITS = 5  # random labelled sets behind each printed mean (III-B)
SCORES = ["precision", "recall", "f1"]
MODES = ["supervised", "semi"]
ATTACKS = ["pixel", "none"]  # the order of the paper's columns
ROW = ["dataset", "percent", "backbone"]
CLASSWISE_CELL = ["table", *ROW, "attack", "mode"]


@cache
def read_printed(name: str) -> pd.DataFrame:
    """Read one of `accuracy`, `delta` (Tables I-VI), `classwise`, `classwise_accuracy` (VII-X)."""
    with (files("semisiam.evidence") / "printed" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def compare_deltas() -> pd.DataFrame:
    """Set each printed Δ beside the difference of its two printed means, in points.

    Returns:
        One row a Δ (36): table, cell, attack, `supervised`, `semi`, `delta` (printed),
        `difference` (semi - supervised) and `agrees`: equal up to the rounding of three numbers.
    """
    means = read_printed("accuracy").pivot(index=[*ROW, "attack"], columns="mode", values="mean")
    both = read_printed("delta").join(means, on=[*ROW, "attack"])
    difference = (both["semi"] - both["supervised"]).round(6)
    agrees = (difference - both["delta"]).abs() <= 0.15
    return both.assign(difference=difference, agrees=agrees)


def weigh_deltas() -> pd.DataFrame:
    """Test each printed Δ by its printed spreads: Welch's t for two sets of five runs.

    The printed standard deviations are taken as sample ones (see `compare_classwise`). The runs
    were paired by split, which the tables do not show, so the intervals err on the wide side.

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


def compare_classwise() -> pd.DataFrame:
    """Set the printed mean and std over classes beside those of the printed class rows.

    Returns:
        One row a printed mean ± std (24): the cell, `score`, `printed_mean`, `mean`,
        `printed_std`, `sample_std` (ddof=1) and `population_std` (ddof=0).
    """
    printed = read_printed("classwise").melt(
        [*CLASSWISE_CELL, "class"], SCORES, var_name="score", value_name="value"
    )
    summary = printed["class"].isin(["mean", "std"])
    groups = printed[~summary].groupby([*CLASSWISE_CELL, "score"], sort=False)["value"]
    computed = pd.DataFrame(
        {
            "mean": groups.mean(),
            "sample_std": groups.std(ddof=1),
            "population_std": groups.std(ddof=0),
        }
    )
    wide = printed[summary].pivot(index=[*CLASSWISE_CELL, "score"], columns="class", values="value")
    return computed.join(wide.add_prefix("printed_")).round(6).reset_index()


def truncate(values: pd.Series, digits: int = 2) -> pd.Series:
    """Cut off, not round, after `digits` decimals: 0.638 becomes 0.63."""
    return np.floor((values * 10**digits).round(6)) / 10**digits
