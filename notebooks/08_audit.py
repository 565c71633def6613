# %% [markdown]
# # The audit
#
# Before: [07_results](07_results.ipynb). Next: [09_own_images](09_own_images.ipynb).
#
# **What do the published gains rest on: the pretext task, the unlabelled images, the number of
# updates, or something else?**
#
# You will see
# 1. a baseline at chance whose network knows every labelled image,
# 2. the gain of the siamese network taken apart, one setting at a time,
# 3. where the attack acts, how its mark works as a trigger, and what washes it out.
#
# Each section ends with its conclusions: *shown* (told from zero over at least three labelled sets,
# after correction), *suggestive* (run, but not that firm) or *untested*, with n labelled sets.

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Code

from semisiam import ROOT
from semisiam.cell import Cell
from semisiam.data import datasets
from semisiam.evidence import figures, paper, results
from semisiam.evidence.statistics import compare_controls
from semisiam.method import pretext
from semisiam.method.trials import run_control

# %% [markdown]
# ## Parameters
#
# *Live* runs train the small network on digits in seconds: they show how each control works, on one
# labelled set, and prove nothing. *Recorded* runs are of the paper's networks on real images; their
# numbers are read from `outputs/published/`.

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
# Each control is one setting of a [cell](master.ipynb) that differs from the paper's. Everything
# else stays: the labelled images, the first weights, the SVM.

# %%
slow = {"bn_momentum": slow_momentum}
controls = {
    "supervised, slow": supervised | slow,
    "semi, slow": semi | slow,
    "supervised": supervised,
    "equal updates": supervised | {"epochs": epochs_semi, "equal_updates": True},
    "no task": semi | {"pretext": "none"},
    "rotation": semi,
    "rotation and flip": semi | {"pretext": "rotation_flip"},
    "jigsaw": semi | {"pretext": "jigsaw"},
}

# %%
mark = {"attack": "pixel"}
controls |= {
    "supervised, marked": supervised | mark,
    "semi, marked": semi | mark,
    "marked at random": supervised | {"attack": "random"},
    "marked, median": supervised | mark | {"defence": "median"},
}

# %%
runs = {name: run_control(Cell.check(shared | own), data) for name, own in controls.items()}
live = pd.DataFrame(runs).T
percent = (100 * live.drop(columns="updates")).round(1)

# %% [markdown]
# `run_control` is `master` in short. What it measures of each run:

# %% tags=["nbval-check-output"]
print(*live.columns, sep=", ")

# %% [markdown]
# ## 1. Is the baseline at chance because it learnt nothing?
#
# Eight supervised baselines of the paper are at exact chance, all with MobileNetV2. Batch
# normalisation keeps a moving mean and variance for inference; they start at 0 and 1, and after $n$
# updates $momentum^n$ of that start is left. In *training mode* a batch is normalised by its own
# statistics instead. So ask the class head for the labelled images, in both modes. The slow run has
# 100 updates of momentum 0.99:

# %% tags=["nbval-check-output"]
print(f"left of the start: {slow_momentum ** live.loc['supervised, slow', 'updates']:.2f}")
heads = live.loc["supervised, slow", ["training", "inference"]]
assert heads["training"] > 0.95 > 0.3 > heads["inference"]
print("training mode: over 95 % right; inference mode: under 30 %; the same weights")

# %% [markdown]
# The weights know every labelled image; the statistics hide it. With the statistics estimated anew
# on $D_l$ ([precise BN](https://arxiv.org/abs/2105.07576)), without any label, the SVM sees other
# embeddings of the same weights:

# %% alt="Accuracies as trained and re-estimated; the slow baseline moves most"
fig, ax = plt.subplots(figsize=(6.5, 1.8))
rows = ["supervised, slow", "semi, slow", "supervised"]
figures.dots(ax, percent.loc[rows, ["as trained", "re-estimated"]], chance=10)
ax.set_title(f"live: {dataset}, {label_fraction:.0%} labelled, one labelled set", pad=22)
plt.show()

# %% [markdown]
# A momentum plays no part in training, so both baselines have the same weights and end on the same
# embedding.

# %% tags=["nbval-check-output"]
repaired = live.loc[["supervised, slow", "supervised"], "re-estimated"]
gap = live.loc["supervised, slow", "re-estimated"] - live.loc["supervised, slow", "as trained"]
assert gap > 0.10
assert abs(repaired.diff().iloc[-1]) < 0.01
print("re-estimated: over ten points more; both momenta within one point")

# %% [markdown]
# ### Recorded: the paper's own baseline
#
# Table III, MobileNetV2, 1 %: Fashion-MNIST at 96 pixels, 600 labels, 100 epochs, as the paper sets
# it. Then with a momentum of 0.99, nothing else changed.

# %%
recorded = ROOT / "outputs" / "published"
whole = results.collect(recorded / "fashion_baseline")
baseline = whole.query("backbone == 'mobilenet_v2'").assign(momentum="0.999")
quick = results.collect(recorded / "audit_momentum").assign(momentum="0.99")
both = pd.concat([baseline, quick])
both["attack"] = both["attack"].map(results.NAMES).str.lower()
shown = ["labelled_accuracy.training", "labelled_accuracy.inference", "bn_initial_share"]
shown += ["accuracy", "accuracy_recalibrated"]
readings = {key: results.MEASURES[key] for key in shown[-2:]}
both.set_index(["momentum", "attack", "split"])[shown].astype(float).round(3)

# %% alt="MobileNetV2 at 600 labels: 10 as trained with momentum 0.999, 76 re-estimated"
fig, ax = plt.subplots(figsize=(6.5, 2.1))
table = both.set_index(both["momentum"] + ", " + both["attack"])[list(readings)]
figures.dots(ax, table.rename(columns=readings) * 100, chance=10)
ax.set_title("recorded: Fashion-MNIST, 600 labels, MobileNetV2, one pair a labelled set", pad=22)
ax.set_ylabel("momentum")
plt.show()

# %%
again = 100 * both.groupby(["momentum", "attack"])["accuracy_recalibrated"].agg(["mean", "std"])
again.assign(n=both.groupby(["momentum", "attack"]).size()).round(1)

# %% [markdown]
# ### Recorded: the other two networks
#
# InceptionV3 and ResNet50V2 have a momentum of 0.99: after 1,000 updates nothing of the start is
# left. One labelled set each, in percent, with the SVM fitted on clean labelled images (section 4):

# %%
others = whole.query("backbone != 'mobilenet_v2'")
fits = readings | {"accuracy_clean_fit": "clean fit"}
beside = {f"ours, {how}": results.summarise(others, fit)["mean"] for fit, how in fits.items()}
printed = results.summarise(others)[["published_mean", "published_std", "n"]]
pd.DataFrame(beside).join(printed).droplevel(["dataset", "percent", "mode"]).round(1)

# %% [markdown]
# Without attack both repeat the published accuracy, to within its standard deviation. Under attack
# they do not: InceptionV3 loses 26 points where the paper loses 7, ResNet50V2 less than one where
# the paper loses 6. The paper tells neither its places nor its value; ours are one draw.
#
# - **Shown** (n = 5): MobileNetV2's baseline at exact chance had learnt. As trained 10.0 %, in
#   every labelled set; the same weights with re-estimated statistics 76.1 ± 0.2, and under attack
#   57.0 ± 3.3. A momentum of 0.99 has the same as trained (n = 3).
# - **Suggestive** (n = 1 each): the other two networks repeat the paper without attack.
# - **Suggestive** (n = 1, one draw): what the attack costs depends on the backbone.
#
# Others saw the same: [EMAN](https://arxiv.org/abs/2101.08482) finds about 7 points at 1 % of
# labels from normalisation alone.

# %% [markdown]
# ## 2. How much of the gain is left against a repaired baseline?
#
# If the baseline is hidden by its statistics, part of the gain is no gain in what was learnt. Live,
# with slow statistics in both modes:

# %% tags=["nbval-check-output"]
gains = live.loc["semi, slow"] - live.loc["supervised, slow"]
assert gains["as trained"] > 2 * gains["re-estimated"]
print("less than half of the gain is left when both are re-estimated")

# %% [markdown]
# The siamese network makes more updates, so its statistics forget their start sooner. Where in the
# paper's tables would that weigh most? The share left in each supervised baseline, from its labels,
# 100 epochs, batches of 64 and the backbone's momentum:

# %%
labels = {"malaria": (137, 685), "fashion_mnist": (600, 3000), "stl10": (1000, 5000)}
deltas = paper.read_printed("delta").query("attack == 'none'").copy()
n_labelled = [labels[d][p == 5] for d, p in zip(deltas["dataset"], deltas["percent"], strict=True)]
momentum = np.where(deltas["backbone"] == "mobilenet_v2", 0.999, 0.99)
deltas["share left"] = momentum ** (100 * np.ceil(np.array(n_labelled) / 64))

# %% alt="Published gains against the share of initial statistics left in the baseline"
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for marker, (backbone, group) in zip("osD", deltas.groupby("backbone"), strict=True):
    label = results.NAMES[backbone]
    ax.plot(group["share left"], group["delta"], marker, color="0.2", mfc="none", label=label)
ax.set(xscale="symlog", xlabel="share of the initial statistics left in the baseline")
ax.set(ylabel="published gain, no attack (points)", xlim=(-0.0005, 1))
ax.set_xscale("symlog", linthresh=0.001)
ax.legend()
plt.show()

# %% tags=["nbval-check-output"]
left = deltas["share left"] > 0.02
print(f"over 2 % left:  {left.sum():2d} gains, mean {deltas.loc[left, 'delta'].mean():+.1f}")
print(f"less than that: {(~left).sum():2d} gains, mean {deltas.loc[~left, 'delta'].mean():+.1f}")

# %% [markdown]
# The cut was set after looking, and one point stands against it: 39 points at a share of 0.01,
# MobileNetV2 on Fashion-MNIST with 5 %.
#
# ### Recorded: malaria, 137 labels, all three backbones
#
# Published gains at malaria's 1 % are +32 to +38 points for every backbone. Here are 128 pixels and
# 100 epochs, that is 300 updates, on a subset of 4,031 images of 35 patients, who are all in both
# halves.

# %%
malaria = results.collect(recorded / "audit_malaria")
malaria["backbone"] = malaria["backbone"].map(results.NAMES)
known = ["training_accuracy", "bn_initial_share", *readings]
malaria.set_index(["backbone", "split"])[known].astype(float).round(3).sort_index()

# %% alt="Malaria with 137 labels: InceptionV3 far above the largest class, ResNet50V2 below"
fig, ax = plt.subplots(figsize=(6.5, 1.9))
table = malaria.sort_values("backbone").set_index("backbone")[list(readings)] * 100
reports = results.read_details(recorded / "audit_malaria", malaria["cell"], "report")
guess = results.find_chance(malaria, reports)["malaria"]
figures.dots(ax, table.rename(columns=readings), chance=guess)
ax.set_title("recorded: malaria, 137 labels, supervised, one pair a labelled set", pad=22)
ax.set_ylabel("backbone")
plt.show()

# %% [markdown]
# The dotted line is the share of the larger class, 59 %; in the paper's test set it is 50 %. Beside
# the published accuracies (Table V); collapsed cells are left out of means as trained:

# %%
paired = malaria.assign(
    percent=1.0, backbone=results.collect(recorded / "audit_malaria")["backbone"]
)
beside = {f"ours, {how}": results.summarise(paired, key) for key, how in readings.items()}
columns = {how: table["mean"].droplevel([0, 1, 3, 4]).round(1) for how, table in beside.items()}
again = beside["ours, re-estimated"].droplevel([0, 1, 3, 4])
pd.DataFrame(columns | {"n": again["n"], "published, supervised": again["published_mean"]})

# %% [markdown]
# - **Shown** (Fashion-MNIST at 1 %, n = 5): most of the published +69.6 points is repaired without
#   a single unlabelled image; under attack 47 of 59.2.
# - **Suggestive** (malaria, n = 1): InceptionV3 has 94 % re-estimated with 137 labels and no
#   unlabelled image, where the paper has 92 % with them. Its images are fewer and more alike.
# - **Suggestive** (malaria, n = 3): MobileNetV2 collapses as trained, and repaired it stays far
#   below the published siamese network. So statistics are not all of that gain.
# - **Suggestive** (malaria, n = 1): ResNet50V2 stays at the larger class and is not repaired.
# - **Untested**: the whole malaria set (`params/studies/malaria_whole.yaml`).

# %% [markdown]
# ## 3. Is it the task, the images or the updates?
#
# From the supervised baseline to the siamese network three things change. One at a time: as many
# updates on the labelled images alone (*equal updates*); the unlabelled images pass the encoder,
# but without a task, so that only batch normalisation sees them (*no task*); the rotation task.
# [Oliver et al.](https://arxiv.org/abs/1804.09170) ask for as well tuned baselines.

# %% alt="Four live controls on digits, a few points apart"
fig, ax = plt.subplots(figsize=(6.5, 2.1))
rows = ["supervised", "equal updates", "no task", "rotation"]
figures.dots(ax, percent.loc[rows, ["as trained", "re-estimated"]])
ax.set_title(f"live: {dataset}, {label_fraction:.0%} labelled, one labelled set", pad=22)
plt.show()

# %% tags=["nbval-check-output"]
print(live.loc[rows, "updates"].astype(int).to_string())

# %% [markdown]
# What unlabelled images bring is the gain over the second row, not over the first.
#
# ### Recorded: MobileNetV2 on Fashion-MNIST, reduced
#
# 32 pixels, 2,000 unlabelled images, 100 labels, momentum 0.99, three labelled sets
# (`params/studies/audit_controls.yaml`; its supervised and rotation cells are also those of
# `fashion_small` in 06). The siamese network makes 320 updates, a ninetieth of the paper's. In
# percent; collapsed cells are counted, and left out as trained:

# %%
controls = results.read_controls(recorded / "audit_controls")
steps = ["supervised", "equal-updates", "no-task", "rotation"]
groups = controls.loc[steps].groupby("control", sort=False)
means = groups[["updates", *readings.values()]].mean().round(1)
means.assign(std=groups["re-estimated"].std().round(1), collapsed=groups["collapsed"].sum())

# %%
pairs = [
    ("rotation", "supervised"),
    ("equal-updates", "supervised"),
    ("no-task", "equal-updates"),
    ("rotation", "no-task"),
    ("rotation", "equal-updates"),
]
measures = ["as trained", "re-estimated"]
changes = {measure: compare_controls(controls, pairs, measure) for measure in measures}
fig, ax = plt.subplots(figsize=(6.5, 2.8))
figures.differences(ax, changes)
ax.set_title("recorded: Fashion-MNIST, 32 px, 100 labels, three labelled sets", pad=22)
ax.set_xlabel("difference in test accuracy (points, 95 % interval)")
plt.show()

# %% tags=["nbval-check-output"]
columns = ["n", "mean", "low", "high", "p_holm"]
changes["re-estimated"][columns].astype(float).round(2)

# %% [markdown]
# Was the rotation task learnt there? In percent, on training images:

# %%
cells = results.collect(recorded / "audit_controls")
histories = results.read_details(recorded / "audit_controls", cells["cell"], "history")
last = histories.groupby("cell")["accuracy_unlabelled"].last()
rotation = cells[cells["cell"].str.endswith("-rotation")]
print(f"{100 * rotation['cell'].map(last).mean():.0f}, where chance is 25")

# %% [markdown]
# - **Shown** (n = 3 of 3): both supervised baselines collapse as trained, so a gain over them as
#   trained is one over which class won. No table may name it.
# - **Suggestive** (n = 3, task learnt): re-estimated, the whole lead is 7 points (−10 to +23), and
#   neither updates nor images nor the task is told from zero. The task itself: +0.8 (−5 to +6).
# - **Untested**: the parts of the gain at the paper's scale.

# %% [markdown]
# ## 4. Where does the attack act?
#
# Both modes, attacked. The SVM is fitted on the attacked images, as in the paper, and for
# comparison on the same images without their marks (*clean fit*); the encoder stays the attacked
# one.

# %% alt="Attacked and clean live runs, with an SVM fitted on attacked or on clean images"
fig, ax = plt.subplots(figsize=(6.5, 2.4))
rows = ["supervised", "supervised, marked", "rotation", "semi, marked", "marked at random"]
figures.dots(ax, percent.loc[rows, ["as trained", "clean fit"]])
ax.set_title(f"live: {dataset}, {label_fraction:.0%} labelled, one labelled set", pad=22)
plt.show()

# %% tags=["nbval-check-output"]
cost = live.loc["supervised", "as trained"] - live["as trained"]
assert cost["supervised, marked"] > 0.05 > cost["marked at random"]
marked = live.loc[["supervised, marked", "semi, marked"]]
assert (marked["clean fit"] > marked["as trained"]).all()
print("a mark that names the class costs over five points, one at random places does not")
print("an SVM fitted on clean images gets part of it back")

# %% [markdown]
# It is not the damage to the image that hurts but what the mark says. Part of the loss is in the
# SVM, the rest in the encoder.
#
# ### The mark as a trigger
#
# Put class $c$'s mark on test images of other classes. Of those not taken for $c$ before, which
# share is now?

# %%
rows += ["marked, median"]
percent.loc[rows, ["trigger"]]

# %% tags=["nbval-check-output"]
triggers = live["trigger"]
assert triggers[["supervised, marked", "semi, marked"]].min() > 0.15
assert triggers[["supervised", "rotation", "marked at random", "marked, median"]].max() < 0.05
print("trained on marks: over 15 % follow one; otherwise, or behind a median filter, under 5 %")

# %% [markdown]
# One pixel moves about a third of the images to another class. A median filter over the labelled
# images takes the mark away, and with it the trigger.
#
# ### Recorded: at the paper's own scale
#
# The baseline of section 1, attacked, with momentum 0.99. Per class, the share of test images of
# other classes that its mark turns to it:

# %%
marked = quick[quick["attack"] == "pixel"]
by_class = pd.DataFrame([[row["flipped"] for row in rows] for rows in marked["trigger"]])
by_class = 100 * by_class.set_axis(marked["class_names"].iloc[0], axis=1)
by_class.agg(["mean", "min", "max"]).round(1).T

# %%
unmarked = quick[quick["attack"] == "none"]
cost = unmarked.set_index("split")["accuracy"] - marked.set_index("split")["accuracy"]
mended = marked["accuracy_clean_fit"] - marked["accuracy"]
print(f"the attack costs {100 * cost.min():.1f} to {100 * cost.max():.1f} points")
print(f"an SVM on clean images gets {100 * mended.min():.1f} to {100 * mended.max():.1f} back")

# %% [markdown]
# Only one class's mark is a strong trigger: a network can be spoilt by marks that it does not obey.
# The other two networks, with the same marks at the same places, one labelled set each:

# %%
marked = others[others["attack"] == "pixel"]
by_class = pd.DataFrame([[row["flipped"] for row in rows] for rows in marked["trigger"]])
by_class = 100 * by_class.set_axis(marked["class_names"].iloc[0], axis=1)
by_class.set_index(marked["backbone"].map(results.NAMES)).round(1).T

# %% [markdown]
# InceptionV3 learnt the marks; ResNet50V2 learnt none that test images follow, and the attack costs
# it nothing. Why is open, and the places are one draw.
#
# ### Recorded: kinds of attack, and defences
#
# The reduced study of section 3 again, `marked-semi` under the paper's attack; others differ from
# it in one thing:
#
# | control | its mark |
# |---|---|
# | `marked-both` | on the unlabelled images too, by their hidden class |
# | `random-marks` | at random places, so that it does not tell the class |
# | `searched` | where a search on the labelled images finds it easiest to learn |
# | `half-marked` | on half of the labelled images |
# | `four-pixels`, `grey-pixel` | of four pixels a class; grey in place of white |
# | `median`, `jpeg` | none; the labelled images are filtered first. `marked-…`: with the mark |
#
# Percent, mean and standard deviation:

# %%
kinds = ["rotation", "marked-semi", "marked-both", "random-marks", "searched", "half-marked"]
kinds += ["four-pixels", "grey-pixel", "equal-updates", "marked-supervised"]
kinds += ["median", "marked-median", "jpeg", "marked-jpeg"]
columns = ["re-estimated", "clean fit", "trigger"]
controls.loc[kinds, columns].groupby("control", sort=False).agg(["mean", "std"]).round(1)

# %% alt="What each kind of mark or defence changes, with intervals; most hold zero"
pairs = [("marked-supervised", "equal-updates")]
pairs += [(kind, "rotation") for kind in kinds[1:8]]
pairs += [("median", "rotation"), ("marked-median", "marked-semi")]
pairs += [("jpeg", "rotation"), ("marked-jpeg", "marked-semi")]
changes = {measure: compare_controls(controls, pairs, measure) for measure in measures}
fig, ax = plt.subplots(figsize=(6.5, 5))
figures.differences(ax, changes)
ax.set_title("recorded: Fashion-MNIST, 32 px, 100 labels, three labelled sets", pad=22)
ax.set_xlabel("difference in test accuracy (points, 95 % interval)")
plt.show()

# %%
family = changes["re-estimated"]
print(f"{len(family)} differences, told from zero after Holm: {(family['p_holm'] < 0.05).sum()}")

# %% [markdown]
# - **Shown** (n = 3, one draw of places): at the paper's scale the attack costs supervised
#   MobileNetV2 16 to 22 points, and a clean fit gets part of them back.
# - **Suggestive** (n = 1, one draw): it costs InceptionV3 26 points and ResNet50V2 none.
# - **Untested**: robustness at 32 px, where marks turn 2 % of the images and there is nothing for a
#   defence to mend; any siamese network under attack at the paper's scale; other draws of places.
#
# One-pixel marks in training data are known as shortcuts (Wu et al., ICLR 2023), and
# [VESPR](https://arxiv.org/abs/2409.08509) uses self-supervision against such poisons.

# %% [markdown]
# ## 5. Which task suits which images?
#
# A pretext task is a list of transforms, and its label says which one was applied. All transforms
# of the three tasks on one image:

# %% alt="One digit under all transforms of three tasks"
tasks = ["rotation", "rotation_flip", "jigsaw"]
image = np.asarray(data.unlabelled[:1])
fig, axes = plt.subplots(3, 1, figsize=(8, 4.2), height_ratios=[1, 1, 2.2])
for ax, task in zip(axes, tasks, strict=True):
    changed, numbers = pretext.transform_all(image, task)
    figures.examples(ax, changed, [str(n) for n in numbers], columns=12)
    ax.set_title(f"{task}: {len(numbers)} labels", loc="left")
plt.show()

# %%
Code(inspect.getsource(pretext.transform), language="python")

# %% [markdown]
# A task can only teach what its images have. Digits have an upright; cells under a microscope have
# none, so there the rotation of an image may say little, and how its tiles fit together more.

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.1))
rows = ["equal updates", "rotation", "rotation and flip", "jigsaw"]
figures.dots(ax, percent.loc[rows, ["as trained", "re-estimated"]])
ax.set_title(f"live: {dataset}, {label_fraction:.0%} labelled, one labelled set", pad=22)
plt.show()

# %% [markdown]
# On these digits no task stands out. Recorded, Fashion-MNIST as in section 3, each against the
# baseline with equal updates:

# %% alt="Gain of each pretext task over equal updates, with intervals"
tasks = ["no-task", "rotation", "rotation-all", "rotation-flip", "jigsaw"]
pairs = [(task, "equal-updates") for task in tasks]
changes = {measure: compare_controls(controls, pairs, measure) for measure in measures}
fig, ax = plt.subplots(figsize=(6.5, 2.8))
figures.differences(ax, changes)
ax.set_title("recorded: Fashion-MNIST, 32 px, 100 labels, three labelled sets", pad=22)
ax.set_xlabel("difference in test accuracy (points, 95 % interval)")
plt.show()

# %%
table = pd.concat({m: t[["mean", "low", "high"]] for m, t in changes.items()}, axis=1)
table.astype(float).round(1)

# %% [markdown]
# - **Suggestive** (n = 3): no task is told from a baseline with equal updates; each interval of the
#   re-estimated differences holds 0.
# - **Untested**: any task on images without an upright.

# %% [markdown]
# ## What would we advise someone with 600 labels today?
#
# 1. Fit an SVM on raw pixels first: it takes seconds and tells what any network must beat.
# 2. Look at the training accuracy beside the test accuracy. If the first is 1 and the second at
#    chance, re-estimate the statistics, or train with a momentum of 0.99. At 600 clean labels
#    either is worth 66 points to MobileNetV2.
# 3. Give the labelled images as many updates as the alternative would get.
# 4. Only then try unlabelled images, first without a task, over five labelled sets or more, and
#    check that the task was learnt.
# 5. If labels come from elsewhere, look for marks: a mean image per class shows a fixed pixel.
#
# ## Summary
#
# - **Shown** (n = 5): the largest published gain, MobileNetV2 on Fashion-MNIST at 1 %, is mostly
#   that of a baseline hidden by stale statistics.
# - **Suggestive** (n = 3): at a reduced scale neither updates nor images nor the task is told from
#   zero, once statistics are re-estimated.
# - **Shown** (n = 3, one draw): the attack costs that baseline 16 to 22 points, which the published
#   10.0 % in both columns hides.
# - **Untested**: any siamese network at the paper's scale; malaria as a whole.
#
# Next: [09_own_images](09_own_images.ipynb).
#
# ## Exercises
#
# Predict first, then change the parameters cell and run.
#
# 1. `slow_momentum = 0.999`: what share of the start will be left, and will the repair still reach
#    the same accuracy?
# 2. `split = 1`: which of the live differences will turn round?
# 3. `label_fraction = 0.2`: what will be left of the difference that slow statistics make?
