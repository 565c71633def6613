"""The grid on a tiny notebook: real papermill, kernels and files, no training."""

import json
import os
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
import yaml
from click.testing import CliRunner

from semisiam import ROOT, grid
from semisiam.cell import Cell, SettingsError, Study
from semisiam.cli import main

TINY = """
from pathlib import Path
from semisiam import records
from semisiam.cell import Cell
cell = Cell.from_notebook(globals())
folder = records.open_folder(cell)
if split == 1:
    raise RuntimeError("split one is broken")
if split == 2:
    import os
    os._exit(3)
(folder / "history.csv").write_text("")
records.write_json(folder / "metrics.json", {"collapsed": split == 3, "cwd": str(Path.cwd())})
records.write_json(folder / "done.json", {"hash": cell.hash})
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A notebook that fails on split 1, whose kernel dies on split 2, and that runs otherwise."""
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("split: int = 0", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(TINY),
        ],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    nbformat.write(notebook, tmp_path / "tiny.ipynb")
    monkeypatch.setattr(grid, "MASTER", tmp_path / "tiny.ipynb")
    return tmp_path


def write_study(folder, splits):
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump({"base": {}, "axes": {"split": splits}}))
    return path


def name(split):
    return f"digits-small_cnn-5pct-clean-semi-s{split}"


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_a_failed_cell_is_told_with_its_log_and_stops_no_other(tiny):
    study = write_study(tiny, [0, 1, 2, 3])
    result = invoke("grid", study, "--outputs", tiny, "--workers", 2)
    assert result.exit_code == 1
    assert "2 failed:" in result.output
    assert f"{name(1)}\n    why  RuntimeError: split one is broken\n    log  " in result.output
    status = grid.read_status(Study.load(study), tiny)
    assert [status[name(i)].state for i in range(4)] == ["done", "failed", "failed", "done"]
    assert status[name(1)].reason == "RuntimeError: split one is broken"
    assert "died" in status[name(2)].reason.lower()
    assert "split one is broken" in (tiny / "some" / name(1) / "log.txt").read_text()

    later = invoke("status", study, "--outputs", tiny)
    assert later.exit_code == 1
    assert "2 done, 0 running, 2 failed, 0 waiting" in later.output
    assert f"{name(0)}\n" in later.output
    assert f"{name(3)}  (collapsed: the embedding is all but constant" in later.output


def test_done_cells_are_skipped_and_stale_ones_run_again(tiny):
    study = write_study(tiny, [0])
    assert invoke("grid", study, "--outputs", tiny).exit_code == 0
    done = tiny / "some" / name(0) / "done.json"
    first = done.stat().st_mtime_ns
    assert invoke("grid", study, "--outputs", tiny).exit_code == 0
    assert done.stat().st_mtime_ns == first
    assert invoke("status", study, "--outputs", tiny).exit_code == 0

    study.write_text(yaml.safe_dump({"base": {"epochs": 4}, "axes": {"split": [0]}}))
    status = grid.read_status(Study.load(study), tiny)[name(0)]
    assert (status.state, status.reason) == ("waiting", "run with other settings")
    assert invoke("grid", study, "--outputs", tiny).exit_code == 0
    assert json.loads(done.read_text())["hash"] == Cell(epochs=4).hash


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hash": "0"}'])
def test_a_damaged_done_file_does_not_count(tiny, text):
    study = write_study(tiny, [0])
    folder = tiny / "some" / name(0)
    folder.mkdir(parents=True)
    (folder / "done.json").write_text(text)
    assert grid.read_status(Study.load(study), tiny)[name(0)].state == "waiting"


def test_relative_paths_in_a_study_start_where_the_user_is(tiny, monkeypatch):
    (tiny / "here").mkdir()
    monkeypatch.chdir(tiny / "here")
    assert invoke("grid", write_study(tiny, [0]), "--outputs", "out").exit_code == 0
    metrics = json.loads((tiny / "here" / "out" / "some" / name(0) / "metrics.json").read_text())
    assert metrics["cwd"] == str(tiny / "here")


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


def test_an_interrupted_grid_ends_its_children_and_goes_on_later(tiny):
    study = write_study(tiny, [0])
    slow = nbformat.read(grid.MASTER, as_version=4)
    slow.cells[1].source = "import time; time.sleep(600)"
    nbformat.write(slow, grid.MASTER)
    script = f"""
from pathlib import Path
from semisiam import grid
from semisiam.cli import main
grid.MASTER = Path({str(grid.MASTER)!r})
main(["grid", {str(study)!r}, "--outputs", {str(tiny)!r}])
"""
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    running = tiny / "some" / name(0) / "running.json"
    family = wait_for(lambda: kernel_of(running))
    assert grid.read_status(Study.load(study), tiny)[name(0)].state == "running"
    os.kill(process.pid, 2)
    assert process.wait(timeout=30) != 0
    gone, alive = psutil.wait_procs(family, timeout=10)
    assert len(gone) == 2 and not alive
    assert grid.read_status(Study.load(study), tiny)[name(0)].state == "waiting"


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return value


def kernel_of(running):
    """The papermill process and its kernel, once both are there."""
    try:
        papermill = psutil.Process(json.loads(running.read_text())["pid"])
        kernels = [p for p in papermill.children() if "ipykernel_launcher" in " ".join(p.cmdline())]
    except (OSError, ValueError, psutil.NoSuchProcess):
        return []
    return [papermill, *kernels] if kernels else []


def test_help_is_complete_and_quick():
    for command in ("grid", "status", "report", "data"):
        assert "--help" in invoke(command, "--help").output
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "semisiam", "--help"], check=True, capture_output=True)
    assert time.perf_counter() - started < 5  # an import of TensorFlow alone takes longer
    code = "import sys, semisiam.cli, semisiam.grid, semisiam.splits, semisiam.attack; "
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
