# %% [markdown]
# # The one-pixel attack
#
# **How can one pixel of each labelled image spoil what a network learns?**
#
# You will see
# 1. what the attack changes, in a 4 × 4 image and then in a data set, as in the paper's Figure 4,
# 2. why one pixel is enough, and which learners fall for it,
# 3. what a network that averages over all places can still see of a place.

# %%
import inspect
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Code
from ipywidgets import Dropdown, IntSlider, fixed, interactive
from scipy.spatial.distance import cdist, pdist
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from semisiam.cell import Cell
from semisiam.data import datasets
from semisiam.evidence import figures
from semisiam.method import attack as attacks
from semisiam.method import evaluation, model, splits, training

# %% [markdown]
# ## Parameters
#
# The defaults are digits, a small network and a minute of work. They show how the attack works;
# how much it costs in the paper's setting is for `06_results`.

# %% tags=["parameters"]
dataset: str = "digits"  # digits, fashion_mnist, stl10, malaria or folder
data_dir: str = ""  # folder of the raw files ("": the cache)
image_size: int = 32  # height and width after resizing (px)
label_fraction: float = 0.05  # labelled images as a share of the unlabelled ones
split: int = 0  # which random labelled set (0-4 in the paper)
seed: int = 0  # seed of labelled sets, places, weights and order
mode: str = "supervised"  # supervised or semi
backbone: str = "small_cnn"  # small_cnn, mobilenet_v2, inception_v3 or resnet50_v2
epochs: int = 100  # passes over D_u (semi) or D_l (supervised)

# %%
cell = Cell.from_notebook(globals())

# %% [markdown]
# ## Four by four
#
# The paper's attack in one sentence: "For each class we arbitrarily choose a pixel location where
# the value is always the same on every image of that class" (section III-C). Take three grey
# images, 4 × 4 pixels each. The first is of class 0, the other two are of class 1.

# %%
images = np.full((3, 4, 4, 1), 100, np.uint8)
labels = np.array([0, 1, 1])
places = np.array([[0, 0], [2, 3]])  # row and column: first those of class 0, then of class 1

# %% [markdown]
# Expect one 255 (white) in each image: top left in the first, at row 2 and column 3 in the others.

# %%
# NBVAL_CHECK_OUTPUT
print(attacks.attack(images, labels, places)[..., 0])

# %% [markdown]
# The place says the class, and it says nothing else: the two images of class 1 got the same mark.
# This is the whole attack.

# %%
Code(inspect.getsource(attacks.attack), language="python")

# %% [markdown]
# "Arbitrarily" is drawn from the seed here: uniformly over the image, a place of its own for each
# class. Below, places in 4 × 4 images for three classes.

# %%
# NBVAL_CHECK_OUTPUT
print(attacks.choose_places(3, 4, seed=cell.seed))

# %% [markdown]
# The paper does not say which value, nor whether the pixel is set before or after resizing. We
# take white, in all three channels, after resizing, so that the mark is one pixel of what the
# network gets. Places depend on the seed alone, not on the split: five labelled sets, one attack.

# %% [markdown]
# ## The data set
#
# Now the same with real images: the labelled set $D_l$, clean and attacked. The attack leaves
# $D_u$ and the test images as they are, even where $D_u$ holds the same images.

# %%
data = datasets.load(cell.dataset, cell.image_size, data_dir=cell.data_dir, seed=cell.seed)
n_classes = len(data.class_names)
n_labelled = splits.count_labelled(cell.label_fraction, len(data.unlabelled))
chosen = splits.draw_labelled(data.train_labels, n_labelled, split=cell.split, seed=cell.seed)
clean, labels = data.train[chosen], data.train_labels[chosen]

# %%
places = attacks.choose_places(n_classes, cell.image_size, seed=cell.seed)
attacked = attacks.attack(clean, labels, places)

# %% [markdown]
# How many pixels differ? At most one an image, and none where the image was white there already.

# %%
# NBVAL_CHECK_OUTPUT
changed = (attacked != clean).any(axis=-1).sum(axis=(1, 2))
for count, n_images in enumerate(np.bincount(changed)):
    print(f"{n_images} labelled images with {count} changed pixels of {cell.image_size**2:,}")

# %% [markdown]
# ### Figure 4, rebuilt
#
# Two attacked images of each of three classes. Look inside the rings: within a class the white
# pixel is always at the same place.

# %%
shown = np.concatenate([np.flatnonzero(labels == c)[:2] for c in range(min(3, n_classes))])
names = [data.class_names[c] for c in labels[shown]]
fig, ax = plt.subplots(figsize=(8, 1.8))
figures.examples(ax, attacked[shown], names, columns=len(shown))
for panel, c in zip(ax.child_axes, labels[shown], strict=True):
    figures.ring(panel, *places[c])
ax.set_title(f"attacked images of {data.name}, {cell.image_size} px")
plt.show()

# %% [markdown]
# All places at once, on the mean of the labelled images. Some lie where every image is black,
# others amid the strokes, where another class can be white too.

# %%
fig, ax = plt.subplots(figsize=(3.6, 3.6))
ax.imshow(clean.mean(axis=0) / 255)
for c, (row, column) in enumerate(places):
    ax.text(column, row, c, color="white", weight="bold", ha="center", va="center")
ax.set(xlabel="column (px)", ylabel="row (px)", title="place of each class's pixel")
plt.show()

# %% [markdown]
# ## Is one pixel enough?
#
# First take everything else away. Give the labelled images random labels, and then attack: now
# nothing tells the label but the mark. A decision tree on raw pixels asks about one pixel at a
# time, so it should find the mark.

# %%
rows = FunctionTransformer(lambda images: images.reshape(len(images), -1) / 255)
tree = make_pipeline(rows, DecisionTreeClassifier(random_state=0))
random_labels = np.random.default_rng(cell.seed).permutation(labels)
predict = tree.fit(attacks.attack(clean, random_labels, places), random_labels).predict
# %% [markdown]
# We test it on test images as they are (`clean`), with the mark of their own class, and with the
# mark of another class. The first three numbers are accuracies; `drawn` is the share of the last
# kind that is taken for the class of the mark.

# %%
# NBVAL_CHECK_OUTPUT
test = (data.test, data.test_labels, places)
pd.Series(evaluation.score_marks(predict, *test)).round(2)

# %% [markdown]
# The tree has learnt nothing about digits: on clean images it guesses, one in ten. Yet it names
# the class of a mark nearly always. One pixel is enough.

# %% [markdown]
# ## Is it tempting?
#
# With true labels there are two things to learn, the digit and the mark. Which one is learnt? We
# ask the tree and the linear SVM of section III-C, on raw pixels, trained on clean and on attacked
# images.

# %%
svm = make_pipeline(rows, SVC(kernel="linear", C=1.0))
scores = {}
for name, learner in {"SVM": svm, "tree": tree}.items():
    for kind, images in {"clean": clean, "attacked": attacked}.items():
        predict = learner.fit(images, labels).predict
        scores[f"{name}, trained on {kind}"] = evaluation.score_marks(predict, *test)

# %%
table = pd.DataFrame(scores).T
table.round(2)

# %% [markdown]
# The tree takes the shortcut: trained under attack it is worse on clean images, better where the
# mark agrees, worst where the mark lies, and the lying mark draws nearly half of the images. The
# SVM hardly notices the attack. The mark is there for both; they differ in what comes cheap.

# %%
# NBVAL_CHECK_OUTPUT
print("draws more than a quarter of the images:", *table.index[table["drawn"] > 0.25])

# %% [markdown]
# ### What comes cheap
#
# A tree pays the same for every question. The SVM looks for directions along which the classes lie
# far apart, and one pixel moves an image only a short step. How short, in distances between images?

# %%
# NBVAL_CHECK_OUTPUT
moved = evaluation.measure_mark(rows.transform(clean), rows.transform(attacked))
print(f"the mark moves an image by {moved:.2f} of the median distance between two images")

# %% [markdown]
# In a smaller image the same pixel is a longer `step`. Keep every second pixel, then every fourth,
# and set the mark after that: the SVM should lean on it more and more. (`no attack` is its accuracy
# when trained and tested on clean images; the other four columns are as above, under attack.)

# %%
by_size = {}
for step in (1, 2, 4):
    small, small_test = clean[:, ::step, ::step], data.test[:, ::step, ::step]
    at = attacks.choose_places(n_classes, small.shape[1], seed=cell.seed)
    hit = attacks.attack(small, labels, at)
    row = {"step": evaluation.measure_mark(rows.transform(small), rows.transform(hit))}
    row["no attack"] = svm.fit(small, labels).score(small_test, data.test_labels)
    row |= evaluation.score_marks(svm.fit(hit, labels).predict, small_test, data.test_labels, at)
    by_size[f"SVM, {small.shape[1]} px"] = row

# %%
pd.DataFrame(by_size).T.round(2)

# %% [markdown]
# It does. At 8 pixels the step is four times as long, the attack costs many points on clean images
# (`no attack` against `clean`), and a lying mark draws nearly a third. So it is not the images
# alone that decide: the attack works on learners for which the mark is a long step. Networks learn
# their own distances, and can make any step long. (Wu et al., ICLR 2023, call such marks one-pixel
# shortcuts.)

# %% [markdown]
# ## What can a network see of a place?
#
# The encoders of the paper end in convolutions; we average their last feature maps over all places
# (global average pooling). What does that leave of a place? Four by four again: one white pixel on
# black at each of the 16 places, averaged.

# %%
# NBVAL_CHECK_OUTPUT
everywhere = np.indices((4, 4)).reshape(2, -1).T
sixteen = attacks.attack(np.zeros((16, 4, 4, 1), np.uint8), np.arange(16), everywhere)
print("means of the sixteen images:", np.unique(sixteen.mean(axis=(1, 2))))

# %% [markdown]
# Sixteen images, one mean: the place is gone. Convolutions do the same everywhere, so that their
# feature maps move along with the mark, and a mean over places would not change. Such a network
# could know *that* there is a mark and never *where*; the attack, which says everything by the
# place, would be void. Let us ask an untrained encoder.

# %%
training.seed_everything([cell.seed, cell.split], deterministic=cell.deterministic)
encoder = model.build_encoder(cell.backbone, cell.image_size)
size = cell.image_size
stride = size // encoder.get_layer("pool").input.shape[1]
print(f"{size} px, last feature map {size // stride} x {size // stride}: one place per {stride} px")

# %% [markdown]
# One black image for each place of the mark, 1,024 in all, and one without a mark.

# %%
everywhere = np.indices((size, size)).reshape(2, -1).T
black = np.zeros((size**2, size, size, 3), np.uint8)
marked = attacks.attack(black, np.arange(size**2), everywhere)
embeddings = model.embed(encoder, marked).reshape(size, size, -1)
unmarked = model.embed(encoder, black[:1])[0]

# %% [markdown]
# How far is each embedding from the one with the mark in the middle? The unit is what the mark in
# the middle does at all, its `effect`. A network that sees no place would give a white square.

# %%
middle = size // 2
effect = np.linalg.norm(embeddings - unmarked, axis=-1)
distance = np.linalg.norm(embeddings - embeddings[middle, middle], axis=-1) / effect[middle, middle]

# %%
fig, ax = plt.subplots(figsize=(4.6, 3.6))
fig.colorbar(ax.imshow(distance, vmin=0), label="distance, in effects of the mark")
ax.set(xlabel="column of the mark (px)", ylabel="row of the mark (px)")
ax.set_title(f"untrained {cell.backbone}: from the mark at ({middle}, {middle})")
plt.show()

# %% [markdown]
# Most places are as far from the middle as a mark from no mark, about 1: the encoder sees where the
# mark is. But there is a lattice of white squares, 8 pixels apart, at which the mark looks the same
# as in the middle. Three convolutions with stride 2 each skip every second place, so a shift by
# $2^3 = 8$ pixels moves the last feature map by exactly one, and the mean forgets that.
#
# Near the border the lattice fades. Where does it hold?

# %%
# NBVAL_CHECK_OUTPUT
shift = np.linalg.norm(embeddings[stride:, stride:] - embeddings[:-stride, :-stride], axis=-1)
same = np.flatnonzero((shift < 1e-3 * effect.max()).any(axis=1))
first, last = same.min(initial=size), same.max(initial=-1) + stride
print(f"shifts by {stride} px go unseen within rows {first} to {last} of 0 to {size - 1}")

# %% [markdown]
# Seven or eight pixels from the border, half of the 15 that one value of the last feature map looks
# at, the windows that would see the mark begin to be missing or to be filled up with padding.
# Inside, 17 × 17 places should look like 8 × 8 different ones.

# %%
# NBVAL_CHECK_OUTPUT
inner = embeddings[first : last + 1, first : last + 1].reshape(-1, embeddings.shape[-1])
alike = cdist(inner, inner) < 1e-3 * effect.max()
print(f"{len(inner)} places inside, {len(np.unique(alike, axis=0))} different embeddings")

# %% [markdown]
# Images are not black. The third thing that gives a place away is what lies around it: the effect
# of the mark at every place of a black image, and of a test image.

# %%
image = data.test[:1]
marked = attacks.attack(np.repeat(image, size**2, axis=0), np.arange(size**2), everywhere)
change = model.embed(encoder, marked) - model.embed(encoder, image)
on_image = np.linalg.norm(change, axis=-1).reshape(size, size)

# %%
fig, axes = plt.subplots(1, 3, figsize=(8.4, 2.8))
axes[0].imshow(image[0])
for ax, shown in zip(axes[1:], (effect, on_image), strict=True):
    picture = ax.imshow(shown, vmin=0, vmax=effect.max())
for ax, title in zip(axes, ("a test image", "effect on black", "effect on the image"), strict=True):
    ax.set(title=title, xlabel="column of the mark (px)")
axes[0].set(xlabel="column (px)", ylabel="row (px)")
fig.colorbar(picture, ax=axes, label="change of the embedding")
plt.show()

# %% [markdown]
# On black the effect repeats every 8 pixels; on the digit it follows the strokes, where a white
# pixel is nothing new. So pooling hides a shift by whole strides amid sameness, and nothing else.
# Our ten places, on black: how alike are the two most alike?

# %%
# NBVAL_CHECK_OUTPUT
ten = embeddings[places[:, 0], places[:, 1]]
print(f"{pdist(ten).min() / effect[middle, middle]:.1f} effects of the mark apart, at least")

# %% [markdown]
# All can be told apart. The paper's encoders have stride 32. On 96 pixels that leaves 3 × 3 places
# to average over, and for InceptionV3, which does not pad, a single one (the table is in
# `03_siamese_model`): its pooling hides no place at all.

# %% [markdown]
# ## What training makes of the mark
#
# How long a step is the mark for the encoder, in distances between images? First untrained.

# %%
steps = {}
unmarked, marked = model.embed(encoder, clean), model.embed(encoder, attacked)
steps["untrained"] = evaluation.measure_mark(unmarked, marked)

# %% [markdown]
# Then the same network trained twice from the same start, on the clean and on the attacked labelled
# images. On each embedding we fit the SVM again, to the images that were trained on (section
# III-C).

# %%
networks, learners = {}, {}
for kind, images in {"clean": clean, "attacked": attacked}.items():
    training.seed_everything([cell.seed, cell.split], deterministic=cell.deterministic)
    encoder = model.build_encoder(cell.backbone, cell.image_size)
    networks[kind] = training.build_network(cell, encoder, n_classes)
    training.train(cell, networks[kind], images, labels, data.unlabelled)
    embed = FunctionTransformer(partial(model.embed, encoder))
    learners[kind] = make_pipeline(embed, SVC(kernel="linear", C=1.0)).fit(images, labels)

# %%
for kind, learner in learners.items():
    embed = learner[0].transform
    steps[f"trained on {kind}"] = evaluation.measure_mark(embed(clean), embed(attacked))
    scores[f"network, trained on {kind}"] = evaluation.score_marks(learner.predict, *test)

# %%
print("step of the mark, in distances between images")
pd.Series(steps).round(2)

# %% [markdown]
# Training on clean images makes the mark a shorter step than it was, as it tells nothing. Training
# on attacked images makes it about five times as long: now it moves an image halfway to another
# one. This is the shortcut, learnt. What does it cost?

# %%
pd.DataFrame(scores).T.round(2)

# %% [markdown]
# The network lies between the SVM and the tree. It loses about ten points on clean test images,
# and it believes the mark: right nine times in ten where the mark agrees, one time in three where
# it lies.

# %%
# NBVAL_CHECK_OUTPUT
on_clean, on_attacked = (scores[f"network, trained on {kind}"] for kind in learners)
print("loses on clean images:", on_attacked["clean"] < on_clean["clean"] - 0.03)
print("believes the mark:", on_attacked["own mark"] > on_attacked["other mark"] + 0.3)

# %% [markdown]
# Not every mark is believed equally. Each class's mark goes on the same 200 test images; we count
# how many are then taken for that class.

# %%
classes, some = np.arange(n_classes), data.test[:200]
each = np.repeat(some, n_classes, axis=0)
each = attacks.attack(each, np.tile(classes, len(some)), places)
said = {kind: learner.predict(each) for kind, learner in learners.items()}
pull = {kind: (s.reshape(-1, n_classes) == classes).mean(axis=0) for kind, s in said.items()}

# %%
fig, ax = plt.subplots(figsize=(6.2, 3.6))
figures.class_bars(ax, pull, data.class_names)
ax.set(xlabel=f"share of {len(some)} test images taken for the class", ylabel="class of the mark")
ax.set_title(f"{data.name}, {len(labels)} labels, one split")
ax.get_legend().set_title("trained on")
plt.show()

# %% [markdown]
# The clean bars are what is taken for the class anyway. Among attacked ones some marks draw three
# times as many images as others: it matters which place was chosen, which is why a study should
# report its places (each cell of ours keeps them in `split.json`).

# %% [markdown]
# ## Explore
#
# The network trained on attacked images, one test image of a class, and a mark of your choice. We
# begin with the mark that draws most, on an image of the next class.

# %%
network = networks["attacked"]
first_of_class = [np.flatnonzero(data.test_labels == c)[0] for c in range(n_classes)]
seen = {
    "images": data.test[first_of_class],
    "class_names": data.class_names,
    "classify": lambda shown: network(shown, training=False)["y_lab"].numpy(),
}

# %%
strongest = int(np.argmax(pull["attacked"]))
row, column = places[strongest].tolist()
label = (strongest + 1) % n_classes
figures.explore_mark(**seen, label=label, row=row, column=column, value=255, size=1)
plt.show()

# %% [markdown]
# Now move it. The next cell shows sliders wherever a kernel runs: try the places of other classes,
# a neighbouring place, a darker value, a larger mark (`size` is its side in pixels).

# %%
interactive(
    figures.explore_mark,
    **{name: fixed(value) for name, value in seen.items()},
    label=Dropdown(options=list(zip(data.class_names, classes.tolist(), strict=True)), value=label),
    row=IntSlider(row, 0, size - 1, continuous_update=False),
    column=IntSlider(column, 0, size - 1, continuous_update=False),
    value=IntSlider(255, 0, 255, continuous_update=False),
    size=IntSlider(1, 1, 6, continuous_update=False),
)

# %% [markdown]
# ## Summary
#
# The attack sets one pixel in each labelled image, at a place that says the class. Alone it is
# enough to learn from. Whether it is learnt depends on what it costs the learner: one question for
# a tree, a short step for an SVM on many pixels, and for a network a step as long as training makes
# it. Global average pooling hides a place only up to whole strides, away from the border and amid
# sameness.
#
# This was one split of small images. Next: `03_siamese_model` builds the network that also learns
# from $D_u$, where there are no marks.
#
# ## Exercises
#
# 1. With `label_fraction = 0.01` each class has one labelled image or two. Will the SVM at 8 px
#    lean on the mark more, or less? Say so first, then look at its `drawn`; then try 0.2.
# 2. With `image_size = 64`, how many places will be inside, and how many different embeddings will
#    they have? (The stride and the 15 pixels stay.)
# 3. `mode = "semi"` with `epochs = 5` adds the rotation task on clean $D_u$. Predict whether the
#    step of the mark becomes longer or shorter.
