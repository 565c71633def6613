# %% [markdown]
# # One encoder, two heads
#
# Before: [02_pixel_attack](02_pixel_attack.ipynb) ·
# Next: [04_batch_normalisation](04_batch_normalisation.ipynb)
#
# **How can one network learn from labelled and unlabelled images at once?**
#
# You will see
# 1. the siamese network in miniature, small enough to count its weights,
# 2. one step of its training, by hand and in the library,
# 3. the two tasks pulling at the encoder, as arrows.
#
# Section, figure and equation numbers are those of [the
# paper](https://doi.org/10.1109/SIBGRAPI54419.2021.00038).

# %%
import inspect
from textwrap import dedent

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Code

from semisiam.cell import Cell
from semisiam.evidence import figures
from semisiam.method import model, pretext, training

# %% [markdown]
# ## Parameters
#
# Digits and a small network, so that all cells together take a minute.

# %% tags=["parameters"]
dataset: str = "digits"  # digits, fashion_mnist, stl10, malaria or folder
data_dir: str = ""  # folder of the raw files ("": the cache)
image_size: int = 32  # height and width after resizing (px)
label_fraction: float = 0.05  # labelled images as a share of the unlabelled ones
split: int = 0  # which random labelled set (0-4 in the paper)
seed: int = 0  # seed of labelled sets, places, weights and order
backbone: str = "small_cnn"  # small_cnn, mobilenet_v2, inception_v3 or resnet50_v2
lambda_l: float = 1.0  # weight of the class loss, equation (1)
lambda_u: float = 1.0  # weight of the rotation loss, equation (1)
epochs: int = 3  # passes over D_u

# %%
cell = Cell.from_notebook(globals())
training.seed_everything([cell.seed, cell.split], deterministic=cell.deterministic)

# %% [markdown]
# ## Two questions
#
# Of a labelled image we can ask its class. An unlabelled image has no known class. But we can turn
# it, and ask by how much ([Gidaris et al., 2018](https://arxiv.org/abs/1803.07728)).

# %% tags=["nbval-check-output"]
image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
turned, quarter_turns = pretext.transform_all(image)
print(np.hstack(turned[..., 0]))
print("rotation labels:", quarter_turns)

# %% [markdown]
# Four copies of one 4×4 image, each turned 90° further, counter-clockwise. The number of quarter
# turns is the label, and it costs nothing.
#
# Here is a network for both questions (the paper's Figure 2):

# %% alt="Two kinds of images enter one encoder; a head for each kind; both losses are added."
fig, ax = plt.subplots(figsize=(8.4, 3.3))
figures.method(ax)
ax.set_title("one encoder, two heads, one joint loss")
plt.show()

# %% [markdown]
# Light blue is the class task, orange the rotation task, also in later figures. Both use the *same*
# encoder with the same weights, hence "siamese", like twins. In
# [Keras](https://keras.io/guides/functional_api/) that is short
# ([`build_siamese`](../lib/semisiam/method/model.py); skip the first `if`; of the second, read only
# the `else`: the rest serves other tasks):

# %%
Code(inspect.getsource(model.build_siamese), language="python")

# %% [markdown]
# `encoder(labelled)` and `encoder(unlabelled)` call the same object. Each head is one dense layer
# with softmax.
#
# ## The smallest siamese network
#
# An encoder that turns 16 pixels into an embedding of two numbers. How many weights will it have?

# %%
import keras
import tensorflow as tf

pixels = keras.Input((4, 4, 1), dtype="uint8")
flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
tiny_encoder = keras.Model(pixels, keras.layers.Dense(2)(flat), name="encoder")
tiny = model.build_siamese(tiny_encoder, n_classes=2)

# %% tags=["nbval-check-output"]
for layer in tiny.layers:
    print(f"{layer.name:10} {layer.count_params():3} parameters")

# %% [markdown]
# $16 \cdot 2 + 2 = 34$. The encoder serves two inputs but is counted once. Set all its weights to
# zero: every image has the embedding $(0, 0)$, and both heads can only guess.

# %% tags=["nbval-check-output"]
tiny_encoder.set_weights([np.zeros_like(w) for w in tiny_encoder.get_weights()])
inputs = {"labelled": image, "unlabelled": turned[1:2]}
for head, y in tiny(inputs).items():
    print(head, y.numpy())

# %% [markdown]
# A half for each of two classes, a quarter for each of four angles.
#
# ## The joint loss
#
# Each head pays a cross-entropy, $-\ln$ of the probability it gave to the right answer. Equation
# (1) adds the two, $\ell_l$ over the labelled images $D_l$ and $\ell_u$ over the unlabelled $D_u$,
# each with a weight $\lambda$:
#
# $$\mathcal{L}_{SS} = \lambda_l \cdot \ell_l(D_l) + \lambda_u \cdot \ell_u(D_u)$$
#
# What must the guessing network pay with $\lambda_l = \lambda_u = 1$?


# %%
def measure_losses(network, inputs, targets):
    """Both terms of equation (1), unweighted, in nats: by the natural logarithm."""
    cross_entropy = keras.losses.sparse_categorical_crossentropy
    y = network(inputs, training=True)
    return {head: tf.reduce_mean(cross_entropy(targets[head], y[head])) for head in targets}


# %% tags=["nbval-check-output"]
targets = {"y_lab": np.array([1]), "y_rot": np.array([1])}
losses = measure_losses(tiny, inputs, targets)
print({head: round(float(loss), 2) for head, loss in losses.items()})

# %% [markdown]
# $\ln 2 = 0.69$ and $\ln 4 = 1.39$, together 2.08.
#
# ## One step of training
#
# By hand: compute the joint loss, ask TensorFlow for its
# [gradient](https://www.tensorflow.org/api_docs/python/tf/GradientTape), and move every weight a
# little against it (0.5 is the learning rate).

# %%
weights = [variable.value for variable in tiny.trainable_variables]
with tf.GradientTape() as tape:
    losses = measure_losses(tiny, inputs, targets)
    joint = 1.0 * losses["y_lab"] + 1.0 * losses["y_rot"]
for weight, gradient in zip(weights, tape.gradient(joint, weights), strict=True):
    weight.assign_sub(0.5 * gradient)

# %% tags=["nbval-check-output"]
losses = measure_losses(tiny, inputs, targets)
print({head: round(float(loss), 2) for head, loss in losses.items()})
moved = max(np.abs(w).max() for w in tiny_encoder.get_weights())
print(f"largest weight of the encoder, 0 before: {moved:.2f}")

# %% [markdown]
# Both losses are lower. Each head learnt from its own loss alone, the encoder from both: that is
# the whole method. The library's network does the same, and turns the unlabelled images on the way:

# %%
Code(dedent(inspect.getsource(model.Siamese.train_step)), language="python")

# %% [markdown]
# Images are turned *inside* the step, on the device that trains. With a GPU, the CPU then only
# reads images. (Here all is CPU; turning takes under 1 % of a step.)
#
# ## Algorithm 1 and our lines
#
# Left the paper's pseudocode, right the line of our library, looked up in its source as this cell
# runs.

# %%
lines = [
    ("base_encoder = base_network()", model.build_encoder, "encoder = "),
    ("input_lab = Input(name='input_lab')", model.build_siamese, "labelled = keras.Input"),
    ("input_rot = Input(name='input_rot')", model.build_siamese, "unlabelled = keras.Input"),
    ("encoder_labeled = base_encoder(input_lab)", model.build_siamese, "(encoder(labelled))"),
    ("y_labeled = Dense(n_classes, 'softmax')", model._head, "return layers.Dense"),
    ("encoder_rotation = base_encoder(input_rot)", model.build_siamese, "= encoder(unlabelled)"),
    ("y_rotation = Dense(4, 'softmax')", model.build_siamese, "y_rot = _head"),
    ("semi = Model(inputs=..., outputs=...)", model.build_siamese, "network = Siamese("),
    ("semi.compile(optimizer=opt,", training.build_network, "optimizer="),
    ("loss={'y_lab': ..., 'y_rot': ...})", training.build_network, "loss="),
    ("train_generator returns x_rot", model.Siamese.train_step, "changed = "),
    ("history = semi.fit(train_generator)", training.train, "network.fit("),
]

# %%
from IPython.display import Markdown

rows = ["| Algorithm 1 | ours | in |", "|---|---|---|"]
for theirs, function, start in lines:
    source = inspect.getsource(function).splitlines()
    ours = next(line.strip() for line in source if start in line)
    rows.append(f"| `{theirs}` | `{ours}` | `{function.__name__}` |")
Markdown("\n".join(rows))

# %% [markdown]
# `_head` makes both heads; the rotation head has one unit for each angle. Three things are our own.
# `Siamese` turns the images in its step, not in the generator. `FusedAdam` is
# [Adam](https://keras.io/api/optimizers/adam/) in one operation for each weight array, `_normalise`
# batch normalisation in one for each layer. The results are the same up to rounding; the last two
# are faster ([measured together](../outputs/published/speed.md)).

# %% [markdown]
# ## The real encoders
#
# The paper puts layers of 4096 and 128 units on three known backbones, all trained from scratch.
# The 128 outputs are the `embedding` (section III-B). (We average the backbone's feature maps over
# all places before the 4096 units; the paper does not say what it does there.)

# %%
import pandas as pd

parts = {}
for name in model.BACKBONES:
    encoder = model.build_encoder(name, 96)
    layers = [encoder.layers[2], encoder.get_layer("hidden"), encoder.get_layer("embedding")]
    parts[name] = [layer.count_params() for layer in layers]
columns = ["backbone", "4096 units", "128 units"]
table = pd.DataFrame.from_dict(parts, orient="index", columns=columns)

# %% tags=["nbval-check-output"]
print(table.assign(encoder=table.sum(axis=1)).to_string(float_format="{:,.0f}".format))

# %% [markdown]
# [MobileNetV2](https://keras.io/api/applications/mobilenet/) has fewer weights than the layer of
# 4096 units on it. `small_cnn` is ours, for short runs.
#
# ## On real images
#
# The same network on digits, 55 of them labelled. This is the first batch of its training: 64
# labelled images (all 55, nine of them twice) and 64 unlabelled ones, of which we show eight each.
# [05_training](05_training.ipynb) explains batches.

# %%
from semisiam.data import datasets
from semisiam.method import splits

data = datasets.load(cell.dataset, cell.image_size, data_dir=cell.data_dir, seed=cell.seed)
n_labelled = splits.count_labelled(cell.label_fraction, len(data.unlabelled))
chosen = splits.draw_labelled(data.train_labels, n_labelled, split=cell.split, seed=cell.seed)
labelled, labels = data.train[chosen], data.train_labels[chosen]

# %%
encoder, network = training.start_network(cell, len(data.class_names))
batches = training.make_batches(cell, labelled, labels, data.unlabelled, range(1))
inputs, targets = next(batches.as_numpy_iterator())
inputs["unlabelled"] = pretext.transform(inputs["unlabelled"], targets["y_rot"])

# %% alt="Eight upright digits with their classes above eight turned digits with their angles."
fig, axes = plt.subplots(2, 1, figsize=(8, 2.9))
classes = [data.class_names[c] for c in targets["y_lab"][:8]]
figures.examples(axes[0], inputs["labelled"][:8], classes, columns=8)
angles = [f"{90 * k}°" for k in targets["y_rot"][:8]]
figures.examples(axes[1], inputs["unlabelled"][:8], angles, columns=8)
axes[0].set_title("labelled: which class?", color=figures.COLOURS["class"])
axes[1].set_title("unlabelled: turned by which angle?", color=figures.COLOURS["rotation"])
plt.show()

# %% [markdown]
# Cover the angles: can you tell them? Mostly, if you know what digits look like (a 6 may pass for a
# 9). The hope is that the encoder must learn it too.
#
# What does the second head cost?

# %% tags=["nbval-check-output"]
print(f"{network.get_layer('y_rot').count_params()} of {network.count_params():,} parameters")

# %% [markdown]
# In parameters, next to nothing. In time, more: another stream of images passes the encoder.
#
# ## Two tasks pull at one encoder
#
# A gradient has one number per weight; think of it as an arrow. The class loss has one, $g_l$, the
# rotation loss another, $g_u$. Plain gradient descent moves the encoder against
# $\lambda_l g_l + \lambda_u g_u$.


# %%
def measure_gradients(network, encoder, inputs, targets):
    """The gradient of each loss by the encoder's P weights: {head: float32 (P,)}."""
    weights = [variable.value for variable in encoder.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        losses = measure_losses(network, inputs, targets)
    flat = {}
    for head, loss in losses.items():
        by_variable = tape.gradient(loss, weights)
        flat[head] = np.concatenate([np.ravel(gradient) for gradient in by_variable])
    return flat


# %%
gradients = {"before training": measure_gradients(network, encoder, inputs, targets)}
for head, g in gradients["before training"].items():
    print(f"{head}: {len(g):,} numbers, length {np.linalg.norm(g):.2f}")

# %% [markdown]
# (The encoder's other 448 numbers are averages, which have no gradient: see 04.) At first both
# pull, the rotation task nearly twice as hard. How will it be after three epochs of training?

# %%
history = training.train(cell, network, labelled, labels, data.unlabelled)
gradients["after training"] = measure_gradients(network, encoder, inputs, targets)
history[["epoch", "loss_labelled", "loss_unlabelled"]].round(2)

# %% [markdown]
# The class loss (a mean over the epoch) is almost gone, the rotation loss is not. Two arrows lie in
# a plane, so we can draw them with their true lengths and angle:


# %%
def draw_gradients(ax, g_l, g_u, lambda_l, lambda_u):
    """Draw g_l, g_u and their weighted sum in the plane they span, true to length and angle."""
    along = g_l / np.linalg.norm(g_l)
    across = np.linalg.norm(g_u - (g_u @ along) * along)  # what of g_u is at a right angle to g_l
    class_tip, rotation_tip = np.array([g_l @ along, 0]), np.array([g_u @ along, across])
    tips = {"class": class_tip, "rotation": rotation_tip}
    tips["joint"] = lambda_l * class_tip + lambda_u * rotation_tip
    for name, (x, y) in tips.items():
        colour = figures.COLOURS[name]
        look = {"arrowstyle": "->", "color": colour, "lw": 2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (x, y), (0, 0), arrowprops=look)
        side = {"ha": "right" if name == "rotation" else "left", "color": colour}
        text = f"{name}: {np.hypot(x, y):.2f}"
        ax.annotate(text, (x, y), (0, 5), textcoords="offset points", **side)
    reach = 1.35 * max(np.max(tip) for tip in tips.values())
    ax.set(xlim=(-0.3 * reach, reach), ylim=(-0.1 * reach, reach), aspect="equal")
    ax.set(xlabel="along the class gradient", ylabel="at a right angle to it")


# %% alt="Arrows: after training the joint gradient lies close to the rotation gradient."
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.7), sharex=True, sharey=True)
for ax, (when, g) in zip(axes, gradients.items(), strict=True):
    draw_gradients(ax, g["y_lab"], g["y_rot"], cell.lambda_l, cell.lambda_u)
    ax.set_title(f"{when} ({data.name}, {len(labels)} labels, one batch)")
plt.show()

# %% [markdown]
# The class arrow is half as long as before, the rotation arrow more than twice (one batch of one
# run: *suggestive*). The rotation loss fell all the same: the length of a gradient is not the loss.
# With plain gradient descent the encoder would now move mostly for the rotation task: so unlabelled
# images can shape the embedding. (Adam rescales each weight; this is only a picture.) It is also
# the hope under attack: only labelled images are marked ([02_pixel_attack](02_pixel_attack.ipynb)),
# so within one step marks change only the class gradient.
#
# That is the mechanism. Whether it gives a *better* embedding is **untested** here; that needs test
# images ([06_svm_evaluation](06_svm_evaluation.ipynb)) and many runs
# ([07_results](07_results.ipynb)).

# %% [markdown]
# ## Summary
#
# - *Siamese*: one encoder is called on both streams of images; each stream has a head of its own.
# - The rotation head costs 516 parameters and brings in all unlabelled images.
# - A step adds both losses; its gradient is $\lambda_l g_l + \lambda_u g_u$.
# - Once the few labels were fitted, the rotation task did most of the pulling (*suggestive*: one
#   batch of one run).

# %% [markdown]
# ## Exercises
#
# Predict first. Solutions are in the hidden cells; click to unfold them.
#
# **1. Predict.** A pretext task with all 24 orders of four tiles
# ([jigsaw](https://arxiv.org/abs/1603.09246)): how many parameters has its head on 128 numbers?

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
jigsaw = model.build_siamese(encoder, len(data.class_names), task="jigsaw")
print(f"128 x 24 + 24 = {jigsaw.get_layer('y_rot').count_params()}")

# %% [markdown]
# **2. Write it.** A pretext task of your own: is the image upside down? Write `flip(images,
# labels)`, which mirrors images with label 1 from top to bottom, and try it on the 4×4 image.


# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def flip(images, labels):
    """Mirror the images of label 1 from top to bottom; those of label 0 stay."""
    return np.where(labels[:, None, None, None] == 1, images[:, ::-1], images)


print(np.hstack(flip(np.concatenate([image, image]), np.array([0, 1]))[..., 0]))

# %% [markdown]
# **3. Write it.** For which $\lambda_u$ would both tasks pull equally hard after training? Compute
# it from `gradients`, and draw $g_l$ and $\lambda_u g_u$ as arrows.

# %% alt="Arrows of equal pull." jupyter={"source_hidden": true} tags=["solution"]
g_l, g_u = gradients["after training"].values()
equal = np.linalg.norm(g_l) / np.linalg.norm(g_u)
fig, ax = plt.subplots(figsize=(4.2, 3.7))
draw_gradients(ax, g_l, equal * g_u, 1.0, 1.0)
ax.set_title(f"$\\lambda_u$ = {equal:.2f} ({data.name}, {len(labels)} labels, one batch)")
plt.show()

# %% [markdown]
# Next: [04_batch_normalisation](04_batch_normalisation.ipynb) looks into the encoder.
