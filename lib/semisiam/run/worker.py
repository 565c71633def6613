"""Run one cell: a papermill process of its own, watched until the cell is done or known to fail.

The grid on one machine, `--index` and Dask's workers all run their cells through `run_cell`.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask.system import cpu_count

from semisiam import ROOT
from semisiam.atomic import read_json, write_json
from semisiam.cell import Cell
from semisiam.run.folder import LOCK, explain_undone, find_holder, hold, start_over

MASTER = ROOT / "notebooks" / "master.ipynb"
THREADS = ["TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"]
THREADS += [f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS")]  # Dask's workers set 1
TICK = 0.5  # s
ORPHAN = 5  # s; a kernel whose papermill was killed ends within one
CRASH = re.compile(r"Fatal Python error: (.+)(?:\n.*)*?\nCurrent thread .+\n +(.+)")  # where


@dataclass(frozen=True)
class Status:
    """Where one cell stands, and why."""

    state: str  # done, running, failed or waiting
    reason: str = ""
    seconds: float = 0.0
    progress: dict[str, Any] = field(default_factory=dict)  # of `folder.write_progress`


def run_cell(
    cell: Cell,
    folder: Path,  # gets `log.txt` and, on failure, `failed.json` too
    known: str | None = None,  # hash of an older result there, which this run may overwrite
    *,
    threads: int | None = None,  # all there are; they change the order of sums
    stall_minutes: float = 240,  # without the end of an epoch, then the cell is ended
    retries: int = 1,  # when papermill or its kernel dies, not when the notebook raises
    cwd: str | None = None,  # where relative paths start
    gpu: str = "",  # what `CUDA_VISIBLE_DEVICES` is set to; "" leaves it
    stopped: Callable[[], bool] = lambda: False,  # asked twice a second; True ends the cell
) -> Status:
    """Run the master notebook on one cell in a process of its own.

    Returns `done` or `failed`; `running` if somebody else works on the cell; `waiting` if stopped.
    """
    environment = os.environ | dict.fromkeys(THREADS, str(threads or cpu_count()))
    environment |= {"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}
    started = time.monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(1 + retries):
            if (lock := hold(folder, ORPHAN)) is None:
                return Status("running", f"on {find_holder(folder)}")
            try:
                if not explain_undone(folder, cell):
                    return Status("done")
                if read_json(folder / "done.json").get("hash") not in (None, known, cell.hash):
                    told = "another grid, with other settings or code, ran it: stop that grid"
                    return Status("failed", f"{told} and start this one again")
                (folder / "cell.ipynb").unlink(missing_ok=True)  # it would tell of an early death
                start_over(folder, cell.model_copy(update={"output_dir": str(folder)}))
                with _start(folder, environment | {LOCK: str(lock)}, cwd) as child:
                    reason = _watch(child, folder / "progress.json", stall_minutes, stopped)
                if not (undone := explain_undone(folder, cell)):
                    return Status("done", seconds=time.monotonic() - started)
                reason, died = (reason, False) if reason else _explain_exit(folder, child)
                if stopped():
                    return Status("waiting", "stopped")
                failed = {"reason": reason or undone, "seconds": time.monotonic() - started}
                write_json(folder / "failed.json", failed | {"hash": cell.hash})
            finally:
                os.close(lock)
            if not died:
                break
    except OSError as error:
        return Status("failed", f"{error.filename or folder}: {error.strerror}")
    return Status("failed", **failed)


@contextmanager
def _start(folder: Path, environment: dict, cwd: str | None) -> Iterator[subprocess.Popen]:
    """Start papermill on the master, with `log.txt` for what it says."""
    # papermill would take what stands in braces in a path for a parameter
    paths = [str(p).replace("{", "{{").replace("}", "}}") for p in (MASTER, folder / "cell.ipynb")]
    command = [sys.executable, "-m", "semisiam.run.child", *paths, "-f", folder / "params.yaml"]
    with (
        (folder / "log.txt").open("wb") as log,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temp,  # kernels leave theirs
        subprocess.Popen(
            [*command, "--log-output", "--no-progress-bar", "--start-timeout", "600"],
            cwd=cwd,
            # safe: no .py file in the user's folder is imported
            env=environment | {"TMPDIR": temp, "PYTHONSAFEPATH": "1"},
            stdin=subprocess.PIPE,  # the child ends when this pipe does, see semisiam.run.child
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[int(environment[LOCK])],
            start_new_session=True,  # Ctrl-C reaches the grid alone, which then ends its children
        ) as child,
    ):
        yield child
        child.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(10)
        child.kill()


def _watch(child: subprocess.Popen, progress: Path, minutes: float, stopped: Callable) -> str:
    """Wait for papermill; returns "" if it ended, else why it has to be ended (`_start` does)."""
    seen, last = 0, time.monotonic()
    while child.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            child.wait(TICK)
        with suppress(FileNotFoundError):  # before the first epoch, and when all is written
            if (changed := progress.stat().st_mtime_ns) != seen:
                seen, last = changed, time.monotonic()
        if stopped():
            return "stopped"
        if time.monotonic() - last > 60 * minutes:
            return f"hung: no epoch ended within {minutes:g} minutes"
    return ""


def _explain_exit(folder: Path, child: subprocess.Popen) -> tuple[str, bool]:
    """Say why papermill failed, "" if it did not, and whether it or its kernel died."""
    if not child.returncode:
        return "", False
    if child.returncode < 0:
        return f"papermill was ended by signal {-child.returncode}", True
    log = (folder / "log.txt").read_text("utf-8", "replace").strip()
    last = log.rpartition("\n")[2] or f"papermill ended with exit code {child.returncode}"
    cells = read_json(folder / "cell.ipynb").get("cells", [])
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    errors = [f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"]
    if not errors and "Kernel died" in last:
        if crash := CRASH.search(log):
            return f"the kernel crashed: {crash[1]}, in {crash[2]}", True
        return "the kernel died: it was killed (too little memory?) or ended by itself", True
    return errors[0] if errors else last, False
