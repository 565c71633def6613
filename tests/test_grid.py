"""The grid on a tiny notebook: real papermill, kernels and files, no training."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import pytest
import yaml
from command import invoke
from made_up import write_cell
from rich.console import Console
from tiny_study import name, read_status, run_here, write_notebook, write_study

from semisiam import ROOT, cli
from semisiam.atomic import read_json
from semisiam.cell import Cell, SettingsError, Study
from semisiam.run import display, grid, worker
from semisiam.run.worker import Status


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "MASTER", write_notebook(tmp_path))
    monkeypatch.setattr(cli, "identify", lambda cell: "")
    return tmp_path


def test_a_failed_cell_is_told_with_its_log_and_stops_no_other(tiny):
    study = write_study(tiny, [0, 1, 3], {1: 1})
    result = invoke("grid", study, "--outputs", tiny, "--workers", 2)
    assert result.exit_code == 1
    assert "1 failed:" in result.output
    assert f"{name(1)}\n    why  RuntimeError: seed one is broken\n    log  " in result.output
    status = read_status(study, tiny)
    assert [status[name(i)].state for i in (0, 1, 3)] == ["done", "failed", "done"]
    later = invoke("status", study, "--outputs", tiny)
    assert later.exit_code == 1
    assert "2 done, 0 running, 1 failed, 0 waiting" in later.output
    assert f"{name(0)}\n" in later.output
    assert f"{name(3)}  (collapsed: the embedding is nearly constant" in later.output
    assert invoke("status", study, "--outputs", tiny, "--only", "split=0,3").exit_code == 0


def test_done_cells_are_skipped_and_stale_ones_run_again(tiny):
    study = write_study(tiny, [0])
    assert invoke("grid", study, "--outputs", tiny).exit_code == 0
    done = tiny / "some" / name(0) / "done.json"
    first = done.stat().st_mtime_ns
    assert invoke("grid", study, "--outputs", tiny).exit_code == 0
    assert done.stat().st_mtime_ns == first
    assert invoke("status", study, "--outputs", tiny).exit_code == 0

    write_study(tiny, [0], epochs=4)
    status = read_status(study, tiny)[name(0)]
    assert (status.state, status.reason) == ("waiting", "run with other settings: epochs 1, now 4")
    assert invoke("grid", study, "--outputs", tiny).exit_code == 0
    assert json.loads(done.read_text())["hash"] == Cell(epochs=4, learning_rate=0.01).hash


def test_an_older_grid_leaves_what_a_newer_one_has_run(tiny):
    ((name, older),) = Study.load(write_study(tiny, [0])).cells().items()
    ((_, newer),) = Study.load(write_study(tiny, [0], epochs=4)).cells().items()
    folder = tiny / "some" / name
    assert worker.run_cell(newer, folder).state == "done"
    refused = worker.run_cell(older, folder)  # it saw an empty folder when it began
    assert refused.state == "failed" and refused.reason.startswith("another grid, with other")
    assert read_json(folder / "done.json")["hash"] == newer.hash
    assert worker.run_cell(older, folder, newer.hash).state == "done"  # it saw the newer cell


def test_a_cell_on_other_images_runs_again_and_is_not_recorded_before(tiny, monkeypatch):
    study = write_study(tiny, [0])
    assert invoke("grid", study, "--outputs", tiny).exit_code == 0
    done = tiny / "some" / name(0) / "done.json"
    done.write_text(json.dumps(json.loads(done.read_text()) | {"content": "0" * 16}))
    monkeypatch.setattr(cli, "identify", lambda cell: "1" * 16)
    told = f"run on other images: content {'0' * 16}, now {'1' * 16}"
    for command in ("status", "record"):
        result = invoke(command, study, "--outputs", tiny)
        assert result.exit_code == 1
        assert told in result.output
    assert invoke("grid", study, "--outputs", tiny).exit_code == 0
    assert invoke("status", study, "--outputs", tiny).exit_code == 0  # of the tiny notebook's: ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"base: {epochs: 3, epochs: 4}", "epochs is given twice"),
        (b"base: {split: 1}\naxes: {split: [0]}\nbase: {}", "base is given twice"),
        (b"base: {split: 010}", "010 would be read as octal"),
        (b"base:\n  epochs: 1:30", "1:30 would be read as octal or as minutes"),
        (b"base:\n  lambda_u: 1:30.5", "1:30.5 would be read as octal or as minutes"),
        (b"base: {data_dir: 2026-13-01}", "month must be in 1..12"),
        ("base: {epochs: 3}".encode("utf-16"), "is not valid YAML in UTF-8"),
        ("description: caf\xe9".encode("latin-1"), "is not valid YAML in UTF-8"),
    ],
)
def test_what_yaml_would_take_silently_is_refused(tiny, text, told):
    (tiny / "some.yaml").write_bytes(text)
    result = invoke("status", tiny / "some.yaml")
    assert result.exit_code == 1
    assert f"Error: {tiny / 'some.yaml'} is not" in result.output and told in result.output


def test_a_full_disk_is_told_in_one_line(tiny):
    command = [sys.executable, tiny / "run.py", "status", write_study(tiny, [0])]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        how = {"stdout": full, "stderr": subprocess.PIPE, "text": True, "env": environment}
        told = subprocess.run(command, **how)
    assert (told.returncode, told.stderr) == (1, "Error: No space left on device\n")


def test_images_that_changed_while_the_grid_ran_are_told(tiny, monkeypatch):
    study = write_study(tiny, [0])
    done = tiny / "some" / name(0) / "done.json"

    def identify(cell):
        if done.exists():
            done.write_text(json.dumps(read_json(done) | {"content": "0" * 16}))
        return "1" * 16

    monkeypatch.setattr(cli, "identify", identify)
    result = invoke("grid", study, "--outputs", tiny)
    assert result.exit_code == 1
    assert f"why  run on other images: content {'0' * 16}, now {'1' * 16}" in result.output


def test_results_that_were_damaged_while_the_grid_ran_are_told(tiny, monkeypatch):
    metrics = tiny / "some" / name(0) / "metrics.json"
    monkeypatch.setattr(cli, "identify", lambda cell: metrics.exists() and metrics.write_text(""))
    result = invoke("grid", write_study(tiny, [0]), "--outputs", tiny)
    assert result.exit_code == 1 and "why  metrics.json is damaged: 0 bytes" in result.output


def test_a_worker_that_cannot_run_a_cell_stops_no_other(tmp_path):
    cells = Study.load(write_study(tmp_path, [0, 1])).cells()

    def run(cell, *_):
        if cell.split == 0:
            raise ModuleNotFoundError("No module named 'semisiam'")
        return Status("done")

    before = dict.fromkeys(cells, Status("waiting"))
    with futures.ThreadPoolExecutor(1) as pool:
        after = grid.run_study(cells, tmp_path / "out", before, pool, run, lambda _: None)
    told = "its worker could not run it: ModuleNotFoundError: No module named 'semisiam'"
    assert after == {name(0): Status("failed", told), name(1): Status("done")}


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_stream_may_be_closed(tiny, closed):
    words = [sys.executable, tiny / "run.py", "grid", write_study(tiny, [0]), "--outputs", tiny]
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *map(str, words)]
    assert subprocess.run(command, cwd=tiny).returncode == 0
    assert read_status(tiny / "some.yaml", tiny)[name(0)].state == "done"


def test_a_reader_that_goes_away_stops_no_cell(tiny):
    """rich would end the grid where nobody reads its lines any more."""
    words = [sys.executable, tiny / "run.py", "grid", write_study(tiny, [0, 1]), "--outputs", tiny]
    with subprocess.Popen([*map(str, words)], cwd=tiny, stderr=subprocess.PIPE) as grid:
        grid.stderr.close()
    assert grid.returncode == 0
    assert [cell.state for cell in read_status(tiny / "some.yaml", tiny).values()] == ["done"] * 2


def test_the_number_of_workers_is_refused_for_dask(tiny):
    words = ("--outputs", tiny, "--scheduler", "tcp://127.0.0.1:9", "--workers", 3)
    result = invoke("grid", write_study(tiny, [0]), *words)
    assert result.exit_code == 1 and "--workers is for this machine" in result.output


def test_a_file_of_splits_that_is_missing_stops_no_other_cell(tiny, monkeypatch):
    monkeypatch.undo()
    axes = {"splits_file": ["", "none.json"]}
    (tiny / "some.yaml").write_text(yaml.safe_dump({"axes": axes}))
    for folder, cell in Study.load(tiny / "some.yaml").cells().items():
        write_cell(tiny / "some", 0.5, name=folder, **cell.model_dump())
    result = invoke("status", tiny / "some.yaml", "--outputs", tiny)
    assert result.exit_code == 0 and "2 done" in result.output


def test_every_axis_gives_each_cell_a_folder_of_its_own(tiny):
    axes = {"data_dir": ["/A", "/B", "c:\\B", "/ä/" + "x" * 300], "bn_momentum": [0.9, None]}
    (tiny / "some.yaml").write_text(yaml.safe_dump({"base": {"epochs": 1}, "axes": axes}))
    assert invoke("grid", tiny / "some.yaml", "--outputs", tiny).exit_code == 0
    assert invoke("status", tiny / "some.yaml", "--outputs", tiny).exit_code == 0
    folders = [path.name for path in (tiny / "some").iterdir() if path.is_dir()]
    assert len(folders) == 8
    assert all(len(name) < 150 and name.isascii() for name in folders)
    assert f"{name(0)}-bn_momentum_None-data_dir_A_6a560f" in folders


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_is_not_utf_8(tiny, encoding):
    study = write_study(tiny, [0]).rename(tiny / "\N{SNOWMAN}.yaml")
    command = [sys.executable, tiny / "run.py", "status", study, "--outputs", tiny / "\N{SNOWMAN}"]
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    told = subprocess.run(command, capture_output=True, env=environment)
    assert b"1 waiting" in told.stdout and b"Traceback" not in told.stderr
    missing = subprocess.run([*command[:3], "\N{SNOWMAN}"], capture_output=True, env=environment)
    assert missing.stderr.startswith(b"Error: cannot read the study ")


def test_the_kernel_is_of_this_python_whatever_a_user_calls_python3(tiny, monkeypatch):
    spec = tiny / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = ["no-such-python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tiny / "jupyter"))
    assert invoke("grid", write_study(tiny, [0]), "--outputs", tiny / "out").exit_code == 0


def test_a_checkout_below_braces(tiny, monkeypatch):
    (tiny / "{b}").mkdir()
    monkeypatch.setattr(worker, "MASTER", worker.MASTER.rename(tiny / "{b}" / "tiny.ipynb"))
    assert invoke("grid", write_study(tiny, [0]), "--outputs", tiny / "out").exit_code == 0


def test_a_file_system_without_locks_is_told(tiny, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("semisiam.run.folder.lock_descriptor", refuse)  # none is at hand here
    result = invoke("grid", write_study(tiny, [0]), "--outputs", tiny / "out")
    assert result.exit_code == 1
    told = f"{name(0)}/lock: its file system has no locks (No locks available)"
    assert told in result.output


def test_relative_paths_in_a_study_start_where_the_user_is(tiny, monkeypatch):
    (tiny / "here").mkdir()
    monkeypatch.chdir(tiny / "here")
    assert invoke("grid", write_study(tiny, [0]), "--outputs", "out").exit_code == 0
    metrics = json.loads((tiny / "here" / "out" / "some" / name(0) / "metrics.json").read_text())
    assert metrics["cwd"] == str(tiny / "here")
    assert not Path(metrics["temp"]).exists()  # though its kernel is killed at the end


def test_python_files_where_the_user_is_are_not_imported(tiny, monkeypatch):
    monkeypatch.chdir(tiny)
    for stem in ("queue", "papermill", "numpy"):
        (tiny / f"{stem}.py").write_text("raise SystemExit('imported')")
    assert invoke("grid", write_study(tiny, [0]), "--outputs", "out").exit_code == 0


def test_a_cell_that_another_grid_ran_on_the_new_images_stays(tiny):
    study = write_study(tiny, [0])
    assert invoke("grid", study, "--outputs", tiny).exit_code == 0
    done = tiny / "some" / name(0) / "done.json"
    for content, stays in (("new", True), ("old", False)):
        written = json.dumps(read_json(done) | {"content": content})
        done.write_text(written)
        told = Status("waiting", "run on other images: content old, now new")  # as seen before
        cells = Study.load(study).cells()
        with grid.running_here(1) as (executor, run, *_):
            after = grid.run_study(
                cells, tiny / "some", {name(0): told}, executor, run, lambda status: None
            )
        assert after[name(0)].state == "done"
        assert (done.read_text() == written) is stays


@pytest.mark.parametrize("weights", ["/x/own.h5", "~/own.h5"])
def test_a_path_of_this_machine_is_not_recorded(tiny, weights):
    (tiny / "some.yaml").write_text(yaml.safe_dump({"base": {"weights": weights}}))
    ((name, cell),) = Study.load(tiny / "some.yaml").cells().items()
    write_cell(tiny / "some", 0.5, name=name, **cell.model_dump())
    result = invoke("record", tiny / "some.yaml", "--outputs", tiny)
    assert result.exit_code == 1
    assert f"{weights} would be recorded: give a path relative to" in result.output


def test_cells_that_the_study_does_not_have_are_not_recorded(tiny, monkeypatch):
    monkeypatch.setattr("semisiam.cli.ROOT", tiny)
    ((name, cell),) = Study.load(study := write_study(tiny, [0])).cells().items()
    write_cell(tiny / "some", 0.5, name=name, **cell.model_dump())
    write_cell(tiny / "some", 0.5, name="older", splits_file="/x/split.json")
    assert invoke("record", study, "--outputs", tiny).exit_code == 0
    assert "/x/" not in (tiny / "outputs" / "published" / "some" / "cells.json").read_text()


def test_a_study_is_recorded_and_what_is_missing_is_told(tiny, monkeypatch):
    monkeypatch.setattr("semisiam.cli.ROOT", tiny)
    study = write_study(tiny, [0, 1])
    first, second = Study.load(study).cells().items()
    write_cell(tiny / "some", 0.5, name=first[0], **first[1].model_dump())
    result = invoke("record", study, "--outputs", tiny)
    assert result.exit_code == 1 and "1 cells of some were never recorded" in result.output
    (recorded,) = json.loads((tiny / "outputs" / "published" / "some" / "cells.json").read_text())
    assert recorded["settings"]["split"] == 0
    write_cell(tiny / "some", 0.5, name=second[0], **second[1].model_dump())
    assert invoke("record", study, "--outputs", tiny).exit_code == 0


def test_nothing_done_is_nothing_to_record(tiny):
    result = invoke("record", write_study(tiny, [0]), "--outputs", tiny)
    assert result.exit_code == 1
    assert "no cell of some is done" in result.output
    assert not (ROOT / "outputs" / "published" / "some").exists()


def test_a_study_is_checked_before_anything_runs(tiny):
    result = invoke("grid", write_study(tiny, [0, -1]), "--outputs", tiny / "new")
    assert result.exit_code == 1
    assert "split = -1: input should be greater than or equal to 0" in result.output
    assert not (tiny / "new").exists()
    assert "cannot read the study" in invoke("grid", tiny / "none.yaml").output


def test_an_output_folder_that_cannot_be_written(tiny):
    (tiny / "file").write_text("")
    for command in ("grid", "report"):
        result = invoke(command, write_study(tiny, [0]), "--outputs", tiny / "file" / "below")
        assert result.exit_code == 1
        assert "Error: " in result.output and "Not a directory" in result.output
    with pytest.raises(SettingsError, match="cannot write to"):
        run_here(write_study(tiny, [0]), tiny / "file")
    assert invoke("grid", write_study(tiny, [0]), "--outputs", tiny / "a{b}").exit_code == 0


SETTINGS = {
    "base": {"dataset": "digits"},
    "axes": {"backbone": ["small_cnn", "mobilenet_v2"], "split": [0, 1, 2], "attack": ["none"]},
}


def test_cells_are_chosen_by_their_settings():
    study = Study(name="some", **SETTINGS)
    assert len(grid.choose_cells(study)) == 6
    chosen = grid.choose_cells(study, "backbone=mobilenet_v2 split=0,2 bn_momentum=None")
    assert [(cell.backbone, cell.split) for cell in chosen.values()] == [
        ("mobilenet_v2", 0),
        ("mobilenet_v2", 2),
    ]
    assert list(grid.choose_cells(study, "split=0,2", 1)) == [list(study.cells())[2]]
    name = list(study.cells())[4]
    assert list(grid.choose_cells(study, name)) == [name]
    assert len(grid.choose_cells(study, "*-mobilenet_v2-* split=1,2")) == 2
    for only, told in (
        ("spilt=0", "give SETTING=VALUE.* e.g. of backbone, split, attack"),
        ("split", "no cell has this name; of settings, give SETTING=VALUE"),
        ("*-split_9", "no cell has this name"),
        ("split=0,7", "no cell has split 7, but 0, 1, 2"),
        ("dataset=stl10", "no cell has dataset stl10, but digits"),
    ):
        with pytest.raises(SettingsError, match=told):
            grid.choose_cells(study, only)
    with pytest.raises(SettingsError, match="--index 6: there are 6 cells, 0 to 5"):
        grid.choose_cells(study, index=6)


def test_values_are_compared_and_not_their_texts():
    base = {"lambda_u": 1.0, "learning_rate": 0.001, "bn_momentum": None, "data_dir": "1"}
    study = Study(name="some", base=base)
    for only in (
        "lambda_u=1",
        "lambda_u=1e0",
        "learning_rate=1e-3",
        "deterministic=1",
        "deterministic=true",
        "bn_momentum=none",
        "bn_momentum=None",
        "data_dir=1",
        "attack=none",
        "split=00,0",
    ):
        assert len(grid.choose_cells(study, only)) == 1, only
    for only in ("lambda_u=2", "lambda_u=one", "deterministic=0", "bn_momentum=0", "split=0.5"):
        with pytest.raises(SettingsError, match="no cell has"):
            grid.choose_cells(study, only)


def test_one_cell_by_its_index(tiny):
    study = write_study(tiny, [0, 1, 4], {1: 1})
    words = ("grid", study, "--outputs", tiny, "--index")
    assert invoke(*words, 2).exit_code == 0
    assert invoke(*words, 2).exit_code == 0
    states = [cell.state for cell in read_status(study, tiny).values()]
    assert states == ["waiting", "waiting", "done"]
    assert invoke(*words, 0, "--only", "split=1").exit_code == 1
    result = invoke(*words, 3)
    assert result.exit_code == 1
    assert "there are 3 cells, 0 to 2" in result.output


def test_a_dry_run_tells_time_and_disk_and_runs_nothing(tiny):
    study = write_study(tiny, [0, 1, 2])
    words = ("grid", study, "--outputs", tiny / "out", "--dry-run")
    assert "0 failed, 3 waiting\n" in invoke(*words).output  # no time before the first is done
    assert not (tiny / "out").exists()
    assert invoke("grid", study, "--outputs", tiny / "out", "--index", 0).exit_code == 0
    result = invoke(*words)
    assert f"    1  waiting {name(1)}  about 2 s left  (not run)" in result.output
    assert "2 waiting; about 2 s left, 2 side by side" in result.output  # 2 x 2 s, two at once
    assert "disk: about 0.10 GB needed" in result.output  # 2 x (6 + 8) MB, 72 MB in passing


def test_time_is_estimated_from_cells_of_the_same_kind():
    cells = Study(name="some", **SETTINGS).cells()
    states = [Status("done", seconds=10), Status("done", seconds=30), Status("waiting")]
    progress = {"epoch": 2, "epochs": 10, "seconds": 5.0}
    states += [Status("running", progress=progress), Status("failed"), Status("waiting")]
    status = dict(zip(cells, states, strict=True))
    found = grid.estimate_seconds(cells, status)
    assert list(found.values()) == [20, 8 * 5, 20]  # of the kind; by its epochs; of any kind
    told = display.describe_all(cells, status, 2)
    assert told == "2 done, 1 running, 1 failed, 2 waiting; about 40 s left, 2 side by side"
    told = display.describe_all(cells, dict.fromkeys(cells, Status("waiting")), 2)
    assert told == "0 done, 0 running, 0 failed, 6 waiting"


def test_the_disk_is_checked_before_a_run(tmp_path, monkeypatch):
    cells = Study(name="some", **SETTINGS).cells()  # 3 x (6 + 8) and 3 x (32 + 8) MB
    status = dict.fromkeys(cells, Status("waiting"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=546 * 10**6))
    told = grid.check_disk(tmp_path / "new", cells, status)  # and 12 x 32 in passing
    assert told == f"disk: about 0.55 GB needed, 0.55 GB free at {tmp_path}"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=545 * 10**6))
    with pytest.raises(SettingsError, match="make room, or set keep_model: false"):
        grid.check_disk(tmp_path / "new", cells, status)


def test_each_gpu_has_one_cell_at_a_time(tiny, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tiny / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: A (UUID: a)'\necho 'GPU 1: B'\n")
    (tiny / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tiny}:{os.environ['PATH']}")
    assert grid.list_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-a")
    assert grid.list_gpus() == ["3", "GPU-a"]
    study = write_study(tiny, [0, 1], learning_rate=1.0)  # so long that they overlap
    run_here(study, tiny, workers=8, threads=3)
    metrics = [read_json(tiny / "some" / name(split) / "metrics.json") for split in (0, 1)]
    assert [m["threads"] for m in metrics] == ["3", "3"]
    assert sorted(m["gpu"] for m in metrics) == ["3", "GPU-a"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert grid.list_gpus() == []


def test_the_live_table_shows_running_cells():
    cells = Study(name="some", **SETTINGS).cells()
    progress = {"epoch": 2, "epochs": 10, "loss": 0.5, "seconds": 60.0, "images_per_second": 123.4}
    states = [Status("done"), Status("running", progress=progress), *[Status("waiting")] * 4]
    console = Console(width=120, force_terminal=True, highlight=False, file=io.StringIO())
    console.print(display.draw(cells, dict(zip(cells, states, strict=True)), 2))
    text = console.file.getvalue()
    assert "1 done, 1 running, 0 failed, 4 waiting" in text
    for word in ("epoch 2/10", "loss 0.500", "123 images/s", "8 min left"):
        assert word in text
    assert [display.describe_seconds(s) for s in (40, 720, 12600)] == ["40 s", "12 min", "3.5 h"]


def test_help_is_complete_and_quick():
    for command in ("grid", "status", "record", "report", "own", "data", "embed"):
        assert "--help" in invoke(command, "--help").output
    command = [sys.executable, "-X", "importtime", "-m", "semisiam", "--help"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert "semisiam.cli" in told and "tensorflow" not in told and "pandas" not in told


def test_every_study_and_cell_in_params_is_valid():
    studies = list((ROOT / "params/studies").glob("*.yaml"))
    cells = list((ROOT / "params/cells").glob("*.yaml"))
    assert studies and cells
    for path in studies:
        assert Study.load(path).cells()
    for path in cells:
        Cell.check(yaml.safe_load(path.read_text()))
