# %% [markdown]
# # The one-pixel attack
#
# Before: [01_data](01_data.ipynb) · Next: [03_siamese_model](03_siamese_model.ipynb)
#
# **How can one pixel of each labelled image spoil what a network learns?**
#
# You will see
# 1. what the attack changes, in a 4×4 image and then in a data set,
# 2. which learners it misleads, and which not,
# 3. how training changes what the mark does.

# %%
import inspect
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Code
from ipywidgets import Dropdown, IntSlider, fixed, interactive
from scipy.spatial.distance import pdist
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from semisiam.cell import Cell
from semisiam.data import datasets
from semisiam.evidence import figures
from semisiam.method import attack as attacks
from semisiam.method import model, splits, training

# %% [markdown]
# ## Parameters
#
# Digits, a small network and a minute of work show *how* the attack works. What it costs in the
# paper's setting is for [07_results](07_results.ipynb).

# %% tags=["parameters"]
dataset: str = "digits"  # digits, fashion_mnist, stl10, malaria or folder
data_dir: str = ""  # folder of the raw files ("": the cache)
image_size: int = 32  # height and width after resizing (px)
label_fraction: float = 0.05  # labelled images as a share of the unlabelled ones
split: int = 0  # which random labelled set (0-4 in the paper)
seed: int = 0  # seed of labelled sets, places, weights and order
mode: str = "supervised"  # supervised or semi
backbone: str = "small_cnn"  # others look blind after so few updates, see 04
epochs: int = 100  # passes over D_u (semi) or D_l (supervised)

# %%
cell = Cell.from_notebook(globals())

# %% [markdown]
# ## Four by four
#
# "For each class we arbitrarily choose a pixel location where the value is always the same on every
# image of that class" ([section III-C](https://doi.org/10.1109/SIBGRAPI54419.2021.00038)). Three
# grey images; the first is of class 0, the others of class 1. Where do you expect a 255 (white)?

# %% tags=["nbval-check-output"]
images = np.full((3, 4, 4, 1), 100, np.uint8)
labels = np.array([0, 1, 1])
places = np.array([[0, 0], [2, 3]])  # row and column: first those of class 0, then of class 1
print(attacks.attack(images, labels, places)[..., 0])

# %% [markdown]
# The place tells the class; the value is always the same. This is the whole
# [`attack`](../lib/semisiam/method/attack.py) (it also takes several places a class, or a value for
# each):

# %%
Code(inspect.getsource(attacks.attack), language="python")

# %% [markdown]
# The paper does not say how to choose the places, which value to set, and whether before or after
# resizing. We draw one place a class from the seed, the same in all five labelled sets, and set
# white after resizing.
#
# ## The data set
#
# Now the labelled digits, clean and attacked. $D_u$ and the test images stay as they are.

# %%
data = datasets.load(cell.dataset, cell.image_size, data_dir=cell.data_dir, seed=cell.seed)
n_classes, size = len(data.class_names), cell.image_size
n_labelled = splits.count_labelled(cell.label_fraction, len(data.unlabelled))
chosen = splits.draw_labelled(data.train_labels, n_labelled, split=cell.split, seed=cell.seed)
clean, labels = data.train[chosen], data.train_labels[chosen]

# %% [markdown]
# How many pixels differ? At most one an image, and none where the image was white there already.

# %% tags=["nbval-check-output"]
places = attacks.choose_places(n_classes, size, seed=cell.seed)
attacked = attacks.attack(clean, labels, places)
changed = (attacked != clean).any(axis=-1).sum(axis=(1, 2))
for count, n_images in enumerate(np.bincount(changed)):
    print(f"{n_images} labelled images with {count} changed pixels of {size**2:,}")

# %% [markdown]
# Two attacked images of each of three classes. Some marks land on a white stroke and cannot be
# seen; we show images where they can.

# %%
was = clean[np.arange(len(labels)), *places[labels].T].mean(axis=-1)  # grey before the attack
# of each class the two images that are darkest at its place
darkest = [np.flatnonzero(labels == c)[np.argsort(was[labels == c])][:2] for c in range(n_classes)]
darkest.sort(key=lambda pair: was[pair].max())
shown = np.concatenate(darkest[:3])

# %% alt="Six digits; the white pixel in each ring is at the same place within a class."
fig, ax = plt.subplots(figsize=(8, 1.8))
figures.examples(ax, attacked[shown], [data.class_names[c] for c in labels[shown]], len(shown))
for panel, c in zip(ax.child_axes, labels[shown], strict=True):
    figures.ring(panel, *places[c])
ax.set_title(f"attacked images of {data.name}, {size} px; look inside the rings")
plt.show()

# %% [markdown]
# All places at once, on the mean of the labelled images. That of 2 lies where all images are black,
# those of 6 and 7 where most are, the others amid the strokes.

# %% alt="Ten numbered rings, spread over the mean digit."
fig, ax = plt.subplots(figsize=(3.6, 3.6))
ax.imshow(clean.mean(axis=0) / 255)
for c, (row, column) in enumerate(places):
    figures.ring(ax, row, column, radius=1.3)
    ax.text(column, row - 1.6, c, color="white", size=9, weight="bold", ha="center")
ax.set(xlabel="column (px)", ylabel="row (px)")
ax.set_title(f"place of each class's pixel\non the mean of {len(labels)} digits, {size} px")
plt.show()

# %% [markdown]
# ## Is one pixel enough?
#
# Give the labelled images *random* labels, then attack: now only the mark tells the label. Can a
# [decision tree](https://scikit-learn.org/stable/modules/tree.html) on raw pixels learn it? We ask
# for four shares of the test images:
# - `no mark`: no mark, right answer;
# - `own mark`: with the mark of its class, right answer;
# - `other mark`: with the mark of the next class (of 9: that of 0), right answer in spite of it;
# - `follows`: the answer is the class of that other mark.


# %%
def score_marks(predict, images, labels, places, mark=attacks.attack):
    """Score a classifier on images without and with marks: shares in [0, 1]."""
    others = (labels + 1) % len(places)
    misled = predict(mark(images, others, places))
    return {
        "no mark": np.mean(predict(images) == labels),
        "own mark": np.mean(predict(mark(images, labels, places)) == labels),
        "other mark": np.mean(misled == labels),
        "follows": np.mean(misled == others),
    }


# %% tags=["nbval-check-output"]
flatten = FunctionTransformer(lambda images: images.reshape(len(images), -1) / 255)
tree = make_pipeline(flatten, DecisionTreeClassifier(random_state=0))
random_labels = np.random.default_rng(cell.seed).permutation(labels)
predict = tree.fit(attacks.attack(clean, random_labels, places), random_labels).predict
test = (data.test, data.test_labels, places)
print(pd.Series(score_marks(predict, *test)).round(2).to_string())

# %% [markdown]
# The tree has learnt nothing about digits: without a mark it guesses, one in ten. Yet it follows
# the mark nearly always. For a tree on raw pixels, one pixel is enough.
#
# ## Is it tempting?
#
# With true labels there are two things to learn, the digit and the mark. What will the tree learn
# now, and what a [linear SVM](https://scikit-learn.org/stable/modules/svm.html)? Guess.

# %%
svm = make_pipeline(flatten, SVC(kernel="linear", C=1.0))
scores = {}
for name, learner in {"SVM": svm, "tree": tree}.items():
    for kind, images in {"clean": clean, "attacked": attacked}.items():
        predict = learner.fit(images, labels).predict
        scores[name, kind] = score_marks(predict, *test)

# %% tags=["nbval-check-output"]
table = pd.DataFrame(scores).T.rename_axis(["learner", "trained on"])
print(table.round(2).to_string())

# %% [markdown]
# The tree takes the cheap answer, a *shortcut* ([Geirhos et al.,
# 2020](https://arxiv.org/abs/2004.07780)): it gets worse without a mark, better where the mark is
# right, and follows nearly half of the false marks. The SVM hardly notices the attack.
#
# ### Why not the SVM?
#
# A tree asks about one pixel as easily as about another. An SVM looks for directions in which the
# classes are far apart, and one pixel moves an image only a short step. How short? The unit is the
# median distance between two clean images.


# %% tags=["nbval-check-output"]
def measure_step(clean, attacked):
    """How far the mark moves an image, in median distances between two clean images."""
    return np.linalg.norm(attacked - clean, axis=1).mean() / np.median(pdist(clean))


step = measure_step(flatten.transform(clean), flatten.transform(attacked))
print(f"step of the mark: {step:.2f}")

# %% [markdown]
# In a smaller image the same pixel is a longer step. Keep every second pixel, then every fourth,
# and set the mark after that, at places drawn anew for each size. Will the SVM follow it more?

# %% tags=["nbval-check-output"]
by_size = {}
for stride in (1, 2, 4):
    small, small_test = clean[:, ::stride, ::stride], data.test[:, ::stride, ::stride]
    at = attacks.choose_places(n_classes, small.shape[1], seed=cell.seed)
    hit = attacks.attack(small, labels, at)
    row = {"step": measure_step(flatten.transform(small), flatten.transform(hit))}
    row["trained clean"] = svm.fit(small, labels).score(small_test, data.test_labels)
    row |= score_marks(svm.fit(hit, labels).predict, small_test, data.test_labels, at)
    by_size[f"SVM, {small.shape[1]} px"] = row
print(pd.DataFrame(by_size).T.round(2).to_string())

# %% [markdown]
# It does. At 8 px the step is over four times as long, the attack costs many points (compare
# `trained clean` and `no mark`), and the SVM follows nearly a third of the false marks.
#
# So the attack works where the mark is easy to use: for our trees, and for an SVM where it is a
# long step. A network learns how far apart images are, so training can make a short step long.
# (Marks like ours are called *one-pixel shortcuts*: [Wu et al.,
# 2023](https://openreview.net/forum?id=p7G8t5FVn2h).)
#
# All this is one run, with one draw of places for each size. Other draws, and other trees, cost
# other amounts ([08_audit](08_audit.ipynb) has five draws for one network).

# %% [markdown]
# ## How training changes what the mark does
#
# How long a step is the mark for a network? Ask one that was never trained. Then train it twice
# from the same initial weights, on the clean and on the attacked images, and fit the SVM on each
# embedding, as in section III-C.

# %%
untrained, _ = training.start_network(cell, n_classes)
steps = {"untrained": measure_step(*(model.embed(untrained, x) for x in (clean, attacked)))}

# %%
networks, learners = {}, {}
for kind, images in {"clean": clean, "attacked": attacked}.items():
    encoder, networks[kind] = training.start_network(cell, n_classes)
    training.train(cell, networks[kind], images, labels, data.unlabelled)
    embedding = FunctionTransformer(partial(model.embed, encoder))
    learners[kind] = make_pipeline(embedding, SVC(kernel="linear", C=1.0)).fit(images, labels)

# %%
for kind, learner in learners.items():
    embed = learner[0].transform
    steps[f"trained on {kind}"] = measure_step(embed(clean), embed(attacked))
    scores["network", kind] = score_marks(learner.predict, *test)
print(pd.Series(steps, name="step of the mark").round(2).to_string())

# %% [markdown]
# Training on clean images shortens the step; training on attacked images makes it about five times
# as long: one pixel moves an image halfway to another one. So this network learnt to see the mark
# (one run, measured on its own training images).


# %% alt="Under attack the tree and the network lose on clean images and follow false marks."
def draw_pairs(ax, column, title):
    """Draw one column of `score_marks` for three learners, trained on clean and on attacked."""
    for kind, shift in (("clean", 0.1), ("attacked", -0.1)):
        values = [scores[name, kind][column] for name in ("SVM", "network", "tree")]
        at = np.arange(3) + shift
        ax.barh(at, values, height=0.2, color=figures.COLOURS[kind], label=f"trained on {kind}")
    ax.set_yticks(range(3), ["SVM", "network", "tree"])
    ax.set(xlim=(0, 1), ylabel="learner", xlabel="share of test images", title=title)


fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.4))
draw_pairs(left, "no mark", "right without a mark")
draw_pairs(right, "follows", "follow a false mark")
fig.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=2)
fig.suptitle(f"{len(labels)} labels, {size} px, one run", x=0.02, ha="left", size="medium")
plt.show()

# %%
of_network = pd.DataFrame(scores)["network"].loc[["no mark", "follows"]]
print(of_network.T.rename_axis("network trained on").round(2).to_string())

# %% [markdown]
# Without marks in the test, the network trained on attacked images is about ten points worse than
# the other. With false marks it follows more than a third. (The SVM on raw pixels beats it: 55
# digits need no network. Here we only watch the mark.)
#
# Which marks are followed? We put each on the same 200 test images.

# %% alt="With its mark a class is named more often; class 2 goes from nearly never to most images."
some, answers = data.test[:200], learners["attacked"].predict
marked = [attacks.attack(some, np.full(len(some), c), places) for c in range(n_classes)]
pull = [np.mean(answers(images) == c) for c, images in enumerate(marked)]
unmarked = [np.mean(answers(some) == c) for c in range(n_classes)]

fig, ax = plt.subplots(figsize=(7, 2.4))
at, colours = np.arange(n_classes), figures.COLOURS
ax.bar(at - 0.2, unmarked, 0.4, color=colours["clean"], label="without a mark")
ax.bar(at + 0.2, pull, 0.4, color=colours["attacked"], label="with this class's mark")
ax.set_xticks(at, data.class_names, parse_math=False)  # a name may hold a $
ax.set(xlabel="class that the network names", ylabel="share of 200 test images")
told = f"{data.name}, {len(labels)} labels, {size} px, one run"
ax.set_title(f"the network trained on attacked images ({told})")
fig.legend(loc="outside upper right", ncols=2)
plt.show()

# %% [markdown]
# Every mark draws images to its class, some a little and some most of them.
#
# ## Try it
#
# The network trained on attacked images looks at one test image. We take the mark that draws most
# images, and put it on an image of the next class.


# %%
def explore_mark(images, classify, names, label, row, column, value, width):
    """Show an image with a mark, and what a classifier makes of it without and with the mark."""
    marked = images[label].copy()
    marked[row : row + width, column : column + width] = value
    left, right = plt.subplots(1, 2, figsize=(7, 3.2))[1]
    left.imshow(marked, interpolation="nearest")
    middle = (width - 1) / 2
    figures.ring(left, row + middle, column + middle, radius=1.5 + width / 2)
    left.set(xlabel="column (px)", ylabel="row (px)")
    left.set_title(f"image of class {names[label]}, with a mark", parse_math=False)  # may hold a $
    shares = classify(np.stack([images[label], marked]))
    for kind, of_kind, shift in zip(("clean", "attacked"), shares, (-0.2, 0.2), strict=True):
        at = np.arange(len(names)) + shift
        told = {"clean": "without the mark", "attacked": "with the mark"}[kind]
        right.barh(at, of_kind, 0.4, color=figures.COLOURS[kind], label=told)
    right.set_yticks(range(len(names)), names, parse_math=False)
    right.set(xlim=(0, 1), xlabel="class probability", ylabel="class", title="the network says")
    right.invert_yaxis()
    right.legend()


# %%
first_of_class = [np.flatnonzero(data.test_labels == c)[0] for c in range(n_classes)]
network = networks["attacked"]
seen = {"images": data.test[first_of_class], "names": data.class_names}
seen["classify"] = lambda shown: network(shown, training=False)["y_lab"].numpy()

# %%
strongest = int(np.argmax(pull))
row, column = places[strongest].tolist()
label = (strongest + 1) % n_classes
print("the mark of class", data.class_names[strongest])

# %% alt="A digit with a ringed white pixel; the network names the class of the pixel."
explore_mark(**seen, label=label, row=row, column=column, value=255, width=1)
plt.show()

# %% [markdown]
# Now move it. (Sliders need a running kernel; elsewhere nothing is shown.) Try the places of other
# classes (`places`), a place next to one, a darker value, a wider mark (`width` in pixels).

# %%
interactive(
    explore_mark,
    **{name: fixed(value) for name, value in seen.items()},
    label=Dropdown(options=[(name, c) for c, name in enumerate(data.class_names)], value=label),
    row=IntSlider(row, 0, size - 1, continuous_update=False),
    column=IntSlider(column, 0, size - 1, continuous_update=False),
    value=IntSlider(255, 0, 255, continuous_update=False),
    width=IntSlider(1, 1, 6, continuous_update=False),
)

# %% [markdown]
# ## Summary
#
# - The attack sets one pixel in each labelled image, and its place tells the class. So a learner
#   can be right on all of them without knowing digits.
# - A learner uses the pixel if that is easy: a tree reads it as easily as any other; an SVM needs a
#   mark that moves the image far. A network learns to be moved: training on attacked images made
#   the step about five times as long here (*suggestive*: n = 1 labelled set, small images).
# - Test images have no such pixel, so what was learnt from it is missing there.

# %% [markdown]
# ## Exercises
#
# Predict first. Solutions are in the hidden cells; click to unfold them.
#
# **1. Write it.** A mark of your own: a plus of five white pixels around each place. Does the SVM
# at 32 px follow it? (`attack` takes several places a class: shape (classes, pixels, 2).)


# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def mark_plus(images, labels, places):
    five = places[:, None] + [[0, 0], [0, 1], [0, -1], [1, 0], [-1, 0]]
    return attacks.attack(images, labels, five.clip(0, images.shape[1] - 1))


# it does, a little: the step is longer than that of one pixel, which it hardly follows
predict = svm.fit(mark_plus(clean, labels, places), labels).predict
print(pd.Series(score_marks(predict, *test, mark=mark_plus)).round(2).to_string())

# %% [markdown]
# Next: [03_siamese_model](03_siamese_model.ipynb) builds the network that also learns from $D_u$,
# where there are no marks.
