# %% [markdown]
# # One cell of the study
#
# **How accurate is a linear [SVM](https://scikit-learn.org/stable/modules/svm.html) on the
# embeddings of a network trained with these settings?** This notebook runs one combination of
# settings, start to end; [papermill](https://papermill.readthedocs.io) runs it once per cell of a
# study.
#
# The paper is [Cavallari & Ponti, 2021](https://doi.org/10.1109/SIBGRAPI54419.2021.00038);
# [00_overview](00_overview.ipynb) tells its idea.

# %%
import time
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from sklearn.metrics import confusion_matrix

from semisiam.cell import Cell
from semisiam.data import datasets
from semisiam.evidence import figures
from semisiam.method import attack as attacks
from semisiam.method import evaluation, model, splits, training, trials
from semisiam.run import folder as records

# %% [markdown]
# ## Parameters
#
# Change a value and run all cells, or give it to papermill with `-p name value`. The defaults are a
# run of seconds on [scikit-learn's
# digits](https://scikit-learn.org/stable/datasets/toy_dataset.html#digits-dataset). It shows the
# machinery, not the paper's claim. $D_l$ and $D_u$ are labelled and unlabelled images, $N_l$ and
# $N_u$ their numbers; III-A and the like are sections of the paper.

# %% tags=["parameters"]
# data (III-A)
dataset: str = "digits"  # digits, fashion_mnist, stl10, malaria or folder
data_dir: str = ""  # folder of the raw files ("": the cache)
image_size: int = 32  # height and width after resizing (px)
unlabelled_limit: int = 0  # use this many unlabelled images (0: all)
test_limit: int = 0  # use this many test images (0: all)
test_split: str = "random"  # how malaria is halved: random or patient
unlabelled_classes: str = "same"  # classes of D_u compared with D_l's: same, fewer, more or other
# the labelled set (III-B)
label_fraction: float = 0.05  # labelled images as a share of N_u
split: int = 0  # which labelled set, first weights and order (0-4 in the paper)
splits_file: str = ""  # JSON of recorded labelled sets ("": drawn by seed)
label_noise: float = 0.0  # share of D_l with a wrong class
# attack (III-C) and defence
attack: str = "none"  # on D_l: none, pixel (paper), searched, random (per image) or patch
attack_pixels: int = 1  # marked pixels an image
attack_value: int = 255  # grey value of the mark (0-255)
attack_draw: int = 0  # which draw of the places, apart from the seed
attack_share: float = 1.0  # share of D_l that is attacked
attack_unlabelled: bool = False  # attack D_u too, by its hidden classes
defence: str = "none"  # filter on D_l: none, median (3 x 3), jpeg or grey
jpeg_quality: int = 10  # of the jpeg defence (1-95)
seed: int = 0  # of halves, labelled sets, places, weights, order
# model and task (III)
mode: str = "semi"  # supervised, semi or frozen (no training: a reference)
backbone: str = "small_cnn"  # small_cnn, mobilenet_v2, inception_v3, resnet50_v2 or pixels
weights: str = "none"  # the backbone's start: none, imagenet or FILE.h5
bn_momentum: float | None = None  # of batch normalisation (None: its own)
bn_recalibrate: str = "none"  # re-estimate its averages afterwards: none, labelled or unlabelled
pretext: str = "rotation"  # none, rotation, rotation_flip, jigsaw, barlow_twins or consistency
pretext_images: str = "unlabelled"  # of the pretext task: unlabelled (paper) or labelled
rotations: str = "one"  # transforms shown per unlabelled image and epoch: one (drawn) or all
lambda_l: float = 1.0  # weight of the class loss, equation (1)
lambda_u: float = 1.0  # weight of the pretext loss, equation (1)
# training (III-B)
epochs: int = 3  # passes over D_u (semi) or D_l (supervised)
equal_updates: bool = False  # supervised: as many updates an epoch as semi would make
batch_size: int = 64  # labelled images a step, and unlabelled ones
learning_rate: float = 0.001  # Adam's, until the decay starts
decay_start: float = 0.4  # share of the epochs before the decay
decay_rate: float = 0.1  # then x exp(-decay_rate) each epoch
# the machine; keep_model and output_dir change no result
deterministic: bool = True  # same seed, same machine: same numbers
precision: str = "float32"  # float32, mixed_bfloat16 or mixed_float16
jit: bool = False  # compile with XLA: for GPUs, far slower on CPUs
keep_model: bool = True  # keep model.keras (up to 130 MB a cell)
output_dir: str = ""  # folder of the results ("": beside the notebook)

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before any work.

# %% tags=["nbval-check-output"]
cell = Cell.from_notebook(globals())
folder = records.open_folder(cell)
machine = records.describe_machine()
cell.name


# %%
seconds, laps = Counter(), [time.perf_counter()]


def lap(stage):
    """Add the time since the last lap to the seconds of a stage, and to their total."""
    laps.append(time.perf_counter())
    for what in (stage, "total"):
        seconds[what] += laps[-1] - laps[-2]


# %% [markdown]
# ## Data
#
# A pool from which the labelled set is drawn, unlabelled images $D_u$, and test images that
# training never sees (section III-A).

# %%
recorded = splits.read_split(cell.splits_file, split=cell.split) if cell.splits_file else None
test_rows = recorded.test_rows if recorded else None
data = datasets.load(**cell.data_settings, test_rows=test_rows)
if recorded:
    splits.check_recorded(recorded, content=data.content, image_size=cell.image_size)
lap("data")

# %% tags=["nbval-check-output"]
print(f"{len(data.train)} images in the pool, {len(data.unlabelled)} unlabelled")
print(f"{len(data.test)} test images, {len(data.class_names)} classes, {data.train.shape[1:]}")
print(*data.notes, sep="\n")

# %% [markdown]
# ## The labelled set and the attack
#
# $D_l$ has $N_l$ images, drawn by split and seed, as even over classes as can be. Both modes of a
# split train on the same ones. The paper's attack sets one pixel to one value (we take white), at
# each class's place, in $D_l$ alone (section III-C). With `label_noise` some images get a wrong
# label.

# %% tags=["nbval-check-output"]
n_unlabelled = len(data.unlabelled)
labelled = trials.prepare_labelled(cell, data.train, data.train_labels, n_unlabelled, recorded)
labels = labelled.labels
print(f"{len(labels)} labelled images")
counts = np.bincount(labels, minlength=len(data.class_names)).tolist()
dict(zip(data.class_names, counts, strict=True))

# %% [markdown]
# Where an image was white already, the attack changes nothing.

# %% tags=["nbval-check-output"]
changed = (labelled.attacked != labelled.clean).any(axis=-1).sum(axis=(1, 2))
counts = pd.Series(changed).value_counts().sort_index().to_dict()
print("pixels that an attack changes, and in how many images:", counts)
print("this cell trains on the", "clean" if cell.attack == "none" else "attacked", "images")

# %%
unlabelled = data.unlabelled
if cell.attack_unlabelled:  # not in the paper: to see what clean D_u is worth
    if unlabelled is not data.train:
        raise ValueError(f"attack_unlabelled: nobody knows the classes of D_u in {data.name}")
    unlabelled = attacks.attack(unlabelled, data.train_labels, labelled.places, labelled.values)

# %%
# of each class the image that the attack changes most
change = np.abs(labelled.attacked - labelled.clean.astype(np.int16)).sum(axis=(1, 2, 3))
of_class = [np.flatnonzero(labels == c) for c in range(min(8, len(data.class_names)))]
shown = [rows[change[rows].argmax()] for rows in of_class if len(rows)]
names = [data.class_names[labels[i]] for i in shown]

# %% alt="Labelled images of up to eight classes: clean ones above, attacked ones below."
fig, axes = plt.subplots(2, 1, figsize=(8, 2.9))
figures.examples(axes[0], labelled.clean[shown], names, columns=8)
figures.examples(axes[1], labelled.attacked[shown], [""] * len(shown), columns=8)
axes[0].set_title("clean")
axes[1].set_title("attacked" + " (not used in this cell)" * (cell.attack == "none"))
if cell.attack not in ("patch", "random"):
    for panel, i in zip(axes[1].child_axes, shown, strict=True):
        figures.ring(panel, *labelled.places[labels[i], 0])
plt.show()

# %% [markdown]
# ## The network
#
# One encoder: backbone, then 4096 and 128 units. In `semi` mode it is called on both inputs,
# labelled and turned, and carries two heads (Algorithm 1). In `frozen` mode nothing is trained: the
# features are the pixels, or the outputs of the backbone with its initial weights. Those outputs
# are divided by their standard deviation before the SVM.

# %%
lap("data")
encoder, network = training.start_network(cell, len(data.class_names))
lap("model")
(network or encoder).summary()

# %% [markdown]
# ## Training
#
# [Adam](https://keras.io/api/optimizers/adam/) on the joint loss of equation (1); in `supervised`
# mode that is the class loss. The learning rate is constant for the first 2/5 of the epochs and
# decays from there (section III-B).

# %% tags=["nbval-check-output"]
sizes = len(labels), len(unlabelled)
n_views = training.count_views(cell, *sizes)  # labelled ones are repeated to match
print(f"{cell.epochs * training.count_steps(cell, *sizes)} updates, {n_views} images an epoch")


# %%
def tell(row):
    print(training.describe_epoch(row))
    records.write_progress(folder, cell, row, n_views)


# %%
history = training.train(
    cell,
    network,
    labelled.images,
    labels,
    unlabelled,
    checkpoint=folder / "checkpoint.npz",
    content=data.content,
    on_epoch=tell,
)
lap("training")
if (earlier := history["seconds"].sum() - seconds["training"]) > 0:  # it was cut off
    seconds.update(training=earlier, total=earlier)

# %% alt="Losses by epoch."
scale = (
    f"{cell.name}\n{len(labels)} labelled, {len(unlabelled)} unlabelled images of "
    f"{cell.image_size} px, {cell.epochs} epochs"
)
if network:
    fig, ax = plt.subplots()
    figures.losses(ax, history)
    ax.set_title(scale)
    plt.show()

# %% [markdown]
# ## Was each task learnt?
#
# The class head is scored on $D_l$ twice (`labelled_accuracy`), in training and in inference mode.
# If the two differ much, batch normalisation's moving averages are wrong, not the weights
# (`bn_initial_share` of their first values is left). `training_accuracy` is that of the last epoch,
# while it was learning.
#
# The pretext task is scored on test images (`rotation_accuracy`, also of jigsaw; its `training` is
# the last epoch's). Below halfway from guessing to 1 (0.625 for rotations) we call it not learnt: a
# gain then probably has another cause. Tasks on two [views](../lib/semisiam/method/views.py) have a
# `pretext_check`. (`by_batch`: with statistics of the batch, not moving averages.)

# %%
facts = trials.describe_training(
    cell, encoder, network, history, labelled, len(unlabelled), data.test, data.test_labels
)
lap("evaluation")
facts

# %% [markdown]
# ## Evaluation
#
# The SVM sees the embeddings of $D_l$ as trained on, nothing else. It is scored on the test set
# (section III-C).

# %%
test, test_labels = data.test, data.test_labels
labelled_embeddings, embeddings = model.embed(encoder, labelled.images), model.embed(encoder, test)
lap("embedding")

# %%
svm = evaluation.fit_svm(labelled_embeddings, labels, scaled=cell.scaled)
predictions = svm.predict(embeddings)
as_trained = float((predictions == test_labels).mean())
print(f"test accuracy {as_trained:.3f}, {len(labels)} labels")

# %% [markdown]
# After few updates, batch normalisation's moving averages may hold much of their first values
# (`bn_initial_share`, above, says how much) and mislead the SVM
# ([04_batch_normalisation](04_batch_normalisation.ipynb)). So it is always fitted once more, with
# statistics re-estimated on $D_l$.

# %%
with model.recalibrated(encoder, labelled.images, cell.batch_size):
    on_labelled = model.embed(encoder, labelled.images)
    again = evaluation.fit_svm(on_labelled, labels, scaled=cell.scaled)
    predictions_again = again.predict(model.embed(encoder, test))

# %%
recalibrated = float((predictions_again == test_labels).mean())
print(f"re-estimated {recalibrated:.3f}")
moved, right_now = predictions_again != predictions, predictions_again == test_labels
now_wrong = (moved & (predictions == test_labels)).sum()
print(f"{moved.sum()} of {len(test)} predictions changed", end=", ")
print(f"{(moved & right_now).sum()} became right, {now_wrong} became wrong")

# %% [markdown]
# `bn_recalibrate` says which statistics the network keeps for all that follows.

# %%
collapsed = evaluation.measure_spread(embeddings) < evaluation.COLLAPSED
if cell.bn_recalibrate != "none":
    images = labelled.images if cell.bn_recalibrate == "labelled" else unlabelled
    model.recalibrate(encoder, images, cell.batch_size)
    labelled_embeddings = model.embed(encoder, labelled.images)
    embeddings = model.embed(encoder, test)
    svm = evaluation.fit_svm(labelled_embeddings, labels, scaled=cell.scaled)
    predictions = svm.predict(embeddings)

# %% [markdown]
# Beside the accuracy: another linear SVM (`linear_svc`: one class against the rest, where `SVC` has
# one boundary for each pair), the SVM fitted on clean labelled images, and measures of the
# embedding itself ([explained](../lib/semisiam/method/evaluation.py)). A `collapsed` embedding is
# nearly constant, whatever the training loss says.

# %%
clean_embeddings = model.embed(encoder, labelled.clean)
lap("embedding")
sets = labelled_embeddings, clean_embeddings, labels, embeddings, test_labels
scores = evaluation.score_embeddings(*sets, scaled=cell.scaled)
scores |= {"accuracy_as_trained": as_trained, "accuracy_recalibrated": recalibrated}
scores |= {"collapsed_as_trained": collapsed}
lap("evaluation")
scores

# %%
if scores["collapsed"]:
    display(Markdown("**The embedding collapsed: it is nearly constant over the test images.**"))

# %% [markdown]
# ### The mark as a trigger
#
# Take up to 300 test images, and put class $c$'s mark on those of other classes.
# - `predicted`: the share that is predicted as $c$ with the mark.
# - `unmarked`: the share that was predicted as $c$ before.
# - `flipped`: of those not predicted as $c$ before, the share that the mark turns into $c$.
#
# A cell that never saw a mark says what such a pixel does by itself.

# %%
trigger = trials.score_trigger(
    cell, lambda images: svm.predict(model.embed(encoder, images)), labelled, test, test_labels
)
lap("trigger")
pd.DataFrame(trigger).round(3)

# %% [markdown]
# ### Class by class
#
# Precision, recall and F1 as in Tables VII-X, then which classes are taken for which.

# %%
report = evaluation.report_classes(test_labels, predictions, data.class_names)
report.round(3)

# %% alt="Confusion matrix: true classes in rows, predicted ones in columns."
fig, ax = plt.subplots(figsize=(5.5, 5))
matrix = confusion_matrix(test_labels, predictions, labels=range(len(data.class_names)))
figures.confusion(ax, matrix, data.class_names)
ax.set_title(scale)
plt.show()

# %% [markdown]
# ### The embedding in the plane
#
# [t-SNE](https://scikit-learn.org/stable/modules/manifold.html#t-sne) of test embeddings, as in
# Figures 5-9. Distances between islands mean little.

# %% alt="t-SNE of the test embeddings, coloured by class."
lap("evaluation")
points, index = evaluation.project(embeddings, seed=cell.seed)
lap("tsne")
fig, ax = plt.subplots(figsize=(6, 5))
figures.tsne(ax, points, test_labels[index], data.class_names)
ax.set_title(scale)
plt.show()

# %% [markdown]
# ## What is kept
#
# Settings, numbers, embeddings, the labelled set and, with `keep_model`, a model from images to
# embedding and class probabilities. `done.json` comes last and says that the cell is complete.


# %%
def measure_speed(cell, history, labelled, labels, unlabelled):
    """Measure images/s of training, and of making its batches alone (`pipeline`)."""
    sizes, started = (len(labelled), len(unlabelled)), time.perf_counter()
    batches = training.make_batches(cell, labelled, labels, unlabelled, range(cell.epochs))
    n_steps = sum(1 for _ in batches.take(50))
    seconds = (time.perf_counter() - started) / n_steps * training.count_steps(cell, *sizes)
    first, *later = history["seconds"]  # the first epoch is also traced
    usual = float(np.median(later or [first]))
    shown = training.count_views(cell, *sizes)
    speed = {"images_per_second": {"pipeline": shown / seconds, "training": shown / usual}}
    return speed | ({"seconds_tracing": first - usual} if later else {})


# %%
speed = {}
if cell.mode != "frozen":
    speed = measure_speed(cell, history, labelled.images, labels, unlabelled)

# %%
about = {"content": data.content, "n_unlabelled": len(unlabelled), "n_labelled": len(labels)}
about |= {"n_test": len(test), "n_classes": len(data.class_names)}
about |= {"class_names": list(data.class_names)}
metrics = {"name": cell.name, "hash": cell.hash} | about | facts | scores
metrics |= {"trigger": trigger, "notes": list(data.notes), "seconds": seconds}
metrics |= speed | machine | data.decoding

# %%
features = {
    "embeddings": embeddings,
    "labels": test_labels,
    "predictions": predictions,
    "labelled_embeddings": labelled_embeddings,
    "labelled_labels": labels,
    "tsne": points,
    "tsne_index": index,
    "examples": np.stack([labelled.clean[shown], labelled.attacked[shown]]),
}

# %%
places, values = labelled.places, labelled.values
drawn = splits.RecordedSplit(labelled.rows, places, values, data.test_rows, data.content)
records.close_folder(
    folder,
    cell,
    metrics=metrics,
    split=splits.describe_split(drawn, split=cell.split),
    report=report,
    history=history,
    features=features,
    model=model.build_classifier(network, encoder),
)

# %% [markdown]
# ## Summary
#
# You have the SVM's test accuracy in two readings, and the numbers to judge it by. A single cell
# says little: [07_results](07_results.ipynb) compares modes and attacks over several labelled sets.
