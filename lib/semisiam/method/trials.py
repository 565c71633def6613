"""Whole cells in this process: the steps that the master notebook, the audit and 09 share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd

from semisiam.cell import Cell
from semisiam.method import attack as attacks
from semisiam.method import evaluation, model, splits, training

TRIGGER_IMAGES = 300  # a sample is enough for a share, and keeps a cell's evaluation short


@dataclass(frozen=True)
class Labelled:
    """D_l of a cell; images are uint8 (N_l, S, S, 3)."""

    rows: np.ndarray  # int64 (N_l,), its places in the pool
    labels: np.ndarray  # int64 (N_l,), with the noise that the cell asks for
    clean: np.ndarray  # without the attack
    attacked: np.ndarray
    images: np.ndarray  # what the network gets: one of the two, after a defence
    places: np.ndarray  # the marks, see `attack.choose_marks`
    values: np.ndarray  # what they are set to, 0-255


def prepare_labelled(
    cell: Cell,
    pool: np.ndarray,
    pool_labels: np.ndarray,
    n_unlabelled: int,
    recorded: splits.RecordedSplit | None = None,
) -> Labelled:
    """Draw a cell's labelled set, attack it and defend it (paper, III-B and III-C).

    A mark is chosen from the true classes; each image gets the mark of its given label, which
    noise may have changed. The pool is uint8 (N, S, S, 3), its labels int64 (N,); N_l is a share of
    `n_unlabelled`. A `recorded` set is repeated with its marks. Raises `SplitError` if it does not
    fit the cell, more labels are asked for than there are, or a class would get none; `ValueError`
    if the marks are more than an image has pixels.
    """
    n_labelled = splits.count_labelled(cell.label_fraction, n_unlabelled)
    draw = {"split": cell.split, "seed": cell.seed}
    rows = recorded.labelled if recorded else splits.draw_labelled(pool_labels, n_labelled, **draw)
    if len(rows) != n_labelled:
        told = f"has {len(rows)} labelled images, by label_fraction there are {n_labelled}"
        raise splits.SplitError(f"splits_file {told}: set that one right")
    clean, labels = pool[rows], pool_labels[rows]
    mark = {"draw": cell.attack_draw, "pixels": cell.attack_pixels, "value": cell.attack_value}
    marks = attacks.choose_marks(cell.attack, clean, labels, seed=cell.seed, **mark)
    alike = recorded and recorded.places.size == marks[0].size and all(recorded.values == marks[1])
    moved = alike and cell.attack == "searched" and (recorded.places != marks[0]).any()
    if recorded and cell.attack != "none" and (moved or not alike):
        told = "use the same attack and its settings"
        raise splits.SplitError(f"splits_file was recorded with another kind of mark: {told}")
    places, values = (recorded.places, recorded.values) if alike else marks
    labels = splits.add_noise(labels, cell.label_noise, **draw)
    attacked = _attack(cell, clean, labels, places, values)
    shown = clean if cell.attack == "none" else attacked
    images = attacks.defend(shown, cell.defence, jpeg_quality=cell.jpeg_quality)
    return Labelled(rows, labels, clean, attacked, images, places, values)


def _attack(cell, clean, labels, places, values):
    """Attack D_l, but for the share that the cell spares."""
    if cell.attack == "random":
        draw = {"seed": cell.seed, "draw": cell.attack_draw}
        attacked = attacks.attack_at_random(clean, places, values, **draw)
    else:
        attacked = _mark(cell)(clean, labels, places, values)
    spared = ~attacks.choose_attacked(labels, cell.attack_share, seed=cell.seed)
    attacked[spared] = clean[spared]
    return attacked


def _mark(cell):
    return attacks.add_patches if cell.attack == "patch" else attacks.attack


def predict_twice(
    encoder: keras.Model, images: np.ndarray, labels: np.ndarray, test: np.ndarray, batch_size: int
) -> dict[str, np.ndarray]:
    """Predict test images with the SVM fitted on D_l (III-C), in the two readings of a network.

    Images are uint8 (N, S, S, 3), `images` and `labels` D_l as trained on; the encoder is left as
    it was. Returns int64 (N,) each: `as trained`, and `re-estimated` with exact statistics of D_l.
    """
    readings = {"as trained": fit(encoder, images, labels)(test)}
    with model.recalibrated(encoder, images, batch_size):
        return readings | {"re-estimated": fit(encoder, images, labels)(test)}


def fit(encoder: keras.Model, images: np.ndarray, labels: np.ndarray) -> Callable:
    """Fit the SVM on embeddings of images; return a function from images to classes, int (N,)."""
    svm = evaluation.fit_svm(model.embed(encoder, images), labels)
    return lambda shown: svm.predict(model.embed(encoder, shown))


def score_trigger(
    cell: Cell, predict: Callable, labelled: Labelled, test: np.ndarray, test_labels: np.ndarray
) -> list[dict[str, float]]:
    """Ask how well each class's mark works as a trigger on up to 300 test images of other classes.

    `predict` goes from test images without marks, uint8 (N, S, S, 3), to classes, int (N,). Returns
    one row a class c, over the images of other classes: `predicted` as c with c's mark (the attack
    success rate) and `unmarked` without it, shares in [0, 1]; `flipped`: of those not predicted as
    c without the mark, the share that is with it (0 if there is none). NaN without such images.
    """
    count, rng = min(TRIGGER_IMAGES, len(test)), np.random.default_rng([cell.seed, 0x716])
    few = np.sort(rng.choice(len(test), count, replace=False))
    images, labels = test[few], test_labels[few]
    unmarked, rows = predict(images), []
    for c in range(len(labelled.places)):
        shares = dict.fromkeys(("predicted", "unmarked", "flipped"), np.nan)
        if (other := labels != c).any():
            as_c = np.full(other.sum(), c)
            marked = _mark(cell)(images[other], as_c, labelled.places, labelled.values)
            hit, before = predict(marked) == c, unmarked[other] == c
            shares = {"predicted": float(hit.mean()), "unmarked": float(before.mean())}
            shares["flipped"] = float(hit[~before].mean()) if not before.all() else 0.0
        rows.append({"class": c} | shares)
    return rows


def describe_training(
    cell: Cell,
    encoder: keras.Model,
    network: keras.Model | None,
    history: pd.DataFrame,
    labelled: Labelled,
    n_unlabelled: int,
    test: np.ndarray,
    test_labels: np.ndarray,
) -> dict[str, Any]:
    """Measure what training did: was each task learnt, and did the statistics keep up?

    Returns `n_updates`; `bn_initial_share`, see `model.share_of_initial_statistics`;
    `training_accuracy` of the last epoch; `labelled_accuracy`, see `model.score_modes`;
    `rotation_accuracy`: of the pretext head, in `training` and on `test` images (0.25 is guessing,
    for rotations), or `pretext_check`, see `model.score_pretext`. What is not there is left out.
    """
    n_updates = cell.epochs * training.count_steps(cell, len(labelled.labels), n_unlabelled)
    share = model.share_of_initial_statistics(encoder, cell.mode, n_updates)
    facts: dict[str, Any] = {"n_updates": n_updates, "bn_initial_share": share}
    if cell.mode == "frozen":
        return facts
    classifier = model.build_classifier(network, encoder)
    facts["training_accuracy"] = float(history["accuracy_labelled"].iloc[-1])
    sets = labelled.images, labelled.labels
    facts["labelled_accuracy"] = model.score_modes(classifier, *sets, cell.batch_size)
    if cell.mode == "semi" and cell.pretext != "none":
        score = model.score_pretext(network, encoder, test, test_labels, cell.pretext)
        if "accuracy_unlabelled" in history:
            last = float(history["accuracy_unlabelled"].iloc[-1])
            facts["rotation_accuracy"] = {"training": last, "test": score.pop("accuracy")} | score
        else:
            facts["pretext_check"] = score
    return facts
