"""The sections of a study's report: what each shows, and the line that explains it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from semisiam.evidence import claims, figures, results, statistics, tables
from semisiam.evidence.paper import ATTACKS, MODES, ROW, SPLITS, weigh_deltas
from semisiam.evidence.results import MEASURES, NAMES

Variants = dict[str, pd.DataFrame]  # cells by description, from `results.split_variants`
MADE_WITH = ("hardware.", "versions.")
TOO_FEW = "too few splits"
PANEL = (4.0, 3.0)  # inches: two beside each other on a screen, one below the other on a phone
TABLES = {
    ("stl10", 1): "I",
    ("stl10", 5): "II",
    ("fashion_mnist", 1): "III",
    ("fashion_mnist", 5): "IV",
    ("malaria", 1): "V",
    ("malaria", 5): "VI",
}
CLASS_TABLES = {
    ("stl10", 5, "inception_v3", "none"): "VII",
    ("stl10", 5, "inception_v3", "pixel"): "VIII",
    ("malaria", 1, "inception_v3", "none"): "IX",
    ("malaria", 1, "inception_v3", "pixel"): "X",
}
TSNE_FIGURES = {
    ("stl10", 5, "inception_v3", "none"): 5,
    ("stl10", 5, "inception_v3", "pixel"): 6,
    ("fashion_mnist", 1, "mobilenet_v2", "none"): 7,
    ("malaria", 1, "inception_v3", "none"): 8,
    ("malaria", 1, "inception_v3", "pixel"): 9,
}
LOSS_FIGURES = {
    ("stl10", 1, "resnet50_v2", "pixel"): 10,
    ("fashion_mnist", 5, "mobilenet_v2", "none"): 11,
}

ABOUT_ACCURACY = (
    "“As trained” is the paper's protocol. Batch normalisation keeps running statistics that "
    "start from a guess; a cell with few updates never gets rid of it, and its embedding can "
    "collapse to a constant (†) although training went well. “Re-estimated” scores the same "
    "weights with these statistics measured anew on the labelled images: compare both before "
    "believing a Δ. Standard deviations are sample ones (n - 1), as in the paper's own tables."
)
ABOUT_CLAIMS = (
    "Every claim is read as a difference that must be positive. Supported: its 95 % interval "
    "lies above zero (each one's, where the claim is about every case). Not supported: it lies "
    f"below, or reaches zero with at least {SPLITS} splits. Otherwise, or where cells are "
    "missing: not enough runs. Printed numbers are judged from their means and standard "
    "deviations, without the pairing."
)
ABOUT_SEPARABILITY = (
    "SVM and neighbours: test accuracy (%) of the linear SVM and of a vote of the 5 nearest "
    "labelled images, which needs no line between the classes. Silhouette: is an image closer "
    "to its own class (1) or to another (-1)? Fisher: scatter between classes over scatter "
    "within. Rank: how many of the 128 directions are used (effective rank). Dead: outputs "
    "that are 0 on every test image. Collapsed: in how many splits the embedding is all but "
    "constant, so that nothing can be read off it."
)
ABOUT_SCALE = (
    "What these numbers were made with. “Initial BN statistics left” is how much of batch "
    "normalisation's starting guess is still in its running averages after training "
    "(momentum to the power of updates): above a few percent, the embedding tends to collapse."
)

SCALE_COLUMNS = {
    "image_size": "image (px)",
    "n_unlabelled": "N_u",
    "n_labelled": "N_l",
    "n_test": "test images",
    "epochs": "epochs",
    "n_updates": "updates",
    "bn_initial_share": "initial BN statistics left",
}


@dataclass(frozen=True)
class Table:
    """A table to show, all text; `data` is what its CSV holds, if not the frame itself."""

    name: str
    caption: str
    frame: pd.DataFrame
    data: pd.DataFrame | None = None
    sortable: bool = False


@dataclass(frozen=True)
class Picture:
    """Panels to show beside each other, by name; as PNG where they have very many marks."""

    name: str
    caption: str
    panels: dict[str, Figure]
    many_marks: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page; a block may also be a plain sentence."""

    title: str
    explanation: str
    blocks: list[Table | Picture | str] = field(default_factory=list)


def make_name(*parts: object) -> str:
    """Make a file name of words and numbers: `accuracy-fashion_mnist-1pct`."""
    words = [f"{p:g}pct" if isinstance(p, float) else str(p) for p in parts]
    words = [re.sub(r"[^\w.-]+", "_", word).strip("_") for word in words]
    return "-".join(word for word in words if word)


def describe(dataset: str, percent: float, *rest: str, variant: str = "") -> str:
    """Name a combination for readers: `Fashion-MNIST, 1 % labelled, MobileNetV2, No attack`."""
    words = [NAMES[dataset], f"{percent:g} % labelled", *(write_name(word) for word in rest)]
    return ", ".join([*words, variant] if variant else words)


def write_name(word: str) -> str:
    """Write a setting's value as it reads in a line: `MobileNetV2`, `no attack`."""
    return NAMES[word].lower() if word in (*ATTACKS, *MODES) else NAMES[word]


def name_columns(key: tuple, variant: str) -> dict[str, str]:
    """Write dataset, percent and what follows as columns of a table."""
    dataset, percent, *rest = key
    columns = {"data set": NAMES[dataset], "labelled": f"{percent:g} %"}
    columns |= dict(zip(["backbone", "attack", "mode"], map(write_name, rest), strict=False))
    return columns | ({"variant": variant} if variant else {})


def make_panel(size: tuple[float, float] = PANEL) -> Axes:
    """Make a figure of one panel, `size` in inches, and return the panel."""
    return Figure(figsize=size, layout="constrained").subplots()


def groups_of(variants: Variants, keys: list[str]) -> Iterator[tuple[str, tuple, pd.DataFrame]]:
    """Yield variant, key and cells of each group, in the paper's order."""
    for variant, cells in variants.items():
        groups = dict(list(cells.groupby(keys)))
        order = results.in_order(pd.DataFrame(index=pd.MultiIndex.from_tuples(groups, names=keys)))
        for key in order.index:
            yield variant, key, groups[key]


def show_method(folder: Path, cells: pd.DataFrame) -> Section:
    """Show Figure 2, and Figures 3 and 4 where the cells kept example images."""
    ax = make_panel((8.0, 3.1))
    caption = (
        "The method (the paper's Figure 2). Labelled images train a class head, unlabelled ones a "
        "head that tells how far an image was turned; both share one encoder. Supervised cells "
        "have the upper half alone. The attack sets one pixel, at a place that gives away the "
        "class, in every labelled image; unlabelled and test images stay clean."
    )
    blocks = [Picture("method", caption, {"": figures.method(ax).figure})]
    for _, key, group in groups_of({"": cells}, ["dataset", "image_size"]):
        attacked = group[group["attack"] == "pixel"]
        if len(attacked) and (picture := _show_examples(folder / attacked["cell"].iloc[0], key[0])):
            blocks.append(picture)
    return Section(
        "How it works",
        "Few images have a label, many have none. Does learning to tell which way up the "
        "unlabelled ones are make a better representation? A linear SVM on the encoder's 128 "
        "outputs answers, on test images that nothing has seen before.",
        blocks,
    )


def _show_examples(home: Path, dataset: str) -> Picture | None:
    try:
        with np.load(home / "features.npz") as arrays:
            clean, attacked = arrays["examples"]
    except (OSError, KeyError):
        return None
    panels = {}
    for name, images in {"clean": clean, "attacked": attacked}.items():
        ax = make_panel((4.0, 2.2))
        figures.examples(ax, images, [""] * len(images), columns=4)
        ax.set_title(name)
        panels[name] = ax.figure
    caption = (
        f"{NAMES[dataset]}: labelled images of different classes, as drawn (Figure 3) and attacked "
        f"(Figure 4): one white pixel each, of {clean.shape[1]} × {clean.shape[2]}."
    )
    return Picture(make_name("examples", dataset), caption, panels, many_marks=True)


def show_accuracies(variants: Variants) -> Section:
    """Show Tables I to VI and a picture of each."""
    blocks = []
    for variant, (dataset, percent), cells in groups_of(variants, ["dataset", "percent"]):
        number = TABLES.get((dataset, percent))
        caption = describe(dataset, percent, variant=variant)
        caption += f" (the paper's Table {number})" if number else " (not in the paper)"
        caption += (
            ". Test accuracy of the linear SVM in %: mean ± standard deviation (number of splits); "
            "Δ is semi-supervised minus supervised, difference is ours minus published, in points. "
            f"Scale: {tables.describe_scale(cells)}."
        )
        caption += " † The embedding collapsed." if cells["collapsed"].any() else ""
        data = pd.concat(
            {name: results.summarise(cells, name) for name in MEASURES}, names=["measure"]
        )
        name = make_name("accuracy", dataset, percent, variant)
        blocks.append(Table(name, caption, tables.lay_out(cells, dataset, percent), data))
        blocks.append(_draw_accuracies(name, describe(dataset, percent, variant=variant), cells))
    return Section(
        "Accuracy",
        ABOUT_ACCURACY,
        blocks,
    )


def _draw_accuracies(name: str, title: str, cells: pd.DataFrame) -> Picture:
    chance = 100 / cells["n_classes"].iloc[0]
    panels = {}
    for attack in ATTACKS:
        group = cells[cells["attack"] == attack]
        if group.empty:
            continue
        found = {
            label: results.summarise(group, measure)
            .droplevel(["dataset", "percent", "attack"])
            .rename(NAMES, level="backbone")
            for measure, label in MEASURES.items()
        }
        ax = make_panel((4.0, 3.4))
        figures.accuracies(ax, found, chance).set_title(NAMES[attack])
        ax.figure.legend(*figures.label_once(ax), loc="outside lower center", ncols=2)
        panels[attack] = ax.figure
    caption = (
        f"{title}: mean and standard deviation over splits; grey bars are the published means."
    )
    return Picture(name, caption, panels)


def show_summary(variants: Variants) -> Section:
    """Show the mean Δ over backbones of each data set, fraction and attack."""
    rows, blocks = [], []
    for variant, cells in variants.items():
        try:
            rows += _sum_up(variant, cells)
        except results.MixtureError as error:
            blocks.append(f"No mean over backbones{variant and f' for {variant}'}: {error}.")
    caption = "Points gained by adding unlabelled images, mean over backbones."
    if rows:
        blocks.append(Table("summary", caption, pd.DataFrame(rows)))
    return Section(
        "In short",
        "Semi-supervised minus supervised accuracy, in points: above zero, the unlabelled images "
        "helped. “As trained” and “re-estimated” are explained under Accuracy; whether a "
        "difference is more than chance, under Statistics.",
        blocks or ["No split has run in both modes, so there is no difference to show."],
    )


def _sum_up(variant: str, cells: pd.DataFrame) -> list[dict[str, str]]:
    results.check_scale(cells, within=["dataset", "percent"])
    found = {name: results.compare_modes(cells, name) for name in MEASURES}
    deltas = pd.DataFrame({MEASURES[name]: table["mean"] for name, table in found.items()})
    deltas["published"] = found["accuracy"]["published"]
    means = deltas.groupby(["dataset", "percent", "attack"], sort=False).mean()
    return [
        name_columns((dataset, percent), variant)
        | {"attack": write_name(attack)}
        | {label: tables.write_signed(value) for label, value in row.items()}
        for (dataset, percent, attack), row in means.iterrows()
    ]


def show_statistics(variants: Variants) -> Section:
    """Show each Δ paired over splits, with what so few splits can tell."""
    table = _compare_variants(variants)
    if table.empty:
        needed = "Needs at least two splits that both modes have run; there are none."
        return Section("Statistics", needed)
    blocks = [
        Table(
            make_name("statistics", label.replace(" ", "_")),
            f"Δ = semi-supervised - supervised, in points, paired over splits; {label}.",
            _write_statistics(table.xs(measure, level="measure")),
            table.xs(measure, level="measure"),
            sortable=True,
        )
        for measure, label in MEASURES.items()
    ]
    return Section(
        "Statistics",
        _explain_statistics(int(table["n"].max())),
        [_count_too_few(table), _draw_differences(table), *blocks],
    )


def _compare_variants(variants: Variants) -> pd.DataFrame:
    """Stack the comparisons with at least two pairs, corrected for their number by measure."""
    found = {
        (variant, measure): results.compare_modes(cells, measure)
        for variant, cells in variants.items()
        for measure in MEASURES
    }
    table = pd.concat(found, names=["variant", "measure"])
    table = table[table["n"] >= 2]
    return table.assign(p_holm=table.groupby("measure")["p"].transform(statistics.correct_holm))


def _explain_statistics(n: int) -> str:
    return (
        "Each Δ pairs the two modes on the same labelled images. The interval holds the true mean "
        "difference in 95 of 100 studies like this one; p is a paired t-test's, Holm's correction "
        "allows for the number of rows; the effect is the mean difference in its own standard "
        "deviations; “detectable” is the smallest true difference that so many splits find four "
        f"times in five. With {n} splits that is {statistics.smallest_detectable(n):.1f} standard "
        f"deviations, and a sign or rank test could not get below p = {2 / 2**n:.3g} at all. "
        "Reading: better or worse after Holm's correction; suggestive, before it only; too few "
        "splits, neither, and a difference below “detectable” would have been missed."
    )


def _draw_differences(table: pd.DataFrame) -> Picture:
    """Draw each Δ with its interval: published, as trained and re-estimated."""
    rows = table.reset_index()
    rows.index = [
        describe(*key, variant=v) for v, *key in rows[["variant", *ROW]].itertuples(index=False)
    ]
    printed = weigh_deltas().set_index([*ROW, "attack"])[["delta", "low", "high"]]
    panels = {}
    for attack in [name for name in ATTACKS if name in set(rows["attack"])]:
        here = rows[rows["attack"] == attack]
        found = {label: here[here["measure"] == name] for name, label in MEASURES.items()}
        keys = found["as trained"][[*ROW, "attack"]]
        theirs = keys.join(printed, on=[*ROW, "attack"]).rename(columns={"delta": "mean"}).dropna()
        ax = make_panel((6.2, 1.3 + 0.32 * len(keys)))
        figures.differences(ax, ({"published": theirs} if len(theirs) else {}) | found)
        panels[attack] = ax.set_title(NAMES[attack], pad=22).figure
    caption = "Each Δ with its 95 % interval, beside the published one where there is one."
    return Picture("differences", caption, panels)


def _write_statistics(table: pd.DataFrame) -> pd.DataFrame:
    signed = tables.write_signed
    rows = [
        name_columns(key, variant)
        | {
            "n": f"{row['n']:.0f}",
            "Δ": signed(row["mean"]),
            "95 % interval": f"{signed(row['low'])} to {signed(row['high'])}",
            "p": tables.write_p(row["p"]),
            "p (Holm)": tables.write_p(row["p_holm"]),
            "effect": signed(row["effect"]),
            "detectable": signed(row["detectable"]).lstrip("+"),
            "published": signed(row["published"]),
            "reading": read_difference(row),
        }
        for (variant, *key), row in table.iterrows()
    ]
    return pd.DataFrame(rows)


def read_difference(row: pd.Series) -> str:
    """Say in two words what a row of `results.compare_modes` allows to conclude."""
    if row["p_holm"] < 0.05:
        return "semi better" if row["mean"] > 0 else "semi worse"
    if row["p"] < 0.05:
        return "suggestive"
    return TOO_FEW if row["detectable"] > 0 else "no difference"


def _count_too_few(table: pd.DataFrame) -> str:
    """Say how many comparisons so few splits leave open, and how large a difference may hide."""
    hidden = table[table.apply(read_difference, axis=1) == TOO_FEW]["detectable"]
    if hidden.empty:
        return "No comparison is left open by the number of splits."
    return (
        f"In {len(hidden)} of {len(table)} comparisons the splits are too few to tell: true "
        f"differences below {hidden.min():.1f} to {hidden.max():.1f} points would be missed."
    )


def show_claims(variants: Variants, reports: pd.DataFrame, histories: pd.DataFrame) -> Section:
    """Show the ledger of the paper's claims, where the cells of any exist."""
    blocks = [_show_ledger(v, cells, reports, histories) for v, cells in variants.items()]
    return Section(
        "Claims",
        ABOUT_CLAIMS,
        blocks,
    )


def _show_ledger(
    variant: str, cells: pd.DataFrame, reports: pd.DataFrame, histories: pd.DataFrame
) -> Table | str:
    try:
        ledger = claims.judge_claims(cells, reports, histories)
    except results.MixtureError as error:
        return f"No ledger{variant and f' for {variant}'}: {error}."
    if not ledger["run"].any():
        text = "None of the cells that the paper's claims rest on are in this study, so it says "
        return f"{variant} {text}nothing about any of them.".strip()
    caption = "The paper's claims, what its printed numbers say, and what these cells say"
    caption += f" ({variant})." if variant else "."
    return Table(make_name("claims", variant), caption, _write_ledger(ledger), ledger)


def _write_ledger(ledger: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame({"section": ledger["section"], "claim": ledger["claim"]})
    shown["read as"] = ledger["reading"]
    shown["cells run"] = [
        f"{r} of {n}" for r, n in zip(ledger["run"], ledger["cells"], strict=True)
    ]
    for label, name in {"published": "published", **{v: k for k, v in MEASURES.items()}}.items():
        parts = zip(ledger[f"{name}_verdict"].fillna(""), ledger[name].fillna(""), strict=True)
        shown[label] = [": ".join(filter(None, part)) for part in parts]
    return shown


def show_losses(variants: Variants, histories: pd.DataFrame) -> Section:
    """Show the loss curves of the first split of each combination (Figures 10 and 11)."""
    blocks = []
    for variant, key, cells in groups_of(variants, [*ROW, "attack"]):
        panels = {}
        for mode, cell in _first_by_mode(cells):
            history = histories[histories["cell"] == cell["cell"]].dropna(axis=1, how="all")
            if len(history):
                ax = make_panel()
                figures.losses(ax, history).set_title(NAMES[mode])
                panels[mode] = ax.figure
        caption = f"{describe(*key, variant=variant)}, split {cells['split'].min()}"
        caption += f" (the paper's Figure {LOSS_FIGURES[key]})." if key in LOSS_FIGURES else "."
        if panels:
            blocks.append(Picture(make_name("losses", *key, variant), caption, panels))
    return Section(
        "Loss curves",
        "How training went, epoch by epoch. An epoch of a semi-supervised cell goes through all "
        "unlabelled images and so has many more updates than a supervised one: fewer epochs do not "
        "mean less training.",
        blocks,
    )


def _first_by_mode(cells: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    for mode in MODES:
        of_mode = cells[cells["mode"] == mode].sort_values("split")
        if len(of_mode):
            yield mode, of_mode.iloc[0]


def show_projections(variants: Variants, points: pd.DataFrame) -> Section:
    """Show t-SNE pairs, supervised and semi-supervised (Figures 5 to 9)."""
    blocks = []
    for variant, key, cells in groups_of(variants, [*ROW, "attack"]):
        panels = {}
        for mode, cell in _first_by_mode(cells):
            of_cell = points[points["cell"] == cell["cell"]]
            if len(of_cell):
                ax = make_panel((4.0, 2.9))
                xy, labels = of_cell[["x", "y"]].to_numpy(), of_cell["label"].to_numpy()
                figures.tsne(ax, xy, labels, cell["class_names"])
                ax.set_title(NAMES[mode] + (" - collapsed" if cell["collapsed"] else ""))
                panels[mode] = ax.figure
        caption = f"{describe(*key, variant=variant)}, split {cells['split'].min()}"
        caption += f" (the paper's Figure {TSNE_FIGURES[key]})." if key in TSNE_FIGURES else "."
        if panels:
            blocks.append(Picture(make_name("tsne", *key, variant), caption, panels, True))
    return Section(
        "The embedding in the plane",
        "t-SNE puts test images with similar embeddings next to each other; colours are the "
        "classes, the same in both pictures. Clusters of one colour are a good sign; distances "
        "between clusters and their sizes mean little.",
        blocks,
    )


def show_classes(variants: Variants, reports: pd.DataFrame) -> Section:
    """Show Tables VII to X for every combination."""
    blocks = []
    for variant, cells in variants.items():
        classes = results.average_classes(cells, reports)
        for _, key, group in groups_of({"": cells}, [*ROW, "attack"]):
            splits = classes.loc[key]["n"].max()
            caption = f"{describe(*key, variant=variant)}: means over {splits} splits"
            number = CLASS_TABLES.get(key)
            caption += f" (the paper's Table {number}, one run)." if number else "."
            name = make_name("classes", *key, variant)
            frame = tables.lay_out_classes(group, classes, key)
            blocks.append(Table(name, caption, frame, classes.loc[key]))
    return Section(
        "Class by class",
        "Precision: of the images given this class, the share that are of it. Recall: of the "
        "images of this class, the share that are found. F1 is their harmonic mean. As trained.",
        blocks,
    )


def show_separability(variants: Variants) -> Section:
    """Show what is measured of the embedding beside the SVM's accuracy."""
    measured = pd.concat(
        {variant: results.measure_embeddings(cells) for variant, cells in variants.items()},
        names=["variant"],
    )
    caption = (
        "Means over splits, of the embedding as trained, but for the SVM re-estimated (again)."
    )
    return Section(
        "Separability beyond accuracy",
        ABOUT_SEPARABILITY,
        [Table("separability", caption, _write_separability(measured), measured, sortable=True)],
    )


def _write_separability(measured: pd.DataFrame) -> pd.DataFrame:
    rows = [
        name_columns(key, variant)
        | {
            "n": f"{row['n']:.0f}",
            "SVM": f"{row['accuracy']:.1f}",
            "SVM again": f"{row['accuracy_recalibrated']:.1f}",
            "neighbours": f"{row['knn_accuracy']:.1f}",
            "silhouette": tables.write_signed(row["silhouette"], 2),
            "Fisher": f"{row['fisher_ratio']:.2f}",
            "rank": f"{row['effective_rank']:.1f}",
            "dead": f"{row['dead_units']:.0f}",
            "collapsed": f"{row['collapsed']:.0f}" + " †" * bool(row["collapsed"]),
        }
        for (variant, *key), row in measured.iterrows()
    ]
    return pd.DataFrame(rows)


def show_times(cells: pd.DataFrame) -> Section:
    """Show where the time went, and how fast images were trained on and prepared."""
    seconds = results.sum_seconds(cells)
    groups = cells.groupby(seconds.index.names)
    table = (seconds / 60).map("{:.1f}".format)
    table["cells"] = groups.size().astype(str)
    for name in ("training", "pipeline"):
        speed = groups[f"images_per_second.{name}"].mean()
        table[f"{name} (images/s)"] = speed.map("{:,.0f}".format)
    if "seconds_tracing" in cells:
        table["tracing, a cell (s)"] = groups["seconds_tracing"].mean().map("{:.1f}".format)
    table = table.rename(index=NAMES).reset_index()
    ax = make_panel((6.4, 1.5 + 0.35 * len(seconds)))
    figures.times(ax, seconds.rename(index=NAMES))
    return Section(
        "Where the time went",
        f"{cells['seconds.total'].sum() / 60:,.0f} minutes of computing in {len(cells)} cells. The "
        "input pipeline alone must be faster than training, or it holds training back.",
        [
            Picture("times", "Minutes by stage, summed over cells.", {"": ax.figure}),
            Table("times", "The same in numbers: minutes by stage.", table, seconds),
        ],
    )


def show_scale(cells: pd.DataFrame) -> Section:
    """Show the scale of the runs and the versions behind them."""
    groups = cells.groupby(["dataset", "percent", "backbone", "mode"])
    scale = results.in_order(groups[list(SCALE_COLUMNS)].agg(_write_distinct)).rename(
        columns=SCALE_COLUMNS
    )
    scale = scale.rename(index=NAMES).rename(index="{:g} %".format, level="percent").reset_index()
    made = [name for name in cells if name == "revision" or name.startswith(MADE_WITH)]
    versions = pd.DataFrame([(name, _write_distinct(cells[name])) for name in made])
    notes = {
        f"{NAMES[dataset]}: {note}."
        for dataset, found in zip(cells["dataset"], cells["notes"], strict=True)
        for note in found
    }
    return Section(
        "Scale and versions",
        ABOUT_SCALE,
        [
            Table("scale", "The scale of the runs.", scale),
            Table(
                "versions",
                "Code, machine and versions.",
                versions.set_axis(["what", "value"], axis=1),
            ),
            *sorted(notes),
        ],
    )


def _write_distinct(values: pd.Series) -> str:
    """Write the different values of a column, numbers short."""
    return ", ".join(sorted({_write_value(value) for value in values if value is not None}))


def _write_value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
