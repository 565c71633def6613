"""The paper's printed numbers (Tables I-X) as data, and checks of their arithmetic.

The CSV files in `printed/` hold what is printed, slips included: accuracies in percent, class-wise
numbers as fractions. `dataset`, `backbone`, `mode` and `attack` are spelt as in a `Cell`;
`percent` is the labelled share. The paper's "uninf." and "parasit." are written out.
"""

from functools import cache
from importlib.resources import files

import pandas as pd

SPLITS = 5  # random labelled sets behind each printed mean (III-B)
SCORES = ["precision", "recall", "f1"]
MODES = ["supervised", "semi"]
ATTACKS = ["pixel", "none"]  # the order of the paper's columns
ROW = ["dataset", "percent", "backbone"]


@cache
def read_printed(name: str) -> pd.DataFrame:
    """Read one of `accuracy`, `delta` (Tables I-VI), `classwise`, `classwise_accuracy` (VII-X)."""
    with (files("semisiam.evidence") / "printed" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)


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
