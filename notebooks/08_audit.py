# %% [markdown]
# # The audit
#
# Before: [07_results](07_results.ipynb) · Next: [09_own_images](09_own_images.ipynb)
#
# **What do the published gains rest on: the pretext task, the images, the updates, or something
# else?**
#
# You will see
# 1. a baseline at chance whose network knows every labelled image,
# 2. the gain taken apart, one setting at a time,
# 3. where the attack acts, and what removes its mark.
#
# Each section begins with its answer and ends with how firm it is. *Shown*: arithmetic, a mean over
# three labelled sets or more, or a difference over as many that is not 0 after correction for its
# study's tests. *Suggestive*: run, not decided. *Untested*: no run can tell. The paper is
# [Cavallari & Ponti, 2021](https://doi.org/10.1109/SIBGRAPI54419.2021.00038).

# %%
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from semisiam import ROOT
from semisiam.cell import Cell
from semisiam.data import datasets
from semisiam.evidence import figures, paper, results
from semisiam.evidence.statistics import (
    compare_controls,
    compare_paired,
    compare_summaries,
    correct_holm,
)
from semisiam.method import training, trials, views

# %% [markdown]
# ## Parameters
#
# *Live* runs of a small network on digits take seconds and show how a control works; one labelled
# set proves nothing. *Recorded* runs are of the paper's networks on real images.

# %% tags=["parameters"]
dataset: str = "digits"  # the digits come with scikit-learn
label_fraction: float = 0.05  # labelled images as a share of the unlabelled ones
split: int = 0  # which random labelled set
seed: int = 0  # seed of the labelled set, places, weights and order
epochs_supervised: int = 100  # passes over D_l
epochs_semi: int = 10  # passes over D_u
slow_momentum: float = 0.99  # of batch normalisation; the small network's own is 0.9

# %%
shared = {"dataset": dataset, "label_fraction": label_fraction, "split": split, "seed": seed}
supervised = {"mode": "supervised", "epochs": epochs_supervised}
semi = {"mode": "semi", "epochs": epochs_semi}
data = datasets.load(dataset, Cell().image_size, seed=seed)

# %% [markdown]
# ## The controls
#
# A control differs from a cell of the paper in one setting. `no task` passes unlabelled images, but
# asks nothing of them; `equal updates` is `supervised` with as many updates as `rotation`; `marked,
# median` filters marked images. `run_control` is [master](master.ipynb) in short:


# %%
def run_control(cell, data):
    """Train and score a cell, writing nothing; accuracies and shares in [0, 1]."""
    n_unlabelled, test = len(data.unlabelled), data.test
    labelled = trials.prepare_labelled(cell, data.train, data.train_labels, n_unlabelled)
    known = labelled.images, labelled.labels
    encoder, network = training.start_network(cell, len(data.class_names))
    history = training.train(cell, network, *known, data.unlabelled)
    sets = labelled, n_unlabelled, test, data.test_labels
    facts = trials.describe_training(cell, encoder, network, history, *sets)
    predicted = trials.predict_twice(encoder, *known, test, cell.batch_size)
    predicted["clean fit"] = trials.fit(encoder, labelled.clean, labelled.labels)(test)
    right = {how: float((p == data.test_labels).mean()) for how, p in predicted.items()}
    follow = trials.score_trigger(
        cell, trials.fit(encoder, *known), labelled, test, data.test_labels
    )
    right["trigger"] = float(np.mean([row["flipped"] for row in follow]))
    return {"updates": facts["n_updates"]} | facts["labelled_accuracy"] | right


# %%
mark, slow = {"attack": "pixel"}, {"bn_momentum": slow_momentum}
planned = {
    "supervised, slow": supervised | slow,
    "rotation, slow": semi | slow,
    "supervised": supervised,
    "equal updates": supervised | {"epochs": epochs_semi, "equal_updates": True},
    "no task": semi | {"pretext": "none"},
    "rotation": semi,
    "supervised, marked": supervised | mark,
    "rotation, marked": semi | mark,
    "marked at random": supervised | {"attack": "random"},
    "marked, median": supervised | mark | {"defence": "median"},
}

# %%
runs = {name: run_control(Cell.check(shared | own), data) for name, own in planned.items()}
live = pd.DataFrame(runs).T
live = (100 * live).assign(updates=live["updates"]).round(1)
live

# %% [markdown]
# In %. `rotation` is the paper's siamese network. `training`, `inference`: accuracy of the class
# head on $D_l$, with batch normalisation in training and in inference mode; `slow` means momentum
# 0.99. Then three test accuracies of the SVM; its *clean fit* is on $D_l$ without marks. `trigger`:
# test images that get a mark's class once the mark is added.

# %% [markdown]
# ## 1. Is the baseline at chance because it learnt nothing?
#
# **No. Moving averages of batch normalisation make it look so**
# ([04_batch_normalisation](04_batch_normalisation.ipynb)).
#
# See `supervised, slow`: training mode does not use these averages, inference mode does. Training
# uses each batch's own statistics, so momentum does not change the weights: *re-estimated* on
# $D_l$, without labels, `supervised, slow` and `supervised` agree.

# %% alt="Accuracies as trained and re-estimated; the slow baseline moves most"
fig, ax = plt.subplots(figsize=(6.5, 1.8))
readings = ["as trained", "re-estimated"]
figures.dots(ax, live.iloc[:3][readings], chance=10)
ax.set_title(f"live: {dataset}, {label_fraction:.0%} labelled, one labelled set", pad=22)
plt.show()

# %% [markdown]
# ### Recorded: the paper's largest gain, its baseline run again
#
# Table III, MobileNetV2: Fashion-MNIST at 96 px, 600 labels, 100 epochs (the siamese network has
# 79.6 there, attacked 69.2). In %. `left`: how much of the moving averages is still their starting
# value. As trained, the embedding's values are tiny, about 1e-8. Is this size why the SVM fails?
# `neighbours` asks the five nearest labelled images instead, which does not depend on the size.

# %%
recorded = ROOT / "outputs" / "published"
fashion = results.collect(recorded / "fashion_baseline")
quick = results.collect(recorded / "audit_momentum")
baseline = fashion.query("backbone == 'mobilenet_v2'")
momenta = pd.concat({"0.999": baseline, "0.99": quick}, names=["momentum", None])
momenta["attack"] = momenta["attack"].map(results.NAMES).str.lower()
names = {f"labelled_accuracy.{mode}": mode for mode in ("training", "inference")}
names |= {"bn_initial_share": "left", "separability.knn_accuracy": "neighbours"} | results.MEASURES
momenta = momenta.rename(columns=names).set_index("attack", append=True).droplevel(1)

# %% tags=["nbval-check-output"]
shown = ["training", "inference", "left", "neighbours", *readings]
groups = (100 * momenta[shown].astype(float)).groupby(["momentum", "attack"])
groups.mean().assign(std=groups["re-estimated"].std(), n=groups.size()).round(1)

# %% alt="MobileNetV2 at 600 labels: 10 as trained with momentum 0.999, 76 re-estimated"
fig, ax = plt.subplots(figsize=(6.5, 2.1))
figures.dots(ax, 100 * momenta[readings].set_axis(momenta.index.map(", ".join)), chance=10)
ax.set_title("recorded: 600 labels, MobileNetV2, one pair a labelled set", pad=22)
ax.set_ylabel("momentum, attack")
plt.show()

# %% [markdown]
# ### Recorded: the other two networks
#
# Their momentum is 0.99: nothing of the beginning is left. In %:

# %% tags=["nbval-check-output"]
others = fashion.query("backbone != 'mobilenet_v2'")
fits = {"accuracy": "as trained", "accuracy_recalibrated": "re-estimated"}
fits |= {"accuracy_clean_fit": "clean fit"}
ours = pd.DataFrame({how: results.summarise(others, fit)["mean"] for fit, how in fits.items()})
printed = results.summarise(others)[["n", "published_mean", "published_std"]]
ours.join(printed).droplevel(["dataset", "percent", "mode"]).round(1)

# %% [markdown]
# - **Shown** ($n = 5$): MobileNetV2's baseline fits its labels (`training`). As trained its test
#   accuracy is chance; re-estimated, or with momentum 0.99 ($n = 3$), it is 76 %. Small values are
#   not the reason: neighbours do not depend on size, and find only 15 %. (How much it learnt beyond
#   an untrained network: section 2.)
# - **Suggestive** ($n = 1$ each, one draw): the other two repeat the paper, but not under attack.
#   With a *clean fit* InceptionV3 repeats it there as well (69.8, published 70.9). Did the paper
#   fit its SVM on images without marks? It says: on "the 1% or 5% fraction of the original data".
#   But ResNet50V2 has 77.2 either way, and the paper 71.1: the guess fits one network of two.

# %% [markdown]
# ## 2. How much of the gain is left against a repaired baseline?
#
# **The largest gain is 70 points, on Fashion-MNIST: 3.5 (1.1 to 5.8) are left over our re-estimated
# baseline. On malaria 22 of 38 are left for MobileNetV2; what is left for InceptionV3 (1.8 of 32)
# and ResNet50V2 (19 of 34) may be nothing: their intervals contain 0.** (What is left: the
# published siamese network minus our re-estimated baseline. What re-estimation would add to the
# former, nobody knows.) Live, with slow averages in both networks, the gain in points:

# %%
(live.loc["rotation, slow"] - live.loc["supervised, slow"])[readings].round(1)

# %% [markdown]
# The siamese network makes more updates, and each moves its averages twice, once for each batch. So
# less of the beginning is left in them. How much is left in the paper's baselines, after 100 epochs
# in batches of 64? The paper names no momentum: we take Keras's own. Dotted: 2 %, a limit that we
# set after looking.

# %%
n_labels = {"malaria": (137, 685), "fashion_mnist": (600, 3000), "stl10": (1000, 5000)}
deltas = paper.read_printed("delta").query("attack == 'none'")
momentum = np.where(deltas["backbone"] == "mobilenet_v2", 0.999, 0.99)
n = [n_labels[d][p == 5] for d, p in zip(deltas["dataset"], deltas["percent"], strict=True)]
deltas = deltas.assign(left=momentum ** (100 * np.ceil(np.array(n) / 64)))

# %% alt="Published gains against the share of the beginning left; they rise with it"
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for marker, (backbone, group) in zip("osD", deltas.groupby("backbone"), strict=True):
    label = results.NAMES[backbone]
    ax.plot(group["left"], group["delta"], marker, color="0.2", mfc="none", label=label)
ax.axvline(0.02, color="0.6", linestyle=":")
ax.set_xscale("symlog", linthresh=0.001)
near = (deltas["left"] < 0.001).sum()
ax.set_title(f"published: {len(deltas)} rows without attack, {near} of them below 0.001")
ax.set(xlim=(-0.0005, 1), xlabel="share of the beginning left in the baseline (log above 0.001)")
ax.set(ylabel="published gain, no attack (points)")
ax.legend()
plt.show()

# %% [markdown]
# Right of the line all six gains are above 30 points, left of it all but one (39 points) are below
# 12. But the share does not predict how much re-estimation helps: on malaria with 137 labels
# InceptionV3 and ResNet50V2 have equally much left, 5 %. Below, re-estimation lifts the first by 21
# points, the second by 4.
#
# ### Recorded: whole malaria, 137 labels
#
# 128 px, 100 epochs, 4,000 test images, half of them of each class. The set is halved at random
# (the paper says "half"), or by `patient`, so that no patient is in both halves. Below: raw pixels,
# and the features of an untrained network, which have one reading. Means over `n` labelled sets, in
# %; `gain left`: the published siamese network minus our re-estimated baseline (points).

# %%
keys = ["backbone", "test_split", "split"]
whole = results.collect(recorded / "malaria_whole").rename(columns=results.MEASURES)
whole = 100 * whole.set_index(keys)[readings].astype(float).sort_index()
groups = whole.groupby(keys[:2])
printed = paper.read_printed("accuracy").query("dataset == 'malaria' and percent == 1")
printed = printed.query("attack == 'none'").set_index(["backbone", "mode"])["mean"].unstack()
references = results.collect(recorded / "references").replace({"mobilenet_v2": "untrained"})
on_cells = references.query("dataset == 'malaria' and image_size == 128")
on_cells = 100 * on_cells.rename(columns={"accuracy": "re-estimated"}).set_index(keys)[readings[1:]]

# %% tags=["nbval-check-output"]
every = pd.concat([whole, on_cells]).groupby(keys[:2], sort=False)
table = every.mean().assign(std=every["re-estimated"].std(), n=every.size())
table = table.join(printed.add_prefix("published, "))
table.assign(**{"gain left": table["published, semi"] - table["re-estimated"]}).round(1)

# %% alt="Malaria, 137 labels: re-estimated, InceptionV3 comes near the published siamese network"
fig, ax = plt.subplots(figsize=(6.5, 2.2))
figures.dots(ax, whole.loc["inception_v3", "random"], chance=50)
ax.axvline(printed.loc["inception_v3", "semi"], color=figures.COLOURS["semi"])
ax.set(ylabel="labelled set", xlim=(45, 100))
ax.set_title("recorded: malaria, 128 px, 137 labels, InceptionV3 (orange: published semi)", pad=22)
plt.show()

# %% tags=["nbval-check-output"]
whole["re-estimated"].unstack("split").round(1)

# %% [markdown]
# How much does re-estimation lift each baseline that was run as published? In points, as one family
# of tests:

# %% tags=["nbval-check-output"]
lifted = {f"malaria, {backbone}, {half}": of for (backbone, half), of in groups}
lifted |= {f"Fashion-MNIST, {a}": 100 * of for a, of in momenta.loc["0.999"].groupby("attack")}
changes = [of["re-estimated"] - of["as trained"].astype(float) for of in lifted.values()]
table = pd.DataFrame(map(compare_paired, changes), lifted)
table = table.assign(p_holm=correct_holm(table["p"]))
table[["n", "mean", "low", "high", "p", "p_holm"]].round(3)

# %% [markdown]
# An untrained network does not guess either. How far are these baselines, re-estimated, above its
# features? (Those of MobileNetV2. The SVM sees 1,280 of them, and 128 of a trained network.) One
# more family:

# %% tags=["nbval-check-output"]
start = references.query("backbone == 'untrained' and percent == 1 and test_split == 'random'")
start = start.query("attack == 'none' and image_size in [96, 128]").set_index(["dataset", "split"])
start = 100 * start["accuracy"].astype(float)
largest = baseline.query("attack == 'none'").set_index("split")["accuracy_recalibrated"]
above = {"Fashion-MNIST, mobilenet_v2": 100 * largest.astype(float) - start["fashion_mnist"]}
for backbone, of in whole["re-estimated"].xs("random", level="test_split").groupby("backbone"):
    above[f"malaria, {backbone}"] = of[backbone] - start["malaria"]
table = pd.DataFrame(map(compare_paired, above.values()), above)
table.assign(p_holm=correct_holm(table["p"]))[["n", "mean", "low", "high", "p_holm"]].round(3)

# %% [markdown]
# And how far is the printed siamese network above our re-estimated baselines? (Two sets of five
# runs each, so this is Welch's t, as in [07_results](07_results.ipynb).)

# %% tags=["nbval-check-output"]
theirs = paper.read_printed("accuracy").query("percent == 1 and attack == 'none'")
theirs = theirs.query("mode == 'semi'").set_index(["dataset", "backbone"])[["mean", "std"]]
runs = {("fashion_mnist", "mobilenet_v2"): 100 * largest.astype(float)}
runs |= {("malaria", b): whole["re-estimated"][b, "random"] for b in whole.index.unique("backbone")}
pairs = {of: (theirs.loc[of], ours.agg(["mean", "std"])) for of, ours in runs.items()}

# %% tags=["nbval-check-output"]
left = {of: compare_summaries([1, -1], *np.transpose(pair), 5) for of, pair in pairs.items()}
print(pd.DataFrame(left).T[["mean", "low", "high"]].round(1).to_string())
free = references.query("dataset == 'fashion_mnist' and image_size == 96 and percent == 1")
free = free.query("backbone == 'pixels' and attack == 'none'").set_index("split")["accuracy"]
pixels = compare_paired(100 * (free - largest).astype(float))
print("raw pixels over our baseline: {mean:.1f} ({low:.1f} to {high:.1f})".format(**pixels))

# %% [markdown]
# - **Shown** (Fashion-MNIST at 1 %, $n = 5$): re-estimation alone gives 66 of MobileNetV2's 70
#   points, without one unlabelled image. (Raw pixels have 1.4 more than this baseline.)
# - **Shown** for one draw of ours ($n = 5$; the paper's marks are not known): 47 of its 59 points
#   under attack.
# - **Shown** (whole malaria, $n = 5$): it lifts InceptionV3 by about 21 points, MobileNetV2 by 16
#   and ResNet50V2 by 4; the published gains are 32, 38 and 34. Patients are in both halves, as in
#   any random ones. With no patient in both it lifts InceptionV3 by 13 points. (**Suggestive**: the
#   result is 4.7 points lower there, in medians 4.3.)
# - **Shown** (whole malaria, $n = 5$): InceptionV3 has 29 points more than the features of an
#   untrained MobileNetV2. **Suggestive**: MobileNetV2 has 5.9 more on Fashion-MNIST (1.4 to 10.5)
#   and 4.4 on malaria (−2.3 to 11.2). So its baselines are not at chance, but how much they learnt
#   is open.
# - ResNet50V2 has from 56 to 91 %, by labelled set: one run says nothing of it. Its mean as
#   trained is 11 points above the paper's, but its sets differ too much to conclude anything.

# %% [markdown]
# ## 3. Is it the task, the images or the updates?
#
# **At 64 px the rotation task on unlabelled images adds about six points to as many updates on
# labels alone (by the linear SVM, re-estimated), but an SVM on raw pixels is nine points better
# still. At the paper's size, in one run, the siamese network is four points better than raw pixels
# and five better than equal updates. On malaria rotations are not yet learnt after 10 epochs.**
#
# We add them one at a time, as [Oliver et al.](https://arxiv.org/abs/1804.09170) ask: *equal
# updates*, on labelled images alone; *no task*, where unlabelled images pass through but only
# change the moving averages; *rotation*. Re-estimation replaces these averages. So re-estimated,
# *no task* repeats *equal updates* in another order, and their difference is run noise.
#
# ### Recorded: MobileNetV2 on Fashion-MNIST, reduced
#
# 32 px, 100 labels, 2,000 unlabelled images, momentum 0.99, a ninetieth of the paper's updates.
# Three more tasks: `rotation-all` shows each image in all four turns, `rotation-flip` turns it
# upside down and left for right as well, and `jigsaw` lays its four quarters in another order.

# %% tags=["nbval-check-output"]
folder = recorded / "audit_controls"
controls = results.read_controls(folder)
histories = results.read_details(folder, results.collect(folder)["cell"], "history")
last = histories.groupby("cell")["accuracy_unlabelled"].last()
learnt = 100 * last[last.index.str.endswith("-rotation")].mean()
print(f"rotation head, training images (test images: not recorded): {learnt:.0f}, chance 25")
steps = ["supervised", "equal-updates", "no-task", "rotation", "jigsaw"]
groups = controls.loc[steps].groupby("control", sort=False)
means = groups[["updates", *readings]].mean().round(1)
means.assign(std=groups["re-estimated"].std().round(1), collapsed=groups["collapsed"].sum())


# %%
def draw_differences(changes, scale, height):
    """Draw tables of differences, by reading, with what they were measured on as the title."""
    ax = plt.figure(figsize=(6.5, height)).gca()
    figures.differences(ax, changes)
    ax.set_title(f"recorded: Fashion-MNIST, 100 labels, {scale}", pad=22)
    ax.set(xlabel="difference in test accuracy (points, 95 % interval)", ylabel="comparison")
    plt.show()


# %% alt="Differences between tasks and equal updates, re-estimated; all intervals contain 0"
tasks = ["no-task", "rotation", "rotation-all", "rotation-flip", "jigsaw"]
pairs = [(task, "equal-updates") for task in tasks]
changes = {"re-estimated": compare_controls(controls, pairs)}
draw_differences(changes, "32 px, three labelled sets", 2.4)

# %% [markdown]
# ### Recorded: the same at 64 px
#
# 64 px, 10,000 unlabelled images, 100 labels, 1,570 updates. `n` labelled sets; the last rows are
# the 1,280 features of an untrained MobileNetV2, and raw pixels, which have one reading.
# (The SVM gets a trained network's 128 outputs unscaled, but these features divided by their
# standard deviation. `neighbours`, the five nearest labelled images as trained, do not depend on
# the scale.)

# %% tags=["nbval-check-output"]
gain = results.collect(recorded / "fashion_gain")
learnt = 100 * gain["rotation_accuracy.test"].mean()
print(f"rotation head, test images: {learnt:.0f}, where chance is 25")
measured = ["re-estimated", "neighbours"]  # by the SVM, and by the five nearest neighbours
pool = references.query("image_size == 64").rename(columns=results.FURTHER)
pool = pool.rename(columns={"accuracy": "re-estimated"})
pool[measured] *= 100

# %% tags=["nbval-check-output"]
parts = [results.read_controls(recorded / name) for name in ("fashion_gain", "labelled_task")]
parts = pd.concat(parts).rename_axis(["control", "split"])
free = pool.query("attack == 'none' and label_noise == 0").rename(columns={"backbone": "control"})
parts = pd.concat([parts, free.set_index(["control", "split"])[measured]])
groups = parts.groupby("control", sort=False)
table = groups[[*readings, "neighbours"]].mean()
table.assign(std=groups["re-estimated"].std(), n=groups.size()).round(1)

# %% alt="Differences between rotation, no task and equal updates at 64 px, with intervals"
pairs = [("rotation", "equal-updates"), ("rotation", "no-task"), ("no-task", "equal-updates")]
changes = {reading: compare_controls(parts, pairs, reading) for reading in readings}
draw_differences(changes, "64 px, five labelled sets", 2.1)

# %% tags=["nbval-check-output"]
for reading, table in changes.items():
    print(f"p after Holm's correction for 3, {reading}:", table["p_holm"].round(4).to_dict())
both = pd.concat(changes)["p"]
six = pd.Series(correct_holm(both), both.index).unstack(0).round(3)
print(six.rename_axis(columns="p after Holm's correction for all six").to_string())

# %% [markdown]
# Does it depend on the classifier? The same differences by the five nearest neighbours, as trained,
# beside those by the SVM, re-estimated; then to what needs no training:

# %% tags=["nbval-check-output"]
pairs += [("pixels", name) for name in ("rotation", "no-task", "equal-updates")]
pairs += [(name, "untrained") for name in ("rotation", "no-task", "equal-updates")]
both = {how: compare_controls(parts, pairs, how) for how in measured}
pd.concat({how: of[["mean", "low", "high"]] for how, of in both.items()}, axis=1).round(1)

# %% [markdown]
# Does the task need *unlabelled* images? `rotation-labelled` turns the 100 labelled images alone,
# in as many updates: a study of its own, with two planned tests.

# %% tags=["nbval-check-output"]
alone = results.collect(recorded / "labelled_task")["rotation_accuracy.test"].mean()
print(f"rotation head of rotation-labelled, test images: {100 * alone:.0f}")
pairs = [("rotation", "rotation-labelled"), ("rotation-labelled", "equal-updates")]
needs = {how: compare_controls(parts, pairs, how) for how in [*readings, "neighbours"]}
pd.concat({how: of[["mean", "low", "high", "p_holm"]] for how, of in needs.items()}).round(3)

# %% [markdown]
# ### Recorded: the rotation task at the paper's size
#
# 96 px, 600 labels, all 60,000 unlabelled images, MobileNetV2 with momentum 0.99; 10 epochs of 938
# updates, where the paper makes 30. (The learning rate falls from the fifth epoch on; the paper's
# from the thirteenth.) One labelled set. `supervised` with 1,000 updates is section 1's network.

# %% tags=["nbval-check-output"]
large = results.collect(recorded / "fashion_task")
head = 100 * large["rotation_accuracy.test"].dropna()
print(f"rotation head, test images: {head.mean():.1f}, chance 25")
sized = pd.concat([quick.query("attack == 'none' and split == 0"), large])
sized = sized.rename(columns=results.MEASURES | results.FURTHER)
100 * sized.set_index(["mode", "n_updates"])[[*readings, "neighbours"]].astype(float).round(4)

# %% tags=["nbval-check-output"]
same = references.query("dataset == 'fashion_mnist' and image_size == 96 and percent == 1")
same = same.query("attack == 'none' and split == 0").set_index("backbone")
(100 * same[["accuracy", "separability.knn_accuracy"]].astype(float)).round(1)

# %% [markdown]
# The task is learnt: 98 % of the rotations of test images are named. With a third of the paper's
# epochs the siamese network has 79.8 % as trained (published after 30: 79.6) and 81.4 re-estimated:
# four points more than raw pixels, fourteen more than an untrained network (whose other four sets
# have 67 to 75). So in this one run, with more pixels, labels and images than above, it beats both
# (*suggestive*). Is it the updates? With as many of them, labels alone have 76.8 %, hardly more
# than with a ninth (76.2). So in this run 4.6 points do not come from more updates (2.7 as trained,
# 3.2 by neighbours; *suggestive*), but from the task, or from the images that pass. *No task* is
# not recorded at this size yet. (The two networks ran on different processors, which adds run
# noise.)

# %% [markdown]
# ### Recorded: the rotation task on cells
#
# Whole malaria at 128 px, 137 labels, all 13,779 unlabelled images, MobileNetV2 with momentum 0.99.
# 10 epochs of 216 updates; the paper makes 100. (So the learning rate falls from the fifth on.)
# Blood cells have no usual way up. Is the task learnt? The last columns are the references on the
# same labelled set.

# %% tags=["nbval-check-output"]
blood = results.collect(recorded / "malaria_task")
told = blood[blood["mode"] == "semi"].set_index("split")
heads = [f"rotation_accuracy.{kind}" for kind in ("training", "test")]
print((100 * told[heads].astype(float)).round(1).to_string(), "(chance 25)")
blood = results.read_controls(recorded / "malaria_task")[["updates", *readings, "neighbours"]]
beside = on_cells["re-estimated"].xs("random", level="test_split").unstack("backbone")
blood.join(beside, on="split").round(1)

# %%
epochs = results.read_details(recorded / "malaria_task", told["cell"], "history")
named = 100 * epochs.pivot(index="epoch", columns="cell", values="accuracy_unlabelled")
named.set_axis(told.index, axis=1).tail(3).round(1)

# %% [markdown]
# Not yet: 31, 39 and 54 % of the rotations of test images are named (62.5 is our limit). In the
# last epochs, above, the answers on training images were still rising. So something in these
# pictures shows how they were turned. We did not ask what. The siamese network is below an
# untrained one in all three sets, and level with raw pixels on average.
#
# What do the task and the many updates do to the classes? In points; section 2 had 300 updates:

# %% tags=["nbval-check-output"]
pair = [("rotation", "equal-updates")]
of_cells = {how: compare_controls(blood, pair, how).iloc[0] for how in [*readings, "neighbours"]}
of_cells = {f"rotation - equal updates, {how}": found for how, found in of_cells.items()}
many = blood.loc["equal-updates", "re-estimated"]
few = whole["re-estimated"]["mobilenet_v2", "random"]
of_cells["equal updates - 300 updates"] = compare_paired(many - few)
of_cells["equal updates - untrained"] = compare_paired(many - beside["untrained"])
pd.DataFrame(of_cells).T[["n", "mean", "low", "high", "p"]].astype(float).round(3)

# %% [markdown]
# - **Shown** (32 px, $n = 3$): both baselines collapse as trained. A gain over that says nothing.
#   **Suggestive**: re-estimated, every interval contains 0.
# - **Shown** (64 px, 100 labels, $n = 5$; also if both readings are one family of six tests):
#   rotation adds 5.7 points to equal updates (2.7 to 8.8). So the updates are not the reason.
#   (Five sets were planned. We also looked after one and after three, which changed nothing. In a
#   larger family of tests it is not shown: section 5.)
# - **Suggestive** (the same): it adds 7.3 (2.5 to 12.2) to *no task*, which re-estimated is a
#   second run of equal updates. ($p$ is 0.03 if corrected for three tests, 0.07 for six.)
# - **Suggestive** (the same): in other readings. As trained rotation adds 4.3 points to equal
#   updates (0.3 to 8.3) and 5.8 to *no task* (1.1 to 10.6); neither survives correction. By
#   neighbours it adds 3.1 to equal updates (−1.6 to 7.8).
# - **Shown** (the same, two tests, planned when the three above were known): unlabelled images add
#   9.3 points to the task on labelled images alone (6.6 to 11.9), also as trained (8.2) and by
#   neighbours (7.1). Part of that is a loss: on labelled images alone the task is learnt (82 %),
#   but the mean is 3.5 points below equal updates (−0.4 to 7.5, *suggestive*; as trained 4.0, $p$ =
#   0.03).
# - **Shown** (the same): raw pixels beat rotation by nine points (corrected in section 5; by
#   neighbours eight, not corrected). **Suggestive**: over an untrained MobileNetV2 rotation has 1.3
#   points by the SVM (−5.8 to 8.3), 7.5 by neighbours (−1.6 to 16.6). So what is shown is a gain
#   over training on few labels, not over no training.
# - **Suggestive** (malaria, $n = 3$): after 10 epochs (the paper makes 100) the task is below our
#   limit in each of three sets, but rising. Meanwhile the siamese network is 15 points below equal
#   updates (2.3 to 27.0 re-estimated; as trained and by neighbours the intervals contain 0), whose
#   mean is higher than with 300 updates and than an untrained network's (both intervals contain 0).
#   What a learnt task adds there is *untested*.
# - **Suggestive** (the paper's size, $n = 1$): the siamese network has four points more than raw
#   pixels and five more than equal updates. **Untested** there: *no task*.

# %% [markdown]
# ## 4. Where does the attack act?
#
# **It costs supervised MobileNetV2 19 points at the paper's scale, perhaps through both the SVM and
# the encoder.** Live, marks that do not tell the class do not hurt (one set):

# %% alt="Attacked and clean live runs, with an SVM fitted on attacked or on clean images"
fig, ax = plt.subplots(figsize=(6.5, 2.4))
rows = ["supervised", "supervised, marked", "rotation", "rotation, marked", "marked at random"]
figures.dots(ax, live.loc[rows, ["as trained", "clean fit"]], chance=10)
ax.set_title(f"live: {dataset}, {label_fraction:.0%} labelled, one labelled set", pad=22)
plt.show()

# %% [markdown]
# A clean fit gets part of the loss back; the rest is perhaps in the encoder. See `trigger` in the
# first table: with a mark about a third of the test images get its class, but hardly any after a
# median filter on $D_l$.
#
# ### Recorded: at the paper's scale
#
# First what the attack costs section 1's baselines on labelled sets 0 to 4 (points); rows 2 to 4
# are as trained, with momentum 0.99. Then how many test images follow a mark (%), on average and
# for the strongest mark: MobileNetV2 with this momentum, by labelled set, and the other two
# networks.

# %% tags=["nbval-check-output"]
by_attack = {attack: cells.set_index("split") for attack, cells in quick.groupby("attack")}
marked, unmarked = by_attack["pixel"], by_attack["none"]
again = baseline.pivot(index="split", columns="attack", values="accuracy_recalibrated")
cost = {"cost, momentum 0.999, re-estimated": again["none"] - again["pixel"]}
cost["cost, momentum 0.99"] = unmarked["accuracy"] - marked["accuracy"]
cost["left with a clean fit"] = unmarked["accuracy"] - marked["accuracy_clean_fit"]
cost["a clean fit gets back"] = marked["accuracy_clean_fit"] - marked["accuracy"]
cost = 100 * pd.DataFrame(cost).T.astype(float)
table = pd.DataFrame(map(compare_paired, cost.to_numpy()), cost.index)
table = cost.join(table[["mean", "low", "high", "p"]])
table.assign(p_holm=correct_holm(table["p"])).round(3).round(dict.fromkeys(range(5), 1))


# %%
def share_by_class(cells):
    """Share of test images that each class's mark turns (%), one column a cell."""
    flipped = [[row["flipped"] for row in rows] for rows in cells["trigger"]]
    return 100 * pd.DataFrame(flipped, cells.index, cells["class_names"].iloc[0]).T


# %% tags=["nbval-check-output"]
attacked = others[others["attack"] == "pixel"].set_index("backbone").rename(results.NAMES)
followed = share_by_class(marked).add_prefix("MobileNetV2, ").join(share_by_class(attacked))
followed.agg(["mean", "max"]).T.rename(columns={"max": "strongest mark"}).round(1)

# %% [markdown]
# The cost is high even on set 2, where the strongest mark is followed by 18 % of the images:
# followed marks do not explain it alone. InceptionV3 follows many marks, ResNet50V2 hardly any; why
# is not known.

# %% [markdown]
# ### Recorded: the marks at other places
#
# All this is of one draw of the places. What do other draws cost, beside the first (labelled set 0,
# MobileNetV2 with momentum 0.99, re-estimated)? `follow`: test images that follow a mark, mean over
# the classes.

# %% tags=["nbval-check-output"]
draws = [marked.loc[[0]], others[others["attack"] == "pixel"]]
draws = pd.concat([*draws, results.collect(recorded / "fashion_draws")])
draws = draws.set_index(["backbone", "attack_draw"]).sort_index()
clean = pd.concat([unmarked.loc[[0]], others[others["attack"] == "none"]]).set_index("backbone")
accuracy = [100 * of["accuracy_recalibrated"].astype(float) for of in (draws, clean)]
by_draw = pd.DataFrame({"cost": -accuracy[0].sub(accuracy[1], level="backbone")})
by_draw.assign(follow=share_by_class(draws).mean()).round(1)

# %% tags=["nbval-check-output"]
mean = compare_paired(by_draw.loc["mobilenet_v2", "cost"])
print("mean {mean:.1f} ({low:.1f} to {high:.1f}) over {n} draws".format(**mean))

# %% [markdown]
# ### Recorded: kinds of attack, and defences
#
# The study of section 3 at 32 px, three labelled sets: differences in points, re-estimated.
# `marked-semi` is the paper's attack. `marked-both` marks unlabelled images too, by their hidden
# class; `random-marks` do not tell the class; `searched` ones are black or white where a class's
# images are all about the opposite; `half-marked` is half of $D_l$. `median` and `jpeg` are
# filters. None survives correction, and hardly an image follows a mark, but for four pixels
# (`trigger`, %; NaN: collapsed).

# %% tags=["nbval-check-output"]
kinds = ["marked-semi", "marked-both", "random-marks", "searched", "half-marked", "four-pixels"]
pairs = [(kind, "rotation") for kind in [*kinds, "grey-pixel", "median", "jpeg"]]
pairs += [("marked-supervised", "equal-updates")]
pairs += [("marked-median", "marked-semi"), ("marked-jpeg", "marked-semi")]
trigger = controls.groupby("control")["trigger"].mean().loc[[kind for kind, _ in pairs]]
changes = compare_controls(controls, pairs)[["n", "mean", "low", "high", "p_holm"]]
changes.assign(trigger=trigger.to_numpy()).astype(float).round(2)

# %% [markdown]
# - **Shown** ($n = 5$, one draw): at the paper's scale the attack costs supervised MobileNetV2 19
#   points, re-estimated.
# - **Suggestive** (momentum 0.99, $n = 3$): of 18 points a clean fit gets eight back; ten are left,
#   perhaps in the encoder.
# - **Suggestive** (one labelled set, five draws): the cost depends on the draw, from 13 to 30
#   points (mean 20.8, 11.8 to 29.8).
# - **Suggestive** ($n = 1$): InceptionV3 loses 26 and 23 points with two draws, so within
#   MobileNetV2's range. ResNet50V2 loses nothing with one; MobileNetV2 always loses.
# - **Untested**: robustness at 32 px, where marks are hardly learnt; attacked siamese networks at
#   the paper's scale; other draws for ResNet50V2.
#
# (Others use self-supervision against such poisons: [VESPR](https://arxiv.org/abs/2409.08509).)

# %% [markdown]
# ## 5. Other tasks, other undesired scenarios
#
# **Rotation seems to add five to seven points with marks, wrong labels or missing classes, as it
# does without; three labelled sets do not decide it. Barlow Twins seems to add more, ten to
# eighteen points, and comes near raw pixels. Consistency seems to add no more than rotation.**
#
# Two tasks compare two *views* of an image ([`views`](../lib/semisiam/method/views.py)).
# [Barlow Twins](https://arxiv.org/abs/2103.03230): both views give the same embedding, whose units
# differ from each other. *Consistency* ([FixMatch](https://arxiv.org/abs/2001.07685)): once the
# network is sure of the class of a weak view, the strong view gets that class.

# %% alt="Eight digits: weak views above, strong views of the same digits below"
pictures = views.draw_views(data.unlabelled[:8], np.array([0]), "consistency").numpy()
fig, ax = plt.subplots(figsize=(8, 2.2))
figures.examples(ax, pictures, [""] * 16, columns=8)
ax.set_title("above: weak views; below: strong views", loc="left")
plt.show()

# %% [markdown]
# ### Recorded: tasks and scenarios at 64 px
#
# The scale of section 3, re-estimated. Labelled images are as they are (`clean`), have the paper's
# marks (`marks`), or a fifth of them has a wrong label (`noise`); or $D_u$ has only five of the ten
# classes, so half of the images, passed in 20 epochs instead of 10 (`fewer`; its *equal updates*
# have 20, too). *equal updates* do not read $D_u$. *pixels*: the SVM on raw pixels; *untrained*: on
# the features of an untrained network. `neighbours` as in section 3.

# %%
folders = [recorded / name for name in ("fashion_gain", "scenarios")]
plain = {"rotation": "clean-rotation", "equal-updates": "clean-equal updates"}
plain |= {f"{s}-none": f"{s}-equal updates" for s in ("marks", "noise", "fewer")}
sets = results.read_controls(folders[1]).index.unique("split")
tried = pd.concat(map(results.read_controls, folders)).drop("no-task", level="control")
tried = tried.rename(plain, level="control").query("split in @sets")

# %%
# was each task learnt, control by control?
scenario_cells = pd.concat(map(results.collect, folders)).query("split in @sets")
control = scenario_cells["cell"].str.extract(r"-s\d+-(.+)$", expand=False).replace(plain)
histories = pd.DataFrame({"cell": [], "accuracy_unlabelled": []})  # all tasks have test scores
checks = {n: results.check_pretext(of, histories) for n, of in scenario_cells.groupby(control)}
checks = pd.concat(checks, names=["control"]).droplevel([1, 2, 3, 4])

# %%
# raw pixels, and the features of an untrained network, on the same labelled sets
kinds = [pool["attack"].ne("none"), pool["label_noise"] > 0]
kinds = pd.Series(np.select(kinds, ["marks-", "noise-"], "clean-"), pool.index)
free = pool.assign(control=kinds + pool["backbone"]).query("split in @sets")
values = pd.concat([tried, free.set_index(["control", "split"])[measured]])

# %% tags=["nbval-check-output"]
groups = values.groupby("control")[measured]
table = groups.mean().assign(n=groups.size())
table = table.join(checks[["test", "chance", "learnt"]].rename(columns={"test": "check"}))
table = table.join(tried.groupby("control")["trigger"].mean())
table.index = table.index.str.split("-", expand=True).rename(["scenario", "task"])
table.round(1)

# %% tags=["nbval-check-output"]
named = scenario_cells[control == "fewer-consistency"].set_index("split")
told = (100 * named["pretext_check.accuracy"].astype(float)).round(1).to_dict()
print("consistency on fewer, right pseudo-labels by labelled set (%):", told)

# %% [markdown]
# `check`, in %: right answers on test images for rotation; for Barlow Twins the correlation of both
# views less that between units (0: two views are no more alike than different images); for
# consistency right pseudo-labels, 0 if fewer than half of the images get one. `learnt`: at least
# half of the way from chance to 100. Most of these checks come from older code. It used moving
# averages and reads too low: a value below the limit proves nothing (`None`). (Consistency on
# `fewer` has the newer check, printed above by set.) `trigger`, as in the first table: at this
# scale networks hardly follow the marks. `n` differs: do not subtract rows. Paired differences
# follow.
#
# What does each task add to *equal updates* (`added`), how much of that is lost in a scenario
# (`lost`), and is a new task better than rotation (`over rotation`)? All these are one family of
# tests; `p_holm` is corrected for those on three sets or more. Rotation on `clean` images was
# planned, and is judged, as a study of its own (section 3). Mind `n`, and that Barlow Twins on
# `clean` images was run on two more sets after a look at three. The cells ran on several
# processors, which adds run noise.

# %%
added, lost, over = {}, {}, {}  # pairs of controls to subtract, or of such pairs
scenarios, tasks = ["clean", "marks", "noise", "fewer"], ["rotation", "barlow", "consistency"]
for scenario, task in product(scenarios, tasks):
    name = f"{scenario}-{task}"
    added[name] = name, f"{scenario}-equal updates"
    if scenario != "clean":
        lost[name] = added[f"clean-{task}"], added[name]
    if task != "rotation":
        over[name] = name, f"{scenario}-rotation"

# %%
family = {"added": added, "lost": lost, "over rotation": over}
family = {(what, name): pair for what, of in family.items() for name, pair in of.items()}
of_section_3 = family.pop(("added", "clean-rotation"))
table = compare_controls(tried, family.values()).set_axis(pd.MultiIndex.from_tuples(family))
larger = compare_controls(tried, [*family.values(), of_section_3])["p_holm"].iloc[-1]

# %% alt="What each task adds to equal updates in each scenario, with intervals"
several = {reading: compare_controls(tried, added.values(), reading) for reading in readings}
for of in several.values():
    of.index = [f"{name} (n = {n:.0f})" for name, n in zip(added, of["n"], strict=True)]
draw_differences(several, "64 px, over equal updates", 1 + 0.35 * len(added))

# %% tags=["nbval-check-output"]
columns = ["n", "mean", "low", "high", "p", "p_holm"]
print(f"smallest p_holm of what is lost: {table.loc['lost', 'p_holm'].min():.2f}")
print(f"one of {len(family) + 1} tests, clean-rotation would have p_holm {larger:.2f}")
near = compare_controls(tried, family.values(), "neighbours").set_axis(table.index)
both = {"SVM": table[columns], "neighbours": near[columns[1:4]]}
pd.concat(both, axis=1).drop("lost").astype(float).round(3)

# %% tags=["nbval-check-output"]
accuracy = tried["re-estimated"]
for s in scenarios:
    ahead = accuracy[f"{s}-barlow"] - accuracy[f"{s}-rotation"]
    print(f"{s}: Barlow Twins is ahead of rotation on {(ahead > 0).sum()} sets of {ahead.count()}")
hit = compare_paired(accuracy["clean-equal updates"] - accuracy["marks-equal updates"])
print("marks cost equal updates {mean:.1f} points ({low:.1f} to {high:.1f})".format(**hit))

# %% [markdown]
# And beside what needs no training, as a family of its own:

# %% tags=["nbval-check-output"]
names = dict(zip(scenarios, [*scenarios[:3], "clean"], strict=True))  # D_l is the same in `fewer`
pairs = [(f"{names[s]}-pixels", f"{s}-{task}") for s, task in product(scenarios, tasks[:2])]
pairs += [("clean-pixels", f"{scenario}-pixels") for scenario in scenarios[1:3]]
pairs += [(f"{s}-{t}", f"{s}-untrained") for s, t in product(scenarios[:3], tasks[:2])]
free = compare_controls(values, pairs)[columns].drop(columns="p")
near = compare_controls(values, pairs, "neighbours")[columns[1:4]]
pd.concat({"SVM": free, "neighbours": near}, axis=1).astype(float).round(3)

# %% [markdown]
# - **Suggestive** ($n = 3$, one draw of marks): rotation adds five to seven points in each
#   scenario, about as much as on clean images. After correction none of these differs from 0.
#   (Section 3 calls its gain on clean images shown, and here it would not be: a study of three
#   comparisons asks less of each than one of 29.)
# - **Suggestive**: Barlow Twins adds 10.7 points on clean images ($n = 5$, 6.5 to 14.9). Its
#   `p_holm` is 0.058. We looked twice (after three sets and after five), so 0.12 is fairer. It adds
#   16.4 with marks, 17.5 with wrong labels and 9.8 with missing classes ($n = 3$; in the last it is
#   not known whether it was learnt). It is better than rotation in all 14 comparisons (they share
#   five labelled sets), but no difference survives correction. By neighbours it adds as much on
#   clean images, 11.0 (7.7 to 14.4), where rotation adds 3.1.
# - **Untested**: robustness. Networks hardly follow the marks here, and that these cost the
#   baseline anything is not shown.
# - **Suggestive** ($n = 3$): consistency adds three to six points on clean images, with marks and
#   with wrong labels. Re-estimated, no interval excludes 0, and whether it was learnt is not known.
#   With missing classes two sets of three pass its check, but their mean does not (54.8, limit 55):
#   by our rule **untested**.
# - **Suggestive** ($n = 3$): raw pixels are 9.5 to 11 points better than rotation with marks, wrong
#   labels and missing classes. Against Barlow Twins nothing is decided: with wrong labels they are
#   behind, by neighbours level on clean images. Over an untrained network rotation has 1 to 3
#   points (the intervals contain 0), Barlow Twins 6 to 15; no difference by the SVM survives
#   correction, those by neighbours were not corrected.
# - **Shown** ($n = 5$): wrong labels cost raw pixels eleven points by the SVM (8.6 to 12.9); by
#   neighbours three, not decided. Marks do not change them (one fades to a quarter when 64 px are
#   shrunk to 32).
# - [`scenarios`](../params/studies/scenarios.yaml) has 70 cells, of which 44 were run.

# %% [markdown]
# ## Our advice to someone with few labels
#
# 1. Fit an SVM on raw pixels, and on the features of an untrained network. Divide these by their
#    standard deviation first: they may be too small for the SVM to see. A network must beat both.
# 2. If training accuracy is 1 and test accuracy is chance, re-estimate, or lower the momentum.
# 3. Give the baseline as many updates as its rival.
# 4. Then try unlabelled images, over several folds ([09_own_images](09_own_images.ipynb)). Check
#    that the task was learnt.
# 5. If labels come from elsewhere, look for marks in each class's mean image.

# %% [markdown]
# ## Summary
#
# Of nine published gains above 30 points, two of them under attack, we ran the baselines of five
# anew. Re-estimated, ours are better than as trained (*shown*): that alone gives 66 of the largest
# 70 points, and lifts InceptionV3 on malaria to 90.5 %. The other four are *untested*, or were
# tried at 32 px. At 64 px the rotation task adds about six points to labels alone (*shown*, with
# the SVM, re-estimated), but does not clearly beat the features of an untrained network, and raw
# pixels beat it by nine (*shown*). Unlabelled images add nine to the same task without them
# (*shown*). At the paper's size the siamese network is four points better than raw pixels
# and five better than equal updates (*suggestive*, one run). On malaria it is not yet learnt
# after 10 epochs (*suggestive*, three sets).
#
# ## Exercises
#
# Predict first. Solutions are in the hidden cells; click to unfold them.
#
# **1. Predict.** With `bn_momentum = 0.999`, what is left after 100 updates? What will
# re-estimation give?

# %% jupyter={"source_hidden": true} tags=["solution"]
print(f"{0.999**100:.2f} of the beginning is left")
slower = run_control(Cell.check(shared | supervised | {"bn_momentum": 0.999}), data)
print({reading: round(100 * slower[reading], 1) for reading in readings})

# %% [markdown]
# **2. Write it.** A control of your own: a grey mark (`attack_value = 128`) in place of a white
# one. Will more images follow it, or fewer?

# %% jupyter={"source_hidden": true} tags=["solution"]
grey = run_control(Cell.check(shared | supervised | mark | {"attack_value": 128}), data)
print(
    f"grey {100 * grey['trigger']:.0f} %, white {live.loc['supervised, marked', 'trigger']:.0f} %"
)

# %% [markdown]
# Next: [09_own_images](09_own_images.ipynb) asks what works best on your own images.
