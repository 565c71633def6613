import json
import subprocess
import sys

import pytest

from semisiam import ROOT
from semisiam.cell import Cell, SettingsError
from semisiam.run import folder as records


def test_the_folder_is_the_one_asked_for_or_the_default(tmp_path):
    assert records.find_folder(Cell(output_dir=str(tmp_path))) == tmp_path
    assert records.find_folder(Cell()) == ROOT / "outputs" / "one"


@pytest.mark.parametrize(("program", "folder"), [("papermill", "there"), ("jupyter-lab", "one")])
def test_only_papermill_names_the_folder_in_its_command_line(program, folder, tmp_path):
    child = "from semisiam import records; from semisiam.cell import Cell; "
    child += "print(records.find_folder(Cell()).name)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    command = [sys.executable, "-c", parent, program, "master.ipynb", "there/cell.ipynb"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == folder


def test_opening_a_folder_undoes_what_was_done_there(tmp_path):
    cell = Cell(output_dir=str(tmp_path / "new"), epochs=7)
    folder = records.open_folder(cell)
    records.write_json(folder / "done.json", {"hash": cell.hash})
    records.open_folder(cell)
    assert records.explain_undone(folder, cell) == "not finished"


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"output_dir: cannot write to .*choose another folder"):
        records.open_folder(Cell(output_dir=str(tmp_path / "file")))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    records.write_json(tmp_path / "a.json", {"kept": True})
    with pytest.raises(TypeError):
        records.write_json(tmp_path / "a.json", object())
    assert json.loads((tmp_path / "a.json").read_text()) == {"kept": True}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_done_means_the_same_settings_and_all_files(tmp_path):
    cell = Cell()
    assert records.explain_undone(tmp_path, cell) == "not run"
    records.write_json(tmp_path / "done.json", {"hash": Cell(epochs=9).hash})
    stale = "run with other settings, which cannot be read any more"
    assert records.explain_undone(tmp_path, cell) == stale
    (tmp_path / "params.yaml").write_text("epochs: 9\nsplit: 0\n")
    assert records.explain_undone(tmp_path, cell) == "run with other settings: epochs 9 → 3"
    (tmp_path / "params.yaml").write_text("epochs: 3\n")
    assert records.explain_undone(tmp_path, cell) == records.OTHER_CODE
    records.write_json(tmp_path / "done.json", {"hash": "0", "results_version": 0})
    assert records.explain_undone(tmp_path, cell).startswith("run by code of results version 0, ")
    records.write_json(tmp_path / "done.json", {"hash": cell.hash})
    assert records.explain_undone(tmp_path, cell) == "metrics.json is missing"
    for name in ("metrics.json", "history.csv"):
        (tmp_path / name).write_text("")
    assert records.explain_undone(tmp_path, cell) == ""


def test_stages_add_up():
    watch = records.Stopwatch()
    for stage in ("data", "training", "data"):
        watch.lap(stage)
    parts = watch.seconds["data"] + watch.seconds["training"]
    assert parts == pytest.approx(watch.seconds["total"], abs=1e-6)


def test_the_machine_is_described():
    found = records.describe_machine()
    assert found["hardware"]["cores"] >= 1
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["started"].endswith("+00:00")
