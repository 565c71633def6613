# %% [markdown]
# # Your own images
#
# **You have a folder of images, few of them in class folders, many not. Do the unlabelled ones
# help, by how much, and what can you keep?**
#
# You will see
# 1. a folder become arrays, and what to look at before any training,
# 2. both modes trained on the same labelled images and judged on images held out from them,
# 3. how sure one can be with so few, and an encoder kept for new images.

# %%
import inspect
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Code
from scipy.stats import binomtest

# %%
from semisiam import ROOT, embed
from semisiam.cell import Cell
from semisiam.data import datasets
from semisiam.evidence import figures, statistics
from semisiam.method import evaluation, model, own_images, training
from semisiam.run import folder as records

# %% [markdown]
# ## Parameters
#
# Set `folder` to your own and run all cells. The defaults write scikit-learn's digits as files and
# take under a minute: **they show the machinery, and say nothing about your images or the paper's
# claim.** For yours, raise `image_size` until you can tell the classes by eye in the pictures below
# (64 or 96), and `updates` until more of them change nothing (500 or more).

# %% tags=["parameters"]
folder: str = ""  # your folder: CLASS/*.png|jpg|..., unlabelled/* ("": digits written as files)
image_size: int = 32  # height and width after resizing (px)
backbone: str = "small_cnn"  # small_cnn, mobilenet_v2, inception_v3 or resnet50_v2
n_folds: int = 4  # splits; each labelled image is held out in one of them
updates: int = 100  # training steps of either mode, at least
batch_size: int = 16  # labelled images a step, and unlabelled ones
lambda_u: float = 1.0  # weight of the rotation loss, equation (1)
bn_momentum: float = 0.9  # of batch normalisation; the backbones' own need thousands of updates
digits_per_class: int = 10  # labelled digits of each class, where folder is ""
seed: int = 0  # seed of folds, weights and order
kept_mode: str = "semi"  # whose encoder is kept: supervised or semi
output_dir: str = ""  # where it is kept ("": outputs/own_images, under the folder's name)

# %% [markdown]
# ## The folder
#
# One folder per class, named as you name the class, and one called `unlabelled`. Images may have
# any size and mode. If you have none at hand, digits are laid out the same way.

# %%
scratch = tempfile.TemporaryDirectory()
root = Path(folder).expanduser() if folder else Path(scratch.name) / "digits"
if not folder:
    own_images.write_digits(root, per_class=digits_per_class, n_unlabelled=900, seed=seed)

# %%
# NBVAL_CHECK_OUTPUT
for path in sorted(root.iterdir()):
    print(f"{path.name:12}", len(list(path.iterdir())), "files")

# %% [markdown]
# `datasets.load` decodes and resizes them once and keeps the arrays in a cache. A file that does
# not decode would stop it here, by name.

# %%
settings = {"dataset": "folder", "data_dir": str(root), "image_size": image_size, "seed": seed}
data = datasets.load("folder", image_size, data_dir=str(root), seed=seed)
images, labels, names = own_images.pool_labelled(data)

# %%
# NBVAL_CHECK_OUTPUT
print("labelled  ", images.shape, images.dtype)
print("unlabelled", data.unlabelled.shape, data.unlabelled.dtype)
print(f"classes   {', '.join(data.class_names)}")

# %% [markdown]
# `load` sets a third of the labelled images aside as a test set, as every study here needs one.
# With so few, that wastes a third of the labels, so `pool_labelled` put them together again. What
# takes the place of a test set comes below.

# %% [markdown]
# ## Look
#
# Two images of each class, then unlabelled ones. Three questions to your own: is every image in the
# right folder? Could *you* tell the classes at this size? Do the unlabelled images show the same
# things as the labelled ones?

# %%
n_shown = min(10, len(data.class_names))
first = [np.flatnonzero(labels == c)[:2] for c in range(n_shown)]
chosen = np.stack(first, axis=1).ravel()
some = np.random.default_rng(seed).permutation(len(data.unlabelled))[:20]

# %%
fig, axes = plt.subplots(2, 1, figsize=(8, 4))
titles = [*data.class_names[:n_shown], *[""] * n_shown]
figures.examples(axes[0], images[chosen], titles, columns=n_shown)
figures.examples(axes[1], data.unlabelled[some], [""] * len(some), columns=10)
axes[0].set_title(f"labelled ({len(images)} in all), at {image_size} px")
axes[1].set_title(f"unlabelled ({len(data.unlabelled)} in all)")
plt.show()

# %% [markdown]
# What one does not see in pictures: sizes before resizing, repeated files, conversions. A `repeats`
# other than 0 deserves a look, because a copy of a labelled image among the held-out ones makes
# every accuracy look better than it is.

# %%
# NBVAL_CHECK_OUTPUT
parts = datasets.describe_parts(data)
print(parts[["heights", "widths", "values", "repeats", "in train"]].to_string())
print(*[note for note in data.notes if not note.startswith("test set")], sep="\n")

# %% [markdown]
# (`train` and `test` are the two parts of the labelled images. Here all came as 8×8 grey pixels.)

# %% [markdown]
# ## Every labelled image is held out once
#
# An image that a network was trained on says nothing about how it does on others. So we train
# several times, on several *splits*: each time some labelled images are held out, and predicted by
# a network that never saw them. Take six images of two classes and three folds:

# %%
# NBVAL_CHECK_OUTPUT
six = np.array([0, 0, 0, 1, 1, 1])
for held_out in own_images.draw_folds(six, 3, seed=0):
    print("trained on", np.flatnonzero(~held_out), " held out", np.flatnonzero(held_out))

# %% [markdown]
# Each fold holds out one of each class, and every image is held out exactly once. Now yours:

# %%
# NBVAL_CHECK_OUTPUT
folds = own_images.draw_folds(labels, n_folds, seed=seed)
n_labelled = int((~folds[0]).sum())
print("held out in each fold:", [int(held_out.sum()) for held_out in folds])
print(f"so N_l = {n_labelled} beside N_u = {len(data.unlabelled)}")

# %% [markdown]
# ## Both modes, alike in all but the question
#
# The paper gives its two modes very different numbers of updates
# ([04_training](04_training.ipynb)). To learn what the *images* do, we give both the same, as
# nearly as whole epochs allow.

# %%
shared = settings | {"label_fraction": round(n_labelled / len(data.unlabelled), 4)}
shared |= {"backbone": backbone, "bn_momentum": bn_momentum, "lambda_u": lambda_u}
shared |= {"batch_size": batch_size}

# %%
# NBVAL_CHECK_OUTPUT
cells = {}
for mode in ("supervised", "semi"):
    one = Cell.check(shared | {"mode": mode, "epochs": 1})
    steps = training.count_steps(one, n_labelled, len(data.unlabelled))
    cells[mode] = Cell.check(shared | {"mode": mode, "epochs": -(-updates // steps)})
    print(f"{mode:10}  {cells[mode].epochs} epochs of {steps} updates")

# %% [markdown]
# This function does the rest: train without the held-out images, fit the paper's linear SVM on the
# embeddings of the others (section III-C), predict.

# %%
Code(inspect.getsource(own_images.predict_held_out), language="python")

# %% [markdown]
# It predicts twice. Batch normalisation may not have settled after few updates, and then it is to
# blame and not the mode ([05_svm_evaluation](05_svm_evaluation.ipynb)); so its statistics are
# `re-estimated` on $D_l$ for a second opinion. The next cell takes most of this notebook's time.

# %%
predicted = {
    mode: own_images.predict_held_out(cell, images, labels, data.unlabelled, folds)
    for mode, cell in cells.items()
}

# %%
right = {
    (mode, how): predictions == labels
    for mode, of_mode in predicted.items()
    for how, predictions in of_mode.items()
}

# %% [markdown]
# ## How good is each?
#
# First a feeling for small numbers. Of $n$ held-out images $k$ were right. Which true accuracies
# would that surprise nobody with? Wilson's interval gives the range (95 %):

# %%
# NBVAL_CHECK_OUTPUT
for k, n in ((8, 10), (80, 100), (800, 1000)):
    low, high = binomtest(k, n).proportion_ci(method="wilson")
    print(f"{k} of {n} right: {100 * low:.0f} to {100 * high:.0f} %")

# %% [markdown]
# Eight of ten may be no better than tossing a coin, or nearly perfect. To halve an interval takes
# four times the images. And ours:

# %%
rows = []
for is_right in right.values():
    low, high = binomtest(int(is_right.sum()), len(labels)).proportion_ci(method="wilson")
    rows.append([is_right.sum(), 100 * is_right.mean(), 100 * low, 100 * high])
keys = pd.MultiIndex.from_tuples(right, names=["mode", "statistics"])
accuracy = pd.DataFrame(rows, keys, columns=["right", "percent", "low", "high"])
print(accuracy.round(1).to_string())

# %% [markdown]
# Compare with guessing, the share of the most frequent class. Where an interval reaches down to it,
# nothing has been learnt yet that the labels can show: raise `updates` or `image_size` before going
# on. If `as trained` and `re-estimated` differ by more than a few images, believe the second and
# raise `updates`.

# %%
# NBVAL_CHECK_OUTPUT
chance = np.bincount(labels).max() / len(labels)
above = bool((accuracy["low"] > 100 * chance).all())
print(f"guessing is right for {100 * chance:.0f} %; every interval lies above that: {above}")

# %%
fig, ax = plt.subplots(figsize=(5.6, 2.2))
for y, ((mode, _), row) in enumerate(accuracy.iterrows()):
    ax.plot([row["low"], row["high"]], [y, y], color=figures.COLOURS[mode])
    ax.plot(row["percent"], y, "o", color=figures.COLOURS[mode])
ax.axvline(100 * chance, color="0.6", linestyle=":", label="guessing")
ax.set_yticks(range(4), [f"{mode}, {how}" for mode, how in accuracy.index])
ax.set(xlim=(0, 100), xlabel="held-out accuracy (%)", title=f"{len(labels)} images, 95 % (Wilson)")
ax.invert_yaxis()
ax.legend(loc="lower right", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## Did the unlabelled images help?
#
# Do not compare the two intervals: they overlap long before the modes are alike. Both modes met the
# same folds, easy ones and hard ones, so the *difference* within each fold is steadier. Four
# folds in which one mode is better by 3, 5, 1 and 3 points:

# %%
# NBVAL_CHECK_OUTPUT
example = statistics.compare_paired(np.array([3, 5, 1, 3]))
print("mean {mean:.1f} points, 95 % interval {low:.1f} to {high:.1f}".format(**example))

# %% [markdown]
# Zero is outside, so four folds can suffice, if they agree. Ours, semi minus supervised:

# %%
by_fold = pd.DataFrame(
    {key: [100 * is_right[fold].mean() for fold in folds] for key, is_right in right.items()},
    index=pd.RangeIndex(1, n_folds + 1, name="fold"),
)
difference = by_fold["semi"] - by_fold["supervised"]

# %%
found = {how: statistics.compare_paired(difference[how].to_numpy()) for how in difference}
for how, of_how in found.items():
    print(how, difference[how].round(1).tolist())
    print("    mean {mean:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}".format(**of_how))


# %%
def judge(low, high):
    if low > 0:
        return "they helped"
    return "they did harm" if high < 0 else "it cannot be told from these folds"


for how, of_how in found.items():
    print(f"{how}: {judge(of_how['low'], of_how['high'])}")

# %%
fig, ax = plt.subplots(figsize=(5.6, 3))
for mode in cells:
    heights = by_fold[mode, "as trained"]
    ax.plot(by_fold.index, heights, "o-", color=figures.COLOURS[mode], label=mode)
ax.set(xlabel="fold", ylabel="held-out accuracy (%)", ylim=(0, 102), xticks=by_fold.index)
ax.set_title(f"as trained, N_l = {n_labelled} of {len(labels)}, N_u = {len(data.unlabelled)}")
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# On the digits expect accuracies between 65 and 85 %, folds that differ more than the modes do, and
# a zero well inside the intervals. How to read yours:
#
# - *Zero inside the interval*: these labels cannot tell. It does not mean that there is no
#   difference; the interval says how large one could still be in either direction.
# - *Zero outside, in both rows*: the unlabelled images made that much of a difference here, in this
#   network, with this many updates.
# - *The two rows disagree*: look at batch normalisation before looking at the modes.
#
# One caution. The folds share most of their labelled images, so they are less independent than the
# interval assumes, and it is somewhat too narrow. A second look, image by image, does not lean on
# folds: among the images that only one mode got right, are the two modes equally often ahead?

# %%
ours, theirs = right["semi", "as trained"], right["supervised", "as trained"]
only_semi, only_supervised = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
disagree = only_semi + only_supervised
p = binomtest(only_semi, disagree).pvalue if disagree else 1.0
print(f"only semi right: {only_semi}, only supervised right: {only_supervised}, p = {p:.2f}")

# %% [markdown]
# A small p, say below 0.05, would be rare if neither mode were better.

# %% [markdown]
# ## Which classes?
#
# The held-out predictions of the mode that is to be kept, class by class as in Tables VII-X. A
# class with few images has a rough number.

# %%
held_out_predictions = predicted[kept_mode]["as trained"]
report = evaluation.report_classes(labels, held_out_predictions, data.class_names)
report.round(2)

# %% [markdown]
# And the first that it got wrong, *true class* > *predicted class*. With your own images this is
# where wrong labels turn up.

# %%
wrong = np.flatnonzero(held_out_predictions != labels)[:10]
titles = [
    f"{data.class_names[labels[i]]} > {data.class_names[held_out_predictions[i]]}" for i in wrong
]

# %%
fig, ax = plt.subplots(figsize=(8, 3.2))
figures.examples(ax, images[wrong], titles, columns=5)
ax.set_title(f"held out and wrong, {kept_mode}")
plt.show()

# %% [markdown]
# ## Keep the encoder
#
# The folds were for judging. To keep, train once more, on *all* labelled images: its accuracy on
# new images should be about the one above, a little better if anything. Set `kept_mode` by what you
# read there.

# %%
place = Path(output_dir) if output_dir else ROOT / "outputs" / "own_images" / root.name
kept = cells[kept_mode].model_copy(update={"output_dir": str(place)})
encoder, network = training.start_network(kept, len(data.class_names))
history = training.train(kept, network, images, labels, data.unlabelled)

# %%
row = accuracy["percent"] / 100
metrics = {
    "name": kept.name,
    "hash": kept.hash,
    "n_labelled": len(labels),
    "n_unlabelled": len(data.unlabelled),
    "class_names": list(data.class_names),
    "accuracy": row[kept_mode, "as trained"],
    "accuracy_recalibrated": row[kept_mode, "re-estimated"],
    "notes": [*data.notes, f"accuracies: {n_folds} folds; trained on all labelled images"],
    **data.decoding,
    **records.describe_machine(),
}

# %%
embeddings = model.embed(encoder, images)
split = {
    "files": names.tolist(),
    "held_out": [np.flatnonzero(held_out).tolist() for held_out in folds],
}

# %%
records.close_folder(
    records.open_folder(kept),
    kept,
    metrics=metrics,
    split=split,
    report=report,
    history=history,
    features={"labelled_embeddings": embeddings, "labelled_labels": labels},
    model=model.build_classifier(network, encoder),
)

# %%
# NBVAL_CHECK_OUTPUT
print(*sorted(path.name for path in place.iterdir() if path.suffix != ".ipynb"), sep="\n")

# %% [markdown]
# `model.keras` is the encoder with its class head: uint8 images in, embeddings and class
# probabilities out. It loads with Keras alone, without this library.

# %% [markdown]
# ## New images
#
# `semisiam embed outputs/own_images/digits NEW_IMAGES --output new.csv` writes a line an image: its
# file, its predicted class, how sure the network's class head is of it, and the 128 numbers of its
# embedding (`.npz` likewise). The same from Python, here for the folder itself:

# %%
# NBVAL_CHECK_OUTPUT
table = embed.embed_images(place, root).set_index("file")
print(len(table), "images, columns", *table.columns[:5], "...", table.columns[-1])

# %%
# NBVAL_CHECK_OUTPUT
again = table.loc[names].iloc[:, 2:].to_numpy()
assert np.allclose(again, embeddings, rtol=1e-3, atol=1e-3)
print("the labelled files get the embeddings they had here, through the saved model")

# %% [markdown]
# The unlabelled images, with the class that each is given. Where the classes are wrong, take a few
# of those files, put them into the right class folder and run this notebook again: it costs you a
# minute, and a label where the encoder errs is worth more than another where it does not.

# %%
unlabelled = table.loc[data.unlabelled_origin.names]
titles = unlabelled["predicted_class"].iloc[some].tolist()
fig, ax = plt.subplots(figsize=(8, 2.2))
figures.examples(ax, data.unlabelled[some], titles, columns=10)
ax.set_title(f"unlabelled images and their predicted classes ({kept_mode})")
plt.show()

# %% [markdown]
# ## Summary
#
# - Without a test set, hold out every labelled image once; Wilson's interval says what so few
#   images can tell.
# - The modes are compared within each fold, at the same number of updates, twice: as trained and
#   with batch normalisation's statistics re-estimated.
# - "It cannot be told" is an answer too. It asks for more labels, not for another seed.
# - The kept encoder was trained on all labelled images; `semisiam embed` takes new ones through it.
#
# The digits only show the machinery. For larger networks and many splits write a study with
# `dataset: folder` and `data_dir`, and run it with `semisiam grid`.
#
# ## Exercises
#
# Predict first, then change the parameters cell and run all.
#
# 1. `lambda_u = 0.0`: the unlabelled images still pass through the network, but nothing is asked of
#    them. Which of the two modes' accuracies can change? And had `semi` been ahead, what would it
#    mean if it stayed ahead?
# 2. `digits_per_class = 40`: how wide will Wilson's intervals be? Will the difference grow or
#    shrink?
# 3. `updates = 20`: which mode suffers more, and will `as trained` and `re-estimated` still agree?
