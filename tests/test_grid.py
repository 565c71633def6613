"""The grid on a tiny notebook: real papermill, kernels and files, no training."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console
from tiny_study import name, write_notebook, write_study

from semisiam import ROOT
from semisiam.atomic import read_json
from semisiam.cell import Cell, SettingsError, Study
from semisiam.cli import main
from semisiam.run import display, grid, worker
from semisiam.run.worker import Options, Status


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "MASTER", write_notebook(tmp_path))
    return tmp_path


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_a_failed_cell_is_told_with_its_log_and_stops_no_other(tiny):
    study = write_study(tiny, [0, 1, 3], {1: 1})
    result = invoke("grid", study, "--outputs", tiny, "--workers", 2)
    assert result.exit_code == 1
    assert "1 failed:" in result.output
    assert f"{name(1)}\n    why  RuntimeError: seed one is broken\n    log  " in result.output
    status = grid.read_status(Study.load(study), tiny)
    assert [status[name(i)].state for i in (0, 1, 3)] == ["done", "failed", "done"]
    later = invoke("status", study, "--outputs", tiny)
    assert later.exit_code == 1
    assert "2 done, 0 running, 1 failed, 0 waiting" in later.output
    assert f"{name(0)}\n" in later.output
    assert f"{name(3)}  (collapsed: the embedding is all but constant" in later.output
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
    status = grid.read_status(Study.load(study), tiny)[name(0)]
    assert (status.state, status.reason) == ("waiting", "run with other settings: epochs 1 → 4")
    assert invoke("grid", study, "--outputs", tiny).exit_code == 0
    assert json.loads(done.read_text())["hash"] == Cell(epochs=4, learning_rate=0.01).hash


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hash": "0"}'])
def test_a_damaged_done_file_does_not_count(tiny, text):
    study = write_study(tiny, [0])
    folder = tiny / "some" / name(0)
    folder.mkdir(parents=True)
    (folder / "done.json").write_text(text)
    assert grid.read_status(Study.load(study), tiny)[name(0)].state == "waiting"


@pytest.mark.parametrize("text", ["", "[]", '{"pid": 1}'])
def test_a_damaged_word_on_who_runs_a_cell_says_nothing(tiny, text):
    study = write_study(tiny, [0])
    folder = tiny / "some" / name(0)
    folder.mkdir(parents=True)
    (folder / "running.json").write_text(text)
    (folder / "run.lock").touch()
    assert grid.read_status(Study.load(study), tiny)[name(0)].state == "waiting"


def test_relative_paths_in_a_study_start_where_the_user_is(tiny, monkeypatch):
    (tiny / "here").mkdir()
    monkeypatch.chdir(tiny / "here")
    assert invoke("grid", write_study(tiny, [0]), "--outputs", "out").exit_code == 0
    metrics = json.loads((tiny / "here" / "out" / "some" / name(0) / "metrics.json").read_text())
    assert metrics["cwd"] == str(tiny / "here")
    assert not Path(metrics["temp"]).exists()  # though its kernel is killed at the end


def test_papermill_ends_a_kernel_at_once():
    script = """
import nbformat, types
from semisiam.run.child import PapermillNotebookClient
managed = types.SimpleNamespace(nb=nbformat.v4.new_notebook())
print(PapermillNotebookClient(managed).shutdown_kernel)
"""
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "immediate"


def test_nothing_done_is_nothing_to_record(tiny):
    result = invoke("record", write_study(tiny, [0]), "--outputs", tiny)
    assert result.exit_code == 1
    assert "no cell of some is done" in result.output
    assert not (ROOT / "outputs" / "published" / "some").exists()


def test_a_study_is_checked_before_anything_runs(tiny):
    result = invoke("grid", write_study(tiny, [0, -1]), "--outputs", tiny / "new")
    assert result.exit_code == 1
    assert "split = -1: input should be greater than or equal to 0" in result.output
    assert "Traceback" not in result.output
    assert not (tiny / "new").exists()
    assert "cannot read the study" in invoke("grid", tiny / "none.yaml").output


def test_an_output_folder_that_cannot_be_written(tiny):
    (tiny / "file").write_text("")
    result = invoke("grid", write_study(tiny, [0]), "--outputs", tiny / "file")
    assert result.exit_code != 0
    study = Study.load(write_study(tiny, [0]))
    with pytest.raises(SettingsError, match="cannot write to"):
        grid.run_study(study, tiny / "file", workers=1, on_change=print)
    with pytest.raises(SettingsError, match=r"no { or } in the path"):
        grid.run_study(study, tiny / "a{b}", workers=1, on_change=print)


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
    assert list(grid.choose_index(chosen, 1)) == [list(chosen)[1]]
    for only, told in (
        ("spilt=0", "give SETTING=VALUE.* e.g. of backbone, split, attack"),
        ("split", "give SETTING=VALUE"),
        ("split=0,7", "no cell has split 7, but 0, 1, 2"),
        ("dataset=stl10", "no cell has dataset stl10, but digits"),
    ):
        with pytest.raises(SettingsError, match=told):
            grid.choose_cells(study, only)
    with pytest.raises(SettingsError, match="--index 6: there are 6 cells, 0 to 5"):
        grid.choose_index(study.cells(), 6)


def test_one_cell_by_its_index(tiny):
    study = write_study(tiny, [0, 1, 4], {1: 1})
    words = ("grid", study, "--outputs", tiny, "--index")
    assert invoke(*words, 2).exit_code == 0
    assert invoke(*words, 2).exit_code == 0
    states = [cell.state for cell in grid.read_status(Study.load(study), tiny).values()]
    assert states == ["waiting", "waiting", "done"]
    assert invoke(*words, 0, "--only", "split=1").exit_code == 1
    result = invoke(*words, 3)
    assert result.exit_code == 1
    assert "there are 3 cells, 0 to 2" in result.output


def test_a_dry_run_tells_time_and_disk_and_runs_nothing(tiny):
    study = write_study(tiny, [0, 1, 2])
    words = ("grid", study, "--outputs", tiny / "out", "--dry-run")
    assert "time, with 2 side by side: unknown before the first is done" in invoke(*words).output
    assert not (tiny / "out").exists()
    assert invoke("grid", study, "--outputs", tiny / "out", "--index", 0).exit_code == 0
    result = invoke(*words)
    assert f"    1  waiting {name(1)}  about 2 s  (not run)" in result.output
    assert "time, with 2 side by side: about 2 s" in result.output  # 2 x 2 s, two at once
    assert "disk: about 0.06 GB needed" in result.output  # 2 x (6 + 8) MB, 2 x 18 MB in passing


def test_time_is_estimated_from_cells_of_the_same_kind():
    cells = Study(name="some", **SETTINGS).cells()
    states = [Status("done", seconds=10), Status("done", seconds=30), Status("waiting")]
    progress = {"epoch": 2, "epochs": 10, "seconds": 5.0}
    states += [Status("running", progress=progress), Status("failed"), Status("waiting")]
    status = dict(zip(cells, states, strict=True))
    found = grid.estimate_seconds(cells, status)
    assert list(found.values()) == [20, 8 * 5, 20]  # of the kind; by its epochs; of any kind
    assert display.estimate_left(cells, status, 2) == 40
    assert display.estimate_left(cells, dict.fromkeys(cells, Status("waiting")), 2) is None


def test_the_disk_is_checked_before_a_run(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert grid.check_disk(tmp_path / "new", free // 2) == ""
    assert "the study needs about" in grid.check_disk(tmp_path / "new", int(free * 1.5))
    with pytest.raises(SettingsError, match="make room, or set keep_model: false"):
        grid.check_disk(tmp_path, free * 3)


def test_each_gpu_has_one_cell_at_a_time(tiny, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tiny / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: A (UUID: a)'\necho 'GPU 1: B'\n")
    (tiny / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tiny}:{os.environ['PATH']}")
    assert grid.list_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-a")
    assert grid.list_gpus() == ["3", "GPU-a"]
    study = write_study(tiny, [0, 1], learning_rate=1.0)  # so long that they overlap
    options = Options(threads=3)
    grid.run_study(Study.load(study), tiny, workers=8, on_change=lambda _: None, options=options)
    metrics = [read_json(tiny / "some" / name(split) / "metrics.json") for split in (0, 1)]
    assert [m["threads"] for m in metrics] == ["3", "3"]
    assert sorted(m["gpu"] for m in metrics) == ["3", "GPU-a"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert grid.list_gpus() == []


def test_the_live_table_shows_running_cells():
    cells = Study(name="some", **SETTINGS).cells()
    progress = {"epoch": 2, "epochs": 10, "loss": 0.5, "seconds": 60.0, "images_per_second": 123.4}
    states = [Status("done"), Status("running", progress=progress), *[Status("waiting")] * 4]
    console = Console(width=120, force_terminal=True, file=io.StringIO())
    console.print(display.GridDisplay(cells, 2)._draw(dict(zip(cells, states, strict=True))))
    text = console.file.getvalue()
    assert "1 done, 1 running, 0 failed, 4 waiting" in text
    for word in ("epoch 2/10", "loss 0.500", "123 images/s", "8 min left"):
        assert word in text
    assert [display.describe_seconds(s) for s in (40, 720, 12600)] == ["40 s", "12 min", "3.5 h"]


def test_help_is_complete_and_quick():
    for command in ("grid", "status", "report", "data"):
        assert "--help" in invoke(command, "--help").output
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "semisiam", "--help"], check=True, capture_output=True)
    assert time.perf_counter() - started < 5  # an import of TensorFlow alone takes longer
    modules = "cli", "run.grid", "method.splits", "method.attack"
    code = "import sys; " + "".join(f"import semisiam.{name}; " for name in modules)
    code += "sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_study_and_cell_in_params_is_valid():
    studies = list((ROOT / "params/studies").glob("*.yaml"))
    cells = list((ROOT / "params/cells").glob("*.yaml"))
    assert studies and cells
    for path in studies:
        assert Study.load(path).cells()
    for path in cells:
        Cell.check(yaml.safe_load(path.read_text()))
