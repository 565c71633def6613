"""One's own images, few of them labelled: each is held out once, so no test set is needed."""

import os
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

from semisiam.cell import Cell
from semisiam.data.datasets import Dataset
from semisiam.data.files import DataError
from semisiam.method import evaluation, model, training


def write_digits(folder: Path, *, per_class: int, n_unlabelled: int, seed: int) -> None:
    """Write some of scikit-learn's digits as one would lay out images of one's own.

    Args:
        folder: gets the class folders `0` to `9` and `unlabelled`, with PNGs of 8x8 pixels.
        per_class: how many digits to put into each class folder.
        n_unlabelled: how many of the others to put into `unlabelled`.
        seed: of the choice.
    """
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(seed).permutation(len(images))
    of_class = {str(c): order[digits.target[order] == c][:per_class] for c in range(10)}
    rest = order[np.isin(order, np.concatenate(list(of_class.values())), invert=True)]
    for name, numbers in (of_class | {"unlabelled": rest[:n_unlabelled]}).items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            path = folder / name / f"{number:04}.png"
            Image.fromarray(images[number]).save(path)
            os.utime(path, (0, 0))  # so that the same files are prepared only once


def pool_labelled(data: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put all images with a label together, because folds hold each of them out in turn.

    Returns:
        uint8 (N, S, S, 3), int64 (N,), and the file of each, str (N,).

    Raises:
        DataError: not more images without a label, which is what the comparison is about.
    """
    images = np.concatenate([data.train, data.test])
    n_unlabelled = len(data.unlabelled) if data.unlabelled is not data.train else 0
    if n_unlabelled <= len(images):
        raise DataError(
            f"the folder `unlabelled` has {n_unlabelled} images, the class folders {len(images)}: "
            "the comparison needs more images without a label than with one"
        )
    labels = np.concatenate([data.train_labels, data.test_labels])
    return images, labels, np.concatenate([data.train_origin.names, data.test_origin.names])


def draw_folds(labels: np.ndarray, n_folds: int, *, seed: int) -> list[np.ndarray]:
    """Draw which images are held out in each fold, stratified; each image is held out once.

    Args:
        labels: int (N,), classes from 0.
        n_folds: at least 2, at most the images of the smallest class.
        seed: any non-negative integer.

    Returns:
        One bool (N,) per fold, True where held out.

    Raises:
        DataError: a class has fewer images than there are folds.
    """
    if (fewest := np.bincount(labels).min()) < n_folds:
        raise DataError(
            f"{n_folds} folds, but a class has {fewest} labelled images: use fewer folds"
        )
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(labels, labels)
    return [np.isin(np.arange(len(labels)), held_out) for _, held_out in folds]


def predict_held_out(
    cell: Cell,
    images: np.ndarray,
    labels: np.ndarray,
    unlabelled: np.ndarray,
    folds: list[np.ndarray],
) -> dict[str, np.ndarray]:
    """Train a cell once per fold without the held-out images, and predict their classes (III-C).

    Every fold starts from the same initial weights, so that the network is built only once.

    Args:
        cell: the settings.
        images: uint8 (N, S, S, 3), all images with a label.
        labels: int64 (N,).
        unlabelled: uint8 (N_u, S, S, 3).
        folds: from `draw_folds`; the images that a fold does not hold out are its D_l.

    Returns:
        int64 (N,) each, predicted by the SVM fitted on the embeddings of D_l: as they are
        (`as trained`), and with batch normalisation's statistics `re-estimated` on D_l.
    """
    encoder, network = training.start_network(cell, len(np.unique(labels)))
    start = [variable.numpy() for variable in _state(network)]
    predicted = {"as trained": np.zeros_like(labels), "re-estimated": np.zeros_like(labels)}
    for held_out in folds:
        for variable, value in zip(_state(network), start, strict=True):
            variable.assign(value)
        known = images[~held_out], labels[~held_out]
        training.train(cell, network, *known, unlabelled)
        predicted["as trained"][held_out] = _predict(encoder, *known, images[held_out])
        with model.recalibrated(encoder, known[0], cell.batch_size):
            predicted["re-estimated"][held_out] = _predict(encoder, *known, images[held_out])
    return predicted


def _state(network: keras.Model) -> list[keras.Variable]:
    return [*network.variables, *network.optimizer.variables]


def _predict(encoder, labelled, labels, images):
    svm = evaluation.fit_svm(model.embed(encoder, labelled), labels)
    return svm.predict(model.embed(encoder, images))
