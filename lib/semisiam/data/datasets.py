"""Data sets as uint8 arrays of one size: the structure that every later stage takes (III-A).

`load` opens the prepared arrays of a source, or a seeded subset of them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from semisiam.data.draws import draw_stratified
from semisiam.data.files import DataError
from semisiam.data.prepared import Origin, PreparedPart, prepare


@dataclass(frozen=True)
class Dataset:
    """A data set at one image size S; images are uint8 (N, S, S, 3) in 0-255 and read-only.

    train, train_labels: the pool that labelled sets are drawn from; labels int64 (N,), from 0.
    unlabelled: D_u; the very array `train` where the data set has no images without labels.
    test, test_labels: used once, at the end.
    notes: what a reader of any result must know (reduced scale, conversions, classes left out).
    test_rows: int64, places of the test images among all labelled ones, for `load`'s `test_rows`;
        empty where the test set is not drawn.
    content: 16 hex digits that identify the images of all parts and their order, whatever the
        image size or machine; indices recorded for one content mean nothing for another.
    train_origin, unlabelled_origin, test_origin: see `Origin`.
    facts: of the prepared arrays: sizes before resizing (height, width) and value range.
    folder: where the prepared arrays are kept.
    """

    name: str
    class_names: tuple[str, ...]
    train: np.ndarray
    train_labels: np.ndarray
    unlabelled: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    notes: tuple[str, ...]
    test_rows: np.ndarray
    content: str
    train_origin: Origin
    unlabelled_origin: Origin
    test_origin: Origin
    facts: dict[str, dict[str, list[int]]]
    folder: Path


def load(
    name: str,
    image_size: int,
    *,
    data_dir: str = "",
    unlabelled_limit: int = 0,
    test_limit: int = 0,
    test_split: str = "random",
    test_rows: Sequence[int] | None = None,
    seed: int = 0,
) -> Dataset:
    """Open a data set at one image size, preparing it first if need be.

    Args:
        name: one of `SOURCES`.
        image_size: height and width after resizing (px).
        data_dir: folder of the raw files; "" for the cache, which is filled by a download.
        unlabelled_limit: use at most this many unlabelled images (0: all), drawn at random and,
            where they have labels, stratified; D_l is then drawn from the same subset.
        test_limit: likewise for test images.
        test_split: how malaria is halved, `random` (the paper) or `patient`.
        test_rows: a recorded test set, `Dataset.test_rows`, to repeat instead of drawing one.
        seed: of the subsets and of halves that are not official.

    Raises:
        DataError: the data is not there, damaged or unusable.
    """
    halving = {"test_split": test_split, "test_rows": test_rows, "seed": seed}
    prepared = prepare(name, image_size, data_dir=data_dir, **halving)
    facts, parts = prepared.facts, dict(prepared.parts)
    notes = list(facts["notes"])
    pool = "unlabelled" if "unlabelled" in parts else "train"
    limits = {"unlabelled": (pool, unlabelled_limit), "test": ("test", test_limit)}
    for what, (part, limit) in limits.items():
        total = len(parts[part].labels)
        if 0 < limit < total:
            notes.append(f"reduced scale: {limit:,} of {total:,} {what} images")
            parts[part] = _draw(parts[part], limit, f"{what}_limit", seed)
    unlabelled = parts.get("unlabelled", parts["train"])
    return Dataset(
        name=name,
        class_names=tuple(facts["class_names"]),
        train=parts["train"].images,
        train_labels=parts["train"].labels,
        unlabelled=unlabelled.images,
        test=parts["test"].images,
        test_labels=parts["test"].labels,
        notes=tuple(notes),
        test_rows=prepared.test_rows,
        content=_identify(facts["class_names"], parts),
        train_origin=parts["train"].origin,
        unlabelled_origin=unlabelled.origin,
        test_origin=parts["test"].origin,
        facts=facts["parts"],
        folder=prepared.folder,
    )


def find_hidden_labels(dataset: Dataset) -> np.ndarray:
    """Labels of D_u, int64 (N_u,), for controls alone; training never sees them.

    Raises:
        DataError: D_u is not the training pool, so nobody knows them.
    """
    if dataset.unlabelled is not dataset.train:
        raise DataError(f"attack_unlabelled: the unlabelled images of {dataset.name} have no class")
    return dataset.train_labels


def summarise(dataset: Dataset) -> str:
    """Describe a data set in plain text: parts, classes, notes, and where it is kept."""
    return "\n".join(
        [
            f"{dataset.name}, {dataset.train.shape[1]} px, content {dataset.content}",
            f"\n{describe_parts(dataset).to_string()}",
            f"\n{describe_classes(dataset).to_string()}\n",
            *(f"- {note}" for note in dataset.notes),
            f"kept in {dataset.folder}",
        ]
    )


def describe_classes(dataset: Dataset) -> pd.DataFrame:
    """Count labelled images: one row a class, int columns `train` and `test`."""
    n = len(dataset.class_names)
    counts = {
        "train": np.bincount(dataset.train_labels, minlength=n),
        "test": np.bincount(dataset.test_labels, minlength=n),
    }
    return pd.DataFrame(counts, index=pd.Index(dataset.class_names, name="class"))


def describe_parts(dataset: Dataset) -> pd.DataFrame:
    """Describe train, unlabelled (if it is not train) and test: one row a part.

    Columns: `images`; `heights` and `widths` before resizing (px) and `values` after it, each as
    "smallest-largest" over the whole part; `repeats`, images equal to an earlier one of the part;
    `in train`, images equal to a training image.
    """
    origins = {"train": dataset.train_origin, "test": dataset.test_origin}
    if dataset.unlabelled is not dataset.train:
        origins["unlabelled"] = dataset.unlabelled_origin
    in_train = _as_keys(dataset.train_origin)
    rows = {}
    for part, origin in origins.items():
        facts, digests = dataset.facts[part], _as_keys(origin)
        (low_h, low_w), (high_h, high_w) = facts["smallest"], facts["largest"]
        rows[part] = {
            "images": len(digests),
            "heights": f"{low_h}-{high_h}",
            "widths": f"{low_w}-{high_w}",
            "values": "{}-{}".format(*facts["values"]),
            "repeats": len(digests) - len(np.unique(digests)),
            "in train": np.isin(digests, in_train).sum() if part != "train" else "-",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _as_keys(origin: Origin) -> np.ndarray:
    return origin.digests.view("V16").ravel()


def _draw(part: PreparedPart, limit: int, setting: str, seed: int) -> PreparedPart:
    n_classes = len(np.unique(part.labels))
    if limit < n_classes:
        raise DataError(
            f"{setting} = {limit} is less than one image for each of {n_classes} classes"
        )
    rows = draw_stratified(part.labels, limit, seed)
    origin = Origin(part.origin.names[rows], part.origin.digests[rows])
    return PreparedPart(np.asarray(part.images[rows]), part.labels[rows], origin)


def _identify(class_names: list[str], parts: dict[str, PreparedPart]) -> str:
    """Hash which images and labels the parts hold, in order: 16 hex digits."""
    content = hashlib.sha256(json.dumps(class_names).encode())
    for name in sorted(parts):
        content.update(name.encode() + parts[name].origin.digests.tobytes())
        content.update(parts[name].labels.tobytes())
    return content.hexdigest()[:16]
