"""Semi-supervised siamese networks with self-supervision, under few labels and under attack.

The library follows the data, one module a stage, in this order:

- `cell`: settings of a run and of a study
- `files`, `draws`, `sources`, `prepared`, `datasets`: raw files to uint8 arrays of one size
- `splits`, `attack`, `defence`, `pretext`: which images are labelled, their marks, the rotations
- `pipeline`, `model`, `training`: batches, encoder and networks, the loss over the epochs
- `evaluation`: the linear SVM and what else is measured of an embedding

Then what surrounds a run:

- `records`, `checkpoint`: what a cell's folder holds, and how a run that was cut off goes on
- `atomic`, `lock`: files that are whole or not there, and who works on a cell
- `worker`, `child`: one cell in a process of its own, watched
- `grid`, `cluster`, `display`: many cells here or on Dask, and what the terminal shows of them
- `published`, `compare`: the paper's printed numbers, the statistics of a difference
- `results`, `tables`, `claims`, `figures`, `sections`, `report`: cells to evidence
- `audit`, `own_images`, `embed`: controls in one process, one's own folder of images
- `cli`: the command `semisiam`
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when tensorflow is imported

ROOT = Path(__file__).resolve().parents[2]  # the checkout: notebooks/, params/, outputs/
