"""Semi-supervised siamese networks with self-supervision, under few labels and under attack.

The library follows the data: `cell` (settings) · `datasets` · `splits` · `attack` · `pretext` ·
`pipeline` · `model` · `training` · `evaluation`; then what surrounds a cell: `records` (its
folder) · `grid` (running many) · `results` · `figures` · `report` · `cli`.
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when tensorflow is imported

ROOT = Path(__file__).resolve().parents[2]  # the checkout: notebooks/, params/, outputs/
