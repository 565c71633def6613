"""Training: Adam, the decaying learning rate and the joint loss (paper, III-B and equation 1)."""

import ctypes
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from semisiam.atomic import replacing
from semisiam.cell import Cell, SettingsError
from semisiam.method import model, pipeline
from semisiam.method.pretext import TASKS
from semisiam.method.views import VIEW_TASKS

# Keras's names, to ours
HISTORY_NAMES = {"y_lab_loss": "loss_labelled", "y_lab_accuracy": "accuracy_labelled"}
HISTORY_NAMES |= {"y_rot_loss": "loss_unlabelled", "y_rot_accuracy": "accuracy_unlabelled"}
COLUMNS = ["loss", *HISTORY_NAMES.values(), "learning_rate"]
HISTORY_NAMES |= {"accuracy": "accuracy_labelled"}  # of the supervised network
M_TOP_PAD, M_MMAP_MAX = -2, -4  # of glibc's malloc.h
CHECKPOINT_PAUSE = 10  # so many times as long as a checkpoint took, none is written


def seed_everything(seed: list[int], *, deterministic: bool) -> None:
    """Seed Python, NumPy and TensorFlow, and ask TensorFlow for repeatable operations.

    Repeatable on one machine with one number of threads; sums in another order differ.
    """
    keras.utils.set_random_seed(int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1))
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def decayed_rate(
    epoch: int, *, epochs: int, learning_rate: float, decay_start: float, decay_rate: float
) -> float:
    """Learning rate of an epoch, counted from 0 (paper, III-B).

    Constant for `decay_start` (2/5) of the epochs, rounded up, then × exp(-decay_rate) each epoch.
    """
    constant = math.ceil(round(decay_start * epochs, 9))
    return learning_rate * math.exp(-decay_rate * max(0, epoch + 1 - constant))


class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam as one operation a variable, which halves the graph to trace and compile."""

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        step = tf.cast(self.iterations.value + 1, tf.float32)
        shared = {"beta1": self.beta_1, "beta2": self.beta_2, "epsilon": self.epsilon}
        shared |= {"beta1_power": self.beta_1**step, "beta2_power": self.beta_2**step}
        shared |= {"lr": tf.cast(learning_rate, tf.float32)}
        for grad, variable in zip(grads, trainable_variables, strict=True):
            i = self._get_variable_index(variable)
            slots = variable, self._momentums[i], self._velocities[i]
            var, m, v = (slot.value.handle for slot in slots)
            tf.raw_ops.ResourceApplyAdam(var=var, m=m, v=v, grad=grad, **shared)


def build_network(cell: Cell, encoder: keras.Model, n_classes: int) -> keras.Model:
    """Build and compile the network of the cell's mode, with the loss of equation (1).

    Both terms are cross-entropies, but for tasks on `views`; the supervised network has the first
    alone. Without a pretext task the second counts nothing: only batch normalisation sees D_u.
    """
    if cell.mode == "semi":
        network = model.build_siamese(encoder, n_classes, cell.pretext)
        lambda_u = 0.0 if cell.pretext == "none" else cell.lambda_u
        weights = {"y_lab": cell.lambda_l, "y_rot": lambda_u}
    else:
        network = model.build_supervised(encoder, n_classes)
        weights = {"y_lab": 1.0}
    losses = dict.fromkeys(weights, "sparse_categorical_crossentropy")
    metrics = {head: ["accuracy"] for head in weights}
    if cell.pretext in VIEW_TASKS:
        losses["y_rot"] = VIEW_TASKS[cell.pretext].loss
        metrics.pop("y_rot")  # nothing is named, so nothing is right
    network.compile(
        optimizer=FusedAdam(cell.learning_rate),
        loss=losses,
        loss_weights=weights,
        metrics=metrics,
        jit_compile=cell.jit,  # XLA is ten times slower on a CPU
    )
    network.optimizer.build(network.trainable_variables)
    return network


def start_network(cell: Cell, n_classes: int) -> tuple[keras.Model, keras.Model | None]:
    """Seed and build a cell's encoder, and the network around it, compiled; none in `frozen`."""
    seed_everything([cell.seed, cell.split], deterministic=cell.deterministic)
    keras.config.set_dtype_policy(cell.precision)
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # glibc: keep a step's memory for
        mallopt(M_MMAP_MAX, 0)  # the next, else its page faults take up to a third of the time, and
        mallopt(M_TOP_PAD, 64 << 20)  # in each thread's arena too, which a trim threshold does not
    if cell.mode == "frozen":
        return model.build_frozen(cell.backbone, cell.image_size, weights=cell.weights), None
    encoder = model.build_encoder(
        cell.backbone, cell.image_size, bn_momentum=cell.bn_momentum, weights=cell.weights
    )
    return encoder, build_network(cell, encoder, n_classes)


def count_steps(cell: Cell, n_labelled: int, n_unlabelled: int) -> int:
    """Updates in one epoch: D_u once in `semi` or with `equal_updates`, else D_l once (III)."""
    return math.ceil(_epoch_length(cell, n_labelled, n_unlabelled) / cell.batch_size)


def _epoch_length(cell: Cell, n_labelled: int, n_unlabelled: int) -> int:
    by_mode = {"frozen": 0, "supervised": n_labelled, "semi": n_unlabelled}
    return n_unlabelled if cell.equal_updates else by_mode[cell.mode]


def make_batches(
    cell: Cell,
    labelled: np.ndarray,
    labels: np.ndarray,
    unlabelled: np.ndarray,
    epochs: Iterable[int],
) -> tf.data.Dataset:
    """Make the batches of the cell's mode for some epochs; see `pipeline`."""
    shared = {"batch_size": cell.batch_size, "epochs": epochs, "seed": [cell.seed, cell.split]}
    shared["epoch_length"] = _epoch_length(cell, len(labelled), len(unlabelled))
    if cell.mode == "supervised":
        return pipeline.supervised_batches(labelled, labels, **shared)
    shared |= {"task": cell.pretext, "show": cell.rotations}
    changed = labelled if cell.pretext_images == "labelled" else unlabelled  # with marks if marked
    return pipeline.siamese_batches(labelled, labels, changed, **shared)


def count_views(cell: Cell, n_labelled: int, n_unlabelled: int) -> int:
    """Images that pass the encoder in an epoch, both streams together."""
    ways = len(TASKS[cell.pretext]) if cell.rotations == "all" else 1 + (cell.pretext in VIEW_TASKS)
    views = 1 + ways * (cell.mode == "semi")
    return views * _epoch_length(cell, n_labelled, n_unlabelled)


def train(
    cell: Cell,
    network: keras.Model,
    labelled: np.ndarray,
    labels: np.ndarray,
    unlabelled: np.ndarray,
    *,
    checkpoint: Path | None = None,
    content: str = "",
    on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
) -> pd.DataFrame:
    """Train the network, from `build_network`, in place for the cell's epochs.

    Args:
        labelled, labels: uint8 (N_l, S, S, 3), attacked if the cell says so, and int64 (N_l,).
        unlabelled: uint8 (N_u, S, S, 3); in `supervised` only N_u counts, for `equal_updates`.
        checkpoint: file to go on from, and to write after epochs, for at most a tenth of the
            time; a resumed run ends in the weights and history of an undisturbed one.
        content: identity of the images, `Dataset.content`; a checkpoint of others is not used.
        on_epoch: called with each epoch's row as it ends.

    Returns one row an epoch (from 1): losses, accuracies in [0, 1], learning rate, seconds. Keras
    averages the joint loss over images, its two parts over batches: a short last batch makes them
    differ a little. No row in `frozen`, which trains nothing. Raises `SettingsError` if
    there are fewer unlabelled than labelled images in `semi`.
    """
    if cell.mode == "frozen":
        return pd.DataFrame(columns=["epoch", *COLUMNS, "seconds"])
    if cell.mode == "semi" and len(unlabelled) < len(labelled):
        told = f"{len(unlabelled)} unlabelled images are fewer than {len(labelled)} labelled ones"
        raise SettingsError(f"{told}: raise unlabelled_limit or lower label_fraction")
    of = f"{cell.hash} {content}"
    rows = restore_checkpoint(checkpoint, network, of) if checkpoint else []
    started, due = [], [0.0]  # the next checkpoint

    def end(epoch, logs):
        named = {HISTORY_NAMES.get(name, name): value for name, value in logs.items()}
        named.setdefault("loss_labelled", named["loss"])
        row = {"epoch": epoch + 1} | {name: named[name] for name in COLUMNS if name in named}
        rows.append(row | {"seconds": time.perf_counter() - started[-1]})
        on_epoch(rows[-1])
        ended = time.perf_counter()
        if checkpoint and (ended >= due[-1] or epoch + 1 == cell.epochs):
            save_checkpoint(checkpoint, network, rows, of)
            due.append(ended + CHECKPOINT_PAUSE * (time.perf_counter() - ended))

    recorder = keras.callbacks.LambdaCallback(lambda *_: started.append(time.perf_counter()), end)
    rate = cell.model_dump(include={"epochs", "learning_rate", "decay_start", "decay_rate"})
    schedule = keras.callbacks.LearningRateScheduler(lambda e, _: decayed_rate(e, **rate))
    network.fit(
        # endless, because Keras warns of a data set that ends with the last step
        make_batches(cell, labelled, labels, unlabelled, itertools.count(len(rows))),
        initial_epoch=len(rows),
        epochs=cell.epochs,
        steps_per_epoch=count_steps(cell, len(labelled), len(unlabelled)),
        callbacks=[schedule, recorder],
        shuffle=False,
        verbose=0,
    )
    return pd.DataFrame(rows)


def describe_epoch(row: dict[str, Any]) -> str:
    """Say an epoch in one line: `epoch   3  loss 0.512  labelled accuracy 0.980 ...`."""
    accuracy = f"labelled accuracy {row['accuracy_labelled']:.3f}"
    line = f"epoch {row['epoch']:3d}  loss {row['loss']:.3f}  {accuracy}"
    if "accuracy_unlabelled" in row:
        line += f"  pretext accuracy {row['accuracy_unlabelled']:.3f}"
    return line


def save_checkpoint(path: Path, network: keras.Model, rows: list[dict], settings: str) -> None:
    """Write weights, batch statistics, optimiser and history to an .npz, atomically.

    `settings` names what it is of: a checkpoint of other settings or images is not restored.
    """
    arrays = {str(i): variable.numpy() for i, variable in enumerate(list_state(network))}
    about = json.dumps({"settings": settings, "rows": rows})
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, about=about, **arrays)


def restore_checkpoint(path: Path, network: keras.Model, settings: str) -> list[dict[str, Any]]:
    """Put a network back into the state of a checkpoint and return the history up to there.

    Empty if there is none of these settings that can be read; then the network is as it was.
    """
    variables = list_state(network)
    try:
        with np.load(path) as file:
            about = json.loads(str(file["about"]))
            arrays = [file[str(i)] for i in range(len(variables))]
        shapes_fit = [a.shape for a in arrays] == [tuple(v.shape) for v in variables]
        if about["settings"] != settings or not shapes_fit:
            return []
        rows = list(about["rows"])
    except Exception:  # whatever a damaged file raises, training then starts anew
        return []
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return rows


def list_state(network: keras.Model) -> list[keras.Variable]:
    """List all that training changes: weights, batch statistics and the optimiser's variables."""
    return [*network.variables, *network.optimizer.variables]
