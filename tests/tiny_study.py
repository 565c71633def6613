"""Studies of a tiny notebook that stands in for the master: real papermill, kernels and files.

It counts epochs of `learning_rate` seconds, keeps its state after each, and ends with a value that
tells whether each epoch was done once and in order. By its `seed` it raises (1), its kernel exits
(2), it hangs (3), has no memory (4), fills the disk (5) or crashes (6).
"""

import hashlib
import itertools
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import yaml

from semisiam.atomic import read_json
from semisiam.cell import Study
from semisiam.run import grid

NOTEBOOK = """
import faulthandler, hashlib, os, tempfile, time
from pathlib import Path
import numpy as np
from semisiam.run import folder as records
from semisiam.atomic import read_json, write_json
from semisiam.cell import Cell
cell = Cell.from_notebook(globals())
folder = records.open_folder(cell)
with (folder / "kernels.log").open("a") as log:
    print(os.getpid(), file=log)
if cell.seed == 1:
    raise RuntimeError("seed one is broken")
if cell.seed == 2:
    os._exit(3)
if cell.seed == 3:
    time.sleep(600)
if cell.seed == 4:
    np.zeros(2**60, np.uint8)
if cell.seed == 5:
    with records.replacing(folder / "features.npz") as path:
        path.write_bytes(bytes(2**27))
if cell.seed == 6:
    faulthandler._sigsegv()
state = read_json(folder / "state.json") or {"epoch": 0, "value": ""}
while state["epoch"] < cell.epochs:
    time.sleep(cell.learning_rate)
    epoch = state["epoch"] + 1
    value = hashlib.sha256(f"{state['value']} {cell.split} {epoch}".encode()).hexdigest()
    with (folder / "epochs.log").open("a") as log:
        print(os.getpid(), epoch, file=log)
    state = {"epoch": epoch, "value": value}
    write_json(folder / "state.json", state)
    row = {"epoch": epoch, "loss": 1 / epoch, "seconds": cell.learning_rate}
    records.write_progress(folder, cell, row, 100)
(folder / "history.csv").write_text("epoch")
metrics = {"value": state["value"], "seconds": {"total": 2.0}, "collapsed": cell.split == 3}
metrics |= {"cwd": str(Path.cwd()), "threads": os.environ["OPENBLAS_NUM_THREADS"]}
metrics["temp"] = tempfile.mkdtemp()
metrics["gpu"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")
write_json(folder / "metrics.json", metrics)
records.write_done(folder, cell, "")
"""
SCRIPT = """
from pathlib import Path
from semisiam import cli
from semisiam.run import worker
worker.MASTER = Path(__file__).with_name("tiny.ipynb")
cli.identify = lambda cell: ""  # it has no images
if __name__ == "__main__":
    cli.main()
"""


def write_notebook(folder):
    cells = [
        nbformat.v4.new_code_cell("split: int = 0", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(NOTEBOOK),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "tiny.ipynb")
    (folder / "run.py").write_text(SCRIPT)
    return folder / "tiny.ipynb"


def write_study(folder, splits, seeds=None, **base):
    """Write some.yaml; `seeds` says which splits misbehave, and how."""
    rules = [{"when": {"split": k}, "set": {"seed": v}} for k, v in (seeds or {}).items()]
    base = {"epochs": 1, "learning_rate": 0.01} | base
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump({"base": base, "axes": {"split": splits}, "rules": rules}))
    return path


def name(split):
    return f"digits-small_cnn-5pct-clean-semi-s{split}"


def expected_value(split, epochs):
    value = ""
    for epoch in range(1, epochs + 1):
        value = hashlib.sha256(f"{value} {split} {epoch}".encode()).hexdigest()
    return value


def read_status(study, outputs):
    """Read where the cells of a study's YAML stand."""
    study = Study.load(study)
    return grid.read_status(study.cells(), outputs / study.name)


def run_here(study, outputs, *, workers=2, on_change=lambda status: None, **how):
    """Run a study's cells in processes on this machine; `how` are options of a cell."""
    before, study = read_status(study, outputs), Study.load(study)
    with grid.running_here(workers, **how) as (executor, run, _, _):
        folder = outputs / study.name
        return grid.run_study(study.cells(), folder, before, executor, run, on_change)


def start(folder, *words, **how):
    """Start `semisiam` on the tiny notebook, in a session of its own."""
    command = [sys.executable, str(folder / "run.py"), *map(str, words)]
    output = (folder / "output.txt").open("ab")
    how = {"stdout": output, "stderr": subprocess.STDOUT, "cwd": folder} | how
    how["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # may be ignored here
    with output:
        return subprocess.Popen(command, start_new_session=True, **how)


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return value


def find(root, word):
    """Find descendants of a process by a word of their command line."""
    found = []
    try:
        for process in psutil.Process(root).children(recursive=True):
            if word in " ".join(process.cmdline()):
                found.append(process)
    except psutil.NoSuchProcess:
        pass
    return found


def check_cells(folder, splits, epochs):
    """Check that every epoch of every cell was done in order, never by two kernels at once."""
    for split in splits:
        cell = folder / name(split)
        assert read_json(cell / "metrics.json")["value"] == expected_value(split, epochs)
        lines = [line.split() for line in (cell / "epochs.log").read_text().splitlines()]
        kernels = [pid for pid, _ in lines]
        changes = sum(a != b for a, b in itertools.pairwise(kernels))
        assert changes == len(set(kernels)) - 1, "two kernels took turns"
        done = [int(epoch) for _, epoch in lines]
        again = len(done) - epochs
        assert sorted(set(done)) == list(range(1, epochs + 1))
        assert again <= changes, "an epoch that had been kept was done again"
