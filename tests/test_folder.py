import fcntl
import json
import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from semisiam import ROOT
from semisiam.atomic import replacing
from semisiam.cell import Cell, SettingsError
from semisiam.run import folder as folders
from semisiam.run.folder import explain_undone, open_folder


def test_the_folder_is_the_one_asked_for_or_the_default(tmp_path):
    assert folders.find_folder(Cell(output_dir=str(tmp_path))) == tmp_path
    assert folders.find_folder(Cell()) == ROOT / "outputs" / "one"


CHILD = "from semisiam.run.folder import find_folder; from semisiam.cell import Cell; "
CHILD += "print(find_folder(Cell()).name)"


@pytest.mark.parametrize(("program", "folder"), [("papermill", "there"), ("jupyter-lab", "one")])
def test_only_papermill_names_the_folder_in_its_command_line(program, folder, tmp_path):
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
    command = [sys.executable, "-c", parent, program, "master.ipynb", "there/cell.ipynb"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == folder


@pytest.mark.parametrize("words", [["s{split}/cell.ipynb"], ["s/cell.ipynb", "--cwd", "/"]])
def test_a_folder_that_papermill_names_in_its_own_way_must_be_given(words, tmp_path):
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
    command = [sys.executable, "-c", parent, "papermill", "master.ipynb", *words]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "output_dir: with --cwd or braces in the path, give it by -p" in run.stderr


def test_a_program_that_runs_notebooks_must_say_where_results_go(tmp_path):
    """Twice from Python, the second would write over the first."""
    code = "from semisiam.run import folder; from semisiam.cell import Cell; "
    code += "print(folder.open_folder(Cell(output_dir=output_dir)))"
    cells = [new_code_cell("output_dir = ''", metadata={"tags": ["parameters"]})]
    kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    notebook = new_notebook(cells=[*cells, new_code_cell(code)], metadata=kernel)
    nbformat.write(notebook, tmp_path / "some.ipynb")
    script = """
import papermill
for n in ("1", "2"):
    papermill.execute_notebook("some.ipynb", f"{n}.ipynb", {"output_dir": n})
papermill.execute_notebook("some.ipynb", "3.ipynb")
"""
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (tmp_path / "1" / "params.yaml").exists() and (tmp_path / "2" / "params.yaml").exists()
    assert "SettingsError: output_dir: a notebook run from a program cannot know" in run.stderr


def test_an_installation_without_its_checkout_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "ROOT", tmp_path)
    with pytest.raises(SettingsError, match="pip install -e CHECKOUT"):
        folders.find_folder(Cell())


def test_opening_a_folder_undoes_what_was_done_there(tmp_path):
    cell = Cell(output_dir=str(tmp_path / "new"), epochs=7)
    folder = folders.open_folder(cell)
    folders.write_json(folder / "done.json", {"hash": cell.hash})
    folders.write_json(folder / "failed.json", {"hash": cell.hash, "reason": "of a run before"})
    (folder / ".4711-checkpoint.npz").write_bytes(b"half")  # its process was killed
    folders.open_folder(cell)
    assert [path.name for path in folder.glob(".*")] == []
    assert folders.explain_undone(folder, cell) == "not finished"
    assert not (folder / "failed.json").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"output_dir: cannot write to .*; give another one"):
        folders.open_folder(Cell(output_dir=str(tmp_path / "file")))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    folders.write_json(tmp_path / "a.json", {"kept": True})
    with pytest.raises(OSError, match="full"), replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half of it")
        raise OSError("full")
    assert json.loads((tmp_path / "a.json").read_text()) == {"kept": True}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_done_means_the_same_settings_and_all_files(tmp_path):
    cell = Cell()
    assert folders.explain_undone(tmp_path, cell) == "not run"
    folders.write_json(tmp_path / "done.json", {"hash": Cell(epochs=9).hash})
    stale = "run with other settings, which cannot be read any more"
    assert folders.explain_undone(tmp_path, cell) == stale
    (tmp_path / "params.yaml").write_text("epochs: 9\nsplit: 0\n")
    assert folders.explain_undone(tmp_path, cell) == "run with other settings: epochs 9, now 3"
    (tmp_path / "params.yaml").write_text("epochs: 3\n")
    assert folders.explain_undone(tmp_path, cell) == folders.OTHER_CODE
    folders.write_json(tmp_path / "done.json", {"hash": "0", "results_version": 0})
    assert folders.explain_undone(tmp_path, cell).startswith("run by code of results version 0, ")
    folders.write_json(tmp_path / "done.json", {"hash": cell.hash})
    assert folders.explain_undone(tmp_path, cell) == "metrics.json is missing"
    for name in ("metrics.json", "history.csv"):
        (tmp_path / name).write_text("")
    assert folders.explain_undone(tmp_path, cell) == ""


def test_done_means_the_same_images(tmp_path):
    cell = Cell()
    for name in ("metrics.json", "history.csv"):
        (tmp_path / name).write_text("")
    folders.write_done(tmp_path, cell, "a")
    assert [explain_undone(tmp_path, cell, known) for known in ("", "a")] == ["", ""]
    other = "run on other images: content a, now b"
    assert explain_undone(tmp_path, cell, "b") == other
    folders.write_done(tmp_path, cell, "")  # as older cells, which have it in split.json
    assert explain_undone(tmp_path, cell, "b") == ""
    (tmp_path / "split.json").write_text('{"content": "a"}')
    assert explain_undone(tmp_path, cell, "b") == other


def test_to_ask_who_works_there_takes_nothing_and_writes_nothing(tmp_path):
    (tmp_path / "lock").write_text("of long ago\n")
    with (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # somebody else asks
        assert folders.find_holder(tmp_path) == ""
    assert (tmp_path / "lock").read_text() == "of long ago\n"


def test_a_folder_has_one_run_at_a_time_and_this_process_another_after_it(tmp_path):
    first = open_folder(Cell(output_dir=str(tmp_path / "first")))
    assert open_folder(Cell(output_dir=str(first))) == first  # all cells run again
    descriptor = folders.hold(tmp_path, 0)
    with pytest.raises(SettingsError, match="another run, or a notebook that is still open, holds"):
        open_folder(Cell(output_dir=str(tmp_path)))
    os.close(descriptor)
    open_folder(Cell(output_dir=str(tmp_path / "second")))
    assert folders.find_holder(first) == ""
    assert folders.find_holder(tmp_path / "second") == folders.name_process()


def test_names_that_are_no_text_are_kept(tmp_path):
    folders.write_json(tmp_path / "a.json", {"name": os.fsdecode(b"caf\xe9")})
    assert folders.read_json(tmp_path / "a.json") == {"name": os.fsdecode(b"caf\xe9")}


def test_the_revision_is_that_of_the_checkout_itself(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "unpacked").mkdir()
    assert folders.describe_revision(tmp_path / "unpacked") == "unknown"
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("first")
    for command in (["add", "file"], ["commit", "-qm", "first"]):
        subprocess.run(git + command, check=True)
    assert re.fullmatch("[0-9a-f]{12}", folders.describe_revision(tmp_path))
    (tmp_path / "file").write_text("second")
    assert folders.describe_revision(tmp_path).endswith("+changes")


@pytest.mark.parametrize(("asked", "told"), [("2,1", 2), ("3", 3), ("many", os.cpu_count())])
def test_a_list_of_threads_is_legal(asked, told, monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert folders.describe_machine()["hardware"]["threads"] == told
