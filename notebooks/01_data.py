# %% [markdown]
# # The data
#
# Before: [00_overview](00_overview.ipynb) · Next: [02_pixel_attack](02_pixel_attack.ipynb)
#
# **What does the method get to see: how many images, and how few of them with a label?**
#
# You will see
# 1. the images themselves,
# 2. what 1 % and 5 % of labels look like,
# 3. what resizing and halving do to a data set.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba_array

from semisiam import ROOT
from semisiam.cell import Cell
from semisiam.data import datasets, parts, pixels
from semisiam.evidence import figures
from semisiam.method import splits

# %% [markdown]
# ## Parameters
#
# The digits come with scikit-learn, so this runs at once. To see the paper's data, give `dataset`
# another name (`semisiam data NAME` fetches it). For your own images, name it `folder` and set
# `data_dir`.

# %% tags=["parameters"]
dataset: str = "digits"  # digits, fashion_mnist, stl10, malaria or folder
data_dir: str = ""  # folder of the raw files ("": the cache)
image_size: int = 32  # height and width after resizing (px)
test_split: str = "random"  # how malaria is halved: random (as we read the paper) or patient
label_fraction: float = 0.05  # labelled images as a share of the unlabelled ones
split: int = 0  # which random labelled set (0-4 in the paper)
seed: int = 0  # seed of halves, subsets and labelled sets

# %%
cell = Cell.from_notebook(globals())

# %% [markdown]
# ## The paper's images
#
# Three domains ([section III-A](https://doi.org/10.1109/SIBGRAPI54419.2021.00038)), and the digits
# of these notebooks:
#
# | data set | shows | classes | pixels | training | unlabelled |
# |---|---|---|---|---|---|
# | [STL-10] | animals, vehicles | 10 | 96×96, colour | 5,000 | 100,000 |
# | [Fashion-MNIST] | clothes | 10 | 28×28, grey | 60,000 | the same |
# | [Malaria] | blood cells | 2 | 40 to 394, colour | 13,779 | the same |
# | [digits] | handwriting | 10 | 8×8, grey | 1,198 | the same |
#
# "The same": no extra images exist, so the training images are used without their labels
# (section IV).
#
# [STL-10]: https://cs.stanford.edu/~acoates/stl10/
# [Fashion-MNIST]: https://github.com/zalandoresearch/fashion-mnist
# [Malaria]: https://doi.org/10.7717/peerj.4568
# [digits]: https://scikit-learn.org/stable/datasets/toy_dataset.html#digits-dataset

# %% [markdown]
# Fashion-MNIST may be shown here: its licence allows it. The others you find behind their links.

# %%
strip = plt.imread(ROOT / "notebooks" / "fashion_mnist.png")  # 3 x 10 images of 28 x 28 pixels
clothes = [np.dstack([tile] * 3) for row in np.vsplit(strip, 3) for tile in np.hsplit(row, 10)]
kinds = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat"]
kinds += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]

# %% alt="Three grey pictures of each of ten kinds of clothes, all upright, on black."
fig, ax = plt.subplots(figsize=(8, 3.1))
figures.examples(ax, clothes, [*kinds, *[""] * 20], columns=10)
ax.set_title("Fashion-MNIST (Zalando, MIT licence): the first three training images of each class")
plt.show()

# %% [markdown]
# All stand upright. That matters: you can tell by what angle an image was turned only if you know
# how it usually stands. Blood cells have no usual way up (section V).

# %% [markdown]
# ## The same arrays for every data set
#
# [`load`](../lib/semisiam/data/datasets.py) gives the same arrays whatever the source. Its first
# call resizes the images and keeps them; later ones open them at once.

# %%
settings = {"data_dir": cell.data_dir, "test_split": cell.test_split, "seed": cell.seed}
data = datasets.load(cell.dataset, cell.image_size, **settings)
n_classes = len(data.class_names)

# %% tags=["nbval-check-output"]
for part in ("train", "unlabelled", "test"):
    print(f"{part:11}", getattr(data, part).shape, getattr(data, part).dtype)

# %% [markdown]
# Labelled sets $D_l$ are drawn from `train`; `unlabelled` is $D_u$; no network sees `test` before
# the very end.

# %%
rng = np.random.default_rng(cell.seed)
rows = [np.flatnonzero(data.train_labels == c) for c in range(min(10, n_classes))]
chosen = np.stack([rng.choice(of_class, 3) for of_class in rows], axis=1)

# %% alt="Three training images of each class, drawn at random."
fig, ax = plt.subplots(figsize=(8, 3.1))
titles = [*data.class_names[: len(rows)], *[""] * (2 * len(rows))]
figures.examples(ax, data.train[chosen.ravel()], titles, columns=len(rows))
ax.set_title(f"{data.name} at {cell.image_size} px, three training images a class")
plt.show()

# %% [markdown]
# Can you trust a data set? Every image has a fingerprint, a hash of its original pixels. So we can
# count images that repeat an earlier one (`repeats`), and test images that are also in the training
# set (`in train`; they would make every result look too good). Sizes are those before resizing.

# %% tags=["nbval-check-output"]
print(datasets.describe_parts(data).to_string())

# %% [markdown]
# How good is a classifier that always gives the most frequent answer? Every accuracy to come must
# beat this *chance level*.

# %% tags=["nbval-check-output"]
share = np.bincount(data.test_labels) / len(data.test_labels)
print(f"chance level: {share.max():.3f}, always class {data.class_names[share.argmax()]}")

# %% [markdown]
# ## What 5 % of labels look like
#
# How many labels? A share of the number of *unlabelled* images: $N_l = 0.01\,N_u$ or $0.05\,N_u$.
# They are drawn from `train`, the *pool*. Here it is, labelled images in the colour of their class.

# %%
n_labelled = splits.count_labelled(cell.label_fraction, len(data.unlabelled))
labelled = splits.draw_labelled(data.train_labels, n_labelled, split=cell.split, seed=cell.seed)
colours = to_rgba_array(figures.class_colours(n_classes))[:, :3]

# %%
step = max(1, cell.image_size // 10)
tiles = 1 - 0.15 * data.train[:1200, ::step, ::step] / 255  # pale
of_pool = labelled[labelled < len(tiles)]
tint = colours[data.train_labels[of_pool]][:, None, None]
tiles[of_pool] = tint + (1 - tint) * data.train[of_pool, ::step, ::step] / 255


# %%
def lay_mosaic(tiles, columns):
    """Lay tiles, float (N, S, S, 3), in rows of `columns`; the last row is filled up with white."""
    white = np.ones((-len(tiles) % columns, *tiles.shape[1:]))
    grid = np.concatenate([tiles, white]).reshape(-1, columns, *tiles.shape[1:])
    return np.vstack([np.hstack(row) for row in grid])


# %% alt="A mosaic of the pool; one image in twenty is coloured. Bars count them by class."
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), width_ratios=[6, 1])
left.imshow(lay_mosaic(tiles, 48))
left.set_axis_off()
left.set_title(
    f"{len(tiles):,} images of the pool; coloured: with label (one split of {data.name})"
)
right.barh(range(n_classes), np.bincount(data.train_labels[labelled]), color=colours)
right.set_yticks(range(n_classes), data.class_names, parse_math=False)  # a name may hold a $
right.invert_yaxis()
right.set(xlabel="labelled images", ylabel="class")
plt.show()

# %% [markdown]
# The coloured ones are all that a supervised network gets. The siamese network gets all images
# besides, without labels.

# %% [markdown]
# The bars are even: our labelled sets are balanced to within one image a class. The paper only says
# "random". Balanced is our choice: with 11 labels, pure chance nearly always leaves a
# class without any.

# %% [markdown]
# In numbers. 1 % of malaria's 13,779 images is 137.79. The paper rounds down to 137, and its 5 %
# is five times 137, so 685. [`count_labelled`](../lib/semisiam/method/splits.py) does the same.

# %% tags=["nbval-check-output"]
n_unlabelled = {"STL-10": 100_000, "Fashion-MNIST": 60_000, "Malaria": 13_779}
n_unlabelled[f"here: {data.name}"] = len(data.unlabelled)
sizes = pd.DataFrame({"unlabelled": n_unlabelled})
for percent in (5, 1):
    sizes[f"{percent} %"] = [splits.count_labelled(percent / 100, n) for n in sizes["unlabelled"]]
print(sizes.to_string())

# %% [markdown]
# Look at STL-10. It has 5,000 training images, so its "5 %" is *every* label there
# is: the five "random" labelled sets of that experiment are one and the same.

# %% [markdown]
# ## What resizing does
#
# Networks want all images at one size: 96 px in the paper, for malaria 128.
#
# Begin with four pixels. Enlarging is bilinear: a new pixel is a weighted mean of its neighbours.
# This adds no information.

# %% tags=["nbval-check-output"]
four = np.array([[0, 255], [0, 255]], np.uint8)
print(pixels.resize(four, 4)[..., 0])

# %% [markdown]
# Shrinking loses something. Take an image of black and white columns, each one pixel wide. What
# will it be at a quarter of the size?

# %% tags=["nbval-check-output"]
columns = np.tile(np.array([0, 255], np.uint8), (32, 16))
print("before:", columns[0, :8], "... mean", columns.mean())
print("after: ", pixels.resize(columns, 8)[0, :, 0])

# %% [markdown]
# Grey. Each new pixel is a weighted mean of the eight pixels around it in its row (and column)
# ([antialiasing](https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters)), so the
# brightness stays. (At each end, two of the eight lie outside the image, hence 118 and 137.)
# [`resize`](../lib/semisiam/data/pixels.py) is two lines of Pillow. The same digit at four sizes:

# %% alt="The same digit at 8, 16, 32 and 96 pixels: from blocks to a smooth shape."
edges = [8, 16, 32, 96]
resized = [pixels.resize(data.train[chosen[0, 0]], size) for size in edges]
fig, ax = plt.subplots(figsize=(6.5, 2.2))
figures.examples(ax, resized, [f"{size} px" for size in edges], columns=4)
ax.set_title(f"one image of {data.name}, {cell.image_size} px, resized and drawn equally large")
plt.show()

# %% [markdown]
# Size matters for the attack too. We set its one pixel *after* resizing (the paper does not say
# when): the larger the image, the smaller the pixel's share.

# %% tags=["nbval-check-output"]
for size in (32, 96, 128):
    print(f"one pixel of {size} x {size}: {100 / size**2:.4f} % of the image")

# %% [markdown]
# ## Halves that are honest, and halves that are not
#
# Malaria has no official test set. The paper takes half of the images; it does not say which half,
# so ours is random, with half of each class. But several images come from one patient. Eight images
# of four patients:

# %%
patients = np.array(["C1", "C1", "C2", "C2", "C3", "C3", "C4", "C4"])
labels = np.array([0, 1, 0, 1, 0, 1, 0, 1])
at_random = parts.hold_out(labels, 1 / 2, seed=0)
by_patient = parts.halve_patients(patients, labels, seed=0)

# %% alt="At random, patients C1 and C2 are on both sides; by patient, nobody is."
fig, ax = plt.subplots(figsize=(6.5, 1.7))
halves = np.array([at_random, by_patient])
ax.imshow(halves, cmap="Greys", vmin=-0.2, vmax=3, aspect="auto")
for row, column in np.ndindex(halves.shape):
    ax.text(column, row, "test" if halves[row, column] else "train", ha="center", va="center")
ax.set_xticks(range(8), patients)
ax.set_yticks(range(2), ["random", "by patient"])
ax.set(xlabel="patient of the image", title="two ways to halve", ylabel="halves")
plt.show()

# %% [markdown]
# In the upper row, C1 and C2 stand on both sides. If a patient's images are mostly of one class, a
# network can recognise the patient's stain instead of the parasite. `test_split = "patient"` keeps
# each patient on one side.

# %% [markdown]
# In the real set, all 200 patients have images in both random halves. By patient, a supervised
# InceptionV3 has 4.7 points less if re-estimated ([00_overview](00_overview.ipynb)) and 2.6 more as
# trained (means of five labelled sets): too little to say that it matters
# ([08_audit](08_audit.ipynb) has both).

# %% [markdown]
# ## Reduced scale
#
# Not everyone has days of computing. A limit draws a smaller set in which each class keeps its
# share. The data's `notes` say so in every report.

# %% tags=["nbval-check-output"]
limits = {"unlabelled_limit": 300, "test_limit": 100}
small = datasets.load(cell.dataset, cell.image_size, **limits, **settings)
print(len(small.unlabelled), "unlabelled,", len(small.test), "test images")
print(*small.notes, sep="\n")

# %% [markdown]
# ## Summary
#
# - Every data set becomes arrays of one size: a pool with labels, unlabelled images, a test set.
# - Labels are few, 137 to 5,000 beside 13,779 to 100,000 images. "5 %" of STL-10 is all of them.
# - Balanced labelled sets and random halves are our choices; random halves share patients.

# %% [markdown]
# ## Exercises
#
# Predict first. Solutions are in the hidden cells; click to unfold them.
#
# **1.** What are the chance level and $N_l$ at 1 % for Fashion-MNIST? Its 10,000 test images are
# shared evenly by ten classes.

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
print("chance level", 1_000 / 10_000, "- labelled images", splits.count_labelled(0.01, 60_000))

# %% [markdown]
# **2. Write it.** Shrink the black and white `columns` to a quarter without averaging: keep every
# fourth pixel. What is left of them? Why do we average instead?

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
picked = columns[::4, ::4]
print("from the first pixel: ", picked[0], "- from the second:", columns[1::4, 1::4][0])
# all black or all white: only the first column decides, since the next three are thrown away

# %% [markdown]
# **3. Write it.** Halve the eight images of four patients at random with the seeds 0 to 99. How
# many of these halves share no patient? Guess first.

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
honest = 0
for number in range(100):
    is_test = parts.hold_out(labels, 1 / 2, seed=number)
    honest += not set(patients[is_test]) & set(patients[~is_test])
print(f"{honest} of 100 random halves share no patient")
# one of six is expected (22 is within chance): each class picks two patients of four for test,
# which can be done in six ways, and both must pick the same

# %% [markdown]
# Next: [02_pixel_attack](02_pixel_attack.ipynb) marks the labelled images.
