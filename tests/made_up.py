"""Hand-made folders of finished cells, in the format of `semisiam.run.folder`."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from semisiam.cell import Cell

CLASSES = ["cat", "dog"]


def write_cell(folder: Path, accuracy: float, recalibrated: float | None = None, **settings):
    """Write a done cell with a known accuracy (in [0, 1]); returns its folder.

    `metrics=` overrides entries of metrics.json, `name=` the folder's name.
    """
    metrics, name = settings.pop("metrics", {}), settings.pop("name", None)
    recall = settings.pop("recall", (0.8, 0.6))
    cell = Cell.check(settings)
    home = folder / (name or cell.name)
    home.mkdir(parents=True)
    (home / "params.yaml").write_text(yaml.safe_dump(cell.model_dump()))
    metrics = describe(cell, accuracy, recalibrated) | metrics
    (home / "metrics.json").write_text(json.dumps(metrics))
    scores = {"precision": (0.7, 0.7), "recall": recall, "f1": (0.75, 0.65)}
    pd.DataFrame({"class": CLASSES} | scores | {"support": (10, 10)}).to_csv(
        home / "report.csv", index=False
    )
    make_history(cell).to_csv(home / "history.csv", index=False)
    rng = np.random.default_rng(cell.split)
    np.savez(
        home / "features.npz",
        labels=np.array([0, 1] * 10),
        tsne=rng.normal(size=(6, 2)).astype(np.float32),
        tsne_index=np.array([0, 1, 2, 3, 4, 19]),
    )
    (home / "done.json").write_text(json.dumps({"hash": cell.hash, "name": cell.name}))
    return home


def describe(cell: Cell, accuracy: float, recalibrated: float | None) -> dict:
    """Make the contents of metrics.json."""
    recalibrated = accuracy if recalibrated is None else recalibrated
    return {
        "name": cell.name,
        "hash": cell.hash,
        "n_unlabelled": 1000,
        "n_labelled": round(cell.label_fraction * 1000),
        "n_test": 20,
        "n_classes": 2,
        "class_names": CLASSES,
        "n_updates": 100 * cell.epochs,
        "accuracy": accuracy,
        "accuracy_linear_svc": accuracy,
        "accuracy_clean_fit": accuracy,
        "accuracy_recalibrated": recalibrated,
        "training_accuracy": 1.0,
        "bn_initial_share": 0.37,
        "embedding_std": 0.9,
        "collapsed": False,
        "separability": {
            "knn_accuracy": accuracy,
            "silhouette": 0.1,
            "fisher_ratio": 0.5,
            "effective_rank": 12.0,
            "dead_units": 3,
        },
        "notes": ["made up"],
        "seconds": {
            "data": 1.0,
            "model": 2.0,
            "training": 30.0,
            "svm": 1.0,
            "evaluation": 3.0,
            "tsne": 3.0,
            "total": 40.0,
        },
        "seconds_tracing": 8.0,
        "images_per_second": {"training": 100.0, "pipeline": 9000.0},
        "versions": {"python": "3.11.2", "tensorflow": "2.21.0", "semisiam": "0.1.0"},
        "hardware": {"cpu": "Abacus", "cores": 2, "threads": 1, "memory_gib": 8, "gpus": []},
        "revision": "abc",
        "started": "2025-01-01T00:00:00+00:00",
    }


def make_history(cell: Cell) -> pd.DataFrame:
    """Make losses that halve each epoch."""
    epochs = np.arange(1, cell.epochs + 1)
    falling = 2.0 ** -(epochs - 1)
    table = {"epoch": epochs, "loss": falling, "loss_labelled": falling, "accuracy_labelled": 0.5}
    if cell.mode == "semi":
        table |= {"loss": 2 * falling, "loss_unlabelled": falling, "accuracy_unlabelled": 0.5}
    return pd.DataFrame(table | {"learning_rate": 0.001, "seconds": 1.0})
