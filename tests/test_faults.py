"""What really dies is really killed here: kernels, papermill, grids, files and disks."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from tiny_study import (
    check_cells,
    find,
    name,
    read_status,
    run_here,
    start,
    wait_for,
    write_study,
)
from tiny_study import write_notebook as write_tiny

from semisiam.atomic import read_json
from semisiam.cell import Cell, SettingsError, Study
from semisiam.run import folder as records
from semisiam.run import worker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Linux and macOS")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "MASTER", write_tiny(tmp_path))
    return tmp_path


def run(folder, study, **how):
    return run_here(study, folder / "out", **{"retries": 0} | how)


@pytest.mark.slow
def test_a_study_survives_twenty_kills(tiny):
    epochs, splits, rng = 12, range(12), random.Random(0)
    study = write_study(tiny, list(splits), epochs=epochs, learning_rate=0.2)
    words = ("grid", study, "--outputs", tiny / "out", "--workers", 2, "--retries", 2)
    kills, process = {"grid": 0, "semisiam.run.child": 0, "ipykernel": 0}, None
    while sum(kills.values()) < 20:
        if process is None or process.poll() is not None:
            assert process is None or process.returncode != 0, f"done after {kills}: more cells"
            process = start(tiny, *words)
        time.sleep(rng.uniform(0.3, 2.5))
        word = rng.choice(list(kills))
        victims = [psutil.Process(process.pid)] if word == "grid" else find(process.pid, word)
        if victims and process.poll() is None:
            rng.choice(victims).kill()
            kills[word] += 1
            if word == "grid":
                process.wait()
    for _ in range(5):  # a cell whose last retry was used up is run by the next grid
        process.wait(timeout=120)
        if process.returncode == 0:
            break
        process = start(tiny, *words)
    assert process.wait(timeout=120) == 0
    assert min(kills.values()) > 0
    check_cells(tiny / "out" / "some", splits, epochs)
    states = {cell.state for cell in read_status(study, tiny / "out").values()}
    assert states == {"done"}


MEASURED = {"seconds", "seconds_tracing", "images_per_second", "started", "revision"}


@pytest.mark.slow
def test_the_master_resumes_bit_for_bit(tmp_path):
    settings = {"epochs": 6, "unlabelled_limit": 256, "test_limit": 150, "label_fraction": 0.2}
    study = tmp_path / "real.yaml"
    study.write_text(yaml.safe_dump({"base": settings}))
    (cell_name,) = Study.load(study).cells()
    command = [sys.executable, "-m", "semisiam", "grid", str(study), "--threads", "1"]
    subprocess.run([*command, "--outputs", str(tmp_path / "calm")], check=True)
    folder = tmp_path / "stormy" / "real" / cell_name

    def at_epoch(epoch):
        return lambda: read_json(folder / "progress.json").get("epoch", 0) >= epoch

    for epoch, victim in ((2, "ipykernel"), (4, "grid")):
        process = subprocess.Popen([*command, "--retries", "0", "--outputs", tmp_path / "stormy"])
        wait_for(at_epoch(epoch), 180)
        family = [psutil.Process(process.pid), *find(process.pid, "")]
        next(p for p in family if victim in " ".join(p.cmdline())).kill()
        assert process.wait(timeout=60) != 0
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive
    subprocess.run([*command, "--outputs", str(tmp_path / "stormy")], check=True)
    calm = tmp_path / "calm" / "real" / cell_name
    metrics = [json.loads((f / "metrics.json").read_text()) for f in (calm, folder)]
    assert metrics[0].keys() == metrics[1].keys()
    assert all(metrics[0][key] == metrics[1][key] for key in metrics[0].keys() - MEASURED)
    histories = [pd.read_csv(f / "history.csv").drop(columns="seconds") for f in (calm, folder)]
    assert histories[0].equals(histories[1])
    assert len(histories[0]) == 6
    with np.load(calm / "features.npz") as a, np.load(folder / "features.npz") as b:
        assert all((a[key] == b[key]).all() for key in a)
    weights = [load_weights(f / "model.keras") for f in (calm, folder)]
    assert all((a == b).all() for a, b in zip(*weights, strict=True))
    assert not (folder / "checkpoint.npz").exists()


def load_weights(path):
    import keras

    return keras.saving.load_model(path, compile=False).get_weights()


def test_the_kernel_of_a_dead_grid_ends_and_its_lock_with_it(tiny):
    study = write_study(tiny, [0], {0: 3})
    process = start(tiny, "grid", study, "--outputs", tiny / "out")
    folder = tiny / "out" / "some" / name(0)
    family = wait_for(lambda: len(f := find(process.pid, "")) == 2 and f)
    assert records.find_holder(folder).endswith(f"process {process.pid}")
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert records.find_holder(folder) == ""


def test_the_lock_is_held_as_long_as_the_kernel_lives(tiny):
    """Even if nobody else is left who would know of it."""
    study = write_study(tiny, [0], {0: 3})
    process = start(tiny, "grid", study, "--outputs", tiny / "out")
    folder = tiny / "out" / "some" / name(0)
    (kernel,) = wait_for(lambda: find(process.pid, "ipykernel"))
    (papermill,) = find(process.pid, "semisiam.run.child")
    for frozen in (kernel, psutil.Process(process.pid), papermill):
        frozen.suspend()  # so that none of them ends another
    for victim in (process, papermill):
        victim.kill()
    process.wait()
    psutil.wait_procs([papermill], timeout=10)
    assert records.find_holder(folder) != ""
    kernel.kill()
    psutil.wait_procs([kernel], timeout=10)
    assert records.find_holder(folder) == ""


def test_two_grids_at_once_share_a_study(tiny):
    study = write_study(tiny, [0, 1, 2], epochs=3, learning_rate=0.3)
    words = ("grid", study, "--outputs", tiny / "out", "--workers", 2)
    grids = [start(tiny, *words) for _ in range(2)]
    assert [process.wait(timeout=60) for process in grids] == [0, 0]
    check_cells(tiny / "out" / "some", range(3), 3)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_notebook_started_by_hand_is_kept_apart_from_a_grid(tiny, how):
    study = write_study(tiny, [0], {0: 3})
    folder = tiny / "out" / "some" / name(0)
    process = start(tiny, "grid", study, "--outputs", tiny / "out")
    try:
        wait_for(lambda: records.find_holder(folder))
        with pytest.raises(SettingsError, match="another run, or a notebook"):
            records.open_folder(Cell(output_dir=str(folder)))
    finally:
        kernels = wait_for(lambda: find(process.pid, "ipykernel"))
        process.send_signal(how)
    assert process.wait(timeout=30) == 130
    assert not psutil.wait_procs(kernels, timeout=10)[1]
    assert "stopped; give the same command again to go on" in (tiny / "output.txt").read_text()
    (status,) = read_status(study, tiny / "out").values()
    assert (status.state, status.reason) == ("waiting", "not finished")


def test_each_way_to_fail_is_told(tiny):
    study = write_study(tiny, [1, 2, 4, 6], {1: 1, 2: 2, 4: 4, 6: 6})
    status = run(tiny, study)
    assert {cell.state for cell in status.values()} == {"failed"}
    assert status[name(1)].reason == "RuntimeError: seed one is broken"
    assert (
        status[name(2)].reason
        == "the kernel died: it was killed (too little memory?) or ended by itself"
    )
    assert status[name(4)].reason.startswith("MemoryError: ")
    assert status[name(6)].reason.startswith("the kernel crashed: Segmentation fault, in File ")
    assert "seed one is broken" in (tiny / "out/some" / name(1) / "log.txt").read_text()


def test_a_cell_that_hangs_is_ended(tiny):
    study = write_study(tiny, [3], {3: 3})
    (status,) = run(tiny, study, stall_minutes=0.08).values()
    assert (status.state, status.reason) == ("failed", "hung: no epoch ended within 0.08 minutes")
    assert not find(os.getpid(), "ipykernel")


def test_an_epoch_that_ended_starts_the_clock_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "TICK", 0.05)
    touch = "import pathlib, sys, time\nfor _ in range(8): pathlib.Path(sys.argv[1]).touch()"
    code = touch.replace(": pathlib", ": time.sleep(0.4); pathlib")
    progress = tmp_path / "progress.json"
    with subprocess.Popen([sys.executable, "-c", code, str(progress)]) as child:
        assert worker._watch(child, progress, 1.5 / 60, lambda: False) == ""  # 3.2 s in all
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        told = worker._watch(child, progress, 0.5 / 60, lambda: False)
        child.kill()
    assert told.startswith("hung: no epoch ended")


@pytest.mark.parametrize(("seed", "kernels"), [(1, 1), (2, 3)])  # raises; dies
def test_only_a_kernel_that_died_is_started_again(tiny, seed, kernels):
    (status,) = run(tiny, write_study(tiny, [seed], {seed: seed}), retries=2).values()
    log = tiny / "out" / "some" / name(seed) / "kernels.log"
    assert status.state == "failed" and len(log.read_text().split()) == kernels


def test_a_kernel_that_died_is_started_again_so_often(tiny):
    study = write_study(tiny, [0], epochs=6, learning_rate=0.3)
    progress = tiny / "out/some" / name(0) / "progress.json"
    killed = []

    def kill(status):
        if not killed and progress.exists():
            killed.extend(find(os.getpid(), "ipykernel"))
            killed[0].kill()

    (status,) = run(tiny, study, retries=1, on_change=kill).values()
    assert status.state == "done" and len(killed) == 1
    check_cells(tiny / "out" / "some", [0], 6)


@pytest.mark.parametrize("limit", ["file size", "tmpfs"])
def test_a_full_disk_is_told_and_the_study_goes_on(tiny, limit):
    study = write_study(tiny, [5, 0], {5: 5}, keep_model=False)
    out = tiny / "out"
    out.mkdir()
    words = [sys.executable, str(tiny / "run.py"), "grid", str(study), "--outputs", str(out)]
    words += ["--retries", "0", "--workers", "1"]  # beside it, the other cell may find no space
    how = {}
    if limit == "tmpfs":
        words = own_disk(out, "size=100m", words, keep=tiny / "kept")
    else:
        how["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, 2**21))
    told = subprocess.run(words, capture_output=True, text=True, cwd=tiny, **how)
    if limit == "tmpfs":
        out.rmdir()
        (tiny / "kept").rename(out)
    assert told.returncode == 1
    assert "1 done, 0 running, 1 failed" in told.stderr
    assert {"file size": "File too large", "tmpfs": "No space left"}[limit] in told.stderr
    status = read_status(study, out)
    assert [cell.state for cell in status.values()] == ["failed", "done"]
    assert {cell.state for cell in run(tiny, write_study(tiny, [5, 0])).values()} == {"done"}


def test_a_full_log_ends_no_cell(tiny):
    study = write_study(tiny, [0, 1])
    with Path("/dev/full").open("w") as full:
        words = ("grid", study, "--outputs", tiny / "out", "--workers", 1)
        assert start(tiny, *words, stderr=full).wait(timeout=120) == 0
    check_cells(tiny / "out" / "some", [0, 1], 1)


def own_disk(folder, options, words, keep):
    """Run a command where `folder` is a small disk of its own, and keep what it leaves there."""
    try:
        subprocess.run(["unshare", "-rm", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mount namespaces for this user")
    script = f'mount -t tmpfs -o {options} tmpfs {folder}; "$@"; code=$?; cp -r {folder} {keep}; '
    return ["unshare", "-rm", "sh", "-c", script + "exit $code", "sh", *words]


def test_an_output_folder_that_is_read_only(tiny):
    (tiny / "out").mkdir()
    words = [sys.executable, str(tiny / "run.py"), "grid", str(write_study(tiny, [0]))]
    words += ["--outputs", str(tiny / "out")]
    words = own_disk(tiny / "out", "ro", words, keep=tiny / "kept")
    told = subprocess.run(words, capture_output=True, text=True)
    assert told.returncode == 1
    assert "Error: cannot write to" in told.stderr and "Read-only" in told.stderr


def test_damaged_files_are_noticed_and_the_cell_runs_again(tiny):
    study = write_study(tiny, [0])
    run(tiny, study)
    folder = tiny / "out" / "some" / name(0)
    for file in ("history.csv", "metrics.json"):
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[:-1] + b"?")
        (status,) = read_status(study, tiny / "out").values()
        assert status.reason == f"{file} is damaged: it was changed after it was written"
        (folder / file).write_bytes(whole[:-1])
        (status,) = read_status(study, tiny / "out").values()
        assert f"{file} is damaged: {len(whole) - 1} bytes" in status.reason
        (folder / file).write_bytes(whole)
    assert read_status(study, tiny / "out")[name(0)].state == "done"
    (folder / "done.json").write_text("{")
    assert "done.json cannot be read" in read_status(study, tiny / "out")[name(0)].reason
    assert run(tiny, write_study(tiny, [0]))[name(0)].state == "done"


def test_status_of_two_thousand_done_cells_takes_few_seconds(tiny):
    study = write_study(tiny, list(range(2000)))
    run(tiny, write_study(tiny, [0]))
    done = tiny / "out" / "some" / name(0)
    write_study(tiny, list(range(2000)))
    for split, (cell_name, cell) in enumerate(Study.load(study).cells().items()):
        folder = tiny / "out" / "some" / cell_name
        if split:
            folder.mkdir()
            for file in ("metrics.json", "history.csv"):
                shutil.copy(done / file, folder)
            records.write_done(folder, cell, "")
    command = [sys.executable, str(tiny / "run.py"), "status", str(study)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = subprocess.run(
        [*command, "--outputs", str(tiny / "out")], capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert told.returncode == 0, told.stderr
    assert "2000 done" in told.stdout
    assert seconds < 5, f"{seconds:.1f} s"  # 2.8 on the slowest machine seen, under 2 on others
