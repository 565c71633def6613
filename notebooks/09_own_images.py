# %% [markdown]
# # Your own images
#
# Before: [08_audit](08_audit.ipynb)
#
# **You have a folder of images, few of them labelled. What works best on them, how sure is that,
# and which images should you label next?**
#
# You will see
# 1. how a folder becomes arrays, and what to look at before any training,
# 2. pixels, an untrained network and two trained ones, compared on images they did not learn from,
# 3. the best of them kept for new images, and a list of what to label next.
#
# All in one command: `semisiam own FOLDER`.

# %%
import re
import tempfile
from itertools import combinations, count
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedGroupKFold

from semisiam import ROOT
from semisiam.cell import Cell
from semisiam.data import datasets, parts
from semisiam.data.files import DataError, walk
from semisiam.evidence import figures, statistics
from semisiam.method import evaluation, model, training, trials
from semisiam.run import folder as records

# %% [markdown] tags=["not-on-page"]
# ## Parameters
#
# Set `folder` to your own and run all cells. The defaults write [scikit-learn's
# digits](https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html) as
# files and take a minute or two: **they show how it works, and say nothing about your images.**

# %% tags=["parameters"]
folder: str = ""  # your folder, see below ("": digits written as files)
groups: str = ""  # pattern in file names, its match is the group, e.g. "plate[0-9]+"
image_size: int = 0  # height and width after resizing (px; 0: 32 for the digits, 64 for yours)
backbone: str = "small_cnn"  # small_cnn, mobilenet_v2, inception_v3 or resnet50_v2
weights: str = "none"  # a pretrained backbone, compared as it is: none, imagenet or FILE.h5
n_folds: int = 4  # each labelled image is held out in one of them
updates: int = 0  # training steps of either network, about (0: 100 for the digits, 400 for yours)
batch_size: int = 16  # labelled images a step, and unlabelled ones
lambda_u: float = 1.0  # weight of the rotation loss, equation (1)
bn_momentum: float = 0.9  # of batch normalisation; the backbones' own need thousands of updates
digits_per_class: int = 10  # labelled digits of each class, where folder is ""
seed: int = 0  # seed of folds, weights and order
output_dir: str = ""  # where the best is kept ("": outputs/own, by the folder's name and content)

# %%
image_size = image_size or (64 if folder else 32)
updates = updates or (400 if folder else 100)
if updates < 1:
    raise DataError(f"updates = {updates}: at least 1 is needed, or 0 for the default")

# %% [markdown]
# ## The folder
#
# Two layouts work. **Class folders**: one folder a class, named like the class, and one called
# `unlabelled`. **A table**: images in any folders, and beside them a file `labels.csv` with the
# columns `file`, `label` and perhaps `group`. An image is unlabelled if its label is empty, or if
# it has no row and lies in the folder `unlabelled` or beside the table. Every other image must have
# a row. Any size will do, in colour or grey; each image becomes a square, so long ones are
# squeezed.


# %% tags=["nbval-check-output"]
def write_digits(folder, per_class, n_unlabelled, seed):
    """Write some digits as one would lay out images of one's own."""
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(seed).permutation(len(images))
    of_class = {str(c): order[digits.target[order] == c][:per_class] for c in range(10)}
    rest = order[np.isin(order, np.concatenate(list(of_class.values())), invert=True)]
    for name, numbers in (of_class | {"unlabelled": rest[:n_unlabelled]}).items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            Image.fromarray(images[number]).save(folder / name / f"{number:04}.png")


scratch = tempfile.TemporaryDirectory()
root = Path(folder).expanduser() if folder else Path(scratch.name) / "digits"
if not folder:
    write_digits(root, per_class=digits_per_class, n_unlabelled=900, seed=seed)
files = walk(root)
for name in [name for name in files if "/" not in name[:-1]][:12]:
    inside = sum(file.startswith(name) and file[-1] != "/" for file in files)
    print(f"{name:12}", f"{inside} files" if name.endswith("/") else "")

# %% [markdown]
# `load` sets a third of the labelled images aside as `test`. Here folds do that (see below), so we
# join both parts again. Copies of labelled images among the unlabelled ones are left out.


# %% tags=["nbval-check-output"]
def pool(train, test):
    """Put both parts of the labelled images together, unless they have no such entry."""
    return np.concatenate([train, test]) if len(train) else train


data = datasets.load("folder", image_size, data_dir=str(root), seed=seed)
if not len(data.test_rows):
    told = "its images would be learnt from: move them into the class folders, or elsewhere"
    raise DataError(f"{root} has a folder test, but here every labelled image is a test; {told}")
images, labels = pool(data.train, data.test), pool(data.train_labels, data.test_labels)
names = pool(data.parts["train"].names, data.parts["test"].names)

# %% tags=["nbval-check-output"]
origin, unlabelled = data.parts["unlabelled"], data.unlabelled
digests = pool(data.parts["train"].digests, data.parts["test"].digests)
copies = np.isin(origin.digests.view("V16").ravel(), digests.view("V16").ravel())
if copies.any():
    origin, unlabelled = origin.select(~copies), unlabelled[~copies]
if copies.any() and data.unlabelled is not data.train:  # else none is without a label
    print(f"{copies.sum()} unlabelled images left out: they are labelled ones")
print(f"{len(images)} labelled, {len(unlabelled)} unlabelled images of {image_size} px")
print(f"classes: {', '.join(data.class_names)}")
if len(unlabelled) <= len(images):
    raise DataError(
        f"{root} has {len(unlabelled)} unlabelled images and {len(images)} labelled ones: put more "
        "images without a label into its folder `unlabelled`"
    )

# %% [markdown]
# ## Look
#
# Is every image in the right class? Could *you* tell the classes at this size? Do the unlabelled
# images show the same things? These questions decide more than any setting.

# %% alt="Labelled images of each class above, unlabelled ones below."
n_shown = min(10, len(data.class_names))
first = [np.flatnonzero(labels == c)[:2] for c in range(n_shown)]
some = np.random.default_rng(seed).permutation(len(unlabelled))[:20]
fig, axes = plt.subplots(2, 1, figsize=(8, 4))
titles = [*data.class_names[:n_shown], *[""] * n_shown]
chosen = [of_class[i] for i in range(2) for of_class in first if len(of_class) > i]
figures.examples(axes[0], images[chosen], titles[: len(chosen)], columns=n_shown)
figures.examples(axes[1], unlabelled[some], [""] * len(some), columns=10)
axes[0].set_title(f"labelled ({len(images)} in all), at {image_size} px")
axes[1].set_title(f"unlabelled ({len(unlabelled)} in all)")
plt.show()

# %% [markdown]
# Pictures do not show all. `heights`, `widths`: ranges in the files; `values`: after conversion to
# `image_size`. `repeats`: copies of an earlier image; `in train`: copies of one in `train`.

# %% tags=["nbval-check-output"]
described = datasets.describe_parts(data)
print(described[["images", "heights", "widths", "values", "repeats", "in train"]].to_string())
print(*[note for note in data.notes if not note.startswith(("test set", "test images"))], sep="\n")

# %% [markdown]
# ## Groups
#
# Images of one slide, patient, plate or video look alike. If a network learns from some and is
# judged on others, its accuracy is too good. Groups keep them together: give the column `group` of
# `labels.csv`, or a pattern in the file names (with class folders, in the path below them).
#
# *Twins* do the same harm: two images of different groups that show the same thing. We list those
# whose pixels correlate above 0.98: look at them.


# %%
def find_groups(names, pattern, given):
    """Say which images belong together, str (N,); empty if nobody knows."""
    try:
        if re.compile(pattern).groups:  # is a group the whole match, or what is in brackets?
            raise DataError(f"groups = {pattern!r} has brackets: write (?: ) for ( )")
        found = [re.search(pattern, name) for name in names] if pattern else []
    except re.error as error:
        raise DataError(f"groups = {pattern!r} is no pattern: {error}") from None
    if None in found:
        name = names[found.index(None)]
        raise DataError(f"groups = {pattern!r} matches nothing in the file name {name}")
    found = [match.group() for match in found]
    if twins := parts.find_twins(sorted(set(found)), str.casefold):
        alike = "groups that are alike but for case, spaces or zeros"
        raise DataError(f"groups = {pattern!r} finds {alike}: {', '.join(twins)}")
    return np.array(found) if pattern else given


# %%
def find_twins(images, group=(), threshold=0.98):
    """List pairs of images of two groups whose pixels correlate more, the most alike first."""
    flat = model.embed(model.build_frozen("pixels", images.shape[1]), images)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    alike = np.triu(flat @ flat.T, k=1)
    apart = group[:, None] != group if len(group) else True
    pairs = np.argwhere((alike > threshold) & apart)
    return pairs[np.argsort(-alike[*pairs.T])]


# %%
sought, sought_pool = names, origin.names
if not (root / "labels.csv").exists():  # below the class folders
    sought, sought_pool = ([name.split("/", 1)[1] for name in of] for of in (sought, sought_pool))

# %% tags=["nbval-check-output"]
group = find_groups(sought, groups, pool(data.parts["train"].groups, data.parts["test"].groups))
print("groups:", len(np.unique(group)) or "none, each image is its own", *np.unique(group)[:3])

# %% tags=["nbval-check-output"]
twins = find_twins(images, group)
print(f"{len(twins)} pairs of labelled images are nearly the same")
for a, b in twins[:3]:
    print(f"    {names[a]} and {names[b]}")

# %% tags=["nbval-check-output"]
matches = [re.search(groups, name) for name in sought_pool] if groups else []
of_pool = [match.group() if match else "" for match in matches] or origin.groups
n_known = np.isin(of_pool, group).sum() if len(group) else 0
n_unknown = len(origin.names) - np.count_nonzero(of_pool) if len(group) else 0
print(f"unlabelled images: {n_known} of these groups, {n_unknown} of unknown ones")

# %% tags=["nbval-check-output"]
of_pixels = pd.Series(labels).groupby([digest.tobytes() for digest in digests])
doubled = of_pixels.transform("nunique").to_numpy() > 1
print(f"{doubled.sum()} images have the pixels of one of another class", *names[doubled][:4])

# %% [markdown]
# ## Every labelled image is held out once
#
# A network is no judge of images that it learnt from. So we train once per *fold*: some labelled
# images are held out, and predicted by a network that never saw them.
# [StratifiedGroupKFold](https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.StratifiedGroupKFold.html)
# keeps classes even and groups together.


# %%
def draw_folds(labels, group, n_folds, seed):
    """Draw which images each fold holds out, bool (N,) each; every image once."""
    if n_folds < 2:
        raise DataError(f"n_folds = {n_folds}: at least 2 are needed")
    counts = np.bincount(labels)
    if counts.min() < n_folds:
        told = f"{data.class_names[counts.argmin()]} has {counts.min()} labelled images"
        raise DataError(f"{n_folds} folds, but {told}: label more, or set n_folds lower")
    of = group if len(group) else np.arange(len(labels))
    if len(np.unique(of)) < n_folds:
        told = f"{len(np.unique(of))} groups ({', '.join(np.unique(of)[:3])})"
        raise DataError(f"{n_folds} folds, but there are {told}: set n_folds lower")
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    return [np.isin(np.arange(len(labels)), held) for _, held in folds.split(labels, labels, of)]


# %% tags=["nbval-check-output"]
def check_folds(labels, folds):
    """Refuse folds that hold out nothing, or leave a class without an image to train on."""
    for held_out in folds:
        if not held_out.any():
            raise DataError(f"groups are too uneven for {len(folds)} folds: set n_folds lower")
        if absent := set(labels) - set(labels[~held_out]):
            named = ", ".join(data.class_names[c] for c in absent)
            raise DataError(f"one group holds all images of {named}: label images of more groups")


folds = draw_folds(labels, group, n_folds, seed)
check_folds(labels, folds)
n_labelled = min(int((~held_out).sum()) for held_out in folds)
print("held out in each fold:", [int(held_out.sum()) for held_out in folds])

# %% [markdown]
# ## What you would have without training
#
# A linear SVM and a [random forest](https://scikit-learn.org/stable/modules/ensemble.html#forest)
# on 32 × 32 pixels, and an SVM on an untrained network (its outputs divided by their standard
# deviation): seconds each. `pretrained`, if you ask for it, is used as it is; the two networks
# below start from random weights. Training takes longer and must beat them.


# %%
def fit(name, features, labels):
    """Fit a candidate's classifier: the paper's SVM, or a forest."""
    if name.endswith("forest"):
        return RandomForestClassifier(500, random_state=0).fit(features, labels)
    return evaluation.fit_svm(features, labels, scaled=name in ("untrained", "pretrained"))


def predict_folds(name, features):
    """Predict each image from the features of the others, fold by fold."""
    predicted = np.zeros_like(labels)
    for held_out in folds:
        classifier = fit(name, features[~held_out], labels[~held_out])
        predicted[held_out] = classifier.predict(features[held_out])
    return predicted


# %%
base = {"dataset": "folder", "data_dir": str(root), "image_size": image_size, "seed": seed}
base |= {"label_fraction": round(n_labelled / len(unlabelled), 6), "batch_size": batch_size}
frozen = {"pixels": base | {"mode": "frozen", "backbone": "pixels"}}
frozen["untrained"] = base | {"mode": "frozen", "backbone": backbone}
if weights != "none":
    frozen["pretrained"] = frozen["untrained"] | {"weights": weights}
features, predicted = {}, {}
for name, settings in frozen.items():
    encoder, _ = training.start_network(Cell.check(settings), len(data.class_names))
    features[name] = model.embed(encoder, images)
    predicted[name] = predict_folds(name, features[name])
predicted["pixels, forest"] = predict_folds("pixels, forest", features["pixels"])

# %% [markdown]
# ## The two networks
#
# The supervised one learns from the labelled images alone, the siamese one (`semi`) also from
# unlabelled ones (from a sample, if they are very many). Both make the same number of updates
# (whole epochs, about `updates` of them), with the same learning rates.
#
# `semi` gets each unlabelled image turned by 0, 90, 180 or 270° and learns to say by how much.
# Where images have no up and no down, as cells often have not, this may be too hard. (The share of
# turns that it names is of images it trains on: of others it may be lower.)
#
# How long will it take? A few steps tell.

# %%
drawn = np.random.default_rng(seed).permutation(len(unlabelled))
drawn = drawn[: max(updates * batch_size, len(images))]
trained_on = unlabelled[np.sort(drawn)] if len(drawn) < len(unlabelled) else unlabelled

# %%
shared = base | {"backbone": backbone, "bn_momentum": bn_momentum}
cells = {}
for mode, extra in (("supervised", {"equal_updates": True}), ("semi", {"lambda_u": lambda_u})):
    one = Cell.check(shared | extra | {"mode": mode, "epochs": 1})
    steps = training.count_steps(one, n_labelled, len(trained_on))
    cells[mode] = one.model_copy(update={"epochs": max(1, round(updates / steps))})
    print(f"{mode:10}  {cells[mode].epochs} epochs of {steps} updates")

few = unlabelled[: 8 * batch_size]
probe = cells["semi"].model_copy(update={"epochs": 2})
network = training.start_network(probe, len(data.class_names))[1]
every = len(images) // len(few) + 1  # no more labelled images than unlabelled ones
seconds = training.train(probe, network, images[::every], labels[::every], few)["seconds"].iloc[-1]
# the epoch had 8 steps; supervised ones take about 0.6 of the time
minutes = (1 + 0.6) * n_folds * updates * seconds / 8 / 60
print("the two networks take", "less than a minute" if minutes < 1 else f"{minutes:.0f} minutes")

# %% [markdown]
# Every fold trains both, from the same first weights. Each network predicts twice: as trained, and
# re-estimated on the labelled images that it was trained on, never on those held out
# ([04_batch_normalisation](04_batch_normalisation.ipynb)). An interrupted run goes on from its last
# checkpoint.


# %%
def predict_held_out(cell, images, labels, unlabelled, folds, place, content, tell=lambda text: 0):
    """Train a cell once a fold: predictions of held-out images, int64 (N,) each, and histories."""
    encoder, network = training.start_network(cell, len(np.unique(labels)))
    state, histories = training.list_state(network), []
    start = [variable.numpy() for variable in state]
    predicted = {how: np.zeros_like(labels) for how in ("as trained", "re-estimated")}
    for number, held_out in enumerate(folds, start=1):
        tell(f"{cell.mode}, fold {number} of {len(folds)}")
        for variable, value in zip(state, start, strict=True):
            variable.assign(value)
        known = images[~held_out], labels[~held_out]
        kept = {"checkpoint": place / f"{cell.mode}-{number}.npz"}
        kept |= {"content": f"{content} {len(unlabelled)} {np.flatnonzero(held_out).tolist()}"}
        histories.append(training.train(cell, network, *known, unlabelled, **kept))
        twice = trials.predict_twice(encoder, *known, images[held_out], cell.batch_size)
        for how, of_fold in twice.items():
            predicted[how][held_out] = of_fold
    return predicted, histories


# %%
own = ROOT / "outputs" / "own" / f"{root.resolve().name}-{data.content[:8]}"
place = Path(output_dir) if output_dir else own
checkpoints = place / ".folds"
checkpoints.mkdir(parents=True, exist_ok=True)

# %%
known = images, labels, trained_on, folds, checkpoints, data.content
for mode, cell in cells.items():
    twice, histories = predict_held_out(cell, *known, tell=print)
    predicted[mode], predicted[f"{mode}, re-estimated"] = twice.values()

# %%
turns_named = float(100 * np.mean([of["accuracy_unlabelled"].iloc[-1] for of in histories]))
print(f"rotations named by semi in its last epoch: {turns_named:.0f} % (guessing: 25)")

# %% [markdown]
# ## How good is each?
#
# *Accuracy* is the share of held-out images that are right. *Balanced accuracy* is that share in
# each class, averaged over the classes (the same where classes are equally large). We choose by
# balanced accuracy: always naming the largest class does not raise it.


# %%
def balance(truth, guess):
    """Mean over classes of the share that is right, in percent."""
    return 100 * np.mean([(guess[truth == c] == c).mean() for c in np.unique(truth)])


# %%
by_fold = pd.DataFrame(
    {name: [balance(labels[f], guess[f]) for f in folds] for name, guess in predicted.items()}
)
whole = pd.Series({name: balance(labels, guess) for name, guess in predicted.items()})
by_fold += whole - by_fold.mean()  # a fold has few of a class: the mean is that of all images

# %% [markdown]
# Folds share most of their training images, so a plain 95 % t-interval is too narrow. The
# *corrected resampled t* of [Nadeau and Bengio](https://doi.org/10.1023/A:1024068626366) makes it
# 1.53 times as wide for four folds. Your candidates, in % (intervals are cut at 0 and 100):


# %%
def estimate(values):
    """Mean over folds, interval and p; none of both where all folds agree: no spread is seen."""
    found = statistics.compare_paired(values, shared=1 / (n_folds - 1))  # held-out over training
    return found | dict.fromkeys(("low", "high", "p") if np.ptp(values) < 1e-9 else (), np.nan)


# %%
def write_interval(low, high, form):
    """Write an interval in brackets, or why there is none."""
    return f"({low:{form}} to {high:{form}})" if low < high else "(the same in every fold)"


# %%
table = pd.DataFrame({name: estimate(of) for name, of in by_fold.items()}).T
table = table[["mean", "low", "high"]].clip(0, 100)
table = table.rename(columns={"mean": "balanced"})
table.insert(0, "accuracy", [100 * (predicted[name] == labels).mean() for name in table.index])
table = table.sort_values("balanced", ascending=False)

# %%
print(table.round(1).to_string())

# %%
chance = 100 / len(data.class_names)
largest = 100 * np.bincount(labels).max() / len(labels)
print(f"guessing: balanced {chance:.1f}; accuracy {largest:.1f} by always saying the largest class")

# %% alt="Balanced accuracy of each candidate, with interval; guessing as a line." tags=["verdict"]
fig, ax = plt.subplots(figsize=(6.4, 0.42 * len(table) + 1))
for y, (name, row) in enumerate(table.iterrows()):
    colour = figures.COLOURS.get(name.split(",")[0], "0.5")
    ax.plot([row["low"], row["high"]], [y, y], color=colour)
    ax.plot(row["balanced"], y, "o", color=colour)
ax.axvline(chance, color="0.6", linestyle=":", label="guessing")
ax.set_yticks(range(len(table)), table.index)
ax.set(xlim=(0, 100), xlabel="balanced accuracy (%, 95 % interval)", ylabel="candidate")
ax.set_title(f"{root.name}: {len(images)} labels, {image_size} px, {backbone}, {n_folds} folds")
ax.invert_yaxis()
ax.legend(loc="lower right", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## How sure is that?
#
# Compare *differences* within folds, as every candidate had the same images. Each is subtracted
# from the best. A p-value says how often a difference at least this large would come up if there
# were no true one. `p_holm`, corrected for the number of tests ([07_results](07_results.ipynb)),
# decides: below 0.05 is "clearly better". The interval is not corrected, so it may leave out 0
# although `p_holm` is above 0.05. (NaN: the same in every fold, so there is no spread to go by.)
# Did unlabelled images help? For that we compare both networks, each as trained or re-estimated,
# whichever has the higher mean. The readings were chosen on these very images, so that verdict is a
# little too sure, and says "seem".

# %%
best = table.index[0]
gains = {name: estimate(by_fold[best] - by_fold[name]) for name in table.index[1:]}
lead = pd.DataFrame(gains).T[["mean", "low", "high"]].rename_axis(f"{best} minus").round(1)
lead["p_holm"] = statistics.correct_holm([gain["p"] for gain in gains.values()])
print(lead.round(3).to_string())


# %%
def say_help(low, high):
    """Say in words whether a difference is clearly above or below 0."""
    if low > 0:
        return "they seem to have helped"
    return "they seem to have done harm" if high < 0 else "that cannot be told from these labels"


# %%
told = f"{table.loc[best, 'balanced']:.0f} % balanced accuracy "
told += write_interval(*table.loc[best, ["low", "high"]], ".0f")
verdict = [f"**Best here: {best}**, {told}; chosen among {len(table)}, so a little too good."]
if best.split(",")[0] in frozen:
    verdict.append("**No trained network had a higher mean than this reference, which is kept.**")
if equals := [name for name in lead.index if not lead.loc[name, "p_holm"] < 0.05]:
    verdict.append(f"It is not clearly better than: {'; '.join(equals)}.")

# %%
better = {mode: by_fold[[mode, f"{mode}, re-estimated"]].mean().idxmax() for mode in cells}
helped = estimate(by_fold[better["semi"]] - by_fold[better["supervised"]])

# %%
answer = f"{better['semi']} minus {better['supervised']} is {helped['mean']:+.1f} points "
answer += write_interval(helped["low"], helped["high"], "+.1f")
answer += f": {say_help(helped['low'], helped['high'])}. "
answer += f"In its last epoch `semi` named {turns_named:.0f} % of the turns (guessing: 25"
answer += "; below 62.5 the task was hardly learnt)." if turns_named < 62.5 else ")."
verdict.append(f"Did the unlabelled images help? {answer}")

# %%
cautions = {
    "pairs of labelled images are nearly the same: give both one group, or remove one": len(twins),
    "images have the pixels of one of another class: correct a label": doubled.sum(),
    "unlabelled images are of groups with labels: on new groups `semi` may do worse": n_known,
    "unlabelled images have no known group: perhaps one of labelled images": n_unknown,
}
careful = [f"{n} {what}" for what, n in cautions.items() if n]
if not len(group):
    told = "groups are not known: with several images of a patient, slide or plate"
    careful.append(f"{told} all this is too good")
odd = ("classes that differ", "every class folder", "taken for a class", "labels that are not")
odd += ("sizes tell", "file formats tell")
careful += [note.rstrip("?") for note in data.notes if note.startswith(odd)]

# %% tags=["verdict"]
used = f"*{len(images)} labels, {len(trained_on)} of {len(unlabelled)} unlabelled images used.*"
Markdown(" ".join([*verdict, *[f"**Careful**: {what}." for what in careful], used]))

# %% [markdown]
# "Not clearly better" does not mean "equal". The interval says how large the difference could be,
# in either direction. More labels usually narrow this interval. It does not include how results
# vary with other random first weights.
#
# ## Which classes?
#
# Which classes does the best confuse? And some of its mistakes: in a few of them the label, not the
# prediction, may be wrong. (`held_out.csv`, written below, names the file of each.)

# %% alt="Confusion matrix of the best: true classes in rows, predicted ones in columns."
guess, n_classes = predicted[best], len(data.class_names)
report = evaluation.report_classes(labels, guess, data.class_names)
matrix = np.zeros((n_classes, n_classes), int)
np.add.at(matrix, (labels, guess), 1)
fig, ax = plt.subplots(figsize=(5.5, 5))
figures.confusion(ax, matrix, data.class_names)
ax.set_title(f"{best}: {len(images)} held-out images, {n_folds} folds")
plt.show()

# %% alt="Held-out images that the best gets wrong, with their true and their predicted class."
wrong = np.flatnonzero(guess != labels)[:10]
titles = [f"{data.class_names[labels[i]]} → {data.class_names[guess[i]]}" for i in wrong]
if len(wrong):
    fig, ax = plt.subplots(figsize=(8, 3.2))
    figures.examples(ax, images[wrong], titles, columns=5)
    ax.set_title("wrong: true class → predicted class")
    plt.show()

# %% [markdown]
# ## Keep the best
#
# The folds were for comparing. Now the best is made once more, from *all* labelled images.

# %%
reference = frozen.get(best.split(",")[0])
kept = Cell.check(reference) if reference else cells[best.split(",")[0]]
kept = kept.model_copy(update={"output_dir": str(place)})

# %%
encoder, network = training.start_network(kept, len(data.class_names))
history = training.train(kept, network, images, labels, trained_on)
if best.endswith("re-estimated"):
    model.recalibrate(encoder, images, batch_size)

# %%
embeddings, others = model.embed(encoder, images), model.embed(encoder, unlabelled)
classifier = fit(best, embeddings, labels)

# %% [markdown]
# ## What to label next
#
# An image near the border between two classes may tell most. The *margin* is its distance to the
# nearest border of its predicted class; the smallest come first. A forest has no border: there it
# is the share of votes by which this class is ahead of the next.


# %%
def measure_margins(classifier, features):
    """Measure how far each image is from another class than the predicted one, float (N,).

    An SVM has a border for each pair of classes. Below 0: one pair alone would choose otherwise.
    """
    if hasattr(classifier, "predict_proba"):
        top = np.sort(classifier.predict_proba(features), axis=1)
        return top[:, -1] - top[:, -2]
    svm = classifier[-1] if hasattr(classifier, "steps") else classifier
    values = classifier.decision_function(features).reshape(len(features), -1)
    distances = values / np.maximum(np.linalg.norm(svm.coef_, axis=1), 1e-9)
    if len(classifier.classes_) == 2:
        return np.abs(distances[:, 0])
    pairs = np.array(list(combinations(classifier.classes_, 2)))  # above 0: the first of them
    first, second = (pairs == classifier.predict(features)[:, None, None]).transpose(2, 0, 1)
    ahead = np.where(first, distances, np.where(second, -distances, np.inf))
    return ahead.min(axis=1)


# %%
columns = ["label", "group"] if len(data.parts["train"].groups) else ["label"]
next_ones = pd.DataFrame({"file": origin.names} | dict.fromkeys(columns, ""))
if len(origin.groups):
    next_ones["group"] = origin.groups
next_ones["predicted_class"] = np.array(data.class_names)[classifier.predict(others)]
next_ones["margin"] = measure_margins(classifier, others)
next_ones = next_ones.sort_values("margin", kind="stable")

# %% alt="Twenty unlabelled images near a border between classes, with their predicted class."
fig, ax = plt.subplots(figsize=(8, 2.3))
first = next_ones.index[:20]
figures.examples(ax, unlabelled[first], next_ones["predicted_class"].iloc[:20].tolist(), columns=10)
ax.set_title("label these first (with the class that each is given now)")
plt.show()

# %% [markdown]
# `label_next.csv`, written below, lists them all. Fill in `label` (and `group`, if it is there) for
# some, and put these rows into your `labels.csv`, in place of the file's old row. (With class
# folders, move the file into its class's folder.) Move images of none of your classes out of the
# folder. Then run again. These images were chosen because they are hard: their accuracy is not that
# of new images.
#
# ## New images
#
# `semisiam embed outputs/own/NAME NEW_IMAGES --output new.csv` writes a line for each image: its
# file, its predicted class, how sure that is (of a trained network or a forest), and its embedding.
# NAME is printed last, below.

# %%
metrics = {"name": kept.name, "hash": kept.hash, "best": best}
metrics["classifier"] = "forest" if best.endswith("forest") else "svm"
metrics |= {"n_labelled": len(labels), "n_unlabelled": len(unlabelled)}
metrics |= {"class_names": list(data.class_names), "accuracy": float((guess == labels).mean())}
metrics |= {"balanced_accuracy": table["balanced"].to_dict()}
notes = [*data.notes, f"accuracies: {n_folds} folds; kept: trained on all labelled images"]

# %%
records.close_folder(
    records.open_folder(kept),
    kept,
    metrics=metrics | {"notes": notes} | data.decoding | records.describe_machine(),
    split={"content": data.content, "files": names.tolist()},
    report=report,
    history=history,
    features={"labelled_embeddings": embeddings, "labelled_labels": labels},
    model=model.build_classifier(network, encoder),
)


# %% tags=["not-on-page"]
def is_filled(file):
    """Whether somebody wrote labels into a `label_next.csv`, or it cannot be read any more."""
    try:
        labels = pd.read_csv(file, dtype=str, keep_default_na=False)["label"]  # NA may be a class
        return labels.str.strip().ne("").any()
    except (ValueError, KeyError):
        return True


# %%
names_left = (place / f"label_next.{n}.csv" for n in count(1))
if (place / "label_next.csv").exists() and is_filled(place / "label_next.csv"):
    free = next(name for name in names_left if not name.exists())
    (place / "label_next.csv").rename(free)
    print(f"Your labels are kept in {free.name}: copy them to your labels.csv.")

# %%
import shutil

next_ones.to_csv(place / "label_next.csv", index=False, float_format="%.4g")

# %%
kinds = np.array(data.class_names)
held_out = {"file": names, "label": kinds[labels], "predicted_class": kinds[guess]}
pd.DataFrame(held_out).to_csv(place / "held_out.csv", index=False)
table.rename_axis("candidate").to_csv(place / "candidates.csv", float_format="%.4g")
shutil.rmtree(checkpoints, ignore_errors=True)  # what is left harms nobody

# %% tags=["nbval-check-output"]
print(*sorted(p.name for p in place.iterdir() if p.suffix in (".csv", ".json", ".keras")), sep="\n")
print("NAME:", place.name)

# %% [markdown] tags=["not-on-page"]
# ## Summary
#
# - Try pixels and an untrained network first: with few labels they may be the best.
# - Differences are taken within folds; their intervals are corrected because folds share images.
# - "Not clearly better" is an answer, too: label more images.
#
# ## Exercises
#
# Predict first. Solutions are in the hidden cells; click to unfold them.
#
# **1. Predict.** With n folds the interval gets √(1 + n / (n − 1)) times as wide. How would ten
# folds change this factor?

# %% jupyter={"source_hidden": true} tags=["solution", "not-on-page", "nbval-check-output"]
for n in (4, 10):
    print(f"{n} folds: {np.sqrt(1 + n / (n - 1)):.2f} times as wide")
# hardly; but of ten values the t quantile is smaller, too (2.26, of four 3.18)

# %% [markdown] tags=["not-on-page"]
# **2. Write it.** List the classes whose held-out recall is under 70 %.

# %% jupyter={"source_hidden": true} tags=["solution", "not-on-page"]
weak = report.loc[report["recall"] < 0.7, "class"].tolist()
print("classes under 70 % recall:", ", ".join(weak) or "none")
