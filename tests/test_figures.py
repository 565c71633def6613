"""Figures: each draws what it was given on the ax it was given."""

import base64
import io

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from nbclient import NotebookClient
from PIL import Image

from semisiam.evidence import figures


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    fig.canvas.draw()  # whatever was drawn can be rendered
    plt.close(fig)


def history(semi):
    table = pd.DataFrame({"epoch": [1, 2, 3], "loss_labelled": [2.0, 1.0, 0.5]})
    table["loss"] = table["loss_labelled"]
    if semi:
        table = table.assign(loss_unlabelled=[1.4, 1.2, 1.0], loss=[3.4, 2.2, 1.5])
    return table


def test_the_packaged_style_is_applied():
    assert plt.rcParams["axes.spines.top"] is False
    assert to_hex(plt.rcParams["axes.prop_cycle"].by_key()["color"][0]) == "#0072b2"


@pytest.mark.parametrize("backend", ["Agg", "TkAgg", ""])
def test_figures_in_a_notebook_come_out_as_ours_whatever_is_set(backend, monkeypatch, tmp_path):
    (tmp_path / "matplotlibrc").write_text("axes.spines.top: True\nfigure.figsize: 1, 1\n")
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", backend) if backend else None
    code = "import matplotlib.pyplot as plt\nfrom semisiam.evidence import figures\n"
    code += "fig, ax = plt.subplots()\nax.plot([1, 2])\nprint(ax.spines['top'].get_visible())"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook).execute()
    outputs = notebook.cells[0].outputs
    assert [o.text for o in outputs if o.output_type == "stream"] == ["False\n"]
    (image,) = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    width, height = Image.open(io.BytesIO(base64.b64decode(image))).size
    assert width > 400 > height > 200  # of 5.6 x 3.4 inches


def test_examples_are_panels_in_order_with_their_titles(ax):
    images = [np.full((size, size, 3), 40 * size, np.uint8) for size in (2, 3, 4)]
    assert figures.examples(ax, images, ["two", "three", ""], columns=2) is ax
    panels = ax.child_axes
    assert [panel.get_title() for panel in panels] == ["two", "three", ""]
    assert [panel.images[0].get_array().shape[0] for panel in panels] == [2, 3, 4]
    tops = [panel.get_position().y0 for panel in panels]
    assert tops[0] == tops[1] > tops[2]


def test_losses_of_a_supervised_cell_are_one_curve(ax):
    assert figures.losses(ax, history(semi=False)) is ax
    assert [line.get_label() for line in ax.lines] == ["class"]
    assert ax.lines[0].get_ydata().tolist() == [2.0, 1.0, 0.5]


def test_losses_of_a_semi_supervised_cell_are_three(ax):
    figures.losses(ax, history(semi=True))
    curves = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
    assert curves["pretext"] == [1.4, 1.2, 1.0]
    assert curves["joint"] == [3.4, 2.2, 1.5]


def test_an_empty_column_is_no_curve(ax):
    figures.losses(ax, history(semi=False).assign(loss_unlabelled=np.nan))
    assert len(ax.lines) == 1


def test_confusion_shows_every_count(ax):
    matrix = np.array([[90, 10], [0, 0]])  # a class without test images divides by nothing
    assert figures.confusion(ax, matrix, ["cat", "dog"]) is ax
    assert [text.get_text() for text in ax.texts] == ["90", "10", "0", "0"]
    assert ax.images[0].get_array()[0].tolist() == [0.9, 0.1]


def test_tsne_keeps_a_class_its_colour_even_if_one_is_missing(ax):
    points = np.arange(8).reshape(4, 2).astype(np.float32)
    assert figures.tsne(ax, points, np.array([0, 0, 2, 2]), ["a", "b", "c"]) is ax
    assert [len(scatter.get_offsets()) for scatter in ax.collections] == [2, 0, 2]
    assert to_hex(ax.collections[2].get_facecolor()[0]) == figures.class_colours(3)[2].lower()
    assert "4 test images" in ax.get_xlabel()


def test_class_colours_differ_and_stay_the_same():
    assert figures.class_colours(10)[:2] == figures.class_colours(2)
    many = figures.class_colours(30)
    assert len({to_hex(to_rgb(colour[:3])) for colour in many}) == 30


def test_differences_are_rows_with_their_intervals(ax):
    table = pd.DataFrame({"mean": [1.0, -2], "low": [0.0, np.nan], "high": [3.0, np.nan]})
    tables = {"published": table.set_axis(["x", "y"]), "as trained": table.set_axis(["y", "z"])}
    assert figures.differences(ax, tables) is ax
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["x", "y", "z"]
    (segment, nothing) = ax.containers[0].lines[2][0].get_segments()
    assert segment[:, 0].tolist() == [0.0, 3.0]
    assert np.ptp(nothing[:, 0]) == 0


def test_dots_and_rings_stand_in_the_row_of_their_control(ax):
    table = pd.DataFrame({"before": [10.0, 20, 30], "after": [40.0, 20, 60]}, index=["a", "a", "b"])
    figures.dots(ax, table, chance=5)
    dots, rings, chance = ax.lines
    assert dots.get_xydata().tolist() == [[10, 0], [20, 0], [30, 1]]
    assert rings.get_xydata().tolist() == [[40, 0], [20, 0], [60, 1]]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert chance.get_xdata()[0] == 5


NAMES = [r"$\foo$", "a$b$", "_hidden", "d"]


@pytest.mark.parametrize("draw", [figures.confusion, figures.tsne, figures.examples])
def test_class_names_are_text_and_no_mathematics(ax, draw):
    points = np.arange(16, dtype=float).reshape(8, 2)
    given = {
        figures.confusion: (np.eye(4, dtype=int), NAMES),
        figures.tsne: (points, np.arange(8) % 4, NAMES),
        figures.examples: (np.zeros((4, 8, 8, 3), np.uint8), NAMES, 4),
    }
    draw(ax, *given[draw])
    shown = [text for text in ax.figure.findobj(plt.Text) if text.get_text() in NAMES]
    assert {text.get_text() for text in shown} == set(NAMES)
    assert not any(text.get_parse_math() for text in shown)
