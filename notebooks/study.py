# %% [markdown]
# # What do unlabelled images add to few labels?

# %% [markdown] tags=["not-on-page"]
# **One study, its cells beside each other: what did they show, and how firmly?**
#
# `semisiam report STUDY.yaml` runs this notebook once, as [master](master.ipynb) is run once a
# cell, and makes what it shows into one page, `outputs/STUDY/report.html`. Run by hand it shows the
# recorded demo. To add a table to the report, add a cell here.

# %%
import re
import zlib
from html import escape
from itertools import chain, cycle
from pathlib import Path
from textwrap import fill
from urllib.parse import quote

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, display

from semisiam.cell import NOT_RESULTS, Cell, Study
from semisiam.evidence import figures, results, statistics, tables
from semisiam.evidence.paper import ATTACKS, ROW
from semisiam.evidence.results import NAMES, OF_NAME
from semisiam.evidence.tables import write_signed

# %config InlineBackend.figure_formats = ["retina"]

# %% tags=["parameters"]
study_file: str = "../params/studies/demo.yaml"
cells_folder: str = "../outputs/published/demo"  # where its cells, or recorded ones, are
references_folder: str = "../outputs/published/references"  # recorded cells without training
kept_folder: str = ""  # gets figures as SVG and PNG, tables as CSV and LaTeX ("": not kept)
undone: list = []  # name, state and reason of each cell that is not done


# %%
study, folder = Study.load(study_file), Path(cells_folder)
planned = study.cells()
hashes = {name: cell.hash for name, cell in planned.items()}
found = results.collect(folder, left_out={name for name, *_ in undone})
cells = found[found["hash"] == found["cell"].map(hashes)].reset_index(drop=True)
references = pd.concat([cells, results.collect(Path(references_folder))], ignore_index=True)
reports, histories = (results.read_details(folder, cells["cell"], k) for k in ("report", "history"))


# %%
def name_variant(cell):
    """Name what tables do not tell: axes, and what a variant changes, as `bn_momentum = 0.99`."""
    base = {name: field.default for name, field in Cell.model_fields.items()} | study.base
    varied = dict.fromkeys(chain(study.axes, *study.variants.values()))
    told = [name for name in varied if name not in OF_NAME]
    told += ["attack"] * (cell.attack not in ATTACKS)
    told = [n for n in told if n in study.axes or getattr(cell, n) != base[n]]
    return ", ".join(f"{name} = {getattr(cell, name)}" for name in told)


# %%
trained = cells[cells["mode"] != "frozen"]
trained = trained.assign(variant=[name_variant(planned[name]) for name in trained["cell"]])
variants = dict(iter(trained.groupby("variant", sort=False)))
free = {v: results.find_references(group, references) for v, group in variants.items()}
COMBINATION = [*ROW, "mode", "variant"] if any(variants) else [*ROW, "mode"]

# %%
control = dict(zip(planned, cycle(study.variants or [""]), strict=False))
trained = trained.assign(control=trained["cell"].map(control))
names = [name for name in study.variants if name in set(trained["control"])]
compared = len(names) > 1 and set(study.axes) <= {"split"}  # each variant, beside the first

# %% [markdown] tags=["not-on-page"]
# Two helpers: one keeps and shows a table, the other a figure.

# %%
SIGNS = {"±": r"$\pm$", "−": "$-$", "Δ": r"$\Delta$", "†": r"$\dagger$", "×": r"$\times$"}
SIGNS |= {"–": "--", "→": r"$\to$"}


def name_file(*parts):
    words = [f"{p:g}pct" if isinstance(p, float) else str(p) for p in parts if p]
    text = "-".join("".join(c if c.isalnum() or c in "_.-" else "_" for c in w) for w in words)
    return text if len(text) < 120 else f"{text[:110]}-{zlib.crc32(text.encode()):08x}"


# %%
def show(name, caption, shown, data=None, look="sortable"):
    """Show a table, all text, and keep it; `data` is what its CSV holds, if not the same."""
    index = not isinstance(shown.index, pd.RangeIndex)
    html = shown.to_html(index=index, index_names=False, border=0)
    html = re.sub(r"<td>([^<]{30,})<", r'<td class="text">\1<', html)
    links = ""
    if kept_folder:
        links = f' <a href="report/{name}.csv">CSV</a> <a href="report/{name}.tex">LaTeX</a>'
        (shown if data is None else data).to_csv(Path(kept_folder) / f"{name}.csv")
        latex = shown.to_latex(index=index, escape=True, multirow=False)
        latex = "".join(SIGNS.get(sign, sign) for sign in latex)
        (Path(kept_folder) / f"{name}.tex").write_text(latex, "utf-8")
    caption = f"<figcaption>{escape(caption)}{links}</figcaption>"
    display(
        HTML(f'<figure class="table {look}">{caption}<div class="scroll">{html}</div></figure>')
    )


# %%
def draw(name, fig, alt, title=""):
    """Show a figure with a text for who cannot see it, and keep it."""
    if title:  # long ones in several lines: matplotlib would make room by shrinking the axes
        text = fill(title.replace(" attack", "\xa0attack"), int(12 * fig.get_figwidth()))
        fig.suptitle(text, x=0.02, ha="left", fontsize=10)
    for kind in ("svg", "png") if kept_folder else ():
        metadata = {"Date": None} if kind == "svg" else None
        fig.savefig(Path(kept_folder) / f"{name}.{kind}", metadata=metadata)
    display(fig, metadata={"image/png": {"alt": alt}})
    plt.close(fig)


# %%
def name(key, variant=""):
    """A combination as one reads it: `Malaria, 1 % labelled, no attack`."""
    dataset, percent, *rest = key
    words = [NAMES[w].lower() if w in ("none", "pixel") else NAMES[w] for w in rest]
    return ", ".join(filter(None, [NAMES[dataset], f"{percent:g} % labelled", *words, variant]))


def warn(text):
    display(HTML(f'<p class="warning">{escape(text)}</p>'))


# %% tags=["nbval-check-output"]
# What a reader must know before any number.
display(HTML(f"<p><b>{escape(study.name)}</b>: {escape(study.description)}</p>"))
same = {n for n in Cell.model_fields if len({repr(getattr(c, n)) for c in planned.values()}) == 1}
base = [f"{n} = {v}" for n, v in study.base.items() if n in same - NOT_RESULTS]
done = f"{len(cells)} of {len(hashes)} cells are done: one run each."
done += f" Of all cells: {', '.join(base)}." * bool(base)
display(HTML(f'<p class="soft">{escape(done)}</p>'))
notes = sorted({note for notes in cells.get("notes", []) for note in notes})
display(HTML(f'<p class="soft">Notes: {escape("; ".join(notes))}.</p>' * bool(notes)))

# %% tags=["nbval-check-output"]
if "digits" in set(cells["dataset"]):
    warn(
        "These are scikit-learn's digits, tiny images with a small network: they show that the "
        "machinery works, not whether the paper's claim holds."
    )
if collapsed := int(cells["collapsed"].sum()):
    warn(
        f"In {collapsed} of {len(cells)} cells the embedding collapsed (†): it is nearly constant, "
        "and as trained all images get one class. Means as trained leave these out."
    )
if failed := sum(state == "failed" for _, state, _ in undone):
    warn(f"{failed} cells failed. The list at the end says why.")

# %% [markdown]
# ## In short

# %%
CAPTION = (
    "Points of test accuracy, by the better of both readings (chosen on test images, so a little "
    "too good), with their 95 % interval over n labelled sets. Shown: differs from 0 over at least "
    "three sets (p < 0.05 after Holm's correction for all differences of this study, or of one "
    "variant, if there are several). Suggestive: fewer sets, or (“perhaps”) so before the "
    "correction only. Untested: not run, or the task was not learnt (a lead over no training is "
    "judged all the same). A gain may come from more updates alone. Draws: random choices of the "
    "marked pixels; one draw is one set of places. Terms: see below."
)

# %% tags=["nbval-check-output"]
verdicts = [
    tables.give_verdicts(group, histories, free[variant]).assign(variant=variant)
    for variant, group in variants.items()
]
verdicts = pd.concat(verdicts, ignore_index=True) if variants else pd.DataFrame()
if len(verdicts):
    several = [] if any(variants) else ["variant"]
    show("verdicts", CAPTION, verdicts.drop(columns=several), look="verdict")
elif variants and not compared:
    warn("No labelled set has run in both modes, or with and without attack: no difference.")
elif len(cells) and not variants:  # references alone
    told = cells.assign(variant=[name_variant(planned[name]) for name in cells["cell"]])
    keys = ["dataset", "percent", "backbone", "variant", "attack"]
    accuracies = 100 * told.groupby([*keys, "split"])["accuracy"].mean()  # over the attack's draws
    means = accuracies.groupby(keys).agg(mean="mean", std="std", n="count")
    text = means.round(1).rename(index=NAMES).reset_index().astype(str)
    show("references", "Accuracy without any training, percent, n labelled sets", text, means)


# %% [markdown] tags=["not-on-page"]
# A study of variants asks another question: what does each one change, beside the first?


# %%
def write_check(row):
    """Write how well a task was solved, in percent; a row of `results.check_pretext`."""
    score = f"{row['test']:.0f}"
    if np.isnan(row["test"]):
        score = f"{row['training']:.0f} in training"
    if np.isnan(row["test"]) and np.isnan(row["training"]):
        return "not measured"
    doubt = "?" if row["learnt"] is None else ""
    return f"{score}{doubt} (chance {row['chance']:.0f})"


# %%
def write_p(p):
    return "" if np.isnan(p) else "<0.0001" if p < 1e-4 else f"{p:.2g}"


def find_alike(names):
    """The names whose labelled sets were drawn like those of the first: with those it is paired."""
    how = ["dataset", "percent", "test_split", "splits_file", "unlabelled_limit", "seed"]
    drawn = trained.groupby("control")[how].agg(lambda values: tuple(sorted(set(values))))
    return [name for name in names[1:] if drawn.loc[name].equals(drawn.loc[names[0]])]


# %%
def compare_variants(names, values):
    """Set each variant beside the first, paired over labelled sets, as one family of tests."""
    first, alike = names[0], find_alike(names)
    means = values.groupby("control")[tables.BETTER].agg(mean="mean", std="std", n="count")
    changes = statistics.compare_controls(values, [(name, first) for name in alike], tables.BETTER)
    rows, learnt = [], {}
    for name in names:
        check = results.check_pretext(trained[trained["control"] == name], histories)
        learnt[name] = None if check.empty else check["learnt"].iloc[0]
        check = "" if check.empty else write_check(check.iloc[0])
        row = {"variant": name, "accuracy": tables.write_estimate(means.loc[name])}
        rows.append(row | {"pretext task": check})
        if name in alike:
            change = changes.loc[f"{name} - {first}"]
            known = False if False in (learnt[first], learnt[name]) else None
            strength = statistics.rate_strength(change["n"], change["p_holm"], known)
            strength = strength if change["p"] < 0.05 or known is False else ""
            row = {f"minus {first}": tables.write_interval(change)}
            rows[-1] |= row | {"p (Holm)": write_p(change["p_holm"]), "strength": strength}
    return pd.DataFrame(rows).fillna("")


# %% tags=["nbval-check-output"]
if compared:
    values = 100 * trained.set_index(["control", "split"])[[tables.BETTER]].astype(float)
    caption = (
        f"Variants beside the first, {names[0]}. Test accuracy in %, by the better of both "
        "readings: mean ± sample standard deviation (labelled sets). Differences in points, with "
        "95 % intervals, below 0 where the first is better; p and strength after Holm's correction "
        "over this table: no strength if p before it is 0.05 or more, or not known; nothing where "
        "labelled sets are drawn otherwise. Pretext task: how well it was solved on test images, "
        "in %; below halfway from chance to 100 its row is untested. ?: measured by older code, "
        "which errs downwards."
    )
    show("variants", caption, compare_variants(names, values))


# %%
def write(value):
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def list_distinct(values):
    return ", ".join(sorted({write(value) for value in values.dropna()}))


def spread(values, names):
    """Put attacked beside clean; another attack than the paper's is named by the variant."""
    wide = results.in_order(values.unstack("attack").reindex(columns=["none", "pixel"]))
    wide = wide.rename(columns=NAMES | {"pixel": "Under attack"})
    return wide.set_axis([names(*key) for key in wide.index]).dropna(how="all")


def name_cells(backbone, mode, variant, _split):
    return ", ".join(filter(None, [NAMES[backbone], NAMES[mode].lower(), variant]))


# %%
def gather(of):
    """Every accuracy of one data set and fraction, references first."""
    keys = ["backbone", "mode", "variant", "split", "attack"]
    attacked = of.assign(attack=of["attack"].where(of["attack"] == "none", "pixel"))
    values = 100 * attacked.groupby(keys)[tables.BETTER].mean()
    free = results.find_references(of, references)
    rows = [spread(free, lambda *key: f"{key[2]}, no training")] if len(free) else []
    return pd.concat([*rows, spread(values, name_cells)])


# %%
def compare_with(table, guess):
    """Say what each accuracy is beside, without attack where that was run, in a line."""
    what = table.columns[table.notna().any().to_numpy().argmax()]
    groups = table[what].dropna().groupby(level=0, sort=False)
    means = groups.agg(mean="mean", std="std", n="count")
    free = "" if means.index.str.contains("no training").any() else "; no reference was run"
    words = [f"{name} {tables.write_estimate(row)}" for name, row in means.iterrows()]
    words = "; ".join([f"largest class {guess:.1f}", *words])
    return f"Beside each other, {what.lower()}, in %: {words}{free}."


def tell_effort(of):
    """Say how many updates each mode had, and how well the task was solved, in a line."""
    groups = of.groupby("mode", sort=False)["n_updates"]
    words = [f"{NAMES[mode].lower()} {list_distinct(values)}" for mode, values in groups]
    told = []
    for variant, group in of[of["attack"] == of["attack"].min()].groupby("variant", sort=False):
        for key, row in results.check_pretext(group, histories).iterrows():
            told.append(" ".join(filter(None, [NAMES[key[2]], variant, write_check(row)])))
    told = "; ".join(told)
    return f"Updates: {'; '.join(words)}." + f" Pretext task, in %: {told}." * bool(told)


# %%
ALT = "Test accuracy of each cell, with and without attack, beside guessing the largest class"
beside = []
for key, of in trained.groupby(["dataset", "percent"]):
    table = gather(of)
    shown = table.rename(index=lambda row: fill(row.replace(" = ", "\xa0=\xa0"), 36))
    lines = sum(1 + row.count("\n") for row in shown.index.unique())
    fig, ax = plt.subplots(figsize=(5.4, 1.5 + 0.28 * lines))
    (guess,) = results.find_chance(of, reports)
    figures.dots(ax, shown, chance=guess).set(xlim=(0, 100), ylabel="")
    draw(name_file("accuracies", *key), fig, f"{ALT}: {name(key)}", name(key))
    beside += [f"{name(key)}. {compare_with(table, guess)}"]
    beside += [tell_effort(of)]
display(HTML("".join(f'<p class="soft">{escape(text)}</p>' for text in beside)))

# %% [markdown]
# ## How it works
#
# Few images have a label, many have none. Labelled images train a class head. Unlabelled images
# train a head of their own; in the paper it says how far an image was turned. Both heads share one
# encoder. Supervised cells have the class head alone. Then a linear SVM learns the classes from the
# encoder's 128 outputs, and its accuracy on test images is reported. The paper's attack sets one
# pixel in every labelled image white, at a place that tells the class. If it costs the supervised
# network nothing, a gain under attack says nothing of robustness.
#
# “No training” is the same SVM on raw pixels, or on the features of a network with its first,
# random weights (divided by their standard deviation, or the SVM could not tell them apart).

# %%
siamese = trained[(trained["mode"] == "semi") & (trained["pretext"] == "rotation")]
if len(siamese) and set(siamese["pretext_images"]) == {"unlabelled"}:
    fig, ax = plt.subplots(figsize=(6.6, 2.7))
    figures.method(ax)
    draw("method", fig, "One encoder, two inputs, a class head and a rotation head, one joint loss")

# %%
for cell in cells[cells["attack"] == "pixel"].drop_duplicates("dataset").itertuples():
    if not (folder / cell.cell / "features.npz").exists():
        continue  # recorded cells keep no image
    with np.load(folder / cell.cell / "features.npz") as arrays:
        for what, images in zip(("clean", "attacked"), arrays.get("examples", ()), strict=False):
            fig, ax = plt.subplots(figsize=(5.4, 0.9))
            figures.examples(ax, images, [""] * len(images), columns=8)
            title = f"{NAMES[cell.dataset]}, {what}"
            draw(name_file("examples", cell.dataset, what), fig, f"Labelled images, {what}", title)

# %% [markdown]
# ## Accuracy
#
# “As trained” is the paper's protocol. Batch normalisation keeps running averages that begin with
# fixed values. After few updates much of the beginning is left, and the embedding can collapse to a
# constant (†) although training went well. “Re-estimated” scores the same weights with averages
# measured anew on the labelled images. With few labels that can also lower an accuracy. So “better
# of both” takes, for each mode and attack, the reading with the higher mean. It is chosen on test
# accuracy, so it is a little too good, and a difference may mix two readings: read the two single
# ones, too. “Pretext task” says how well it is solved, in percent (rotations: right answers).
# “Published” is the paper's number, at its own scale and with rotations, whatever this study
# changes. N_u and N_l are the numbers of unlabelled and labelled images.

# %% tags=["nbval-check-output"]
for variant, group in variants.items():
    check = results.check_pretext(group, histories)
    for dataset, percent in sorted(set(zip(group["dataset"], group["percent"], strict=True))):
        of = group[(group["dataset"] == dataset) & (group["percent"] == percent)]
        means = {n: results.summarise(of, n) for n in results.MEASURES}
        guess = results.find_chance(of, reports)[dataset]
        caption = (
            f"{name((dataset, percent), variant)}. Test accuracy of the linear SVM in %: mean ± "
            "sample standard deviation (labelled sets). Δ: semi-supervised minus supervised. "
            f"Largest class: {guess:.1f} %. {tables.describe_scale(of)}."
        )
        shown = tables.lay_out(of, dataset, percent, check)
        file = name_file("accuracy", dataset, percent, variant)
        show(file, caption, shown, pd.concat(means, names=["reading"]), look="")

# %% tags=["nbval-check-output"]
change = results.read_percent(trained, "accuracy_recalibrated")
change -= results.read_percent(trained, "accuracy")
once = trained.assign(change=change)[trained["duplicate_of"] == ""].dropna(subset="change")
groups = once.groupby(COMBINATION)["change"]
lower = groups.agg(n="count", lower=lambda values: (values < 0).sum(), mean="mean")
if len(lower):
    lower = results.in_order(lower)
    text = lower.astype({"n": int, "lower": int}).round(1).rename(index=NAMES).reset_index()
    text["mean"] = text["mean"].map(write_signed)
    caption = (
        "Change of accuracy by re-estimation: in how many of n cells it is lower, and the mean "
        "change in points; collapsed cells are left out"
    )
    show("readings", caption, text.astype(str), lower)

# %% [markdown]
# ## Differences
#
# Each compares two ways of training on the same labelled sets. A gain is semi-supervised minus
# supervised. A lead is the siamese network (the supervised one, if alone) minus what no training
# gives. A cost is the accuracy without attack minus that under attack. The interaction is the cost
# in the siamese network minus that in the supervised one. The interval contains the true mean
# in 95 of 100 studies like this one, if differences are normally distributed. p is that of a paired
# t-test, corrected by Holm over the rows of its table with at least three labelled sets; others
# have none. “Detectable”: a true difference of this size would be found in 4 of 5 such studies,
# before this correction. Smaller ones are easily missed.


# %%
def write_differences(data):
    """Write what `statistics.compare` gives as text."""
    text = data.index.to_frame(index=False)[["what"]]
    keys = data.index.droplevel("what")
    text["where"] = [f"{NAMES[d]}, {tables.name_row(*key)}" for d, *key in keys]
    text["n"] = data["n"].map("{:.0f}".format).to_numpy()
    text["points"] = [tables.write_interval(row) for _, row in data.iterrows()]
    text["p (Holm)"] = data["p_holm"].map(write_p).to_numpy()
    text["detectable"] = data["detectable"].map(write_signed).str.lstrip("+").to_numpy()
    if data["published"].notna().any():
        text["published"] = data["published"].map(write_signed).to_numpy()
    return text


# %% tags=["nbval-check-output"]
for variant, group in variants.items():
    for measure, reading in results.MEASURES.items():
        data = statistics.compare(group, measure, free[variant]).query("n > 0")
        if len(data):
            caption = f"{reading.capitalize()}. {variant}"
            show(name_file("differences", reading, variant), caption, write_differences(data), data)

# %%
gathered = {v: tables.gather_gains(group) for v, group in variants.items()}
every = [t for of in gathered.values() for sources in of.values() for t in sources.values()]
reach = np.nanmax([0, *(t[["mean", "low", "high"]].abs().max(axis=None) for t in every)])
for variant, of in gathered.items():
    for dataset, sources in of.items():
        rows = max(map(len, sources.values()))
        fig, ax = plt.subplots(figsize=(5.4, 1.4 + 0.5 * rows))
        figures.differences(ax, sources)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # four in a row have no room
        if reach:
            ax.set_xlim(-1.05 * reach, 1.05 * reach)
        alt = f"Gains on {NAMES[dataset]} with intervals"
        draw(name_file("gains", dataset, variant), fig, alt, f"{NAMES[dataset]} {variant}")

# %% [markdown]
# Notebook `07_results` compares such numbers with the paper's claims.

# %% [markdown]
# ## Loss curves
#
# The first labelled set of each combination.


# %%
def pairs(kind, table, plot, what):
    """Draw the first cell of each mode, for every combination."""
    firsts = results.pick_first(trained).sort_values("mode", ascending=False)
    for variant, group in firsts.groupby("variant", sort=False):
        for key, of in group.groupby([*ROW, "attack"]):
            for cell in of.drop_duplicates("mode").itertuples():
                rows = table[table["cell"] == cell.cell]
                if len(rows):
                    fig, ax = plt.subplots(figsize=(4.4, 2.8))
                    plot(ax, rows, cell)
                    mode = NAMES[cell.mode] + (", collapsed" if cell.collapsed else "")
                    file = name_file(kind, *key, cell.mode, variant)
                    title = f"{mode}: {name(key, variant)}"
                    draw(file, fig, f"{what}: {name(key)}, {mode}", title)


# %%
def plot_losses(ax, rows, cell):
    figures.losses(ax, rows.dropna(axis=1, how="all"))


if len(trained):
    pairs("losses", histories, plot_losses, "Loss by epoch")

# %% [markdown]
# ## The embedding in the plane
#
# t-SNE puts test images with similar embeddings next to each other; colours are the classes.
# Clusters of one colour are a good sign. Distances between clusters and their sizes mean little.


# %%
def plot_points(ax, rows, cell):
    figures.tsne(ax, rows[["x", "y"]].to_numpy(), rows["label"].to_numpy(), cell.class_names)


if len(trained):
    points = results.read_details(folder, results.pick_first(trained)["cell"], "tsne")
    pairs("tsne", points, plot_points, "t-SNE of test images")

# %% [markdown]
# ## Class by class
#
# Precision: of the images predicted as this class, the share that belong to it. Recall: of the
# images of this class, the share that are found. F1 is the harmonic mean of both. All as trained,
# unless `bn_recalibrate` is set.

# %% tags=["nbval-check-output"]
for variant, group in variants.items():
    classes = results.average_classes(group, reports)
    for key in dict.fromkeys(classes.droplevel(["mode", "class"]).index):
        text = tables.lay_out_classes(group, classes, key)
        n = classes.loc[key].groupby("mode", sort=False)["n"].max()
        told = ", ".join(f"{NAMES[mode].lower()} {of}" for mode, of in n.items())
        caption = f"{name(key, variant)}: means over cells ({told})"
        show(name_file("classes", *key, variant), caption, text, classes.loc[key], look="")

# %% [markdown]
# ## Separability beyond accuracy
#
# Neighbours: test accuracy (%) if the 5 nearest labelled images vote, which needs no line between
# classes. Silhouette: is an image closer to its own class (1) or to another (-1)? Fisher: scatter
# between classes over scatter within. Rank: how many of the 128 directions are used. Dead: outputs
# that are 0 on every test image. Means over cells as trained (unless `bn_recalibrate` is set),
# without collapsed embeddings.

# %%
MEASURED = {"knn_accuracy": "neighbours", "silhouette": "silhouette", "fisher_ratio": "Fisher"}
MEASURED |= {"effective_rank": "rank", "dead_units": "dead"}
columns = [f"separability.{column}" for column in MEASURED]
if len(trained):
    sound = trained.astype(dict.fromkeys(columns, float))
    sound[columns] = sound[columns].mask(sound["collapsed_kept"], axis=0)
    groups = sound.groupby([*ROW, "attack", *COMBINATION[3:]])
    data = results.in_order(groups[columns].mean().set_axis(MEASURED.values(), axis=1))
    data["neighbours"] *= 100
    text = data.round(2).assign(cells=groups.size(), collapsed=groups["collapsed_kept"].sum())
    text = text.rename(index=NAMES).reset_index().astype(str).replace("nan", "–")
    show("separability", "By combination", text, data)

# %% [markdown]
# ## Where the time went

# %%
STAGES = ["data", "model", "training", "embedding", "svm", "neighbours", "silhouette", "trigger"]
STAGES += ["evaluation", "tsne"]  # older cells divide them otherwise
groups = cells.groupby(["dataset", "backbone", "mode"])
stages = {f"seconds.{stage}": stage for stage in STAGES if f"seconds.{stage}" in cells}
seconds = results.in_order(groups[list(stages)].sum().rename(columns=stages))
minutes = (seconds / 60).loc[:, seconds.sum() > 0].rename(index=NAMES)
speeds = [f"images_per_second.{what}" for what in ("training", "pipeline")]
speeds = [speed for speed in speeds if speed in cells]  # without training there is none
text = minutes.map("{:.1f}".format)
for speed in speeds:
    mean = results.in_order(groups[speed].mean())
    text[speed.split(".")[1] + " (images/s)"] = mean.map("{:,.0f}".format).to_numpy()
caption = "Minutes of computing by stage, summed over cells; embedding: with the SVM's fits. "
caption += "Pipeline: images/s of preparing batches, which must be more than training's."
if len(text):
    show("times", caption, text.replace("nan", "").reset_index())

# %% [markdown]
# ## Scale and versions
#
# What these numbers were made with. “Beginning left” is how much of batch normalisation's first
# values is still in its running averages after training. Above a few percent the embedding may
# collapse.

# %%
SCALE = {"image_size": "image (px)", "n_unlabelled": "N_u", "n_labelled": "N_l"}
SCALE |= {"n_test": "test images", "epochs": "epochs", "n_updates": "updates"}
SCALE |= {"bn_initial_share": "beginning left"}

# %%
if len(trained):
    text = trained.groupby(COMBINATION)[list(SCALE)].agg(list_distinct).rename(columns=SCALE)
    text = results.in_order(text).rename(index=NAMES).reset_index()
    show("scale", "By combination", text, look="")

# %%
made = [c for c in cells if c == "revision" or c.startswith(("hardware.", "versions."))]
text = pd.DataFrame([(what, list_distinct(cells[what])) for what in made])
if made and len(cells):
    show(
        "versions", "Code, machine and versions.", text.set_axis(["what", "value"], axis=1), look=""
    )

# %% [markdown]
# ## Cells not done

# %%
twice = cells[cells["duplicate_of"] != ""]
known = {name for name, *_ in undone} | set(cells["cell"])
rows = [*undone]
rows += [
    [name, "unread", "not done, or a file of it cannot be read"]
    for name in hashes
    if name not in known
]
rows += [
    [c, "duplicate", f"same settings as {f}"]
    for c, f in zip(twice["cell"], twice["duplicate_of"], strict=True)
]
others = sorted(set(found["cell"]) - set(cells["cell"]))
rows += [[other, "left out", "done, but not a cell of the study as it is now"] for other in others]
if rows:
    text = pd.DataFrame(rows, columns=["cell", "state", "why"])
    show("exceptions", f"{len(rows)} cells. A failed cell's log.txt tells more.", text)
else:
    print("None: every cell of the study is done, and none twice.")

# %%
if kept_folder:
    settings = f'<a href="report/{quote(study.name)}.yaml">{escape(study.name)}.yaml</a>'
    where = '<a href="report/">report</a>, beside this page'
    display(HTML(f"<p>Figures as SVG and PNG, tables as CSV and LaTeX: {where}.</p>"))
    display(HTML(f"<p>All settings: {settings}; others are the defaults of master.</p>"))
