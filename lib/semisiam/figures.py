"""Figures: each function draws one panel on a matplotlib `ax` and returns it.

Importing this module applies the packaged style `semisiam.mplstyle`. Colours mean the same thing
in every figure: see `COLOURS` for modes and attacks, `class_colours` for classes.
"""

from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

plt.style.use(str(files("semisiam") / "semisiam.mplstyle"))

COLOURS = {
    "supervised": "#0072B2",
    "semi": "#D55E00",
    "clean": "#009E73",
    "attacked": "#CC79A7",
    "published": "0.45",
}


def class_colours(n_classes: int) -> np.ndarray:
    """Return one RGBA colour a class, float (n_classes, 4) in [0, 1]; the first ten always same."""
    map_name = "tab10" if n_classes <= 10 else "turbo"
    places = np.arange(n_classes) if n_classes <= 10 else np.linspace(0, 1, n_classes)
    return plt.get_cmap(map_name)(places)


def examples(ax: Axes, images: np.ndarray, titles: list[str], columns: int) -> Axes:
    """Show images in a grid of `columns`, each under its title (Figures 3 and 4).

    `images` is uint8 (N, H, W, 3) in 0-255, or a list of such images of any sizes; `titles` has
    N strings, "" for none.
    """
    rows = -(-len(images) // columns)
    ax.set_axis_off()
    for place, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(place, columns)
        room = 0.80 if any(titles) else 0.94
        box = [(column + 0.03) / columns, 1 - (row + 0.97) / rows, 0.94 / columns, room / rows]
        panel = ax.inset_axes(box)
        panel.imshow(image, interpolation="nearest")
        panel.set_title(title, fontsize=8, loc="center", pad=2)
        panel.set_axis_off()
    return ax


def losses(ax: Axes, history: pd.DataFrame) -> Axes:
    """Draw the training losses of one cell over its epochs (Figures 10 and 11).

    `history` has the columns of history.csv: `epoch`, `loss_labelled` and, for a semi-supervised
    cell, `loss` (the joint loss, equation 1) and `loss_unlabelled` (rotation). In nats.
    """
    drawn = {"loss_labelled": ("classification", COLOURS["supervised"], "-")}
    if "loss_unlabelled" in history and history["loss_unlabelled"].notna().any():
        drawn["loss_unlabelled"] = ("rotation", COLOURS["clean"], "--")
        drawn["loss"] = ("joint", COLOURS["semi"], "-")
    mark = "o" if len(history) <= 5 else ""
    for column, (label, colour, line) in drawn.items():
        ax.plot(history["epoch"], history[column], line, color=colour, label=label, marker=mark)
    ax.set(xlabel="epoch", ylabel="loss (cross-entropy, nats)")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax


def confusion(ax: Axes, matrix: np.ndarray, class_names: list[str]) -> Axes:
    """Draw a confusion matrix, int (n, n), rows the true class, with the counts written in."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, vmin=0, vmax=1)
    if len(class_names) <= 15:
        for row, column in np.ndindex(*matrix.shape):
            ink = "white" if shares[row, column] > 0.5 else "0.2"
            ax.text(column, row, matrix[row, column], color=ink, ha="center", va="center", size=7)
    places = range(len(class_names))
    turned = max(map(len, class_names)) > 2
    ax.set_xticks(places, class_names, rotation=45 if turned else 0, ha="right" if turned else "center")
    ax.set_yticks(places, class_names)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.spines[:].set_visible(False)
    return ax


def tsne(ax: Axes, points: np.ndarray, labels: np.ndarray, class_names: list[str]) -> Axes:
    """Scatter a t-SNE projection, float (M, 2), coloured by class, int (M,) (Figures 5 to 9).

    The axes of a t-SNE have no unit, so they carry the number of points instead. The legend
    stands right of the panel.
    """
    colours = class_colours(len(class_names))
    for label, name in enumerate(class_names):
        of_class = points[labels == label]
        ax.scatter(*of_class.T, s=9, color=colours[label], label=name, alpha=0.75, linewidths=0)
    ax.set(xticks=[], yticks=[], xlabel=f"t-SNE of {len(points):,} test images")
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.6, handletextpad=0.1)
    return ax
