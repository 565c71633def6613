"""Dask clusters of real processes on this machine: a scheduler, workers, and what kills them."""

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from tiny_study import check_cells, find, name, start, wait_for, write_notebook, write_study

from semisiam import ROOT
from semisiam.atomic import read_json
from semisiam.cell import Cell, Study
from semisiam.run import cluster, grid, lock

PRELOAD = """
import os
from pathlib import Path
from semisiam.run import cluster, worker
worker.MASTER = Path(os.environ["NOTEBOOK"])
if "ALONE" in os.environ:  # as on a host without the shared file system
    cluster._sees = lambda order: False
"""


class Dask:
    """A scheduler and workers, as the command line starts them."""

    def __init__(self, folder):
        self.folder = folder
        self.workers = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        write_notebook(folder)
        (folder / "preload.py").write_text(PRELOAD)
        self.start_scheduler()

    def start_scheduler(self):
        words = ["scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self.scheduler = self._start(*words)
        wait_for(self.answers)

    def answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start_worker(self, **extra):
        words = ["worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        words += ["--preload", str(self.folder / "preload.py")]
        self.workers.append(self._start(*words, **extra))
        return self.workers[-1]

    def _start(self, *words, **extra):
        command = [sys.executable, "-m", "dask", *words]
        env = os.environ | {"NOTEBOOK": str(self.folder / "tiny.ipynb"), **extra}
        env |= {"PYTHONPATH": str(ROOT / "lib"), "TMPDIR": str(self.folder)}
        with (self.folder / "dask.txt").open("ab") as log:
            return subprocess.Popen(command, cwd=self.folder, env=env, stdout=log, stderr=log)

    def grid(self, study, *words):
        outputs = ("--outputs", self.folder / "out", "--scheduler", self.address)
        return start(self.folder, "grid", study, *outputs, *words)

    def cell(self, split):
        return self.folder / "out" / "some" / name(split)

    def output(self):
        return (self.folder / "output.txt").read_text()

    def end(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def dask(tmp_path):
    started = Dask(tmp_path)
    yield started
    started.end()


def at_epoch(dask, split, epoch):
    return lambda: read_json(dask.cell(split) / "progress.json").get("epoch", 0) >= epoch


def test_the_client_goes_and_comes_back_and_a_worker_dies(dask):
    first, _ = dask.start_worker(), dask.start_worker()
    epochs, splits = 12, range(3)
    study = write_study(dask.folder, list(splits), epochs=epochs, learning_rate=0.3)
    client = dask.grid(study)
    wait_for(at_epoch(dask, 0, 2))
    client.kill()
    client.wait()
    status = grid.read_status(Study.load(study), dask.folder / "out")
    assert status[name(0)].state == "running"
    family = find(first.pid, "")
    wait_for(lambda: at_epoch(dask, 0, 4)() or at_epoch(dask, 1, 4)())  # without the client
    client = dask.grid(study)
    first.kill()
    first.wait()
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert client.wait(timeout=90) == 0, dask.output()
    assert "dashboard http://" in dask.output()
    check_cells(dask.folder / "out" / "some", splits, epochs)


def test_ctrl_c_ends_the_cells_on_the_workers(dask):
    worker = dask.start_worker()
    study = write_study(dask.folder, [0, 1], epochs=100, learning_rate=0.3)
    client = dask.grid(study)
    wait_for(at_epoch(dask, 0, 1))
    family = find(worker.pid, "")
    client.send_signal(signal.SIGINT)
    assert client.wait(timeout=20) == 130
    assert "stopped; the same command goes on from here" in dask.output()
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert lock.find_holder(dask.cell(0)) == ""
    status = grid.read_status(Study.load(study), dask.folder / "out")
    assert [cell.state for cell in status.values()] == ["waiting", "waiting"]
    assert status[name(0)].reason.startswith("cut off after epoch ")


def test_the_scheduler_goes_and_comes_back(dask):
    worker = dask.start_worker()
    study = write_study(dask.folder, [0], epochs=8, learning_rate=0.3)
    client = dask.grid(study)
    wait_for(at_epoch(dask, 0, 2))
    dask.scheduler.kill()
    dask.scheduler.wait()
    wait_for(lambda: "is gone; waiting for it" in dask.output())
    worker.wait(timeout=30)  # workers end with their scheduler
    dask.start_scheduler()
    dask.start_worker()
    assert client.wait(timeout=60) == 0, dask.output()
    check_cells(dask.folder / "out" / "some", [0], 8)


def test_without_a_shared_disk_whole_cells_come_back(dask):
    dask.start_worker(ALONE="1")
    study = write_study(dask.folder, [0, 1], {1: 1}, epochs=24, learning_rate=0.3)
    client = dask.grid(study, "--retries", 0)
    wait_for(at_epoch(dask, 0, 1))
    status = grid.read_status(Study.load(study), dask.folder / "out")
    assert status[name(0)].state == "running"
    assert client.wait(timeout=60) == 1, dask.output()
    status = grid.read_status(Study.load(study), dask.folder / "out")
    assert [cell.state for cell in status.values()] == ["done", "failed"]
    assert status[name(1)].reason == "RuntimeError: seed one is broken"
    assert "seed one is broken" in (dask.cell(1) / "log.txt").read_text()
    check_cells(dask.folder / "out" / "some", [0], 24)
    assert (dask.cell(0) / "cell.ipynb").exists()
    assert read_json(dask.cell(0) / "metrics.json")["threads"] == str(grid.count_cpus())
    assert not (dask.folder / "out" / "some" / ".arriving" / name(0)).exists()
    wait_for(lambda: not list(dask.folder.glob("semisiam-*/*/*/done.json")), 10)


def test_what_arrives_damaged_is_not_taken(tmp_path):
    files = {"metrics.json": b"{}", "history.csv": b"epoch"}
    cell = Cell()
    from semisiam.run.folder import write_done

    made = tmp_path / "made"
    made.mkdir()
    for file, content in files.items():
        (made / file).write_bytes(content)
    write_done(made, cell)
    files["done.json"] = (made / "done.json").read_bytes()
    (tmp_path / "study").mkdir()
    damaged = files | {"history.csv": b"epocH"}
    status = cluster._install(tmp_path / "study", "some", cell, damaged)
    assert status.state == "failed"
    assert "not whole: history.csv is damaged" in status.reason
    assert not (tmp_path / "study" / "some").exists()
    assert cluster._install(tmp_path / "study", "some", cell, files) is None
    assert grid.read_cell_status(tmp_path / "study" / "some", cell).state == "done"


def test_no_scheduler_is_told_within_seconds(tmp_path):
    study = write_study(tmp_path, [0])
    write_notebook(tmp_path)
    with socket.socket() as other:  # a port taken by something else
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        places = (address, "tcp://127.0.0.1:9", str(tmp_path / "none.json"))
        for place in places:
            started = time.monotonic()
            command = [sys.executable, str(tmp_path / "run.py"), "grid", str(study)]
            command += ["--outputs", str(tmp_path / "out"), "--scheduler", place]
            told = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert told.returncode == 1
            assert told.stderr.startswith("Error: "), told.stderr
            assert place in told.stderr and "Traceback" not in told.stderr
            assert told.stderr.count("\n") == 1
            assert time.monotonic() - started < 30
