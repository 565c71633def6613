"""The cells of a study: which there are, where they stand, and running them, here or on Dask."""

import fnmatch
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dask.system import cpu_count
from pydantic import TypeAdapter, ValidationError

from semisiam.atomic import read_json
from semisiam.cell import Cell, SettingsError, Study
from semisiam.run import folder as records
from semisiam.run.worker import Status, run_cell

COLLAPSED = "collapsed: the embedding is nearly constant, see accuracy_recalibrated"
KIND = ("dataset", "backbone", "image_size", "mode")  # what the time and size of a cell go by
MODEL_MB = {"small_cnn": 6, "mobilenet_v2": 32, "inception_v3": 123, "resnet50_v2": 130}
CELL_MB = {"supervised": 8, "semi": 8, "frozen": 30}  # notebook, embeddings and tables

Run = Callable[[Cell, Path, str | None], Status]  # a cell in its folder; see `worker.run_cell`
Place = tuple[futures.Executor, Run, int, str]  # for `run_study`; cells side by side; a title


def choose_cells(study: Study, only: str = "", index: int | None = None) -> dict[str, Cell]:
    """Choose cells by what all words say, and by place, from 0.

    A word is `setting=value[,value...]` or a cell's name, of which `*` may be a part. Raises
    `SettingsError` for what no cell has, or if nothing is chosen.
    """
    cells = every = study.cells()
    for word in only.split():
        name, _, values = word.partition("=")
        if alike := fnmatch.filter(every, word):
            cells = {k: cell for k, cell in cells.items() if k in alike}
            continue
        if name not in Cell.model_fields or not values:
            told = "no cell has this name; of settings, give SETTING=VALUE[,VALUE], e.g. of "
            raise SettingsError(f"--only {word}: {told}{', '.join(study.axes) or 'split'}")
        there = list(dict.fromkeys(getattr(cell, name) for cell in every.values()))
        wanted = [_read_value(name, value) for value in values.split(",")]
        if unknown := [value for value in wanted if value not in there]:
            listed = ", ".join(map(str, there))
            raise SettingsError(f"--only {word}: no cell has {name} {unknown[0]}, but {listed}")
        cells = {k: cell for k, cell in cells.items() if getattr(cell, name) in wanted}
    if not cells:
        raise SettingsError(f"--only {only}: no cell has all of this")
    if index is not None and index >= len(cells):
        raise SettingsError(f"--index {index}: there are {len(cells)} cells, 0 to {len(cells) - 1}")
    return cells if index is None else dict([list(cells.items())[index]])


def _read_value(name: str, text: str) -> Any:
    """Read a value as the setting's type, so that 1, 1.0 and 1e0 are one weight."""
    value = None if text.lower() in ("none", "null", "~") else text
    with suppress(ValidationError):
        return TypeAdapter(Cell.model_fields[name].annotation).validate_python(value)
    return text


def read_status(
    cells: dict[str, Cell], folder: Path, identify: Callable[[Cell], str] = lambda cell: ""
) -> dict[str, Status]:
    """Read from disk where the cells of a study, in `folder`, stand.

    `identify` gives the content of a cell's images, "" if nobody knows it.
    """
    return {name: _read_cell(folder / name, cell, identify) for name, cell in cells.items()}


def _read_cell(folder: Path, cell: Cell, identify: Callable[[Cell], str]) -> Status:
    # to identify images may take long: only where a cell was run
    content = identify(cell) if (folder / "done.json").exists() else ""
    if not (reason := records.explain_undone(folder, cell, content)):
        metrics = read_json(folder / "metrics.json")
        seconds = (metrics.get("seconds") or {}).get("total", 0.0)
        return Status("done", COLLAPSED if metrics.get("collapsed") else "", seconds)
    if (now := _look(folder, cell)).state == "running":
        return now
    failed, progress = read_json(folder / "failed.json"), now.progress
    if failed.get("hash") == cell.hash:
        return Status("failed", failed["reason"], failed["seconds"], progress)
    if progress:
        reason = f"cut off after epoch {progress['epoch']} of {progress['epochs']}"
    return Status("waiting", reason, progress=progress)


def _look(folder: Path, cell: Cell) -> Status:
    """Say whether somebody works on a cell that is not done, and how far it is."""
    holder = records.find_holder(folder)
    state = "running" if holder else "waiting"
    reason = f"on {holder}" if holder not in ("", records.name_process()) else ""
    progress = read_json(folder / "progress.json")  # of the last finished epoch
    return Status(state, reason, progress=progress if progress.get("hash") == cell.hash else {})


@contextmanager
def running_here(workers: int, *, threads: int | None = None, **how: Any) -> Iterator[Place]:
    """Run cells on this machine, at most one a GPU where there are GPUs; see `worker.run_cell`."""
    gpus = list_gpus()
    workers = min(workers, len(gpus)) if gpus else workers
    threads = threads or max(1, cpu_count() // workers)
    free, mine, stop = iter(gpus), threading.local(), threading.Event()

    def start() -> None:
        mine.gpu = next(free, "")  # each thread keeps its own

    def run(*cell: Any) -> Status:
        return run_cell(*cell, threads=threads, gpu=mine.gpu, stopped=stop.is_set, **how)

    pool = futures.ThreadPoolExecutor(workers, initializer=start)
    try:
        yield pool, run, workers, ""
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def run_study(
    cells: dict[str, Cell],
    folder: Path,
    status: dict[str, Status],  # of `read_status`
    executor: futures.Executor,  # as `run`, of `running_here` or `cluster.running_on`
    run: Run,
    on_change: Callable[[dict[str, Status]], None],  # called twice a second
) -> dict[str, Status]:
    """Run the cells that are not done, past those that fail; returns the status of every cell.

    A cell that somebody else works on is waited for, and run if it is left undone. Raises
    `SettingsError` if the study's folder cannot be written or is too small.
    """
    check_disk(folder, cells, status)
    folder, status = make_folder(folder), dict(status)
    for name, cell in status.items():
        if cell.reason.startswith(records.OTHER_IMAGES):  # its run would find it done
            ran = read_json(folder / name / "done.json").get("content")
            if not cell.reason.endswith(f"now {ran}"):  # nobody else has run it meanwhile
                (folder / name / "done.json").unlink(missing_ok=True)
    left = [name for name, cell in status.items() if cell.state != "done"]
    known = {name: read_json(folder / name / "done.json").get("hash") for name in cells}
    ours: dict[str, futures.Future] = {}
    while left or ours:
        for name in [name for name in left if status[name].state != "running"]:  # nobody else
            left.remove(name)
            ours[name] = executor.submit(run, cells[name], folder / name, known[name])
        on_change(status)
        futures.wait(ours.values(), 0.5, futures.FIRST_COMPLETED) if ours else time.sleep(0.5)
        for name in [name for name, future in ours.items() if future.done()]:
            status[name] = _get_result(ours.pop(name))
            left += [name] * (status[name].state == "running")
        status |= {name: _look(folder / name, cells[name]) for name in (*ours, *left)}
    on_change(status)
    return status


def _get_result(future: futures.Future) -> Status:
    try:
        return future.result()
    except futures.CancelledError:
        return Status("waiting", "cancelled")
    except Exception as error:  # whatever a worker with another disk or other packages raises
        return Status("failed", f"its worker could not run it: {type(error).__name__}: {error}")


def list_gpus() -> list[str]:
    """List the GPUs for cells: those of `CUDA_VISIBLE_DEVICES` if it is set, else all there are."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [n for n in visible.replace(" ", "").split(",") if n not in ("", "-1", "NoDevFiles")]
    with suppress(OSError, subprocess.TimeoutExpired):
        told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
        return re.findall(r"^GPU (\d+)", told.stdout, re.MULTILINE)
    return []


def estimate_seconds(cells: dict[str, Cell], status: dict[str, Status]) -> dict[str, float]:
    """Estimate how long each cell takes that is neither done nor failed, as far as is known.

    By its last epoch; else by the mean of the done cells of its kind, or of all done cells.
    """
    took: dict[tuple, list[float]] = {}
    kinds = {name: tuple(getattr(cell, key) for key in KIND) for name, cell in cells.items()}
    for name, cell in status.items():
        if cell.state == "done" and cell.seconds:
            for kind in (kinds[name], ()):
                took.setdefault(kind, []).append(cell.seconds)
    seconds = {}
    for name in [name for name, cell in status.items() if cell.state in ("running", "waiting")]:
        if progress := status[name].progress:
            seconds[name] = (progress["epochs"] - progress["epoch"]) * progress["seconds"]
        elif known := took.get(kinds[name]) or took.get(()):
            seconds[name] = sum(known) / len(known)
    return seconds


def check_disk(folder: Path, cells: dict[str, Cell], status: dict[str, Status]) -> str:
    """Tell what disk space cells still need and is free; raises `SettingsError` if too little."""
    left = [cell for name, cell in cells.items() if status[name].state != "done"]
    sizes = [CELL_MB[cell.mode] + cell.keep_model * MODEL_MB.get(cell.backbone, 0) for cell in left]
    # two checkpoints of weights and Adam's moments, each beside the one that it replaces
    models = [MODEL_MB.get(cell.backbone, 0) for cell in left if cell.mode != "frozen"]
    passing = 12 * max(models, default=0)
    needed = (sum(sizes) + passing) * 10**6
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    told = f"disk: about {needed / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free at {there}"
    if free < needed:
        raise SettingsError(f"{told}: make room, or set keep_model: false in the base")
    return told


def make_folder(folder: Path) -> Path:
    """Make a study's folder, absolute; raises `SettingsError` if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise SettingsError(f"cannot write to {folder}: {error.strerror}") from None
    return folder.resolve()
