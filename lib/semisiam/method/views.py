"""Pretext tasks that compare two views of each unlabelled image, cut on the device.

`pretext` has the tasks that name how an image was changed; here nothing is named, the two views
are held against each other. A further task is one entry of `VIEW_TASKS` and one test.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

PROJECTION = 512  # units of the projector, where Barlow Twins compares the views
REDUNDANCY = 0.005  # lambda of Barlow Twins (Zbontar et al., ICML 2021, 3.1)
CONFIDENT = 0.95  # a pseudo-label counts from here on (FixMatch, Sohn et al., NeurIPS 2020, 2.2)


class ViewTask(NamedTuple):
    """What makes a task of two views; the first n rows of what a head gives are of view one."""

    views: tuple[Callable, Callable]  # images (n, S, S, C) and a seed (2,), to such images
    head: Callable[[layers.Layer], layers.Layer]  # the class head, to the layer `y_rot`
    loss: Callable[[Any, tf.Tensor], tf.Tensor]  # what that gives of both views (2n, D), to ()
    check: Callable[[np.ndarray, np.ndarray], dict[str, float | None]]  # and labels (n,): learnt?


def crop(images: tf.Tensor, seed, *, area: float) -> tf.Tensor:
    """Cut a square of at least this share of each image, enlarge it, and flip half of them.

    From (n, S, S, C) of 0-255 to float32 of the same shape; `seed`, (2,), decides all.
    """
    n = tf.shape(images)[0]
    share, down, along, turn = tf.unstack(tf.random.stateless_uniform((4, n), seed))
    side = tf.sqrt(area + (1 - area) * share)
    top, left = (1 - side) * down, (1 - side) * along
    ends = tf.where(turn < 0.5, [left, left + side], [left + side, left])  # from right to left
    boxes = tf.stack([top, ends[0], top + side, ends[1]], axis=1)
    return tf.image.crop_and_resize(images, boxes, tf.range(n), images.shape[1:3])


def distort(images: tf.Tensor, seed) -> tf.Tensor:
    """Crop, from a quarter of the image, and change the brightness by up to 40 %."""
    shape = (tf.shape(images)[0], 1, 1, 1)
    factor = tf.random.stateless_uniform(shape, [seed[0], seed[1] + 2], 0.6, 1.4)
    return tf.clip_by_value(factor * crop(images, seed, area=0.25), 0, 255)


def draw_views(images: tf.Tensor, labels: tf.Tensor, task: str) -> tf.Tensor:
    """Draw both views of a batch: uint8 (n, S, S, C) to (2n, S, S, C), first views first.

    The batch's first label, from `pretext.draw_labels`, is the seed: equal batches give equal
    views, in a resumed run too. One call of the encoder gets both, so they are normalised
    together; Barlow Twins' authors normalise each view by itself.
    """
    views = [make(images, [labels[0], i]) for i, make in enumerate(VIEW_TASKS[task].views)]
    return tf.cast(tf.round(tf.concat(views, axis=0)), tf.uint8)


def barlow_twins(_, projections: tf.Tensor) -> tf.Tensor:
    """Loss of Barlow Twins for projections (2n, D): 0 where the cross-correlation is the identity.

    Zbontar et al., equation 1, divided by D, so that it is of the size of a cross-entropy.
    """
    found = _correlate(projections)
    diagonal = tf.linalg.diag_part(found)
    off = tf.reduce_sum(found**2) - tf.reduce_sum(diagonal**2)
    return (tf.reduce_sum((1 - diagonal) ** 2) + REDUNDANCY * off) / found.shape[0]


def _correlate(projections: tf.Tensor) -> tf.Tensor:
    """Cross-correlation, (D, D), of the units of view one with those of view two."""
    one, two = map(_standardise, tf.split(projections, 2))
    return tf.matmul(one, two, transpose_a=True) / tf.cast(tf.shape(one)[0], tf.float32)


def _standardise(projections: tf.Tensor) -> tf.Tensor:
    mean, variance = tf.nn.moments(projections, 0)
    return (projections - mean) * tf.math.rsqrt(variance + 1e-9)


def check_correlation(projections: np.ndarray, _) -> dict[str, float | None]:
    """Means over the cross-correlation: `diagonal` (learnt: 1) and `off_diagonal`, absolute (0)."""
    found = _correlate(tf.constant(projections)).numpy()
    off = np.abs(found[~np.eye(len(found), dtype=bool)])
    return {"diagonal": float(np.diag(found).mean()), "off_diagonal": float(off.mean())}


def consistency(_, probabilities: tf.Tensor) -> tf.Tensor:
    """Loss of FixMatch's equation 4 for class probabilities (2n, K): weak views, then strong ones.

    The class of a confident weak view is the target of its strong one; others count 0.
    """
    weak, strong = tf.split(probabilities, 2)
    weak = tf.stop_gradient(weak)
    entropy = keras.losses.sparse_categorical_crossentropy(tf.argmax(weak, axis=1), strong)
    sure = tf.cast(tf.reduce_max(weak, axis=1) >= CONFIDENT, entropy.dtype)
    return tf.reduce_mean(sure * entropy)


def check_pseudo_labels(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Share of images that are `confident` in the weak view, and their `accuracy` (None: none)."""
    weak = probabilities[: len(labels)]
    sure = weak.max(axis=1) >= CONFIDENT
    right = weak[sure].argmax(axis=1) == labels[sure]
    accuracy = float(right.mean()) if len(right) else None
    return {"confident": float(sure.mean()), "accuracy": accuracy}


def _project(_) -> layers.Layer:
    steps = [layers.Dense(PROJECTION, use_bias=False), layers.BatchNormalization(momentum=0.9)]
    steps += [layers.ReLU(), layers.Dense(PROJECTION, dtype="float32")]
    return keras.Sequential(steps, name="y_rot")


VIEW_TASKS = {
    # the task of the authors' sequel: views agree, unit by unit, and units differ
    "barlow_twins": ViewTask((distort, distort), _project, barlow_twins, check_correlation),
    # the class of a weak view, once sure, is that of the strong one; no head of its own
    "consistency": ViewTask(
        (partial(crop, area=0.8), distort),
        lambda class_head: keras.Sequential([class_head], name="y_rot"),
        consistency,
        check_pseudo_labels,
    ),
}
