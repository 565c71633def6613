"""The contract of `notebooks/master.ipynb`, kept by running it as users do."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from tiny_study import run_here

from semisiam import ROOT
from semisiam.cell import Cell
from semisiam.run.folder import explain_undone

MEASURED_TIMES = {"seconds", "seconds_tracing", "images_per_second", "started"}
MEASURED_TIMES |= {"hardware", "revision", "versions"}
FILES = {"cell.ipynb", "params.yaml", "metrics.json", "report.csv", "history.csv"}
FILES |= {"features.npz", "split.json", "model.keras", "done.json", "lock"}


def papermill(folder, *words):
    """Run the master by hand, from a folder that is not the checkout's."""
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks/master.ipynb"), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    """The folder of a cell run by hand: the parameter file, and split 3 on top of it."""
    folder = tmp_path_factory.mktemp("by_hand")
    (folder / "out").mkdir()
    cell = ROOT / "params/cells/digits.yaml"
    run = papermill(folder, "out/cell.ipynb", "-f", str(cell), "-p", "split", "3")
    assert run.returncode == 0, run.stderr[-2000:]
    return folder / "out"


def test_results_lie_beside_the_notebook_and_are_complete(by_hand):
    assert {path.name for path in by_hand.iterdir()} == FILES
    settings = yaml.safe_load((by_hand / "params.yaml").read_text())
    cell = Cell.check(settings)
    assert (cell.split, cell.attack, cell.epochs) == (3, "pixel", 2)
    assert explain_undone(by_hand, cell) == ""


def test_what_is_kept_fits_together(by_hand):
    metrics = json.loads((by_hand / "metrics.json").read_text())
    features = np.load(by_hand / "features.npz")
    assert features["embeddings"].shape == (metrics["n_test"], 128)
    assert features["embeddings"].dtype == np.float32
    assert (features["predictions"] == features["labels"]).mean() == metrics["accuracy"]
    assert len(features["labelled_labels"]) == metrics["n_labelled"] == 55  # 5 x floor(1198 / 100)
    report = pd.read_csv(by_hand / "report.csv")
    assert report.columns.tolist() == ["class", "precision", "recall", "f1", "support"]
    assert report["support"].sum() == metrics["n_test"]
    assert len(pd.read_csv(by_hand / "history.csv")) == 2
    assert metrics["n_updates"] == 2 * 19  # ceil(1198 / 64) an epoch
    stages = dict(metrics["seconds"])
    assert stages.pop("total") == pytest.approx(sum(stages.values()))
    split = json.loads((by_hand / "split.json").read_text())
    assert len(split["labelled"]["3"]) == 55
    assert len(split["places"]) == 10


def test_the_grid_gets_the_same_numbers_from_the_recorded_split(by_hand, tmp_path):
    study = tmp_path / "again.yaml"
    settings = yaml.safe_load((by_hand / "params.yaml").read_text())
    del settings["output_dir"]
    settings["splits_file"] = str(by_hand / "split.json")
    study.write_text(yaml.safe_dump({"base": settings}))
    status = run_here(study, tmp_path, workers=1)
    ((name, cell),) = status.items()
    assert cell.state == "done", cell.reason
    assert name == "digits-small_cnn-5pct-pixel-semi-s3"

    def numbers(folder):
        metrics = json.loads((folder / "metrics.json").read_text())
        return {k: v for k, v in metrics.items() if k not in MEASURED_TIMES | {"hash"}}

    assert numbers(tmp_path / "again" / name) == numbers(by_hand)


def test_the_other_modes_and_what_is_rarely_asked_for(tmp_path):
    base = {"epochs": 1, "unlabelled_limit": 256, "test_limit": 150, "label_fraction": 0.2}
    marked = {"attack": "pixel", "pretext": "jigsaw"}
    again = {"mode": "supervised", "bn_recalibrate": "labelled", "keep_model": False}
    variants = {"again": again, "marked": marked, "both": marked | {"attack_unlabelled": True}}
    variants["frozen"] = {"mode": "frozen", "backbone": "pixels"}
    study = tmp_path / "some.yaml"
    study.write_text(yaml.safe_dump({"base": base, "variants": variants}))
    status = run_here(study, tmp_path, workers=2)
    assert {cell.state for cell in status.values()} == {"done"}, status
    folders = {name.rpartition("-")[2]: tmp_path / "some" / name for name in status}
    found = {n: json.loads((f / "metrics.json").read_text()) for n, f in folders.items()}
    assert found["again"]["accuracy"] == found["again"]["accuracy_recalibrated"]  # twice the same
    assert not (folders["again"] / "model.keras").exists()
    assert found["frozen"]["n_updates"] == 0
    assert np.load(folders["frozen"] / "features.npz")["embeddings"].shape == (150, 3 * 32**2)
    one, both = (pd.read_csv(folders[name] / "history.csv") for name in ("marked", "both"))
    assert (one["loss_labelled"] == both["loss_labelled"]).sum() < len(one)  # D_u is marked, too


def test_a_misspelt_parameter_stops_before_any_work(tmp_path):
    run = papermill(tmp_path, "cell.ipynb", "-p", "spilt", "3")
    assert run.returncode != 0
    assert "SettingsError: unknown setting 'spilt': did you mean 'split'?" in run.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"cell.ipynb"}
