"""Notebook 08: its functions, and what its text says of the live controls that it shows."""

import re
from types import SimpleNamespace

import numpy as np
import pairing
import pytest
from archives import make_images

from semisiam.cell import Cell
from semisiam.method import trials

ROW = re.compile(r"<tr>\s*<th>([^<]+)</th>(.*?)</tr>", re.DOTALL)


@pytest.fixture(scope="module")
def audit():
    """The imports and functions of the notebook."""
    return pairing.functions("08_audit")


@pytest.fixture(scope="module")
def live():
    """The table of live controls as the notebook shows it: by control and column, in percent."""
    (cell,) = [c for c in pairing.executed("08_audit").cells if c.source.startswith("runs = ")]
    html = cell.outputs[0]["data"]["text/html"]
    columns = re.findall(r"<th>([^<]+)</th>", html.split("</thead>")[0])
    rows = {
        name: [float(value) for value in re.findall(r"<td>([^<]+)</td>", cells)]
        for name, cells in ROW.findall(html.split("</thead>")[1])
    }
    return {name: dict(zip(columns, row, strict=True)) for name, row in rows.items()}


def make_data(n=24):
    labels = np.arange(n) % 2
    images = make_images(n, 32, 32, 3) // np.where(labels == 0, 1, 8)[:, None, None, None]
    images = images.astype(np.uint8)
    return SimpleNamespace(
        train=images,
        train_labels=labels,
        unlabelled=images,
        test=images,
        test_labels=labels,
        class_names=("bright", "dark"),
    )


@pytest.mark.parametrize("mode", ["supervised", "semi"])
def test_a_control_is_trained_and_scored(audit, mode):
    cell = Cell(mode=mode, epochs=2, batch_size=6, label_fraction=0.5)
    found = audit.run_control(cell, make_data())
    assert found["updates"] == 2 * {"supervised": 12 / 6, "semi": 24 / 6}[mode]
    assert found["clean fit"] == found["as trained"]  # no marks, so the same fit
    assert found["re-estimated"] > 0.8


def test_a_clean_fit_is_on_images_without_marks(audit, monkeypatch):
    fitted = []
    fit = trials.fit

    def look(encoder, images, labels):
        fitted.append(images)
        return fit(encoder, images, labels)

    monkeypatch.setattr(trials, "fit", look)
    cell = Cell(mode="supervised", epochs=1, batch_size=6, label_fraction=0.5, attack="pixel")
    audit.run_control(cell, make_data())
    clean, attacked = fitted[-2:]  # as trained and re-estimated come first
    assert (clean != attacked).any(axis=-1).sum(axis=(1, 2)).max() == 1


def test_moving_averages_hide_what_the_baseline_learnt(live):
    slow, quick = live["supervised, slow"], live["supervised"]
    assert slow["training"] > 95
    assert slow["inference"] < 30
    assert abs(slow["re-estimated"] - quick["re-estimated"]) < 1
    gain = {how: live["rotation, slow"][how] - slow[how] for how in ("as trained", "re-estimated")}
    assert gain["as trained"] > 2 * gain["re-estimated"]


def test_a_mark_costs_where_it_tells_the_class(live):
    baseline = live["supervised"]["as trained"]
    assert baseline - live["supervised, marked"]["as trained"] > 5
    assert baseline - live["marked at random"]["as trained"] < 5
    for name in ("supervised, marked", "rotation, marked"):
        assert live[name]["clean fit"] > live[name]["as trained"]
        assert 25 < live[name]["trigger"] < 40
    for name in ("supervised", "rotation", "marked at random", "marked, median"):
        assert live[name]["trigger"] < 5
