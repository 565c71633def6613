"""The cells of a study: which there are, where they stand, and running them on one machine."""

import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import yaml

from semisiam.atomic import read_json, replacing
from semisiam.cell import Cell, SettingsError, Study
from semisiam.run.folder import explain_undone, read_progress
from semisiam.run.lock import find_holder
from semisiam.run.worker import Options, Status, count_cpus, run_cell

COLLAPSED = "collapsed: the embedding is all but constant, see accuracy_recalibrated"
KIND = ("dataset", "backbone", "image_size", "mode")  # what the time and size of a cell go by
MODEL_MB = {"small_cnn": 6, "mobilenet_v2": 32, "inception_v3": 123, "resnet50_v2": 130}
BESIDE_MODEL_MB = 8  # notebook, embeddings and tables of a cell

OnChange = Callable[[dict[str, Status]], None]


class Future(Protocol):
    """What the futures of threads and of Dask have in common."""

    def done(self) -> bool:
        """Say whether there is a result."""

    def result(self) -> Any:
        """Return it."""


def choose_cells(study: Study, only: str = "") -> dict[str, Cell]:
    """Choose cells by their settings.

    Args:
        study: the grid.
        only: `name=value[,value...]`, several parted by spaces; "" chooses all.

    Raises:
        SettingsError: a name that no cell has, a value that no cell has, or nothing chosen.
    """
    cells = study.cells()
    for word in only.split():
        name, _, values = word.partition("=")
        if name not in Cell.model_fields or not values:
            named = ", ".join(study.axes) or "the study has no axes"
            raise SettingsError(f"--only {word}: give SETTING=VALUE[,VALUE], e.g. of {named}")
        there = list(dict.fromkeys(getattr(cell, name) for cell in study.cells().values()))
        wanted = [yaml.safe_load(value) for value in values.split(",")]
        for value in wanted:
            if value not in there and str(value) not in map(str, there):
                listed = ", ".join(map(str, there))
                raise SettingsError(f"--only {word}: no cell has {name} {value}, but {listed}")
        texts = set(map(str, wanted))
        cells = {k: cell for k, cell in cells.items() if str(getattr(cell, name)) in texts}
    if not cells:
        raise SettingsError(f"--only {only}: no cell has all of this")
    return cells


def choose_index(cells: dict[str, Cell], index: int) -> dict[str, Cell]:
    """Choose one cell by its place, from 0; raises `SettingsError` if there are not so many."""
    if index >= len(cells):
        raise SettingsError(f"--index {index}: there are {len(cells)} cells, 0 to {len(cells) - 1}")
    name = list(cells)[index]
    return {name: cells[name]}


def read_status(
    study: Study, outputs: Path, cells: dict[str, Cell] | None = None
) -> dict[str, Status]:
    """Read from disk where each cell of a study (or those given) stands, by name."""
    folder = outputs / study.name
    cells = study.cells() if cells is None else cells
    return {name: read_cell_status(folder / name, cell) for name, cell in cells.items()}


def read_cell_status(folder: Path, cell: Cell) -> Status:
    """Read from disk where one cell stands."""
    reason = explain_undone(folder, cell)
    if not reason:
        metrics = read_json(folder / "metrics.json")
        seconds = (metrics.get("seconds") or {}).get("total", 0.0)
        return Status("done", COLLAPSED if metrics.get("collapsed") else "", seconds)
    progress = read_progress(folder, cell)
    if holder := find_holder(folder):
        return Status("running", f"on {holder}", progress=progress)
    failed = read_json(folder / "failed.json")
    if failed.get("hash") == cell.hash:
        return Status("failed", failed["reason"], failed["seconds"], progress)
    if progress:
        reason = f"cut off after epoch {progress['epoch']} of {progress['epochs']}"
    return Status("waiting", reason, progress=progress)


def run_study(
    study: Study,
    outputs: Path,
    *,
    workers: int,
    on_change: OnChange,
    cells: dict[str, Cell] | None = None,
    options: Options | None = None,
) -> dict[str, Status]:
    """Run the cells of a study that are not done, and carry on past those that fail.

    Args:
        study: the grid.
        outputs: where the study's folder goes.
        workers: cells side by side; where there are GPUs, at most one a GPU.
        on_change: called twice a second with the status of every cell.
        cells: those to run, by name; None for all.
        options: how cells are run; threads are shared out if it does not say how many.

    Returns:
        The status of every cell at the end.

    Raises:
        SettingsError: the study's folder cannot be written.
    """
    folder = make_folder(outputs / study.name)
    cells = study.cells() if cells is None else cells
    gpus = list_gpus()
    workers = min(workers, len(gpus)) if gpus else workers
    options = options or Options()
    options = replace(options, threads=options.threads or max(1, count_cpus() // workers))
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for gpu in gpus or [""] * workers:
        free.put(gpu)
    started: set[str] = set()
    stop = threading.Event()

    def run(name: str) -> Status:
        gpu = free.get()
        started.add(name)
        try:
            return run_cell(cells[name], folder / name, options, gpu=gpu, stopped=stop.is_set)
        finally:
            free.put(gpu)
            started.discard(name)

    def look(name: str) -> Status:
        if name in started:
            return Status("running", progress=read_progress(folder / name, cells[name]))
        return Status("waiting")

    pool = ThreadPoolExecutor(workers)
    try:
        status = read_status(study, outputs, cells)
        return follow(
            status,
            submit=lambda name: pool.submit(run, name),
            look=look,
            look_elsewhere=lambda name: read_cell_status(folder / name, cells[name]),
            on_change=on_change,
        )
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def follow(
    status: dict[str, Status],
    *,
    submit: Callable[[str], Future],
    look: Callable[[str], Status],
    look_elsewhere: Callable[[str], Status],
    on_change: OnChange,
) -> dict[str, Status]:
    """Submit the cells that are not done, and follow them until all have a result.

    A cell that somebody else works on is waited for, and submitted again if it is left undone.

    Args:
        status: of each cell by name, as the grid finds it.
        submit: starts a cell or puts it in the queue; its future's result is a `Status`.
        look: status of a submitted cell.
        look_elsewhere: status of a cell that somebody else works on.
        on_change: called twice a second with the status of every cell.
    """
    status = dict(status)
    ours = {name: submit(name) for name, cell in status.items() if cell.state != "done"}
    elsewhere: set[str] = set()
    while True:
        for name in [name for name, future in ours.items() if future.done()]:
            status[name] = ours.pop(name).result()
            if status[name].state == "running":
                elsewhere.add(name)
        status |= {name: look(name) for name in ours}
        for name in list(elsewhere):
            status[name] = look_elsewhere(name)
            if status[name].state != "running":
                elsewhere.discard(name)
                if status[name].state != "done":
                    ours[name] = submit(name)
        on_change(status)
        if not (ours or elsewhere):
            return status
        time.sleep(0.5)


def list_gpus() -> list[str]:
    """List the GPUs that cells may use, as `CUDA_VISIBLE_DEVICES` names them.

    Those of `CUDA_VISIBLE_DEVICES` if it is set, else those that `nvidia-smi -L` lists.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        command = ["nvidia-smi", "-L"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in told.splitlines()))]


def estimate_seconds(cells: dict[str, Cell], status: dict[str, Status]) -> dict[str, float]:
    """Estimate how long each cell takes that is neither done nor failed.

    A running cell goes by its last epoch; others by the mean of the done cells of their kind, or of
    all done cells. Cells of which nothing can be said are left out.
    """
    took: dict[tuple, list[float]] = {}
    for name, cell in cells.items():
        if status[name].state == "done" and status[name].seconds:
            for kind in (_kind(cell), ()):
                took.setdefault(kind, []).append(status[name].seconds)
    seconds = {}
    for name, cell in cells.items():
        known = took.get(_kind(cell)) or took.get(())
        if (progress := status[name].progress) and status[name].state in ("running", "waiting"):
            seconds[name] = (progress["epochs"] - progress["epoch"]) * progress["seconds"]
        elif known and status[name].state in ("running", "waiting"):
            seconds[name] = sum(known) / len(known)
    return seconds


def estimate_bytes(cells: dict[str, Cell], status: dict[str, Status], workers: int) -> int:
    """Estimate the disk space that the cells still need, checkpoints of running ones included."""
    left = [cell for name, cell in cells.items() if status[name].state != "done"]
    kept = sum(BESIDE_MODEL_MB + cell.keep_model * MODEL_MB[cell.backbone] for cell in left)
    passing = max((3 * MODEL_MB[cell.backbone] for cell in left), default=0)  # weights and Adam's
    return (kept + passing * min(workers, len(left))) * 10**6


def measure_free(outputs: Path) -> int:
    """Return the bytes that are free where `outputs` is, or will be."""
    folders = (outputs.absolute(), *outputs.absolute().parents)
    return shutil.disk_usage(next(folder for folder in folders if folder.exists())).free


def check_disk(outputs: Path, needed: int) -> str:
    """Compare the disk space needed with what is free; returns a warning, or nothing.

    Raises:
        SettingsError: less than half of it is free.
    """
    free = measure_free(outputs)
    if free >= needed:
        return ""
    text = f"the study needs about {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free in {outputs}"
    if free < needed / 2:
        raise SettingsError(f"{text}: make room, or set keep_model: false in its base")
    return text


def make_folder(folder: Path) -> Path:
    """Make a study's folder, absolute; raises `SettingsError` if it cannot be written."""
    if "{" in str(folder) or "}" in str(folder):
        raise SettingsError(
            f"papermill cannot write below {folder}: no {{ or }} in the path, please"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "writable") as temporary:
            temporary.touch()
        (folder / "writable").unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"cannot write to {folder}: {error.strerror}") from None
    return folder.resolve()


def _kind(cell: Cell) -> tuple:
    return tuple(getattr(cell, name) for name in KIND)
