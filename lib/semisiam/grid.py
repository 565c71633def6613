"""Run the cells of a study: one papermill process a cell, several side by side."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from semisiam import ROOT
from semisiam.cell import Cell, SettingsError, Study
from semisiam.records import explain_undone, replacing, write_json

MASTER = ROOT / "notebooks" / "master.ipynb"
COLLAPSED = "collapsed: the embedding is all but constant, see accuracy_recalibrated"
START_UP_DEATH = "Kernel died before replying to kernel_info"  # kernels can race for a port


@dataclass(frozen=True)
class Status:
    """Where one cell stands: `done`, `running`, `failed` or `waiting`, and why."""

    state: str
    reason: str = ""
    seconds: float = 0.0


class Children:
    """The processes a grid has started, so that it can end them all when it is interrupted."""

    def __init__(self):
        self.running: list[subprocess.Popen] = []
        self.interrupted = False

    def end(self) -> None:
        """End every papermill still running and the kernel it started."""
        self.interrupted = bool(self.running)
        for child in self.running:
            family = psutil.Process(child.pid).children(recursive=True)
            for process in [*family, child]:
                process.kill()


def read_status(study: Study, outputs: Path) -> dict[str, Status]:
    """Read from disk where each cell of a study stands, by name."""
    return {
        name: _read_cell_status(outputs / study.name / name, cell)
        for name, cell in study.cells().items()
    }


def run_study(
    study: Study,
    outputs: Path,
    *,
    workers: int,
    on_change: Callable[[dict[str, Status]], None],
) -> dict[str, Status]:
    """Run the cells of a study that are not done, and carry on past those that fail.

    Args:
        study: the grid.
        outputs: where the study's folder goes.
        workers: cells side by side; the machine's threads are shared out among them.
        on_change: called about once a second with the status of every cell.

    Returns:
        The status of every cell at the end.

    Raises:
        SettingsError: the study's folder cannot be written.
    """
    folder = _make_folder(outputs / study.name)
    status = read_status(study, outputs)
    left = {name: c for name, c in study.cells().items() if status[name].state != "done"}
    status |= {name: Status("waiting") for name in left}
    threads = max(1, (psutil.cpu_count() or 1) // workers)
    children = Children()

    def run(name: str, cell: Cell) -> None:
        status[name] = Status("running")
        status[name] = run_cell(cell, folder / name, threads=threads, children=children)

    pool = ThreadPoolExecutor(workers)
    try:
        unfinished = {pool.submit(run, name, cell) for name, cell in left.items()}
        while unfinished:
            finished, unfinished = wait(unfinished, timeout=1)
            for future in finished:
                future.result()
            on_change(status)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        children.end()
        pool.shutdown()
    return status


def run_cell(cell: Cell, folder: Path, *, threads: int, children: Children) -> Status:
    """Run the master notebook on one cell in a process of its own.

    Args:
        cell: the settings.
        folder: the cell's folder, which also gets `log.txt` and, on failure, `failed.json`.
        threads: how many threads TensorFlow and scikit-learn may use.
        children: the started process is added to them.

    Returns:
        `done` or `failed`, with the reason and the seconds it took.
    """
    started = time.monotonic()
    folder.mkdir(exist_ok=True)
    (folder / "failed.json").unlink(missing_ok=True)
    with replacing(folder / "params.yaml") as temporary:
        settings = cell.model_dump(exclude={"output_dir"})
        temporary.write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
    reason = _execute(folder, threads, children)
    if START_UP_DEATH in reason:
        reason = _execute(folder, threads, children)
    reason = reason or explain_undone(folder, cell)
    seconds = time.monotonic() - started
    if reason and not children.interrupted:
        write_json(folder / "failed.json", {"reason": reason, "seconds": seconds})
    return Status("failed" if reason else "done", reason, seconds)


def _execute(folder: Path, threads: int, children: Children) -> str:
    """Run papermill, where relative paths mean the same as by hand, and say why it failed.

    Returns an empty text if it did not.
    """
    command = [sys.executable, "-m", "papermill", str(MASTER), str(folder / "cell.ipynb")]
    command += ["-f", str(folder / "params.yaml"), "-r", "output_dir", str(folder)]
    command += ["--log-output", "--no-progress-bar"]
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    with (folder / "log.txt").open("wb") as log:
        child = subprocess.Popen(
            command,
            env=os.environ | dict.fromkeys(names, str(threads)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the grid alone, which then ends its children
        )
        children.running.append(child)
        write_json(folder / "running.json", {"pid": child.pid})
        child.wait()
        children.running.remove(child)
        (folder / "running.json").unlink(missing_ok=True)
    return _explain_exit(folder, child.returncode) if child.returncode else ""


def _explain_exit(folder: Path, code: int) -> str:
    """Say why papermill failed: the notebook's error, or the end of the log."""
    if code < 0:
        return f"ended by signal {-code}"
    try:
        cells = json.loads((folder / "cell.ipynb").read_text("utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        error = next(output for output in outputs if output["output_type"] == "error")
        return f"{error['ename']}: {error['evalue']}"
    except (OSError, ValueError, KeyError, StopIteration):
        lines = (folder / "log.txt").read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"papermill ended with exit code {code}"


def _read_cell_status(folder: Path, cell: Cell) -> Status:
    reason = explain_undone(folder, cell)
    if not reason:
        return Status(
            "done", COLLAPSED if _read_json(folder / "metrics.json").get("collapsed") else ""
        )
    running, failed = _read_json(folder / "running.json"), _read_json(folder / "failed.json")
    if running and psutil.pid_exists(running["pid"]):
        return Status("running")
    if failed:
        return Status("failed", failed["reason"], failed["seconds"])
    return Status("waiting", reason)


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _make_folder(folder: Path) -> Path:
    if "{" in str(folder) or "}" in str(folder):
        raise SettingsError(
            f"papermill cannot write below {folder}: no {{ or }} in the path, please"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "writable") as temporary:
            temporary.touch()
        (folder / "writable").unlink()
    except OSError as error:
        raise SettingsError(f"cannot write to {folder}: {error.strerror}") from None
    return folder.resolve()
