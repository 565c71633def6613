"""Resume inside a cell: the state of training after its last finished epoch, in one file."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from semisiam.atomic import replacing


def save_checkpoint(
    path: Path, network: keras.Model, rows: list[dict[str, Any]], settings: str
) -> None:
    """Write weights, batch statistics, optimiser and history atomically.

    Args:
        path: the .npz file.
        network: compiled and trained for `len(rows)` epochs.
        rows: the history so far, one row an epoch.
        settings: hash of the settings; a checkpoint of others is not restored.
    """
    arrays = {str(i): variable.numpy() for i, variable in enumerate(_variables(network))}
    about = json.dumps({"settings": settings, "rows": rows})
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, about=about, **arrays)


def restore_checkpoint(path: Path, network: keras.Model, settings: str) -> list[dict[str, Any]]:
    """Put a network back into the state of a checkpoint.

    Returns:
        The history up to there; empty if there is no checkpoint of these settings that can be
        read, and then the network is as it was.
    """
    variables = _variables(network)
    try:
        with np.load(path) as file:
            about = json.loads(str(file["about"]))
            arrays = [file[str(i)] for i in range(len(variables))]
        shapes_fit = [a.shape for a in arrays] == [tuple(v.shape) for v in variables]
        if about["settings"] != settings or not shapes_fit:
            return []
        rows = list(about["rows"])
    except Exception:  # whatever a damaged file raises, training then starts anew
        return []
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return rows


def _variables(network: keras.Model) -> list[keras.Variable]:
    network.optimizer.build(network.trainable_variables)
    return [*network.variables, *network.optimizer.variables]
