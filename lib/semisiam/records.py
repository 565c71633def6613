"""A cell's folder: what a run leaves behind, and whether it is done.

A cell is done if and only if `done.json` is there and carries the hash of the cell's settings. It
is written last; every file is written under a temporary name and renamed.
"""

import json
import os
import platform
import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import yaml

from semisiam import ROOT
from semisiam.cell import Cell, SettingsError

PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "semisiam")


@contextmanager
def replacing(path: Path):
    """Yield a temporary path beside `path` that takes its place when the block succeeds."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")


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

    Raises:
        SettingsError: the folder cannot be written.
    """
    folder = find_folder(cell)
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
        model: the Keras model to keep.
    """
    with replacing(folder / "report.csv") as temporary:
        report.to_csv(temporary, index=False)
    with replacing(folder / "history.csv") as temporary:
        history.to_csv(temporary, index=False)
    with replacing(folder / "features.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **features)
    with replacing(folder / "model.keras") as temporary:
        model.save(temporary)
    with replacing(folder / "split.json") as temporary:
        temporary.write_text(json.dumps(split) + "\n", "utf-8")
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "done.json", {"name": cell.name, "hash": cell.hash})
    (folder / "checkpoint.npz").unlink(missing_ok=True)


def explain_undone(folder: Path, cell: Cell) -> str:
    """Say why the cell in `folder` is not done; empty if it is."""
    try:
        done = json.loads((folder / "done.json").read_text("utf-8"))
    except FileNotFoundError:
        return "not run" if not (folder / "params.yaml").exists() else "not finished"
    except (OSError, ValueError) as error:
        return f"done.json cannot be read: {error}"
    if not isinstance(done, dict) or done.get("hash") != cell.hash:
        return "run with other settings"
    missing = [name for name in ("metrics.json", "history.csv") if not (folder / name).exists()]
    return f"{missing[0]} is missing" if missing else ""


def describe_machine() -> dict[str, Any]:
    """Describe hardware, versions and code revision of this run, for `metrics.json`."""
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
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
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
