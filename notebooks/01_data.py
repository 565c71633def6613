# %% [markdown]
# # The data
#
# **What does the method get to see: how many images, and how few of them with a label?**
#
# You will see
# 1. examples of every class, as in the paper's Figure 3, and how many images each class has,
# 2. what 1 % and 5 % of labels mean in numbers,
# 3. what resizing does to an image.

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from semisiam.cell import Cell
from semisiam.data import datasets, parts, pixels, sources
from semisiam.evidence import figures
from semisiam.method import splits

# %% [markdown]
# ## Parameters
#
# The digits come with scikit-learn, so this notebook runs at once and anywhere. Set `dataset` to
# `fashion_mnist`, `stl10` or `malaria` to see the paper's data (`semisiam data NAME` fetches them),
# or to `folder`, with `data_dir`, to see your own.

# %% tags=["parameters"]
dataset: str = "digits"  # digits, fashion_mnist, stl10, malaria or folder
data_dir: str = ""  # folder of the raw files ("": the cache)
image_size: int = 32  # height and width after resizing (px)
test_split: str = "random"  # how malaria is halved: random (paper) or patient
seed: int = 0  # seed of halves and subsets

# %%
cell = Cell.from_notebook(globals())

# %% [markdown]
# ## One structure for every data set
#
# `load` gives the same few arrays whatever the source. The first call resizes the images and keeps
# them in a cache; from then on the arrays are opened in place, not copied into memory.

# %%
settings = {"data_dir": cell.data_dir, "test_split": cell.test_split, "seed": cell.seed}
data = datasets.load(cell.dataset, cell.image_size, **settings)

# %%
# NBVAL_CHECK_OUTPUT
print("train     ", data.train.shape, data.train.dtype)
print("unlabelled", data.unlabelled.shape, "- the same array:", data.unlabelled is data.train)
print("test      ", data.test.shape)

# %% [markdown]
# `train` is the pool from which labelled sets $D_l$ are drawn, `unlabelled` is $D_u$, and `test`
# stays untouched until the very end. Only STL-10 has unlabelled images of its own; elsewhere $D_u$
# is the training set without its labels (section IV). The notes say what else a reader must know.

# %%
# NBVAL_CHECK_OUTPUT
print(*data.notes, sep="\n")

# %% [markdown]
# Nobody should have to trust a file that came over the net. Each image's original pixels are
# hashed, so repeated images are counted, within a part and across: a test image that is also a
# training image would flatter every result.

# %%
# NBVAL_CHECK_OUTPUT
print(datasets.describe_parts(data).to_string())

# %% [markdown]
# ## Examples of every class
#
# Three training images a class, drawn at random (Figure 3 of the paper).

# %%
n_shown = min(10, len(data.class_names))
rng = np.random.default_rng(cell.seed)
of_class = [np.flatnonzero(data.train_labels == c) for c in range(n_shown)]
chosen = np.stack([rng.choice(rows, 3) for rows in of_class], axis=1)

# %%
fig, ax = plt.subplots(figsize=(8, 3.1))
titles = [*data.class_names[:n_shown], *[""] * (2 * n_shown)]
figures.examples(ax, data.train[chosen.ravel()], titles, columns=n_shown)
ax.set_title(f"{data.name} at {cell.image_size} px, three training images a class")
plt.show()

# %% [markdown]
# ## How many images each class has
#
# A classifier that always gives the most frequent answer is right for that class's share of the
# test images. This chance level is the floor under every accuracy to come.

# %%
# NBVAL_CHECK_OUTPUT
counts = datasets.describe_classes(data)
print(counts.to_string())
print(f"chance level: {counts['test'].max() / counts['test'].sum():.3f}")

# %%
fig, ax = plt.subplots(figsize=(5.6, 0.8 + 0.28 * len(counts)))
figures.class_counts(ax, counts)
ax.set_title(data.name)
plt.show()

# %% [markdown]
# ## What 1 % and 5 % mean
#
# The paper labels a share of the *unlabelled* images, $N_l = 0.01\,N_u$ or $0.05\,N_u$, and rounds
# down to whole percents: of Malaria's 13,779 images 1 % is 137, and 5 % is five times that.

# %%
# NBVAL_CHECK_OUTPUT
n_unlabelled = {"stl10": 100_000, "fashion_mnist": 60_000, "malaria": 13_779}
n_unlabelled[f"this notebook: {data.name}"] = len(data.unlabelled)
sizes = pd.DataFrame({"unlabelled": n_unlabelled})
for percent in (5, 1):
    sizes[f"{percent} %"] = [splits.count_labelled(percent / 100, n) for n in sizes["unlabelled"]]
print(sizes.to_string())

# %%
fig, ax = plt.subplots(figsize=(6.5, 3))
figures.label_shares(ax, sizes)
ax.set_title("labelled images beside $D_u$")
plt.show()

# %% [markdown]
# Note what this hides. STL-10 has only 5,000 training images, so its "5 %" is *every* label there
# is: the five labelled sets of that experiment are one and the same.
#
# The labelled set is spread over the classes as evenly as the counts allow:

# %%
# NBVAL_CHECK_OUTPUT
n_labelled = splits.count_labelled(0.05, len(data.unlabelled))
labelled = splits.draw_labelled(data.train_labels, n_labelled, split=0, seed=cell.seed)
drawn = np.bincount(data.train_labels[labelled]).tolist()
print(n_labelled, "labelled images:", dict(zip(data.class_names, drawn, strict=True)))

# %% [markdown]
# ## What resizing does
#
# Begin with four pixels. Enlarging is bilinear: a new pixel is a weighted mean of its neighbours.

# %%
# NBVAL_CHECK_OUTPUT
four = np.array([[0, 255], [0, 255]], np.uint8)
print(pixels.resize(four, 4)[..., 0])

# %% [markdown]
# Nothing is added by that. Shrinking can lose what was there: of black and white columns, one
# pixel each, a mean grey is left. Averaging over all pixels that a new one covers (antialiasing)
# keeps the brightness; picking single pixels would have given all black or all white. (At the two
# edges half of the filter has nothing to cover, hence the small deviation.)

# %%
# NBVAL_CHECK_OUTPUT
columns = np.tile(np.array([0, 255], np.uint8), (32, 16))
print("before:", columns[0, :8], "... mean", columns.mean())
print("after: ", pixels.resize(columns, 8)[0, :, 0])

# %% [markdown]
# This is the whole function. Images are made square without keeping their aspect, and grey is
# repeated to three channels, because the networks expect colour.

# %%
print(inspect.getsource(pixels.resize))

# %% [markdown]
# One image at four sizes, each drawn equally large. The paper takes 28-pixel Fashion-MNIST images
# to 96 and blood cells of 40 to 394 pixels to 128.

# %%
edges = [8, 16, 32, 96]
resized = [pixels.resize(data.train[chosen[0, 0]], size) for size in edges]
fig, ax = plt.subplots(figsize=(6.5, 2.2))
figures.examples(ax, resized, [f"{size} px" for size in edges], columns=4)
ax.set_title(f"one image of {data.name}, from {cell.image_size} px to other sizes")
plt.show()

# %% [markdown]
# Size matters for the attack too: its one pixel is set after resizing, and the larger the image,
# the smaller its share.

# %%
# NBVAL_CHECK_OUTPUT
for size in (32, 96, 128):
    print(f"one pixel of {size} x {size}: {100 / size**2:.4f} % of the image")

# %% [markdown]
# ## Halves that are honest, and halves that are not
#
# Malaria has no official test set; the paper halves the images at random. But several images come
# from the same patient. Take eight images of four patients, two classes:

# %%
patients = np.array(["C1", "C1", "C2", "C2", "C3", "C3", "C4", "C4"])
labels = np.array([0, 1, 0, 1, 0, 1, 0, 1])
at_random = parts.hold_out(labels, 1 / 2, seed=0)
by_patient = parts.halve_patients(patients, labels, seed=0)

# %%
# NBVAL_CHECK_OUTPUT
for name, is_test in (("random", at_random), ("patient", by_patient)):
    print(f"{name:8} train {patients[~is_test]}  test {patients[is_test]}")

# %% [markdown]
# At random, patients are on both sides, and a network that recognises a patient's stain looks as
# if it recognised the parasite. `test_split = "patient"` keeps each patient on one side.

# %% [markdown]
# ## Reduced scale
#
# Not everyone has days of computing. A limit draws a subset, stratified and by seed, and the notes,
# which travel into every table and figure, say so.

# %%
# NBVAL_CHECK_OUTPUT
limits = {"unlabelled_limit": 300, "test_limit": 100}
small = datasets.load(cell.dataset, cell.image_size, **limits, **settings)
print(len(small.unlabelled), "unlabelled,", len(small.test), "test images")
print(*[note for note in small.notes if note not in data.notes], sep="\n")

# %% [markdown]
# ## A sixth data set
#
# A source is a function that says what identifies its images (change it when they change) and how
# to read them, and one line in `sources.SOURCES`. This one draws stripes.


# %%
def stripes(folder, halving):
    labels = np.arange(60) % 2
    across = np.random.default_rng(0).integers(0, 256, (60, 16, 1), np.uint8).repeat(16, axis=2)
    images = np.where(labels[:, None, None] == 0, across, across.transpose(0, 2, 1))
    is_test = halving.choose(labels, 1 / 3)
    rows = {"train": ~is_test, "test": is_test}
    parts = {name: sources.take(images, "stripes", labels, rows[name]) for name in rows}
    return sources.Source(f"stripes {halving}", lambda: sources.Raw(("across", "along"), parts))


sources.SOURCES["stripes"] = stripes

# %% [markdown]
# Resizing, caching, limits and descriptions now work for it. To run cells on it, put the function
# into `sources.py` and its name among the choices of `Cell.dataset`.

# %%
striped = datasets.load("stripes", 32)
fig, ax = plt.subplots(figsize=(4, 1.6))
names = [striped.class_names[label] for label in striped.train_labels[:4]]
figures.examples(ax, striped.train[:4], names, columns=4)
ax.set_title("stripes, enlarged from 16 to 32 px")
plt.show()

# %% [markdown]
# ## Summary
#
# Every data set becomes uint8 arrays of one size: a pool for the labelled set, the unlabelled
# images, a test set. Labels are few, 137 to 5,000 beside 13,779 to 100,000 images, and "5 %" of
# STL-10 is all of its labels. Random halves of Malaria share patients.
#
# Next: `02_pixel_attack` marks the labelled images.
#
# ## Exercises
#
# 1. Predict the chance level and $N_l$ at 1 % for `fashion_mnist`; then set `dataset` and look.
# 2. The digits are 8 px wide at their source. Which of the four pictures of "What resizing does"
#    will change with `image_size = 8`, and why?
# 3. For the eight images of four patients, how often does `parts.hold_out` share no patient? Guess,
#    then try the seeds 0 to 99.
