"""Running cells on a Dask cluster whose workers share the study's disk, as `grid` does here."""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from dask.system import cpu_count
from distributed import Client, get_worker
from distributed.comm import parse_host_port
from distributed.utils import sync

from semisiam.atomic import read_json
from semisiam.cell import Cell, SettingsError
from semisiam.run.grid import Place
from semisiam.run.worker import Status, run_cell

CONNECT = 5  # s


@contextmanager
def running_on(scheduler: str, **how: Any) -> Iterator[Place]:
    """Run cells on a Dask cluster, by its scheduler's address or scheduler file (.json).

    Raises `SettingsError` if nothing that is a scheduler answers, or it went away.
    """
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # we say it ourselves
    client = _connect(scheduler)
    slots = list(client.nthreads().values())
    told = f"Dask at {client.scheduler.address}: {len(slots)} workers now, {sum(slots)} cells side "
    told += f"by side; dashboard {client.dashboard_link}"
    wait = f"\nno worker yet: dask worker {client.scheduler.address} --nthreads 1"
    told += "" if slots else wait
    executor = client.get_executor(pure=False)
    try:
        run = partial(run_on_worker, cwd=str(Path.cwd()), **how)
        try:
            yield executor, run, max(1, sum(slots)), told
        except Exception as error:
            if client.status == "running" or isinstance(error, SettingsError):
                raise
        if client.status != "running":
            told = f"the connection to the scheduler at {scheduler} was lost: if it has ended, "
            told += "start it again, with workers; the same command goes on from here"
            raise SettingsError(told)
    finally:
        with suppress(Exception):  # of a scheduler that is gone
            executor.shutdown(wait=False)
            client.close(timeout=2)


def _connect(scheduler: str) -> Client:
    """Connect in a thread: at a port that accepts and says nothing, Dask would wait for ever."""
    made: list[Client] = []
    address = read_json(Path(scheduler)).get("address", scheduler)

    def connect() -> None:
        with suppress(OSError, ValueError, TypeError, ImportError):
            socket.create_connection(parse_host_port(address.partition("://")[2]), CONNECT).close()
            made.append(Client(address, timeout=CONNECT, set_as_default=False))

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(2 * CONNECT)
    if not made:
        told = f"no Dask scheduler answers at {scheduler}: is it up, and reachable from here?"
        raise SettingsError(f"{told} The address is that of `dask scheduler`, tcp://HOST:8786")
    return made[0]


def run_on_worker(cell: Cell, folder: Path, known: str | None, **how: Any) -> Status:
    """Run one cell on a worker, until its task is cancelled; see `worker.run_cell`."""
    worker = get_worker()
    key = worker.get_current_task()
    if not folder.parent.is_dir():
        return Status("failed", f"{worker.address} does not see {folder.parent}: no shared disk")

    def stopped() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state in ("cancelled", "resumed")

    how["threads"] = how.get("threads") or _share_cpus(worker)
    return run_cell(cell, folder, known, stopped=stopped, **how)


def _share_cpus(worker: Any) -> int:
    """Share the host's processors among the cells that its workers run side by side."""
    known = sync(worker.loop, worker.scheduler.identity, n_workers=-1)["workers"]
    host = known[worker.contact_address]["host"]
    slots = sum(w["nthreads"] for w in known.values() if w["host"] == host)
    return max(1, cpu_count() // slots)
