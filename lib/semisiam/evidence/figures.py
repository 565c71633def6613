"""Figures: each function draws one panel on a matplotlib `ax` and returns it.

Importing this module makes figures come out as ours, whatever MPLBACKEND or the user's settings
say: in a notebook with the inline backend, as PNG; elsewhere they are only saved, without windows.
Colours mean the same thing in every figure: see `COLOURS` for modes, attacks and losses,
`class_colours` for classes.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

plt.rcdefaults()
plt.style.use("semisiam.evidence.semisiam")  # semisiam.mplstyle, beside this file
shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
if hasattr(shell, "kernel"):
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    shell.run_line_magic("matplotlib", "inline")
    plt.switch_backend("module://matplotlib_inline.backend_inline")  # the name ipywidgets looks for
    set_matplotlib_formats("png")
else:
    plt.switch_backend("agg")

COLOURS = {"supervised": "#0072B2", "semi": "#D55E00", "clean": "#009E73", "attacked": "#CC79A7"}
COLOURS |= {"class": "#56B4E9", "rotation": "#E69F00", "joint": "black", "published": "0.45"}
COLOURS |= {"as trained": "black", "re-estimated": "#785EF0", "better of both": "#999933"}
TEN = ["#332288", "#CC6677", "#117733", "#DDCC77", "#88CCEE"]
TEN += ["#882255", "#44AA99", "#999933", "#AA4499", "#999999"]


def class_colours(n_classes: int) -> list:
    """Return one colour a class: the first ten are always the same, and colour-blind-safe (Tol)."""
    if n_classes <= len(TEN):
        return TEN[:n_classes]
    return list(plt.get_cmap("turbo")(np.linspace(0, 1, n_classes)))


def examples(ax: Axes, images: np.ndarray, titles: list[str], columns: int) -> Axes:
    """Show images in a grid of `columns`, each under its title (Figures 3 and 4).

    `images` is uint8 (N, H, W, 3), 0-255, or a list of images of any sizes; `titles` may be "".
    """
    rows = -(-len(images) // columns)
    ax.set_axis_off()
    for place, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(place, columns)
        room = 0.80 if any(titles) else 0.94
        box = [(column + 0.03) / columns, 1 - (row + 0.97) / rows, 0.94 / columns, room / rows]
        panel = ax.inset_axes(box)
        panel.imshow(image, interpolation="nearest")
        panel.set_title(title, fontsize=8, loc="center", pad=2, parse_math=False)
        panel.set_axis_off()
    return ax


def losses(ax: Axes, history: pd.DataFrame) -> Axes:
    """Draw the training losses of one cell over its epochs (Figures 10 and 11).

    `history` is a history.csv; a semi-supervised cell has three losses there: of the class head, of
    the pretext task and their sum (equation 1). In nats where they are cross-entropies.
    """
    drawn = {"loss_labelled": ("class", COLOURS["class"], "-")}
    if "loss_unlabelled" in history and history["loss_unlabelled"].notna().any():
        drawn["loss_unlabelled"] = ("pretext", COLOURS["rotation"], "--")
        drawn["loss"] = ("joint", COLOURS["joint"], "-")
    mark = "o" if len(history) <= 5 else ""
    for column, (label, colour, line) in drawn.items():
        ax.plot(history["epoch"], history[column], line, color=colour, label=label, marker=mark)
    ax.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
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
    how = {"rotation": 45, "ha": "right"} if max(map(len, class_names)) > 2 else {}
    ax.set_xticks(places, class_names, **how, parse_math=False)  # a name may hold a $
    ax.set_yticks(places, class_names, parse_math=False)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.spines[:].set_visible(False)
    return ax


def tsne(ax: Axes, points: np.ndarray, labels: np.ndarray, class_names: list[str]) -> Axes:
    """Scatter a t-SNE projection, float (M, 2), coloured by class, int (M,) (Figures 5 to 9).

    Its axes have no unit. The legend stands right of the panel.
    """
    colours = class_colours(len(class_names))
    dots = []
    for label, name in enumerate(class_names):
        look = {"s": 9, "color": colours[label], "label": name, "alpha": 0.75, "linewidths": 0}
        dots.append(ax.scatter(*points[labels == label].T, **look))
    ax.set(xticks=[], yticks=[], xlabel=f"t-SNE of {len(points):,} test images")
    ax.set_aspect("equal", adjustable="datalim")
    look = {"markerscale": 1.6, "handletextpad": 0.1}
    # given one by one, since those that begin with _ would be left out
    legend = ax.legend(dots, class_names, loc="center left", bbox_to_anchor=(1, 0.5), **look)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return ax


def method(ax: Axes) -> Axes:
    """Draw the method: one encoder, two inputs, two heads, one joint loss (Figure 2)."""
    blue, orange, grey = COLOURS["class"], COLOURS["rotation"], "0.35"
    boxes = {
        "labelled": (1.0, 3.0, "labelled $D_l$\n(attacked or clean)", blue),
        "unlabelled": (1.0, 1.0, "unlabelled $D_u$\nturned 0, 90, 180, 270°", orange),
        "encoder": (3.6, 2.0, "one shared encoder\nbackbone, 4096, 128", grey),
        "y_lab": (6.2, 3.0, "class head\n$n$ classes", blue),
        "y_rot": (6.2, 1.0, "rotation head\n4 classes", orange),
        "loss": (8.7, 2.0, "joint loss\n$\\lambda_l\\ell_l + \\lambda_u\\ell_u$", grey),
        "svm": (3.6, 3.9, "128-D embedding: linear SVM, t-SNE", "0.35"),
    }
    drawn = {}
    for name, (x, y, text, colour) in boxes.items():
        frame = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": colour, "lw": 1.6}
        drawn[name] = ax.text(x, y, text, ha="center", va="center", bbox=frame).get_bbox_patch()
    arrows = [("labelled", "encoder", blue), ("unlabelled", "encoder", orange)]
    arrows += [("encoder", "y_lab", blue), ("encoder", "y_rot", orange)]
    arrows += [("y_lab", "loss", blue), ("y_rot", "loss", orange), ("encoder", "svm", "0.6")]
    for start, end, colour in arrows:
        ends = {"patchA": drawn[start], "patchB": drawn[end], "shrinkA": 2, "shrinkB": 3}
        look = {"arrowstyle": "-|>", "color": colour, "lw": 1.4, "mutation_scale": 14}
        ax.annotate("", boxes[end][:2], boxes[start][:2], arrowprops=ends | look)
    ax.set(xlim=(-0.4, 9.8), ylim=(0.4, 4.3))
    ax.set_axis_off()
    return ax


def ring(ax: Axes, row: float, column: float, radius: float = 2) -> Axes:
    """Draw a ring around a place (px) of an image shown in `ax`."""
    look = {"fill": False, "edgecolor": COLOURS["attacked"], "linewidth": 1.6}
    ax.add_patch(Circle((column, row), radius, clip_on=False, **look))
    return ax


def dots(ax: Axes, table: pd.DataFrame, chance: float | None = None) -> Axes:
    """Draw the two columns of `table`, accuracies in %, as a dot and a ring with a line between.

    Rows of one name, e.g. one a split, share a line; `chance`, in %, is a line across.
    """
    names = list(dict.fromkeys(table.index))
    rows = np.array([names.index(name) for name in table.index])
    ax.hlines(rows, table.min(axis=1), table.max(axis=1), color="0.85", zorder=0)
    for what, face, size in zip(table, ("0.2", "none"), (4, 8), strict=True):  # both show if alike
        ax.plot(table[what], rows, "o", color="0.2", markerfacecolor=face, ms=size, label=what)
    if chance is not None:
        ax.axvline(chance, color="0.6", linestyle=":", label="chance")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set(xlabel="test accuracy of the linear SVM (%)", ylabel="control")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=table.shape[1] + 1)
    return ax


def differences(ax: Axes, tables: dict[str, pd.DataFrame]) -> Axes:
    """Draw differences with their intervals, one row each, around the line of no difference.

    `tables` are by reading or `published`, drawn in this order below each other; indexed by the
    rows' texts, with mean, low and high (points). A missing interval is not drawn. The legend
    stands above the panel, so a title of it needs a pad of 22 points.
    """
    rows = list(dict.fromkeys(row for table in tables.values() for row in table.index))
    shifts = (np.arange(len(tables)) - (len(tables) - 1) / 2) * 0.75 / len(tables)
    ax.axvline(0, color="0.6", linewidth=1)
    for (label, table), shift in zip(tables.items(), shifts, strict=True):
        places = [rows.index(row) + shift for row in table.index]
        reach = [table["mean"] - table["low"], table["high"] - table["mean"]]
        reach = np.nan_to_num(np.array(reach, float))
        look = {"fmt": "o", "color": COLOURS[label], "label": label, "ms": 4}
        ax.errorbar(table["mean"], places, xerr=reach, **look)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("semi-supervised - supervised (points, 95 % interval)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(tables))
    return ax
