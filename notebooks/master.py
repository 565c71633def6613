# %% [markdown]
# # One cell of the study
#
# **What accuracy does a linear SVM reach on the 128-D embedding of a network trained with these
# settings?** This notebook runs one combination of settings, start to end; papermill runs it once
# per cell of a study.
#
# You will see
# 1. the labelled images, clean and attacked, as the network gets them,
# 2. the network and its loss, epoch by epoch,
# 3. the accuracy on test images, class by class.

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from sklearn.metrics import confusion_matrix

from semisiam import attack as attacks
from semisiam import datasets, evaluation, figures, model, records, splits, training
from semisiam.cell import Cell

# %% [markdown]
# ## Parameters
#
# Change a value and run all cells, or give it to papermill with `-p name value`. The defaults are a
# run of seconds on scikit-learn's digits, which shows the machinery and not the paper's claim.

# %% tags=["parameters"]
dataset: str = "digits"  # digits, fashion_mnist, stl10, malaria or folder
data_dir: str = ""  # folder of the raw files ("": the cache)
image_size: int = 32  # height and width after resizing (px)
unlabelled_limit: int = 0  # use this many unlabelled images (0: all)
test_limit: int = 0  # use this many test images (0: all)
test_split: str = "random"  # how malaria is halved: random (paper) or patient
label_fraction: float = 0.05  # labelled images as a share of the unlabelled ones
split: int = 0  # which random labelled set (0-4 in the paper)
splits_file: str = ""  # JSON of recorded labelled sets ("": drawn by seed)
attack: str = "none"  # none or pixel, on D_l alone
seed: int = 0  # seed of labelled sets, places, weights and order
mode: str = "semi"  # supervised or semi
backbone: str = "small_cnn"  # small_cnn, mobilenet_v2, inception_v3 or resnet50_v2
bn_momentum: float | None = None  # of all batch normalisations (None: the backbone's own)
rotations: str = "one"  # rotations shown per unlabelled image and epoch: one (drawn) or all
lambda_l: float = 1.0  # weight of the class loss, equation (1)
lambda_u: float = 1.0  # weight of the rotation loss, equation (1)
epochs: int = 3  # passes over D_u (semi) or D_l (supervised)
batch_size: int = 64  # labelled images a step, and unlabelled ones
learning_rate: float = 0.001  # Adam's, until the decay starts
decay_start: float = 0.4  # share of the epochs before the decay
decay_rate: float = 0.1  # then x exp(-decay_rate) each epoch
deterministic: bool = True  # same seed, same machine: same numbers
output_dir: str = ""  # folder of the results ("": beside the notebook)

# %% [markdown]
# A misspelt name, a wrong type or a value out of range stops here, before any work.

# %%
# NBVAL_CHECK_OUTPUT
cell = Cell.from_notebook(globals())
folder = records.open_folder(cell)
watch = records.Stopwatch()
training.seed_everything([cell.seed, cell.split], deterministic=cell.deterministic)
cell.name

# %% [markdown]
# ## Data
#
# A pool from which the labelled set is drawn, unlabelled images $D_u$, and test images that nothing
# touches before the very end (section III-A).

# %%
recorded = splits.read_split(cell.splits_file, split=cell.split) if cell.splits_file else None
data = datasets.load(
    cell.dataset,
    cell.image_size,
    data_dir=cell.data_dir,
    unlabelled_limit=cell.unlabelled_limit,
    test_limit=cell.test_limit,
    test_split=cell.test_split,
    test_rows=recorded.test_rows if recorded else None,
    seed=cell.seed,
)
watch.lap("data")

# %%
# NBVAL_CHECK_OUTPUT
print(f"{len(data.train)} images in the pool, {len(data.unlabelled)} unlabelled")
print(f"{len(data.test)} test images, {len(data.class_names)} classes, {data.train.shape[1:]}")
print(*data.notes, sep="\n")

# %% [markdown]
# ## The labelled set
#
# $D_l$ has $N_l$ images, drawn by split and seed and stratified by class: both modes of a split
# train on the same ones. The places of the attack are drawn from the seed too.

# %%
n_labelled = splits.count_labelled(cell.label_fraction, len(data.unlabelled))
chosen = splits.draw_labelled(data.train_labels, n_labelled, split=cell.split, seed=cell.seed)
places = attacks.choose_places(len(data.class_names), cell.image_size, seed=cell.seed)
if recorded:
    splits.check_recorded(recorded, content=data.content, image_size=cell.image_size)
    chosen, places = recorded.labelled, recorded.places

# %%
# NBVAL_CHECK_OUTPUT
clean, labels = data.train[chosen], data.train_labels[chosen]
print(f"{len(labels)} labelled images")
dict(zip(data.class_names, np.bincount(labels).tolist(), strict=True))

# %%
scale = (
    f"{cell.name}\n{len(labels)} labelled, {len(data.unlabelled)} unlabelled images of "
    f"{cell.image_size} px, {cell.epochs} epochs"
)

# %% [markdown]
# ## The attack
#
# Under attack, every labelled image of a class carries one white pixel at that class's place
# (section III-C). $D_u$ and the test images stay as they are. Where the image was white already, no
# pixel changes.

# %%
# NBVAL_CHECK_OUTPUT
attacked = attacks.attack(clean, labels, places)
labelled = attacked if cell.attack == "pixel" else clean
changed = (attacked != clean).any(axis=-1).sum(axis=(1, 2))
print("images by number of pixels that an attack changes:", np.bincount(changed).tolist())
print("this cell trains on the", "attacked" if cell.attack == "pixel" else "clean", "images")

# %%
shown = [np.flatnonzero(labels == c)[0] for c in range(min(8, len(data.class_names)))]
names = [data.class_names[labels[i]] for i in shown]

# %%
fig, axes = plt.subplots(2, 1, figsize=(8, 2.9))
figures.examples(axes[0], clean[shown], names, columns=8)
figures.examples(axes[1], attacked[shown], [""] * len(shown), columns=8)
axes[1].set_title("above: clean; below: attacked")
plt.show()

# %% [markdown]
# ## The network
#
# One encoder: backbone from scratch, then 4096 and 128 units. In `semi` mode it is called on both
# inputs, labelled and rotated, and carries two heads (Algorithm 1).

# %%
encoder = model.build_encoder(cell.backbone, cell.image_size, bn_momentum=cell.bn_momentum)
network = training.build_network(cell, encoder, len(data.class_names))
watch.lap("model")
network.summary()

# %% [markdown]
# ## Training
#
# Adam on the joint loss of equation (1); the learning rate is constant for the first 2/5 of the
# epochs and decays from there (section III-B).

# %%
history = training.train(
    cell,
    network,
    labelled,
    labels,
    data.unlabelled,
    checkpoint=folder / "checkpoint.npz",
    on_epoch=lambda row: print(training.describe_epoch(row)),
)
watch.lap("training")

# %%
fig, ax = plt.subplots()
figures.losses(ax, history)
ax.set_title(scale)
plt.show()

# %% [markdown]
# ## Evaluation
#
# The SVM sees the embeddings of $D_l$ as trained on, nothing else; the test set is used here, once
# (section III-C).

# %%
labelled_embeddings = model.embed(encoder, labelled)
embeddings = model.embed(encoder, data.test)
svm = evaluation.fit_svm(labelled_embeddings, labels)
predictions = svm.predict(embeddings)
print(f"test accuracy {svm.score(embeddings, data.test_labels):.3f}, {len(labels)} labels")

# %% [markdown]
# Beside it: the other linear SVM, the SVM fitted on the clean labelled images, and measures of the
# embedding itself. A `collapsed` embedding is all but constant, whatever the training loss says.

# %%
scores = evaluation.score_embeddings(
    labelled_embeddings, model.embed(encoder, clean), labels, embeddings, data.test_labels
)
scores

# %%
if scores["collapsed"]:
    display(Markdown("**The embedding collapsed: it is all but constant over the test images.**"))

# %% [markdown]
# Batch normalisation starts from mean 0 and variance 1 and forgets them by momentum^updates. After
# few updates much is left, so every cell is scored again with the statistics re-estimated on $D_l$.

# %%
with model.recalibrated(encoder, labelled, cell.batch_size):
    svm_again = evaluation.fit_svm(model.embed(encoder, labelled), labels)
    scores["accuracy_recalibrated"] = svm_again.score(
        model.embed(encoder, data.test), data.test_labels
    )
print(f"test accuracy with re-estimated statistics {scores['accuracy_recalibrated']:.3f}")

# %% [markdown]
# ### Class by class
#
# Precision, recall and F1 as in Tables VII-X, then which classes are taken for which.

# %%
report = evaluation.report_classes(data.test_labels, predictions, data.class_names)
report.round(3)

# %%
fig, ax = plt.subplots(figsize=(5.5, 5))
matrix = confusion_matrix(data.test_labels, predictions, labels=range(len(data.class_names)))
figures.confusion(ax, matrix, data.class_names)
ax.set_title(scale)
plt.show()

# %% [markdown]
# ### The embedding in the plane
#
# t-SNE of test embeddings, as in Figures 5-9: classes that a linear SVM separates tend to form
# clusters here, though distances between clusters mean little.

# %%
watch.lap("evaluation")
points, index = evaluation.project(embeddings, seed=cell.seed)
watch.lap("tsne")
fig, ax = plt.subplots(figsize=(6, 5))
figures.tsne(ax, points, data.test_labels[index], data.class_names)
ax.set_title(scale)
plt.show()

# %% [markdown]
# ## What is kept
#
# Settings, numbers, embeddings, the labelled set and a model from images to embedding and class
# probabilities; `done.json` comes last and says that the cell is complete.

# %%
# NBVAL_CHECK_OUTPUT
n_updates = cell.epochs * training.count_steps(cell, len(labelled), len(data.unlabelled))
n_images = len(data.unlabelled) if cell.mode == "semi" else len(labelled)
print(f"{n_updates} updates on {n_images} images an epoch")

# %%
batches = training.make_batches(cell, labelled, labels, data.unlabelled, range(cell.epochs))
speed = {
    "training": training.measure_training(cell, history, n_images),
    "pipeline": training.measure_pipeline(batches),
}

# %%
metrics = {
    "name": cell.name,
    "hash": cell.hash,
    "n_unlabelled": len(data.unlabelled),
    "n_labelled": len(labelled),
    "n_test": len(data.test),
    "n_classes": len(data.class_names),
    "class_names": list(data.class_names),
    "n_updates": n_updates,
    "bn_initial_share": model.share_of_initial_statistics(encoder, cell.mode, n_updates),
    "training_accuracy": history["accuracy_labelled"].iloc[-1],
    **scores,
    "notes": list(data.notes),
    "seconds": watch.seconds,
    "images_per_second": speed,
    **records.describe_machine(),
}

# %%
features = {
    "embeddings": embeddings,
    "labels": data.test_labels,
    "predictions": predictions,
    "labelled_embeddings": labelled_embeddings,
    "labelled_labels": labels,
    "tsne": points,
    "tsne_index": index,
    "examples": np.stack([clean[shown], attacked[shown]]),
}
drawn = splits.RecordedSplit(chosen, places, data.test_rows, data.content)
classifier = model.build_classifier(network, encoder)

# %%
records.close_folder(
    folder,
    cell,
    metrics=metrics,
    split=splits.describe_split(drawn, split=cell.split),
    report=report,
    history=history,
    features=features,
    model=classifier,
)

# %% [markdown]
# ## Summary
#
# One number came out, the SVM's test accuracy, with everything it rests on beside it. A single cell
# says little: `06_results` compares modes and attacks over several splits.
