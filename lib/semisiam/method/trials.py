"""Controls of the audit: live ones in one process, and recorded ones compared over splits."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from semisiam.cell import Cell
from semisiam.data.datasets import Dataset
from semisiam.evidence import results
from semisiam.evidence.statistics import compare_paired
from semisiam.method import attack as attacks
from semisiam.method import evaluation, model, splits, training
from semisiam.method.defence import defend


def run_control(cell: Cell, data: Dataset) -> dict[str, Any]:
    """Train and score one cell as `master` does, in short and without writing anything.

    Args:
        cell: the settings; `attack_unlabelled` and `bn_recalibrate` are left to `master`.
        data: from `datasets.load`.

    Returns:
        `updates`; `training` and `inference`, the class head's accuracy on D_l in both modes;
        `as trained`, `re-estimated` and `clean fit`, test accuracies of the SVM; `trigger`, the
        mean over classes of what `evaluation.score_trigger` calls `flipped`. All but the first in
        [0, 1].
    """
    n_labelled = splits.count_labelled(cell.label_fraction, len(data.unlabelled))
    rows = splits.draw_labelled(data.train_labels, n_labelled, split=cell.split, seed=cell.seed)
    clean, labels = data.train[rows], data.train_labels[rows]
    marks = attacks.choose_marks(
        cell.attack,
        clean,
        labels,
        seed=cell.seed,
        pixels=cell.attack_pixels,
        value=cell.attack_value,
    )
    labelled = _tamper(cell, clean, labels, marks)
    encoder, network = training.start_network(cell, len(data.class_names))
    training.train(cell, network, labelled, labels, data.unlabelled)
    return {
        "updates": cell.epochs * training.count_steps(cell, n_labelled, len(data.unlabelled)),
        **_score(cell, data, encoder, network, labelled, clean, labels, marks),
    }


def _tamper(cell, clean, labels, marks):
    """D_l as the cell's attack and defence leave it."""
    if cell.attack == "none":
        tampered = clean
    elif cell.attack == "random":
        tampered = attacks.attack_at_random(clean, *marks, seed=cell.seed)
    else:
        tampered = attacks.attack(clean, labels, *marks)
    spared = ~attacks.choose_attacked(labels, cell.attack_share, seed=cell.seed)
    tampered = np.where(spared[:, None, None, None], clean, tampered)
    return defend(tampered, cell.defence, jpeg_quality=cell.jpeg_quality)


def _score(cell, data, encoder, network, labelled, clean, labels, marks):
    test, test_labels = data.test, data.test_labels
    svm = evaluation.fit_svm(model.embed(encoder, labelled), labels)
    on_clean = evaluation.fit_svm(model.embed(encoder, clean), labels)
    embedded = model.embed(encoder, test)
    few = evaluation.choose_few(test_labels, seed=cell.seed)
    rows = evaluation.score_trigger(
        lambda images: svm.predict(model.embed(encoder, images)),
        test[few],
        test_labels[few],
        *marks,
    )
    classifier = model.build_classifier(network, encoder)
    scores = model.score_modes(classifier, labelled, labels, cell.batch_size)
    with model.recalibrated(encoder, labelled, cell.batch_size):
        again = evaluation.fit_svm(model.embed(encoder, labelled), labels)
        recalibrated = again.score(model.embed(encoder, test), test_labels)
    return scores | {
        "as trained": svm.score(embedded, test_labels),
        "re-estimated": recalibrated,
        "clean fit": on_clean.score(embedded, test_labels),
        "trigger": float(np.mean([row["flipped"] for row in rows])),
    }


def read_controls(folder: Path) -> pd.DataFrame:
    """Read a study whose cells are `variants`, as `run_control` would have scored them.

    Args:
        folder: as for `results.collect`.

    Returns:
        Indexed by control (the variant's name) and split: `updates`, and in percent `as trained`,
        `re-estimated`, `clean fit` and `trigger`.
    """
    cells = results.collect(folder)
    flipped = [np.mean([row["flipped"] for row in rows]) for rows in cells["trigger"]]
    scores = cells[[*results.MEASURES, "accuracy_clean_fit"]].astype(float).assign(trigger=flipped)
    names = [*results.MEASURES.values(), "clean fit", "trigger"]
    table = (100 * scores).set_axis(names, axis=1).assign(updates=cells["n_updates"])
    control = cells["cell"].str.extract(r"-s\d+-(.+)$", expand=False).rename("control")
    return table.set_index([control, cells["split"]]).sort_index()


def compare_controls(
    controls: pd.DataFrame, pairs: Iterable[tuple[str, str]], measure: str = "re-estimated"
) -> pd.DataFrame:
    """Estimate what one setting changes, paired over the splits of both controls.

    Args:
        controls: from `read_controls`.
        pairs: (control, reference), each a control's name.
        measure: a column of `controls`.

    Returns:
        Indexed by `control - reference`: the columns of `statistics.compare_paired`, in points.
    """
    values = controls[measure]
    rows = {
        f"{control} - {reference}": compare_paired(values[control] - values[reference])
        for control, reference in pairs
    }
    return pd.DataFrame(rows).T
