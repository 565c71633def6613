"""A cell's folder: what a run leaves behind, and whether it is done.

A cell is done if and only if `done.json` is there, carries the hash of the cell's settings, and the
files it lists are as they were. It is written last. Every file is written under a temporary name
and renamed, but for `cell.ipynb`, which papermill keeps up to date, and its `log.txt`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import yaml

from semisiam import ROOT
from semisiam.atomic import read_json, replacing, write_json
from semisiam.cell import NOT_RESULTS, RESULTS_VERSION, Cell, SettingsError
from semisiam.run.lock import hold_as_kernel

if TYPE_CHECKING:  # pandas takes half a second to import
    import pandas as pd

PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "semisiam")
RESULTS = ("metrics.json", "report.csv", "history.csv", "features.npz", "split.json", "model.keras")
NEEDED = ("metrics.json", "history.csv")
OTHER_CODE = "run by other code, or its params.yaml was changed"
SMALL = 2**16  # bytes; files up to this size are read whenever a cell is checked


class Stopwatch:
    """Seconds of each stage of a run: `lap(stage)` adds the time since the last lap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to `stage`, and note the total."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self.seconds["total"] = now - self._started
        self._last = now


def find_folder(cell: Cell) -> Path:
    """Where the notebook that runs `cell` keeps its results.

    `output_dir` if set (the grid sets it); else beside the executed notebook if papermill was
    called by hand, which does not tell the notebook its output path, though its command line does;
    else `outputs/one` of the checkout.
    """
    if cell.output_dir:
        return Path(cell.output_dir)
    parent = psutil.Process(os.getppid())
    words = parent.cmdline()
    notebooks = [word for word in words if word.endswith(".ipynb")]
    if len(notebooks) == 2 and any("papermill" in word for word in words):
        return (Path(parent.cwd()) / notebooks[1]).parent
    return ROOT / "outputs" / "one"


def open_folder(cell: Cell) -> Path:
    """Make the cell's folder ready: whatever was there no longer counts as done.

    The folder stays locked until this process ends.

    Raises:
        SettingsError: the folder cannot be written, or another process works there.
    """
    folder = find_folder(cell)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        hold_as_kernel(folder)
        (folder / "done.json").unlink(missing_ok=True)
        with replacing(folder / "params.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(cell.model_dump(), sort_keys=False), "utf-8")
    except OSError as error:
        raise SettingsError(
            f"output_dir: cannot write to {folder}: {error.strerror}; choose another folder"
        ) from None
    return folder


def close_folder(
    folder: Path,
    cell: Cell,
    *,
    metrics: dict[str, Any],
    split: dict[str, Any],
    report: pd.DataFrame,
    history: pd.DataFrame,
    features: dict[str, np.ndarray],
    model: Any,
) -> None:
    """Write the results of a cell, `done.json` last.

    Args:
        folder: from `open_folder`.
        cell: the settings.
        metrics: what the cell measured, plain values.
        split: the labelled set, from `splits.describe_split`.
        report: class-wise table, from `evaluation.report_classes`.
        history: one row an epoch, from `training.train`.
        features: arrays to keep, e.g. embeddings float32 (N_t, 128) and labels int64 (N_t,).
        model: the Keras model to keep, if the settings say so.
    """
    with replacing(folder / "report.csv") as temporary:
        report.to_csv(temporary, index=False)
    with replacing(folder / "history.csv") as temporary:
        history.to_csv(temporary, index=False)
    with replacing(folder / "features.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **features)
    (folder / "model.keras").unlink(missing_ok=True)  # of a run that kept it
    if cell.keep_model:
        with replacing(folder / "model.keras") as temporary:
            model.save(temporary)
    with replacing(folder / "split.json") as temporary:
        temporary.write_text(json.dumps(split) + "\n", "utf-8")
    write_json(folder / "metrics.json", metrics)
    write_done(folder, cell)


def write_done(folder: Path, cell: Cell) -> None:
    """Say that the cell is done, and list the results that this holds for."""
    files = {name: _describe_file(folder / name) for name in RESULTS if (folder / name).exists()}
    done = {"name": cell.name, "hash": cell.hash, "results_version": RESULTS_VERSION}
    write_json(folder / "done.json", done | {"files": files})
    for name in ("checkpoint.npz", "progress.json"):
        (folder / name).unlink(missing_ok=True)


def write_progress(folder: Path, cell: Cell, row: dict[str, Any], n_images: int) -> None:
    """Say how far training is, for `read_progress`.

    Args:
        folder: from `open_folder`.
        cell: the settings.
        row: the epoch that ended, from `training.train`.
        n_images: images that an epoch shows to the network.
    """
    progress = {
        "hash": cell.hash,
        "epoch": row["epoch"],
        "epochs": cell.epochs,
        "loss": row["loss"],
        "seconds": row["seconds"],
        "images_per_second": n_images / row["seconds"],
    }
    write_json(folder / "progress.json", progress)


def read_progress(folder: Path, cell: Cell) -> dict[str, Any]:
    """Read the last finished epoch of a cell that is not done; empty before the first."""
    progress = read_json(folder / "progress.json")
    return progress if progress.get("hash") == cell.hash else {}


def explain_undone(folder: Path, cell: Cell, *, thorough: bool = False) -> str:
    """Say why the cell in `folder` is not done; empty if it is.

    Files up to 64 KiB are compared by sha256, larger ones by size, or by both if `thorough`.
    """
    try:
        done = json.loads((folder / "done.json").read_text("utf-8"))
    except FileNotFoundError:
        return "not run" if not (folder / "params.yaml").exists() else "not finished"
    except (OSError, ValueError) as error:
        return f"done.json cannot be read: {error}"
    if not isinstance(done, dict) or done.get("hash") != cell.hash:
        return _explain_stale(folder, cell, done if isinstance(done, dict) else {})
    return _find_damage(folder, done.get("files", {}), thorough)


def _explain_stale(folder: Path, cell: Cell, done: dict[str, Any]) -> str:
    if (ran := done.get("results_version", RESULTS_VERSION)) != RESULTS_VERSION:
        return f"run by code of results version {ran}, now {RESULTS_VERSION}"
    try:
        old = dict(yaml.safe_load((folder / "params.yaml").read_text("utf-8")))
    except (OSError, ValueError, TypeError, yaml.YAMLError):
        return "run with other settings, which cannot be read any more"
    now = cell.model_dump(exclude=NOT_RESULTS)
    before = {name: old.get(name, Cell.model_fields[name].default) for name in now}
    changed = [f"{name} {before[name]} → {now[name]}" for name in now if before[name] != now[name]]
    return "run with other settings: " + ", ".join(changed) if changed else OTHER_CODE


def _find_damage(folder: Path, files: dict[str, Any], thorough: bool) -> str:
    for name in dict.fromkeys((*NEEDED, *files)):
        try:
            size = (folder / name).stat().st_size
        except OSError:
            return f"{name} is missing"
        if name in files and size != files[name]["bytes"]:
            return f"{name} is damaged: {size} bytes, {files[name]['bytes']} when it was written"
        read = name in files and (thorough or size <= SMALL)
        if read and _describe_file(folder / name) != files[name]:
            return f"{name} is damaged: it was changed after it was written"
    return ""


def _describe_file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def describe_machine() -> dict[str, Any]:
    """Describe hardware, versions and code revision, for `metrics.json`.

    To be called as a run starts: the checkout may change while it computes.
    """
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS") or os.environ.get("OMP_NUM_THREADS")
    return {
        "hardware": {
            "cpu": _cpu_name(),
            "cores": psutil.cpu_count(),
            "threads": int(threads or psutil.cpu_count()),
            "memory_gib": round(psutil.virtual_memory().total / 2**30),
        },
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "revision": describe_revision(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def describe_revision() -> str:
    """The checkout's git commit, `+changes` if tracked files differ, or `unknown`."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
