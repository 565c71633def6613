"""Batches: which images meet in a step, and how often in an epoch (paper, III).

Every order and every pretext label is drawn from (seed, epoch) alone and each batch is cut from it
by position, so a run that is resumed at an epoch sees the very batches it would have seen.
Images stay uint8 in the array they came in; two batches at a time are copied, ahead of the step.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from semisiam.method import pretext

LABELS = tf.TensorSpec((None,), tf.int64)


def order_passes(n_images: int, length: int, *, seed: list[int], epoch: int) -> np.ndarray:
    """Order `length` images, int64 (length,), as passes over all `n_images`, each reshuffled."""
    rng = np.random.default_rng([*seed, epoch])
    passes = [rng.permutation(n_images) for _ in range(-(-length // n_images))]
    return np.concatenate(passes)[:length]


def supervised_batches(
    labelled: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    epochs: Iterable[int],
    seed: list[int],
    epoch_length: int | None = None,
) -> tf.data.Dataset:
    """Batch D_l once per epoch, in a new order each; the last short batch is kept.

    Takes uint8 (N_l, H, W, C), 0-255, with labels, int (N_l,), and gives `(images, {y_lab})`, uint8
    (B, H, W, C) and int64 (B,), for each of the `epochs`, e.g. `range(100)`. An epoch of another
    `epoch_length` than N_l is passes over D_l.
    """
    n = len(labelled)

    def order(epoch: int) -> tuple[np.ndarray, ...]:
        return (order_passes(n, epoch_length or n, seed=seed, epoch=epoch),)

    signature = (_images_spec(labelled), {"y_lab": LABELS})
    return _read_ahead(order, 1, epochs, lambda i: (labelled[i], labels[i]), batch_size, signature)


def siamese_batches(
    labelled: np.ndarray,
    labels: np.ndarray,
    unlabelled: np.ndarray,
    *,
    batch_size: int,
    epochs: Iterable[int],
    seed: list[int],
    epoch_length: int | None = None,
    task: str = "rotation",
    show: str = "one",
) -> tf.data.Dataset:
    """Batch D_u once per epoch beside as many images of D_l, which therefore repeats N_u/N_l times.

    Gives `({labelled, unlabelled}, {y_lab, y_rot})`: two uint8 (B, H, W, C) and two int64 (B,),
    ceil(N_u / batch_size) times per epoch, `epoch_length` in N_u's place if given. Unlabelled
    images come unchanged, each with the label of the transform that the step will do: `show` is
    `one`, drawn anew each epoch, or `all` T of each image, (T·B, ...). See `supervised_batches`.
    """
    n = epoch_length or len(unlabelled)
    pick = _open_rows(unlabelled)

    def order(epoch: int) -> tuple[np.ndarray, ...]:
        order_l = order_passes(len(labelled), n, seed=[*seed, 0], epoch=epoch)
        order_u = order_passes(len(unlabelled), n, seed=[*seed, 1], epoch=epoch)
        return order_l, order_u, pretext.draw_labels(n, task=task, seed=seed, epoch=epoch)

    def read(chosen_l: np.ndarray, chosen_u: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, ...]:
        images = pick(chosen_u)
        if show == "all":
            ways = len(pretext.TASKS[task])
            k = np.repeat(np.arange(ways), len(images))
            images = np.concatenate([images] * ways)
        return labelled[chosen_l], images, labels[chosen_l], k

    signature = (
        {"labelled": _images_spec(labelled), "unlabelled": _images_spec(unlabelled)},
        {"y_lab": LABELS, "y_rot": LABELS},
    )
    return _read_ahead(order, 3, epochs, read, batch_size, signature)


def image_batches(images: np.ndarray, batch_size: int = 256) -> tf.data.Dataset:
    """Batch images in order, for embedding them: uint8 (B, H, W, C)."""

    def generate() -> Iterator[np.ndarray]:
        for start in range(0, len(images), batch_size):
            yield images[start : start + batch_size]

    batches = tf.data.Dataset.from_generator(generate, output_signature=_images_spec(images))
    count = -(-len(images) // batch_size)  # Keras warns where it must find the end by itself
    return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2)


def _read_ahead(order, n_orders, epochs, read, batch_size, signature):
    """Cut each epoch's `n_orders` orders into batches, and `read` two batches at once."""
    specs = tf.nest.flatten(signature)
    data = tf.data.Dataset

    def read_batch(*chosen):
        types = [spec.dtype for spec in specs]
        arrays = tf.numpy_function(read, chosen, types, stateful=False)  # else one at a time
        shaped = [tf.ensure_shape(a, spec.shape) for a, spec in zip(arrays, specs, strict=True)]
        return tf.nest.pack_sequence_as(signature, shaped)

    orders = data.from_generator(lambda: map(order, epochs), output_signature=(LABELS,) * n_orders)
    batches = orders.flat_map(lambda *epoch: data.from_tensor_slices(epoch).batch(batch_size))
    return batches.map(read_batch, num_parallel_calls=2).prefetch(2)


def _open_rows(images: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Make a function that copies rows of an array.

    Those of a memory-mapped file, if all of it, are read from it: through the mapping every page
    would be a fault, twice the time, and would stay resident (STL-10: 2.8 GB).
    """
    whole = isinstance(images, np.memmap) and images.nbytes == Path(images.filename).stat().st_size
    if not whole or not images.flags.c_contiguous:
        return images.__getitem__
    file = Path(images.filename).open("rb", buffering=0)  # noqa: SIM115, as long as the function
    size = images[:1].nbytes

    def read(rows: np.ndarray) -> np.ndarray:
        copy = np.empty((len(rows), *images.shape[1:]), images.dtype)
        for row, image in zip(rows.tolist(), copy, strict=True):
            if os.preadv(file.fileno(), [image], row * size) != size:
                raise OSError(f"{images.filename} has become shorter while it was in use")
        return copy

    return read


def _images_spec(images: np.ndarray) -> tf.TensorSpec:
    return tf.TensorSpec((None, *images.shape[1:]), tf.uint8)
