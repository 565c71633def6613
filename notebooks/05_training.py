# %% [markdown]
# # Training
#
# Before: [04_batch_normalisation](04_batch_normalisation.ipynb) ·
# Next: [06_svm_evaluation](06_svm_evaluation.ipynb)
#
# **Which images are in one batch, how often, and what do the losses do?**
#
# You will see
# 1. one epoch of three labelled and eight unlabelled images, drawn image by image,
# 2. why "fewer epochs" is not "less training",
# 3. both modes trained on 55 labelled digits, and whether the rotation task was learnt.
#
# Sections and figures are those of [the paper](https://doi.org/10.1109/SIBGRAPI54419.2021.00038).

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from semisiam.cell import Cell
from semisiam.data import datasets
from semisiam.evidence import figures
from semisiam.method import pipeline, pretext, splits, training

# %% [markdown]
# ## Parameters
#
# The paper's values (section III-B), with three changes: images of 32 px, a small network
# (`small_cnn`, whose batch normalisation has momentum 0.9), and few epochs of `semi`. The learning
# rate is 0.001 for 2/5 of the epochs, then falls; how fast the paper does not say: we multiply by
# $e^{-0.1}$ each epoch. So the two runs differ in mode, in epochs, and in how far the learning rate
# falls: to 1/400 in 100 epochs, to about half in 10.

# %% tags=["parameters"]
dataset: str = "digits"  # the digits come with scikit-learn
label_fraction: float = 0.05  # labelled images as a share of the unlabelled ones
split: int = 0  # which random labelled set
seed: int = 0  # seed of the labelled set, weights and order
batch_size: int = 64  # labelled images a step, and unlabelled ones
epochs_supervised: int = 100  # passes over D_l
epochs_semi: int = 10  # passes over D_u (the paper: 30 to 100)
lambda_u: float = 1.0  # weight of the rotation loss, equation (1)

# %%
shared = {"dataset": dataset, "label_fraction": label_fraction, "split": split, "seed": seed}
shared |= {"batch_size": batch_size}
supervised = Cell.check(shared | {"mode": "supervised", "epochs": epochs_supervised})
semi = Cell.check(shared | {"mode": "semi", "epochs": epochs_semi, "lambda_u": lambda_u})

# %% [markdown]
# ## One epoch, image by image
#
# An epoch of `semi` passes once over $D_u$. Meanwhile it goes round and round the few images of
# $D_l$, "a total of $N_u/N_l$ times" (section III). Take $N_l = 3$ and $N_u = 8$:

# %% tags=["nbval-check-output"]
order = pipeline.order_passes(3, 8, seed=[0], epoch=0)
print("labelled image in each slot:", order)
print("how often each is seen:     ", np.bincount(order))

# %% [markdown]
# Read the slots in groups of three: each group holds every image once. The last pass is cut short.
# (The order depends on `seed` and `epoch` alone: an interrupted run continues with the batches it
# would have had.)
#
# Now both streams, in batches of four. What do you expect in each batch?

# %%
eight = np.stack([np.full((4, 4, 3), k, np.uint8) for k in range(8)])  # every pixel of image k is k
epoch = pipeline.siamese_batches(
    eight[:3], np.array([0, 1, 1]), eight, batch_size=4, epochs=[0], seed=[0]
)
batches = list(epoch.as_numpy_iterator())
stacked = {}
for stream in ("labelled", "unlabelled"):
    stacked[stream] = np.concatenate([inputs[stream][:, 0, 0, 0] for inputs, _ in batches])
angles = 90 * np.concatenate([targets["y_rot"] for _, targets in batches])

# %% alt="Two rows of eight slots. Above labelled images 0 to 2 repeat; below each of 8 comes once."
fig, ax = plt.subplots(figsize=(8, 1.9))
for slot, (a, b, angle) in enumerate(zip(*stacked.values(), angles, strict=True)):
    for y, text, task in ((0, f"{a}", "class"), (1, f"{b}\n{angle}°", "rotation")):
        frame = {"facecolor": figures.COLOURS[task], "alpha": 0.45, "edgecolor": "white"}
        ax.add_patch(plt.Rectangle((slot, y), 1, 1, **frame))
        ax.text(slot + 0.5, y + 0.5, text, ha="center", va="center")
ax.axvline(4, color="black", lw=2)
ax.set(xlim=(0, 8), ylim=(2, 0), xticks=[2, 6], xticklabels=["first step", "second step"])
ax.set_yticks([0.5, 1.5], ["labelled", "unlabelled"])
ax.set_title("image number in each slot, and the angle by which it will be turned")
plt.show()

# %% tags=["nbval-check-output"]
for stream, images in stacked.items():
    print(f"{stream:10} seen {np.bincount(images)}")
print("angle 0, 90, 180, 270 seen", np.bincount(angles // 90))

# %% [markdown]
# Each unlabelled image comes once, with one angle, and each angle equally often. Each step has as
# many labelled as unlabelled images, "balancing the supervised and self-supervised tasks". Which
# labelled image meets which unlabelled one does not matter: their two losses are only added.

# %% [markdown]
# ## The digits
#
# As in the paper's [Fashion-MNIST](https://github.com/zalandoresearch/fashion-mnist) and
# [Malaria](https://doi.org/10.7717/peerj.4568), the labelled images are a part of $D_u$. There they
# come once more, turned and without their label.

# %%
data = datasets.load(semi.dataset, semi.image_size, seed=seed)
n_labelled = splits.count_labelled(label_fraction, len(data.unlabelled))
chosen = splits.draw_labelled(data.train_labels, n_labelled, split=split, seed=seed)
labelled, labels = data.train[chosen], data.train_labels[chosen]

# %% tags=["nbval-check-output"]
print(f"N_l = {n_labelled}, N_u = {len(data.unlabelled)}: ", end="")
print(f"each labelled image {len(data.unlabelled) / n_labelled:.1f} times an epoch")
for cell in (supervised, semi):
    steps = training.count_steps(cell, n_labelled, len(data.unlabelled))
    print(f"{cell.mode:10} {steps:2} updates an epoch x {cell.epochs:3} epochs")

# %% [markdown]
# In `supervised`, all 55 labelled images fit into one batch. An epoch is a single update.

# %% [markdown]
# ## At the paper's scale
#
# What trains a network is *updates*, not epochs. How many do the paper's runs make (sections III-B
# and IV)? `supervised` has 100 epochs. The paper says "a batch size of 64"; we read that as 64
# images of each kind. (With 32 of each, `semi` would make twice as many.)

# %%
runs = pd.DataFrame(
    [
        ("STL-10 1 %", 100_000, 1_000, 50),
        ("STL-10 5 %", 100_000, 5_000, 50),
        ("Fashion-MNIST 1 %", 60_000, 600, 30),
        ("Fashion-MNIST 5 %", 60_000, 3_000, 30),
        ("Malaria 1 %", 13_779, 137, 100),
        ("Malaria 5 %", 13_779, 685, 100),
    ],
    columns=["setting", "N_u", "N_l", "epochs of semi"],
).set_index("setting")

# %% tags=["nbval-check-output"]
runs["supervised"] = 100 * np.ceil(runs["N_l"] / 64).astype(int)
runs["semi"] = runs["epochs of semi"] * np.ceil(runs["N_u"] / 64).astype(int)
runs["ratio"] = (runs["semi"] / runs["supervised"]).round(1)
print(runs.to_string())

# %% [markdown]
# `semi` makes from 6 times (Fashion-MNIST 5 %) to 72 times (Malaria 1 %) as many updates; with 32
# images of each kind, twice that. The paper says it compensates "by allowing more epochs for the
# supervised setting, until convergence". But 100 supervised epochs make far fewer updates. (And on
# malaria `semi` has 100, too.)
#
# So a gain of `semi` can come from its images, its task, or simply its updates.

# %% [markdown]
# ## Two networks, the same first weights
#
# The same seed gives both modes the same first weights. `start_network` sets the seed and builds
# the network; [`build_network`](../lib/semisiam/method/training.py) gives it the joint loss of
# equation (1).

# %%
networks, histories = {}, {}
for cell in (supervised, semi):
    _, networks[cell.mode] = training.start_network(cell, len(data.class_names))
    history = training.train(cell, networks[cell.mode], labelled, labels, data.unlabelled)
    histories[cell.mode] = history
    print(
        f"{cell.mode:10}",
        training.describe_epoch(history.to_dict("records")[-1]),
    )

# %% [markdown]
# Both know their 55 images by heart. The losses of both (`pretext` is the rotation loss), side by
# side as in Figures 10 and 11:

# %% alt="Loss curves. Supervised is near 0 after 20 epochs; semi's class loss after 3."
fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
for ax, (mode, history) in zip(axes, histories.items(), strict=True):
    figures.losses(ax, history).set_title(f"{mode}, {n_labelled} labelled {data.name}")
    ax.set_ylabel("loss (nats)")
axes[1].set(ylim=(0, 2.7))
plt.show()

# %% [markdown]
# The paper says of its two pairs of curves: "we are able to converge smoothly to a low value in
# less epochs". So does our class loss; our joint loss is still falling. But an epoch is one update
# on the left and 19 on the right. Below we draw the class loss against epochs and against updates.
# Each dot is the mean over one epoch, drawn at its end (dotted line: a loss of 0.1).

# %%
for cell in (supervised, semi):
    steps = training.count_steps(cell, n_labelled, len(data.unlabelled))
    histories[cell.mode]["updates"] = histories[cell.mode]["epoch"] * steps

# %% alt="Class loss of both modes: by epoch semi falls first, by updates supervised falls first."
fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
for ax, unit in zip(axes, ("epoch", "updates"), strict=True):
    for mode, history in histories.items():
        look = {"color": figures.COLOURS[mode], "label": mode, "marker": "."}
        ax.plot(history[unit], history["loss_labelled"], **look)
    ax.axhline(0.1, color="0.7", ls=":", zorder=0)
    ax.set(xlabel=unit, yscale="log", ylabel="class loss (nats)", title=f"by {unit}")
axes[0].legend()
fig.suptitle(f"{data.name}, {n_labelled} labels, one labelled set")
plt.show()

# %% tags=["nbval-check-output"]
for mode, history in histories.items():
    below = history[history["loss_labelled"] < 0.1]
    when = "in epoch {epoch:.0f}, by update {updates:.0f}" if len(below) else "in no epoch"
    print(f"{mode:10} below 0.1", when.format(**below.head(1).squeeze()))

# %% [markdown]
# By epochs `semi` is first; by updates it is not. The paper says something near: "however the
# semi-supervised network sees more (replicated) labeled instances per epoch".

# %% [markdown]
# ## Was the rotation task learnt?
#
# If the task was not learnt, a gain can hardly come from what it teaches. So ask the network about
# images that it was never trained on: all test images, in all four turns. (It wants two inputs; we
# read the answer for the second.) Guessing gives 0.25. We call a task *learnt* if its accuracy on
# test images is at least halfway from guessing to 1: for rotations that is 0.625. (Of our oldest
# runs only the accuracy on training images was recorded; there we use that.)

# %%
turned, turns = pretext.transform_all(data.test)
answers = networks["semi"]({"labelled": turned, "unlabelled": turned}, training=False)["y_rot"]
right = (answers.numpy().argmax(axis=1) == turns).reshape(4, -1).mean(axis=0)
print(f"rotation accuracy on test images: {right.mean():.2f}")

# %% [markdown]
# Learnt, in ten epochs. (Here batch normalisation used its moving averages; with momentum 0.9 they
# keep up. [master](master.ipynb) normalises each batch by itself, as slow averages could hide what
# was learnt.) Which digits do you expect to be hard?

# %% alt="Bars of the rotation accuracy by class, with chance at 0.25; 8 is the lowest."
fig, ax = plt.subplots(figsize=(6, 2.6))
by_class = [right[data.test_labels == c].mean() for c in range(len(data.class_names))]
ax.bar(data.class_names, by_class, color=figures.COLOURS["rotation"])
ax.axhline(0.25, color="0.3", ls=":", label="chance")
ax.set(xlabel="class", ylabel="rotation accuracy", ylim=(0, 1))
ax.set_title(f"{len(data.test)} test images, each in four turns")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.25))
plt.show()

# %% [markdown]
# The 8. It looks the same upside down; but so does a 0, which is hardly harder than 4 or 5. With
# about 60 test images of each class, chance may play a part. Blood cells have no upright at all
# ([08_audit](08_audit.ipynb) asks how they do).

# %% [markdown]
# ## Summary
#
# - A step of `semi` takes as many labelled as unlabelled images. An epoch passes once over $D_u$
#   and $N_u/N_l$ times over $D_l$.
# - At the paper's scale `semi` makes 6 to 72 times as many updates as its baseline (12 to 144 times
#   if a batch has 32 images of each kind).
# - By epochs its class loss falls first, by updates the supervised one does (one run on digits:
#   *suggestive*).
# - The rotation accuracy on test images says whether the task was learnt.
#
# Both networks know their labelled images by heart, so no training curve says which embedding is
# better.

# %% [markdown]
# ## Exercises
#
# Predict first. Solutions are in the hidden cells; click to unfold them.
#
# **1. Predict.** With `batch_size = 16`, how many updates will each mode make? How often will an
# epoch of `semi` show each labelled image?

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
for cell in (supervised, semi):
    smaller = cell.model_copy(update={"batch_size": 16})
    steps = training.count_steps(smaller, n_labelled, len(data.unlabelled))
    print(f"{cell.mode:10} {cell.epochs * steps} updates")
print(f"each labelled image {len(data.unlabelled) / n_labelled:.1f} times an epoch, as before")

# %% [markdown]
# **2. Write it.** A generator `paired(n_labelled, n_unlabelled, batch_size, rng)` that yields the
# image numbers of both streams, batch by batch, for one epoch.


# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def paired(n_labelled, n_unlabelled, batch_size, rng):
    """Yield (labelled, unlabelled) image numbers of each batch of one epoch."""
    passes = [rng.permutation(n_labelled) for _ in range(-(-n_unlabelled // n_labelled))]
    order_l, order_u = np.concatenate(passes), rng.permutation(n_unlabelled)
    for start in range(0, n_unlabelled, batch_size):
        chosen_u = order_u[start : start + batch_size]
        yield order_l[start : start + len(chosen_u)], chosen_u


for pair in paired(3, 8, 4, np.random.default_rng(0)):
    print(*pair)

# %% [markdown]
# **3. Predict.** With `lambda_u = 0` the rotation loss has weight 0, so its head is not trained.
# What will its accuracy be after three epochs, and will the class loss still fall?

# %% jupyter={"source_hidden": true} tags=["solution"]
without = semi.model_copy(update={"lambda_u": 0.0, "epochs": 3})
_, network = training.start_network(without, len(data.class_names))
history = training.train(without, network, labelled, labels, data.unlabelled)
print(training.describe_epoch(history.to_dict("records")[-1]), "(chance 0.25)")
# the class loss does not need the other one
print("class loss of each epoch:", history["loss_labelled"].round(3).tolist())

# %% [markdown]
# Next: [06_svm_evaluation](06_svm_evaluation.ipynb) asks which embedding is better.
