# %% [markdown]
# # The audit
#
# **What do the published gains rest on: the pretext task, the unlabelled images, the number of
# updates, or something else?**
#
# You will see
# 1. a baseline at chance whose network knows every labelled image,
# 2. the gain of the siamese network taken apart, one setting at a time,
# 3. where the attack acts, how its mark works as a trigger, and what washes it out.

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
from semisiam.method import pretext
from semisiam.method.trials import compare_controls, read_controls, run_control

# %% [markdown]
# ## Parameters
#
# Two kinds of evidence, kept apart. *Live* runs train the small network on digits in seconds: they
# show how each control works, on one labelled set, and prove nothing. *Recorded* runs are of the
# paper's networks on real images; they took hours, and their numbers are read from
# `outputs/published/`.

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

# %%
# NBVAL_CHECK_OUTPUT
print(*live.columns, sep=", ")

# %% [markdown]
# ## 1. Is the baseline at chance because it learnt nothing?
#
# Eight supervised baselines of the paper are at exact chance, five splits out of five, all with
# MobileNetV2 ([00_overview](00_overview.ipynb)). Batch normalisation keeps a moving mean and
# variance for inference; they start at 0 and 1, and after $n$ updates $momentum^n$ of that start is
# left. In *training mode* a batch is normalised by its own statistics instead. So ask the class
# head for the labelled images, in both modes. The slow run has 100 updates of momentum 0.99:

# %%
# NBVAL_CHECK_OUTPUT
print(f"left of the start: {slow_momentum ** live.loc['supervised, slow', 'updates']:.2f}")
heads = live.loc["supervised, slow", ["training", "inference"]]
assert heads["training"] > 0.95 > 0.3 > heads["inference"]
print("training mode: over 95 % right; inference mode: under 30 %; the same weights")

# %% [markdown]
# The weights know every labelled image; the statistics hide it. With the statistics estimated anew
# on $D_l$, as exact means and without any label, the SVM sees other embeddings of the same weights:

# %%
fig, ax = plt.subplots(figsize=(6.5, 1.8))
rows = ["supervised, slow", "semi, slow", "supervised"]
figures.dots(ax, percent.loc[rows, ["as trained", "re-estimated"]], chance=10)
ax.set_title(f"live: {dataset}, {label_fraction:.0%} labelled, one labelled set", pad=22)
plt.show()

# %% [markdown]
# The slow baseline gains over ten points, the one with momentum 0.9 nothing: it had nothing to
# repair. A momentum plays no part in training, so both have the same weights and end on the same
# embedding.

# %%
# NBVAL_CHECK_OUTPUT
repaired = live.loc[["supervised, slow", "supervised"], "re-estimated"]
gap = live.loc["supervised, slow", "re-estimated"] - live.loc["supervised, slow", "as trained"]
assert gap > 0.10
assert abs(repaired.diff().iloc[-1]) < 0.01
print("re-estimated: over ten points more; both momenta within one point")

# %% [markdown]
# ### Recorded: the paper's own baseline
#
# Table III, MobileNetV2, 1 %: Fashion-MNIST at 96 pixels, 600 labels, 100 epochs, as the paper sets
# it, several labelled sets. Then the same with a momentum of 0.99, nothing else changed.

# %%
recorded = ROOT / "outputs" / "published"
whole = results.collect(recorded / "fashion_baseline")
baseline = whole.query("backbone == 'mobilenet_v2'").assign(momentum="0.999")
quick = results.collect(recorded / "audit_momentum").assign(momentum="0.99")
both = pd.concat([baseline, quick])
both["attack"] = both["attack"].map(results.NAMES).str.lower()
shown = ["labelled_accuracy.training", "labelled_accuracy.inference", "bn_initial_share"]
shown += list(results.MEASURES)
both.set_index(["momentum", "attack", "split"])[shown].astype(float).round(3)

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.1))
table = both.set_index(both["momentum"] + ", " + both["attack"])[list(results.MEASURES)]
figures.dots(ax, table.rename(columns=results.MEASURES) * 100, chance=10)
ax.set_title("recorded: Fashion-MNIST, 600 labels, MobileNetV2, one pair a labelled set", pad=22)
ax.set_ylabel("momentum")
plt.show()

# %%
again = 100 * both.groupby(["momentum", "attack"])["accuracy_recalibrated"].agg(["mean", "std"])
again.assign(n=both.groupby(["momentum", "attack"]).size()).round(1)

# %% [markdown]
# These cells come from more than one revision of this code and from two kinds of machine. Does it
# matter? A momentum changes no weight, so the two runs of a labelled set have to end in the same
# weights, and in the same re-estimated accuracy:

# %%
same = both.pivot(index=["attack", "split"], columns="momentum", values="accuracy_recalibrated")
apart = same.dropna().diff(axis=1)["0.999"].abs()
revisions = both.loc[both["split"].isin(same.dropna().index.get_level_values("split")), "revision"]
print(f"{len(apart)} pairs, revisions {', '.join(sorted(set(revisions)))}")
print(f"largest difference: {1e4 * apart.max():.0f} of 10,000 test images")

# %% [markdown]
# Not there. A further run of the first labelled set without attack, with a later revision and not
# kept, came to 75.9 instead of 76.2 %: not the same bits, and no more than labelled sets differ.
# Costs of tens of points do not hang on it.

# %% [markdown]
# ### Recorded: the other two networks
#
# InceptionV3 and ResNet50V2 come with a momentum of 0.99: after the same 1,000 updates nothing of
# the start is left. One labelled set each; beside them the published mean and standard deviation
# over five, and the SVM fitted on the clean labelled images (section 4), in percent:

# %%
others = whole.query("backbone != 'mobilenet_v2'")
fits = results.MEASURES | {"accuracy_clean_fit": "clean fit"}
beside = {f"ours, {how}": results.summarise(others, fit)["mean"] for fit, how in fits.items()}
printed = results.summarise(others)[["published_mean", "published_std", "n"]]
pd.DataFrame(beside).join(printed).droplevel(["dataset", "percent", "mode"]).round(1)

# %% [markdown]
# There is nothing to re-estimate, and without attack both networks repeat the published accuracy,
# to within its standard deviation. Under attack they do not: InceptionV3 loses 26 points where the
# paper loses 7, ResNet50V2 less than one where the paper loses 6. The paper does not tell its
# places, its value or when it set the pixel, and our ten places are one draw; what a network makes
# of a mark may hang on them. InceptionV3's clean fit is close to the published accuracy under
# attack.

# %% [markdown]
# **Answer.** No: it learnt. As trained the SVM gets the published 10.0 %, because the embedding is
# constant. The same weights with re-estimated statistics get about three quarters of the test
# images right without the attack, and over half with it: the attack, which the published 10.0 %
# in both columns cannot show, does cost something. A momentum of 0.99 gives the same accuracies as
# trained, to a point, with nothing to repair; and the two networks that have it anyway are where
# the paper has them, without attack.

# %% [markdown]
# ## 2. How much of the gain is left against a repaired baseline?
#
# The gain of a pair of runs is the difference of their accuracies. If the baseline is hidden by its
# statistics, part of the gain is no gain in what was learnt. Live, slow statistics in both modes:

# %%
# NBVAL_CHECK_OUTPUT
gains = live.loc["semi, slow"] - live.loc["supervised, slow"]
assert gains["as trained"] > 2 * gains["re-estimated"]
print("less than half of the gain is left when both are re-estimated")

# %% [markdown]
# The siamese network makes more updates, so its statistics forget their start sooner: the flaw
# weighs less on it, and the difference looks like a gain. Where in the paper's tables would it
# weigh most? The share left in each supervised baseline, from its labels, 100 epochs, batches of
# 64, and the momentum of the backbone (MobileNetV2 0.999, the others 0.99):

# %%
labels = {"malaria": (137, 685), "fashion_mnist": (600, 3000), "stl10": (1000, 5000)}
deltas = paper.read_printed("delta").query("attack == 'none'").copy()
n_labelled = [labels[d][p == 5] for d, p in zip(deltas["dataset"], deltas["percent"], strict=True)]
momentum = np.where(deltas["backbone"] == "mobilenet_v2", 0.999, 0.99)
deltas["share left"] = momentum ** (100 * np.ceil(np.array(n_labelled) / 64))

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for marker, (backbone, group) in zip("osD", deltas.groupby("backbone"), strict=True):
    label = results.NAMES[backbone]
    ax.plot(group["share left"], group["delta"], marker, color="0.2", mfc="none", label=label)
ax.set(xscale="symlog", xlabel="share of the initial statistics left in the baseline")
ax.set(ylabel="published gain, no attack (points)", xlim=(-0.0005, 1))
ax.set_xscale("symlog", linthresh=0.001)
ax.legend()
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
left = deltas["share left"] > 0.02
print(f"over 2 % left:  {left.sum():2d} gains, mean {deltas.loc[left, 'delta'].mean():+.1f}")
print(f"less than that: {(~left).sum():2d} gains, mean {deltas.loc[~left, 'delta'].mean():+.1f}")

# %% [markdown]
# The cut was set after looking, and one point stands against it: 39 points at a share of 0.01,
# MobileNetV2 on Fashion-MNIST with 5 %.
#
# ### Recorded: malaria, 1 %, all three backbones
#
# The published gains at malaria's 1 % are +32 to +38 points for every backbone, and at 5 % all but
# nothing for two of them. 137 labelled images, 128 pixels, 100 epochs, that is 300 updates. The
# images are a subset, 4,031 of 27,558, of 35 patients, all of whom are in both halves (the paper
# does not say how it drew its own); 2,000 are for the test. `training_accuracy` is that of the last
# epoch:

# %%
malaria = results.collect(recorded / "audit_malaria")
malaria["backbone"] = malaria["backbone"].map(results.NAMES)
known = ["training_accuracy", "bn_initial_share", *results.MEASURES]
malaria.set_index(["backbone", "split"])[known].astype(float).round(3).sort_index()

# %%
fig, ax = plt.subplots(figsize=(6.5, 1.9))
table = malaria.sort_values("backbone").set_index("backbone")[list(results.MEASURES)] * 100
support = results.read_details(recorded / "audit_malaria", malaria["cell"][:1], "report")["support"]
figures.dots(ax, table.rename(columns=results.MEASURES), chance=100 * support.max() / support.sum())
ax.set_title("recorded: malaria, 137 labels, supervised, one pair a labelled set", pad=22)
ax.set_ylabel("backbone")
plt.show()

# %% [markdown]
# Chance is here the share of the larger class, 59 %; in the paper's test set it is 50 %. So beside
# the published accuracies (Table V), with `n` labelled sets of ours, only large differences count:

# %%
printed = paper.read_printed("accuracy")
printed = printed.query("dataset == 'malaria' and attack == 'none' and percent == 1")
printed = printed.assign(backbone=printed["backbone"].map(results.NAMES))
paper = printed.pivot(index="backbone", columns="mode", values="mean")[["supervised", "semi"]]
ours = table.groupby("backbone").agg(["mean", "std"])
ours.columns = [f"ours, {results.MEASURES[measure]}: {what}" for measure, what in ours.columns]
paper.add_prefix("published ").join(ours).assign(n=table.groupby("backbone").size()).round(1)

# %% [markdown]
# **Answer.** It depends on the backbone, and statistics are not all of it. For Fashion-MNIST at 1 %
# most of the published +69.6 points is repaired without a single unlabelled image; under attack 47
# of 59.2. For malaria MobileNetV2 as trained predicts one class for everything; re-estimated it
# gains 8 to 12 points, far less than the published siamese network has. InceptionV3's baseline is
# far above chance here, 90 %, and 94 % re-estimated, where the paper has 60 and 92 % *with*
# unlabelled images. And ResNet50V2 knows every labelled image, stays at chance and is not repaired,
# so there a gain of some 30 points may be one of learning. The last two are one labelled set each,
# and their images are fewer and more alike than the paper's. Over all published gains there is a
# pattern, gains where much is left, but a pattern is no proof: few labels leave much *and* make
# unlabelled images worth more.

# %% [markdown]
# ## 3. Is it the task, the images or the updates?
#
# From the supervised baseline to the siamese network three things change. One at a time: as many
# updates on the labelled images alone (*equal updates*); the unlabelled images pass the encoder,
# but without a task, so that only batch normalisation sees them (*no task*); the rotation task.

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.1))
rows = ["supervised", "equal updates", "no task", "rotation"]
figures.dots(ax, percent.loc[rows, ["as trained", "re-estimated"]])
ax.set_title(f"live: {dataset}, {label_fraction:.0%} labelled, one labelled set", pad=22)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
print(live.loc[rows, "updates"].astype(int).to_string())

# %% [markdown]
# The four differ by a few points on one labelled set of 55 digits, which another set can turn
# round. What unlabelled images bring is the gain over the second row, not over the first.
#
# ### Recorded: MobileNetV2 on Fashion-MNIST, reduced
#
# 32 pixels, 2,000 unlabelled images, 100 labels, momentum 0.99, three labelled sets
# (`params/studies/audit_controls.yaml`). The supervised baseline has the paper's 100 epochs, the
# siamese network 320 updates, about a ninetieth of the paper's. In percent, mean and standard
# deviation over the labelled sets:

# %%
controls = read_controls(recorded / "audit_controls")
steps = ["supervised", "equal-updates", "no-task", "rotation"]
chosen = controls.loc[steps, ["updates", "as trained", "re-estimated"]]
chosen.groupby("control", sort=False).agg(["mean", "std"]).drop(columns=("updates", "std")).round(1)

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

# %%
table = pd.concat({m: t[["mean", "low", "high"]] for m, t in changes.items()}, axis=1)
table.astype(float).round(1)

# %%
# NBVAL_CHECK_OUTPUT
for measure, of in changes.items():
    told = of.index[(of["low"] > 0) | (of["high"] < 0)]
    print(f"{measure}, told from zero: {', '.join(told) or 'none'}")

# %% [markdown]
# **Answer.** At this scale, statistics first. As trained the siamese network leads the baseline by
# 34 points (26 to 42), and most of them, 28 (24 to 31), are there with unlabelled images that pass
# the encoder *without any task*, over a baseline with equal updates: they give batch normalisation
# more updates of its averages, two a step, and other images. Re-estimated, the whole lead is 7
# points (−10 to +23), and none of its parts is told from zero; three labelled sets allow up to 20
# points for updates (and their slower decay of the learning rate), 14 for the images, 6 for the
# task. With two more labelled sets the whole lead is again 7 points, its interval −0.1 to 14
# ([06_results](06_results.ipynb)).

# %% [markdown]
# ## 4. Where does the attack act?
#
# Both modes, attacked. The SVM is fitted on the attacked images, as in the paper, and for
# comparison on the same images without their marks (*clean fit*); the encoder stays the attacked
# one.

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.4))
rows = ["supervised", "supervised, marked", "rotation", "semi, marked", "marked at random"]
figures.dots(ax, percent.loc[rows, ["as trained", "clean fit"]])
ax.set_title(f"live: {dataset}, {label_fraction:.0%} labelled, one labelled set", pad=22)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
cost = live.loc["supervised", "as trained"] - live["as trained"]
assert cost["supervised, marked"] > 0.05 > cost["marked at random"]
marked = live.loc[["supervised, marked", "semi, marked"]]
assert (marked["clean fit"] > marked["as trained"]).all()
print("a mark that names the class costs over five points, one at random places does not")
print("an SVM fitted on clean images gets part of it back")

# %% [markdown]
# On these digits it is not the damage to the image that hurts but what the mark says, and the
# siamese network loses more than the baseline. Part of the loss is in the SVM, which was shown
# marks that test images do not carry; the rest is in the encoder.
#
# ### The mark as a trigger
#
# Put class $c$'s mark on test images of other classes. Of those not taken for $c$ before, which
# share is now?

# %%
rows += ["marked, median"]
percent.loc[rows, ["trigger"]]

# %%
# NBVAL_CHECK_OUTPUT
triggers = live["trigger"]
assert triggers[["supervised, marked", "semi, marked"]].min() > 0.15
assert triggers[["supervised", "rotation", "marked at random", "marked, median"]].max() < 0.05
print("trained on marks: over 15 % follow one; otherwise, or behind a median filter, under 5 %")

# %% [markdown]
# The networks learnt the marks, in both modes: one pixel moves about a third of the images to
# another class. A median filter over the labelled images takes the mark away, and with it the
# trigger. It blurs the images too.
#
# ### Recorded: at the paper's own scale
#
# The baseline of section 1, attacked, with momentum 0.99 so that the trigger meets a network that
# sees (one with constant embeddings predicts one class, trigger or not). Per class, the share of
# test images of other classes that its mark turns to it:

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
# The attack costs much, and yet only one class's mark is a strong trigger; four are all but
# ignored. A network can be spoilt by marks that it does not obey. The other two networks of
# section 1, with the same marks at the same places, one labelled set each:

# %%
marked = others[others["attack"] == "pixel"]
by_class = pd.DataFrame([[row["flipped"] for row in rows] for rows in marked["trigger"]])
by_class = 100 * by_class.set_axis(marked["class_names"].iloc[0], axis=1)
by_class.set_index(marked["backbone"].map(results.NAMES)).round(1).T

# %% [markdown]
# InceptionV3 learnt the marks: four of them turn over half of the images. ResNet50V2 learnt none
# that test images follow, and the attack costs it nothing. Why the two differ is open.
#
# ### Recorded: kinds of attack, and defences
#
# The reduced study of section 3 again. The siamese network is `rotation`, and `marked-semi` under
# the paper's attack; others differ from it in one thing:
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
columns = ["as trained", "re-estimated", "clean fit", "trigger"]
controls.loc[kinds, columns].groupby("control", sort=False).agg(["mean", "std"]).round(1)

# %%
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

# %% [markdown]
# **Answer.** At this scale the attack shows no effect, so robustness is not tested: re-estimated, a
# mark in every labelled image of a class costs the siamese network 0.2 points (−4 to +5), its
# trigger moves 2 % of the images, and there is nothing for a defence to mend. Only four pixels a
# class, placed likewise, cost some (8 points, 4 to 11; one of twelve differences here, not
# corrected for that). At the paper's scale (more pixels, labels and updates) it costs supervised
# MobileNetV2 and InceptionV3 much: part of the loss is in the SVM, which a clean fit gets back,
# the rest in the encoder. It costs ResNet50V2 nothing. So an attack has to be judged where the
# network learns it. No siamese network was run at that scale; but in the reduced study on malaria
# one did learn its marks, and lost 7 points (3 to 12), re-estimated, where its baseline lost none
# ([06_results](06_results.ipynb)). Whether by its updates, its images or its task is not recorded
# yet (`params/studies/audit_marks.yaml`).

# %% [markdown]
# ## 5. Which task suits which images?
#
# A pretext task is a list of transforms, and its label says which one was applied. All transforms
# of the three tasks on one image:

# %%
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
# On these digits no task stands out from the baseline with equal updates, and the jigsaw looks
# worse. One labelled set decides nothing.
#
# ### Recorded: clothes, which have an upright
#
# Fashion-MNIST as in section 3, each task against the baseline with equal updates:

# %%
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
# **Answer.** Re-estimated, no task is told from a baseline with equal updates: from −2 points (the
# jigsaw) to +5 (all four rotations), each interval holds 0. As trained every one looks like 28 to
# 36 points, the one without a task too. Malaria cells, which have no upright, are the next to ask
# (`params/studies/audit_tasks.yaml`, not recorded yet).

# %% [markdown]
# ## What would we advise someone with 600 labels today?
#
# 1. Look at the training accuracy beside the test accuracy. If the first is 1 and the second is at
#    chance, suspect the statistics before the method: re-estimate them, it takes seconds, or train
#    with a momentum of 0.99. At 600 clean labels either is worth 66 points to MobileNetV2.
# 2. Then give the labelled images as many updates as the alternative would get.
# 3. Only then try unlabelled images, first without a task, over five labelled sets or more: three
#    could not tell their gain from none.
# 4. If labels come from elsewhere, look for marks: a mean image per class shows a fixed pixel. Here
#    one pixel a class cost a network at the paper's scale 16 to 22 points of 76.
#
# ## Summary
#
# - Where we repeated a published baseline at exact chance, Fashion-MNIST with 1 %, the network had
#   learnt, behind statistics that had not caught up: most of that gain, the largest, needs no
#   unlabelled images. For malaria with 1 % it does not hold (a subset, three sets), and
#   the other chance baselines were not repeated.
# - At a reduced scale most of the gain as trained comes with unlabelled images that pass batch
#   normalisation without a task. Re-estimated, neither updates nor images nor the task is told from
#   zero.
# - In the paper's baseline setting the attack costs MobileNetV2 16 to 24 points, which the
#   published 10.0 % in both columns hides; InceptionV3 26 and ResNet50V2 none (one labelled set
#   each), where the paper has 7 and 6. Without attack these two repeat the published accuracies.
# - Live runs show how the controls work; only recorded ones, over several labelled sets, weigh
#   them. Not recorded: any siamese network at the paper's scale.
#
# Next: [08_own_images](08_own_images.ipynb).
#
# ## Exercises
#
# Predict first, then change the parameters cell and run.
#
# 1. `slow_momentum = 0.999`: what share of the start will be left, and will the repair still reach
#    the same accuracy?
# 2. `split = 1`: which of the live differences will turn round?
# 3. `label_fraction = 0.2`: what will be left of the difference that slow statistics make?
