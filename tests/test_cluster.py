"""Dask clusters of real processes on this machine: a scheduler, workers, and what kills them."""

import os
import signal
import socket
import subprocess
import sys
import time

import distributed
import psutil
import pytest
from tiny_study import (
    check_cells,
    find,
    name,
    read_status,
    start,
    wait_for,
    write_notebook,
    write_study,
)

from semisiam import ROOT
from semisiam.atomic import read_json
from semisiam.run import cluster
from semisiam.run.folder import find_holder

PRELOAD = """
import os
from pathlib import Path
from semisiam.run import worker
worker.MASTER = Path(os.environ["NOTEBOOK"])
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

    def start_worker(self, within=()):
        words = ["worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        words += ["--preload", str(self.folder / "preload.py")]
        self.workers.append(self._start(*words, within=within))
        return self.workers[-1]

    def _start(self, *words, within=()):
        command = [*within, sys.executable, "-m", "dask", *words]
        env = os.environ | {"NOTEBOOK": str(self.folder / "tiny.ipynb")}
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
    status = read_status(study, dask.folder / "out")
    assert status[name(0)].state == "running"
    client.kill()
    client.wait()
    client = dask.grid(study)
    wait_for(lambda: at_epoch(dask, 0, 4)() or at_epoch(dask, 1, 4)())
    family = wait_for(lambda: find(first.pid, ""))
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
    begun = [at_epoch(dask, split, 1) for split in (0, 1)]  # Dask may begin with either
    wait_for(lambda: any(has_begun() for has_begun in begun))
    family = find(worker.pid, "")
    client.send_signal(signal.SIGINT)
    assert client.wait(timeout=20) == 130
    assert "stopped; give the same command again to go on" in dask.output()
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert [find_holder(dask.cell(split)) for split in (0, 1)] == ["", ""]
    status = read_status(study, dask.folder / "out")
    assert [cell.state for cell in status.values()] == ["waiting", "waiting"]
    assert any(cell.reason.startswith("cut off after epoch ") for cell in status.values())


def test_the_scheduler_goes_and_the_same_command_goes_on(dask):
    worker = dask.start_worker()
    study = write_study(dask.folder, [0], epochs=8, learning_rate=0.3)
    client = dask.grid(study)
    wait_for(at_epoch(dask, 0, 2))
    dask.scheduler.kill()
    dask.scheduler.wait()
    assert client.wait(timeout=30) == 1
    last = dask.output().splitlines()[-1]
    assert last.startswith(f"Error: the connection to the scheduler at {dask.address} was lost"), (
        dask.output()
    )
    assert "Traceback" not in dask.output()
    worker.wait(timeout=30)  # workers end with their scheduler
    dask.start_scheduler()
    dask.start_worker()
    client = dask.grid(study)
    assert client.wait(timeout=60) == 0, dask.output()
    check_cells(dask.folder / "out" / "some", [0], 8)


def test_a_worker_without_the_shared_disk_is_told(dask):
    out = dask.folder / "out"
    out.mkdir()
    hide = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs none {out}; exec "$@"', "sh"]
    if subprocess.run([*hide[:2], "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces for this user")
    dask.start_worker(within=hide)
    client = dask.grid(write_study(dask.folder, [0]))
    assert client.wait(timeout=60) == 1
    assert f"does not see {out / 'some'}: no shared disk" in dask.output()


def test_workers_of_one_host_share_its_processors(monkeypatch):
    monkeypatch.setattr(cluster, "cpu_count", lambda: 12)
    options = {"processes": False, "dashboard_address": None, "protocol": "tcp://"}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, **options) as there,
        distributed.Client(there) as client,
    ):
        assert client.submit(lambda: cluster._share_cpus(distributed.get_worker())).result() == 3


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
