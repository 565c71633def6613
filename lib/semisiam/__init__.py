"""Semi-supervised siamese networks with self-supervision, under few labels and under attack.

Two ground stones, four wings, and what uses them:

- `cell`: the settings of one run, and of a study; `atomic`: files whole or not there
- `data`: official files, or one's own, to uint8 arrays
- `method`: the paper, a module a stage; with `cell` an hour's reading, and the place to begin
- `run`: cells as processes, on this machine or on a cluster
- `evidence`: cells to tables, figures and one page, beside the paper's numbers
- `embed`, `cli`: new images through a finished cell; the command `semisiam`
"""

import os
import platform
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when tensorflow is imported
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # memory as needed, not all at once
if platform.machine() == "x86_64":  # TensorFlow leaves it off without VNNI or AMX: half as fast
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ["KERAS_BACKEND"] = "tensorflow"  # read when keras is imported, whatever keras.json says

ROOT = Path(__file__).resolve().parents[2]  # the checkout: notebooks/, params/, outputs/
