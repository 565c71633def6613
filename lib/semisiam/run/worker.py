"""Run one cell: a papermill process of its own, watched until the cell is done or known to fail.

The grid on one machine, `--index` and Dask's workers all run their cells through `run_cell`.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from semisiam import ROOT
from semisiam.atomic import replacing, write_json
from semisiam.cell import Cell
from semisiam.run import lock
from semisiam.run.folder import explain_undone, read_progress

MASTER = ROOT / "notebooks" / "master.ipynb"
THREADS = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",  # this and the next: Dask's workers set them to 1
    "OPENBLAS_NUM_THREADS",
)
TICK = 0.5  # s
OUT_OF_MEMORY = ("MemoryError", "ResourceExhaustedError", "OOM when allocating")


@dataclass(frozen=True)
class Status:
    """Where one cell stands: `done`, `running`, `failed` or `waiting`, and why.

    `progress` is that of `records.read_progress`.
    """

    state: str
    reason: str = ""
    seconds: float = 0.0
    progress: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """How cells are run; none of it changes what they compute, but for the last digits.

    `threads` (0: those of the machine, shared out) changes the order of sums. A cell is ended when
    `stall_minutes` pass without the end of an epoch; `retries` count when papermill or its kernel
    is ended or crashes, not when the notebook raises.
    """

    threads: int = 0
    stall_minutes: float = 240.0
    retries: int = 1


def run_cell(
    cell: Cell,
    folder: Path,
    options: Options,
    *,
    gpu: str = "",
    cwd: Path | None = None,
    stopped: Callable[[], bool] = lambda: False,
    on_progress: Callable[[dict[str, Any]], None] = lambda progress: None,
) -> Status:
    """Run the master notebook on one cell in a process of its own.

    Args:
        cell: the settings.
        folder: the cell's folder, which also gets `log.txt` and, on failure, `failed.json`.
        options: how it is run.
        gpu: what `CUDA_VISIBLE_DEVICES` is set to; "" leaves it.
        cwd: where relative paths in the settings start; None: this process's.
        stopped: asked twice a second; the cell is ended once it is True.
        on_progress: called every `lock.BEAT` seconds with the last finished epoch.

    Returns:
        `done` or `failed`; `running` if somebody else works on the cell; `waiting` if stopped.
    """
    started = time.monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock.holding(folder) as descriptor:
            if descriptor is None:
                return Status("running", f"on {lock.find_holder(folder) or 'another kernel'}")
            if not explain_undone(folder, cell):
                return Status("done")
            (folder / "failed.json").unlink(missing_ok=True)
            _write_settings(folder, cell)
            run = _Run(cell, folder, options, gpu, cwd, stopped, on_progress, descriptor)
            reason = run.until_done()
            seconds = time.monotonic() - started
            if reason and not stopped():
                failed = {"reason": reason, "seconds": seconds, "hash": cell.hash}
                write_json(folder / "failed.json", failed)
    except OSError as error:
        return Status("failed", f"{error.filename or folder}: {error.strerror}")
    if not reason:
        return Status("done", seconds=seconds)
    return Status("waiting", "stopped") if stopped() else Status("failed", reason, seconds)


@dataclass
class _Run:
    """The processes of one cell."""

    cell: Cell
    folder: Path
    options: Options
    gpu: str
    cwd: Path | None
    stopped: Callable[[], bool]
    on_progress: Callable[[dict[str, Any]], None]
    descriptor: int

    def until_done(self) -> str:
        """Run the cell, again if its processes die, and say why it is not done."""
        (self.folder / "log.txt").unlink(missing_ok=True)
        for _ in range(1 + self.options.retries):
            ooms, self.peak = _count_oom_kills(), 0
            with (
                (self.folder / "log.txt").open("ab") as log,
                tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temp,
            ):
                child = self._start(log, temp)
                ended = self._watch(child)
            if not (undone := explain_undone(self.folder, self.cell)):
                return ""
            if ended or child.returncode == 0:
                return ended or undone
            reason, died = _explain_exit(self.folder, child.returncode)
            if died and _count_oom_kills() > ooms:
                return f"out of memory: the system ended it; it had taken {self._gib()} GiB"
            if not died:
                return reason
        return f"{reason}; its memory peaked at {self._gib()} GiB"

    def _start(self, log: Any, temp: str) -> subprocess.Popen:
        """Start papermill, where relative paths mean the same as by hand.

        Kernels are killed, by papermill too (see `run.child`): what they put into `temp` is left
        for us to remove.
        """
        notebook = self.folder / "cell.ipynb"
        notebook.unlink(missing_ok=True)  # else an early death is explained by an older error
        command = [sys.executable, "-m", "semisiam.run.child", str(MASTER), str(notebook)]
        command += ["-f", str(self.folder / "params.yaml"), "-r", "output_dir", str(self.folder)]
        command += ["--log-output", "--no-progress-bar"]
        threads = str(self.options.threads or count_cpus())
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu else {}
        return subprocess.Popen(
            command,
            cwd=self.cwd,
            env=os.environ | dict.fromkeys(THREADS, threads) | gpu | {"TMPDIR": temp},
            stdin=subprocess.PIPE,  # the child ends when this pipe does, see semisiam.run.child
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[self.descriptor],  # so that the lock holds as long as papermill is there
            start_new_session=True,  # Ctrl-C reaches the grid alone, which then ends its children
        )

    def _watch(self, child: subprocess.Popen) -> str:
        """Wait for the end of papermill; if it had to be ended, say why."""
        family, reason = [], ""
        seen, last, beaten = self._progress_time(), time.monotonic(), 0.0
        while child.poll() is None and not reason:
            with suppress(subprocess.TimeoutExpired):
                child.wait(TICK)
            if (now := time.monotonic()) - beaten > lock.BEAT:
                lock.beat(self.folder)
                self.on_progress(read_progress(self.folder, self.cell))
                beaten = now
            if child.returncode is None:  # else its number may be another process's by now
                family = self._find_family(child) or family
            if (progress := self._progress_time()) != seen:
                seen, last = progress, now
            if self.stopped():
                reason = "stopped"
            elif now - last > 60 * self.options.stall_minutes:
                reason = f"hung: no epoch ended within {self.options.stall_minutes:g} minutes"
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        child.kill()
        child.wait()
        child.stdin.close()
        return reason

    def _find_family(self, child: subprocess.Popen) -> list[psutil.Process]:
        """Find papermill and its kernel, and note the most memory they have taken."""
        try:
            papermill = psutil.Process(child.pid)
            family = [papermill, *papermill.children(recursive=True)]
            self.peak = max(self.peak, sum(process.memory_info().rss for process in family))
        except psutil.Error:
            return []
        return family

    def _progress_time(self) -> int:
        try:
            return (self.folder / "progress.json").stat().st_mtime_ns
        except OSError:
            return 0

    def _gib(self) -> str:
        return f"{self.peak / 2**30:.1f}"


def count_cpus() -> int:
    """Count the processors that this process may use (a batch system may allow fewer)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _write_settings(folder: Path, cell: Cell) -> None:
    with replacing(folder / "params.yaml") as temporary:
        settings = cell.model_dump(exclude={"output_dir"})
        temporary.write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")


def _explain_exit(folder: Path, code: int) -> tuple[str, bool]:
    """Say why papermill failed, and whether it or its kernel died rather than raised an error."""
    if code < 0:
        return f"papermill was ended by signal {-code}", True
    try:
        cells = json.loads((folder / "cell.ipynb").read_text("utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        error = next(output for output in outputs if output["output_type"] == "error")
        reason = f"{error['ename']}: {error['evalue']}"
    except (OSError, ValueError, KeyError, StopIteration):
        lines = (folder / "log.txt").read_text("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if lines else f"papermill ended with exit code {code}"
        if "Kernel died" in reason:
            return "the kernel died: it was ended, or crashed", True
    if any(sign in reason for sign in OUT_OF_MEMORY):
        reason = f"out of memory: {reason}"
    if "No space left" in reason:
        reason = f"disk full: {reason}"
    return reason, False


def _count_oom_kills() -> int:
    """Count the processes that Linux has ended for want of memory since it started."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
