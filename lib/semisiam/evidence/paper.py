"""The paper's printed numbers (Tables I-X) as data, slips included, in `printed/*.csv`.

Accuracies are in percent, class-wise numbers are fractions; `percent` is the labelled share. Names
are spelt as in a `Cell`; the paper's "uninf." and "parasit." are written out.
"""

from functools import cache
from pathlib import Path

import pandas as pd

SPLITS = 5  # random labelled sets behind each printed mean (III-B)
SCORES = ["precision", "recall", "f1"]
MODES = ["supervised", "semi"]
ATTACKS = ["pixel", "none"]  # the order of the paper's columns
ROW = ["dataset", "percent", "backbone"]


@cache
def read_printed(name: str) -> pd.DataFrame:
    """Read one of `accuracy`, `delta` (Tables I-VI), `classwise`, `classwise_accuracy` (VII-X)."""
    return pd.read_csv(Path(__file__).parent / "printed" / f"{name}.csv", keep_default_na=False)
