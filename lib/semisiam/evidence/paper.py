"""The paper's printed numbers (Tables I-X) as data, slips included, in `printed/*.csv`.

Accuracies are in percent, class-wise numbers are fractions; `percent` is the labelled share. Names
are spelt as in a `Cell`; the paper's "uninf." and "parasit." are written out.
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
