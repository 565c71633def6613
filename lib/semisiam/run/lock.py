"""Who works on a cell: locks that end with their holder, on one machine and on a shared disk.

Two locks in a cell's folder, so that nothing can outlive its own: `run.lock` (flock) is held by the
process that watches the cell and by the papermill it started, `kernel.lock` (POSIX) by the kernel
that computes. The system drops both when their holders are gone, however they ended.

Between hosts that share a file system these locks hold where it has locks (NFS with its lock
service, Lustre with `-o flock`). Where it has none, or only host by host, `running.json` says who
works there: it is touched every `BEAT` seconds, and counts for `STALE` seconds.
"""

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from semisiam.atomic import read_json, write_json
from semisiam.cell import SettingsError

BEAT = 5  # s
STALE = 60  # s without a beat: its host or its network is gone
HERE = platform.node()


@contextmanager
def holding(folder: Path) -> Iterator[int | None]:
    """Hold a cell's folder for a block.

    Yields:
        A descriptor that children may inherit and so hold the lock too; None if somebody else
        works there.
    """
    descriptor = os.open(folder / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        trusted = _try_flock(descriptor, fcntl.LOCK_EX)
        os.utime(descriptor)  # the file system's own time, which ages are counted by
        if trusted is False or _kernel_works(folder) or _beats(folder, trusted, descriptor):
            yield None
            return
        write_json(folder / "running.json", {"host": HERE, "pid": os.getpid()})
        try:
            yield descriptor
        finally:
            (folder / "running.json").unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def beat(folder: Path) -> None:
    """Say that the holder of a folder is alive."""
    with suppress(OSError):  # the disk is away: others will find out by the age
        os.utime(folder / "running.json")


def find_holder(folder: Path) -> str:
    """Name who works on a cell, `HOST, process PID`; empty if nobody does."""
    holder = _read_holder(folder)
    if not holder:
        return ""
    trusted: bool | None = True  # without a file there is no lock
    with suppress(OSError):
        descriptor = os.open(folder / "run.lock", os.O_RDONLY)
        try:
            trusted = _try_flock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)
    held = trusted is False or _kernel_works(folder) or _beats(folder, trusted)
    return f"{holder['host']}, process {holder['pid']}" if held else ""


def hold_as_kernel(folder: Path) -> None:
    """Hold a cell's folder until this process ends; raises `SettingsError` if another one does."""
    descriptor = os.open(folder / "kernel.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        raise SettingsError(
            f"output_dir: another run works in {folder}; wait for it, or choose another folder"
        ) from None
    except OSError:
        pass  # a file system without locks
    # The descriptor stays open: closing any on this file would drop the process's lock.


def _read_holder(folder: Path) -> dict[str, Any]:
    holder = read_json(folder / "running.json")
    return holder if {"host", "pid"} <= set(holder) else {}  # a damaged one says nothing


def _try_flock(descriptor: int, kind: int) -> bool | None:
    """Try for a quarter of a second, as `find_holder` holds it for moments.

    Returns True if locked, False if somebody else has it, None if there are no locks here.
    """
    for _ in range(5):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:
            return None
    return False


def _kernel_works(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / "kernel.lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except (BlockingIOError, PermissionError):
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _beats(folder: Path, trusted: bool | None, clock: int | None = None) -> bool:
    """Say whether `running.json` speaks of a holder that our locks cannot tell of."""
    holder = _read_holder(folder)
    if not holder or (trusted and holder["host"] == HERE):
        return False
    now = os.fstat(clock).st_mtime if clock else time.time()
    try:
        return now - (folder / "running.json").stat().st_mtime < STALE
    except OSError:
        return False
