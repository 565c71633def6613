"""Figures: each draws what it was given on the ax it was given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb

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
    assert [line.get_label() for line in ax.lines] == ["classification"]
    assert ax.lines[0].get_ydata().tolist() == [2.0, 1.0, 0.5]


def test_losses_of_a_semi_supervised_cell_are_three(ax):
    figures.losses(ax, history(semi=True))
    curves = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
    assert curves["rotation"] == [1.4, 1.2, 1.0]
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


def test_accuracies_stand_at_their_values_beside_the_published(ax):
    index = pd.MultiIndex.from_product([["A", "B"], ["supervised", "semi"]])
    table = pd.DataFrame({"mean": [10.0, 20, 30, 40], "std": [1.0, 1, 1, np.nan]}, index=index)
    table["published_mean"] = [12.0, 22, np.nan, 42]
    both = {"as trained": table, "re-estimated": table.assign(mean=table["mean"] + 5)}
    assert figures.accuracies(ax, both, chance=10) is ax
    drawn = [bar.lines[0].get_ydata()[0] for bar in ax.containers]
    assert drawn == [10, 20, 30, 40, 15, 25, 35, 45]
    _, labels = figures.label_once(ax)
    assert len(labels) == len(set(labels)) == 6


def test_differences_are_rows_with_their_intervals(ax):
    table = pd.DataFrame({"mean": [1.0, -2], "low": [0.0, np.nan], "high": [3.0, np.nan]})
    tables = {"published": table.set_axis(["x", "y"]), "as trained": table.set_axis(["y", "z"])}
    assert figures.differences(ax, tables) is ax
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["x", "y", "z"]
    (segment, nothing) = ax.containers[0].lines[2][0].get_segments()
    assert segment[:, 0].tolist() == [0.0, 3.0]
    assert np.ptp(nothing[:, 0]) == 0


def test_times_are_minutes_stacked(ax):
    seconds = pd.DataFrame({"training": [60.0, 120], "tsne": [30.0, 0]}, index=["a", "b"])
    assert figures.times(ax, seconds) is ax
    assert [bar.get_width() for bar in ax.patches] == [1.0, 2.0, 0.5, 0.0]
    assert [bar.get_x() for bar in ax.patches] == [0.0, 0.0, 1.0, 2.0]


def test_the_method_names_its_parts(ax):
    assert figures.method(ax) is ax
    text = " ".join(part.get_text() for part in ax.texts)
    for part in ("labelled", "unlabelled", "encoder", "rotation head", "joint loss", "SVM"):
        assert part in text


def test_dots_and_rings_stand_in_the_row_of_their_control(ax):
    table = pd.DataFrame({"before": [10.0, 20, 30], "after": [40.0, 20, 60]}, index=["a", "a", "b"])
    figures.dots(ax, table, chance=5)
    dots, rings, chance = ax.lines
    assert dots.get_xydata().tolist() == [[10, 0], [20, 0], [30, 1]]
    assert rings.get_xydata().tolist() == [[40, 0], [20, 0], [60, 1]]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert chance.get_xdata()[0] == 5
