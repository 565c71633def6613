"""Run the cells of a study on a Dask cluster, with or without a file system that all share.

A worker that sees the study's folder (it holds a file with a random token) writes there; another
works in its own temporary folder and sends the finished one back. Tasks have names that follow from
study and settings and are published at the scheduler, so that they go on without the client, and a
client that comes back finds them.
"""

import getpass
import logging
import os
import platform
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from distributed import Client, KilledWorker, Reschedule, get_worker
from distributed.comm import parse_host_port
from distributed.utils import sync

from semisiam.atomic import read_json, write_json
from semisiam.cell import Cell, SettingsError, Study
from semisiam.run import lock
from semisiam.run.folder import explain_undone
from semisiam.run.grid import OnChange, follow, make_folder, read_cell_status, read_status
from semisiam.run.worker import Options, Status, count_cpus, run_cell

CONNECT = 5  # s
PATIENCE = 600  # s to wait for a scheduler that is gone
FORGOTTEN = 30  # s without news of a cell
LARGEST = 2 * 10**9  # bytes that a cell's folder may have to travel
STAYS = {"run.lock", "kernel.lock", "running.json", "checkpoint.npz", "progress.json"}


class ClusterError(ValueError):
    """A cluster that cannot be used; the message says which and what to do."""


class SchedulerLost(Exception):
    """The connection to the scheduler broke, and with it all that it knew."""


class Cluster:
    """A Dask cluster, by the address of its scheduler or its scheduler file."""

    def __init__(self, place: str, patience: float = PATIENCE):
        self.place = place
        self.patience = patience
        self.client: Client | None = None
        for name in ("distributed", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # we say it ourselves

    def __enter__(self) -> "Cluster":
        """Connect; raises `ClusterError` if nothing that is a scheduler answers."""
        address = self.place
        if address.endswith(".json"):
            address = read_json(Path(address)).get("address", "")
        self.client = _connect(address)
        if not self.client:
            raise ClusterError(
                f"no Dask scheduler answers at {self.place}: is it up, and reachable from here? "
                "The address is that of `dask scheduler`, tcp://HOST:8786"
            )
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):
            self.client.close(timeout=2)

    def count_slots(self) -> int:
        """Count the cells that the cluster runs side by side, at least 1."""
        return max(1, sum(self.client.nthreads().values()))

    def describe(self) -> str:
        """Say what the cluster is, with a link to its dashboard."""
        workers = self.client.nthreads()
        told = f"Dask at {self.client.scheduler.address}: {len(workers)} workers"
        told += f", {sum(workers.values())} cells side by side" if workers else ": waiting for some"
        return f"{told}; dashboard {self.client.dashboard_link}"

    def run_study(
        self,
        study: Study,
        outputs: Path,
        *,
        on_change: OnChange,
        cells: dict[str, Cell],
        options: Options,
        say: Callable[[str], None] = lambda line: None,
    ) -> dict[str, Status]:
        """Run the cells that are not done on the cluster; see `grid.run_study`.

        If the scheduler goes away it is waited for, and what is not done is submitted again.

        Raises:
            ClusterError: the scheduler did not come back within the patience.
            SettingsError: the study's folder cannot be written.
        """
        folder = make_folder(outputs / study.name)
        order = {
            "study": study.name,
            "folder": str(folder),
            "token": _keep_token(folder),
            "cwd": str(Path.cwd()),
            "options": asdict(options),
        }
        while True:
            tasks = _Tasks(self.client, cells, folder, order)
            try:
                return follow(
                    read_status(study, outputs, cells),
                    submit=tasks.submit,
                    look=tasks.look,
                    look_elsewhere=lambda name: read_cell_status(folder / name, cells[name]),
                    on_change=on_change,
                )
            except SchedulerLost:
                say(f"the scheduler at {self.place} is gone; waiting for it")
                self._reconnect()
            except KeyboardInterrupt:
                tasks.cancel()
                raise

    def _reconnect(self) -> None:
        deadline = time.monotonic() + self.patience
        self.__exit__()
        while True:
            try:
                self.__enter__()
                return
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)


def _connect(address: str) -> Client | None:
    """Connect in a thread: at a port that accepts and says nothing, Dask would wait for ever."""
    made: list[Client] = []
    try:
        place = parse_host_port(address.partition("://")[2])
        socket.create_connection(place, CONNECT).close()
    except (OSError, ValueError):
        return None

    def connect() -> None:
        with suppress(OSError, ValueError, TypeError, ImportError):
            made.append(Client(address, timeout=CONNECT, set_as_default=False))

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(2 * CONNECT)
    return made[0] if made else None


@dataclass
class _Task:
    """The future of a cell; its result is a `Status`, once what the worker made is in place."""

    tasks: "_Tasks"
    name: str
    future: Any

    def done(self) -> bool:
        if self.tasks.client.status != "running":
            raise SchedulerLost
        return self.future.done()

    def result(self) -> Status:
        self.tasks.forget_news(self.name)
        try:
            return self.tasks.take(self.name, self.future.result())
        except KilledWorker:
            return Status("failed", "its worker died again and again: see the logs of the workers")
        except CancelledError as error:
            if getattr(error, "reason", "") in ("scheduler-connection-lost", "lost"):
                raise SchedulerLost from None
            return Status("waiting", "cancelled by another client")
        except Exception as error:  # whatever a worker with other packages raises
            return Status("failed", f"the worker could not run it: {type(error).__name__}: {error}")
        finally:
            self.tasks.release(self.future)


class _Tasks:
    """The cells of a study as tasks of one connection to a scheduler."""

    def __init__(self, client: Client, cells: dict[str, Cell], folder: Path, order: dict[str, Any]):
        self.client = client
        self.cells = cells
        self.folder = folder
        self.order = order | {"topic": f"semisiam-{order['token']}"}
        self.futures: dict[str, Any] = {}
        self.news: dict[str, dict[str, Any]] = {}
        self.attempts = dict.fromkeys(cells, 0)
        client.subscribe_topic(self.order["topic"], self._hear)

    def submit(self, name: str) -> _Task:
        """Put a cell in the scheduler's queue, or join it if an earlier client did."""
        cell = self.cells[name]
        self.attempts[name] += 1
        key = f"semisiam-{self.order['study']}-{self.order['token'][:8]}-{cell.hash}"
        key += f"-{self.attempts[name]}"
        order = self.order | {
            "name": name,
            "settings": cell.model_dump(exclude={"output_dir"}),
            "hash": cell.hash,
        }
        future = self.client.submit(run_task, order, key=key, pure=False)
        self.client.publish_dataset(future, name=key, override=True)
        self.futures[key] = future
        return _Task(self, name, future)

    def look(self, name: str) -> Status:
        """Say what was last heard of a submitted cell."""
        news = self.news.get(name)
        if not news or time.monotonic() - news["heard"] > FORGOTTEN:
            return Status("waiting")
        return Status("running", f"on {news['host']}", progress=news["progress"])

    def take(self, name: str, result: dict[str, Any]) -> Status:
        """Put the files that a worker sent into the cell's folder."""
        status = Status(**result["status"])
        if result["files"] is None:
            return status
        status = _install(self.folder, name, self.cells[name], result["files"]) or status
        with suppress(Exception):  # a worker that is gone keeps its folder
            if result["worker"] in self.client.nthreads():
                self.client.run(_forget, result["place"], workers=[result["worker"]])
        return status

    def forget_news(self, name: str) -> None:
        """Take note that a cell runs no more."""
        news = self.news.pop(name, None)
        if news and not news["shared"]:
            (self.folder / name / "running.json").unlink(missing_ok=True)

    def release(self, future: Any) -> None:
        """Let the scheduler forget a task."""
        with suppress(Exception):
            self.client.unpublish_dataset(future.key)
        self.futures.pop(future.key, None)

    def cancel(self) -> None:
        """End all tasks; workers notice within a second and end the cells' processes."""
        with suppress(Exception):
            self.client.cancel(list(self.futures.values()), force=True)
            for key in self.futures:
                self.client.unpublish_dataset(key)

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """Note a worker's word on a cell; without a shared disk `semisiam status` reads it here."""
        news = event[1] | {"heard": time.monotonic()}
        name = news["name"]
        if name not in self.cells or news["hash"] != self.cells[name].hash:
            return
        self.news[name] = news
        if not news["shared"]:
            with suppress(OSError):
                folder = self.folder / name
                folder.mkdir(exist_ok=True)
                write_json(folder / "running.json", {"host": news["host"], "pid": news["pid"]})
                if news["progress"]:
                    write_json(folder / "progress.json", news["progress"])


def run_task(order: dict[str, Any]) -> dict[str, Any]:
    """Run one cell on a worker.

    Args:
        order: plain values: `study`, `name`, `settings` and `hash` of the cell, `folder` of the
            study with its `token`, `cwd`, `options`, and the `topic` for news.

    Returns:
        `status`; and, where the study's folder is not seen, `files`, the cell's as bytes by name,
        with the `place` they lie in on the `worker`.
    """
    worker = get_worker()
    cell = Cell.check(order["settings"])
    if cell.hash != order["hash"]:
        raise SettingsError(f"{platform.node()} runs another version of semisiam")
    shared = _sees(order)
    folder = (Path(order["folder"]) if shared else _scratch(order)) / order["name"]
    about = {"name": order["name"], "hash": cell.hash, "shared": shared, "pid": os.getpid()}
    about["host"] = worker.address

    def tell(progress: dict[str, Any]) -> None:
        worker.log_event(order["topic"], about | {"progress": progress})

    status = _run_or_wait(
        cell,
        folder,
        options=_share_threads(Options(**order["options"]), worker),
        cwd=Path(order["cwd"]) if shared and Path(order["cwd"]).is_dir() else None,
        stopped=_make_stopped(worker, worker.get_current_task()),
        on_progress=tell,
    )
    if status.state == "waiting":  # stopped: nobody waits for this, unless somebody asked again
        raise Reschedule
    files = None if shared else _pack(folder)
    where = {"worker": worker.address, "place": str(folder)}
    return {"status": asdict(status), "files": files, **where}


def _run_or_wait(cell: Cell, folder: Path, *, stopped: Callable[[], bool], **how: Any) -> Status:
    """Run a cell; if it is held, e.g. by what a dead worker left, wait for some beats."""
    deadline = time.monotonic() + 4 * lock.BEAT
    while True:
        status = run_cell(cell, folder, stopped=stopped, **how)
        if status.state != "running" or time.monotonic() > deadline:
            return status
        time.sleep(1)


def _make_stopped(worker: Any, key: str) -> Callable[[], bool]:
    def stopped() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state in ("cancelled", "resumed")

    return stopped


def _share_threads(options: Options, worker: Any) -> Options:
    """Share the host's processors among the cells that its workers run side by side."""
    if options.threads:
        return options
    known = sync(worker.loop, worker.scheduler.identity, n_workers=-1)["workers"].values()
    host = known and next((w["host"] for w in known if w["id"] == worker.id), None)
    slots = sum(w["nthreads"] for w in known if w["host"] == host)
    return replace(options, threads=max(1, count_cpus() // max(1, slots)))


def _keep_token(folder: Path) -> str:
    path = folder / "token"
    with suppress(FileExistsError), path.open("x") as file:
        file.write(secrets.token_hex(16))
    return path.read_text()


def _sees(order: dict[str, Any]) -> bool:
    try:
        return (Path(order["folder"]) / "token").read_text() == order["token"]
    except OSError:
        return False


def _scratch(order: dict[str, Any]) -> Path:
    return Path(tempfile.gettempdir()) / f"semisiam-{getpass.getuser()}" / order["token"]


def _pack(folder: Path) -> dict[str, bytes]:
    """Read the files of a cell's folder, by their path in it."""
    paths = [p for p in folder.rglob("*") if p.is_file() and p.name not in STAYS]
    paths = [path for path in paths if not path.name.startswith(".")]
    if (size := sum(path.stat().st_size for path in paths)) > LARGEST:
        raise SettingsError(f"{folder} is too large to send: {size / 1e9:.1f} GB")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _install(study: Path, name: str, cell: Cell, files: dict[str, bytes]) -> Status | None:
    """Check the files of a cell and rename them into its folder, `done.json` last.

    Returns the status if it is another than the worker's.
    """
    arrived, folder = study / ".arriving" / name, study / name
    shutil.rmtree(arrived, ignore_errors=True)
    try:
        for file, content in files.items():
            (arrived / file).parent.mkdir(parents=True, exist_ok=True)
            (arrived / file).write_bytes(content)
        if "done.json" in files and (reason := explain_undone(arrived, cell, thorough=True)):
            return Status("failed", f"what the worker sent is not whole: {reason}")
        folder.mkdir(exist_ok=True)
        with lock.holding(folder) as descriptor:
            if descriptor is None:
                return Status("running", f"on {lock.find_holder(folder)}")
            for old in ("done.json", "failed.json", "progress.json"):
                (folder / old).unlink(missing_ok=True)
            for file in sorted(files, key=lambda file: file == "done.json"):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (arrived / file).replace(folder / file)
    except OSError as error:
        return Status("failed", f"{error.filename or folder}: {error.strerror}")
    finally:
        shutil.rmtree(arrived, ignore_errors=True)
    return None


def _forget(place: str) -> None:
    shutil.rmtree(place, ignore_errors=True)
