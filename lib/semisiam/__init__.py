"""Semi-supervised siamese networks with self-supervision, under few labels and under attack.

The library follows the data: `cell` (settings) · `datasets` · `splits` · `attack` · `pretext` ·
`pipeline` · `model` · `training` · `evaluation`; then what surrounds a cell: `records` (its
folder) · `grid` (running many) · `results` · `figures` · `report` · `cli`.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the checkout: notebooks/, params/, outputs/
