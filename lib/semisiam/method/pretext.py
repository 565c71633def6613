"""Pretext tasks: how an unlabelled image is changed, and the label that says so (paper, III).

A task is a list of transforms of square images, each of which only moves pixels; the label of a
changed image is its transform's place in the list. The paper's is `rotation`; the others are its
future work and its controls.
"""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np


def _arrange(images: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Cut images in 2 × 2 tiles, read row by row, and lay tile order[i] at place i."""
    rows = np.split(images, 2, axis=1)
    tiles = [tile for row in rows for tile in np.split(row, 2, axis=2)]
    one, two, three, four = (tiles[place] for place in order)
    return np.block([[one, two], [three, four]])


_TURNS = [partial(np.rot90, k=k, axes=(1, 2)) for k in range(4)]
TASKS: dict[str, list[Callable]] = {  # from pixels, (N, S, S), to the same shape
    # the images as they are; the labels mean nothing, and their loss is not counted
    "none": _TURNS[:1] * 4,
    # 0°, 90°, 180°, 270°, counter-clockwise (the paper; Gidaris et al., ICLR 2018)
    "rotation": _TURNS,
    # and upside down, and left for right (Tran, SESEMI, ICCV workshops 2019)
    "rotation_flip": [*_TURNS, lambda images: images[:, ::-1], lambda images: images[:, :, ::-1]],
    # 2 × 2 tiles in all 24 orders (after Noroozi & Favaro, ECCV 2016); S must be even
    "jigsaw": [partial(_arrange, order=order) for order in itertools.permutations(range(4))],
}


def transform(images: np.ndarray, labels: np.ndarray, task: str = "rotation") -> np.ndarray:
    """Change each image by the transform that its pretext label names.

    Takes images (N, S, S, C) of any dtype, labels int (N,) from 0 (for `rotation` quarter turns)
    and a key of `TASKS`; returns changed copies of the same shape and dtype.
    """
    pixels = images.reshape(len(images), -1, images.shape[-1])
    places = list_moves(task, images.shape[1])[labels]
    return np.take_along_axis(pixels, places[..., None], axis=1).reshape(images.shape)


def transform_all(images: np.ndarray, task: str = "rotation") -> tuple[np.ndarray, np.ndarray]:
    """Change every image in all T ways of the task: (T·N, S, S, C), way by way, and the labels."""
    labels = np.repeat(np.arange(len(TASKS[task])), len(images))
    return transform(np.concatenate([images] * len(TASKS[task])), labels, task), labels


def list_moves(task: str, size: int) -> np.ndarray:
    """List where each transform takes each pixel from: int32 (T, S·S), places read row by row."""
    places = np.arange(size * size, dtype=np.int32).reshape(1, size, size)
    return np.stack([change(places).ravel() for change in TASKS[task]])


def draw_labels(n_images: int, *, task: str, seed: list[int], epoch: int) -> np.ndarray:
    """Draw one pretext label per image for an epoch, int64 (n_images,), each equally often.

    For a task on `views`, which has no labels, seeds of the views.
    """
    rng = np.random.default_rng([*seed, epoch, 0x207])  # a stream of its own
    if task not in TASKS:
        return rng.integers(2**31, size=n_images)
    return rng.permutation(np.arange(n_images) % len(TASKS[task]))
