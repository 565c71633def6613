"""Labelled sets: which images of the pool carry a label in a given split (paper, III-B and IV)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


class SplitError(ValueError):
    """A labelled set that cannot be drawn; the message says what is short of what."""


def count_labelled(fraction: float, n_unlabelled: int) -> int:
    """Number N_l of labelled images for a share of N_u.

    From 100 images on, whole percents up to 10 are multiples of the floor of 1 %, as in the paper
    (IV): of 13,779 images 1 % is 137, 5 % is 685. All other shares are rounded down.
    """
    percent = round(fraction * 100, 9)
    if percent == int(percent) <= 10 and n_unlabelled >= 100:
        return int(percent) * (n_unlabelled // 100)
    return int(round(fraction * n_unlabelled, 9))  # 0.285 · 200 is a little less than 57


def draw_labelled(labels: np.ndarray, n_labelled: int, *, split: int, seed: int) -> np.ndarray:
    """Draw one labelled set, stratified by class as evenly as the counts allow.

    Takes the pool's labels, int (N,) from 0, and which random set it is, `split` (0-4 in the
    paper); returns sorted indices into the pool, int64 (n_labelled,). Raises `SplitError` if more
    labels are asked for than there are, or a class would get none.
    """
    rng = np.random.default_rng([seed, split])
    counts = _share_evenly(n_labelled, np.bincount(labels), rng)
    members = [np.flatnonzero(labels == c) for c in range(len(counts))]
    chosen = [rng.choice(m, n, replace=False) for m, n in zip(members, counts, strict=True)]
    return np.sort(np.concatenate(chosen))


def _share_evenly(total: int, available: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share `total` images over classes as evenly as `available` allows; `rng` decides the rest."""
    if total > available.sum():
        told = f"{total} labelled images asked for, but only {available.sum()} images have a label"
        raise SplitError(f"{told}: lower label_fraction")
    if total < len(available) or not available.all():
        told = f"{total} labelled images for {len(available)} classes with {available.tolist()} "
        told += "images each: raise label_fraction"
        raise SplitError(f"a class would have no labelled example: {told}")
    counts = np.zeros_like(available)
    while (left := total - counts.sum()) > 0:
        open_classes = np.flatnonzero(counts < available)
        if left < len(open_classes):
            counts[rng.choice(open_classes, left, replace=False)] += 1
        else:
            room = (available - counts)[open_classes]
            counts[open_classes] += np.minimum(left // len(open_classes), room)
    return counts


def add_noise(labels: np.ndarray, share: float, *, split: int, seed: int) -> np.ndarray:
    """Give a share of the labels, rounded to whole images, a wrong class: int64 (N_l,) from 0.

    Symmetric noise: which ones is drawn at random, and each wrong class is as likely. A larger
    share changes the same images as a smaller one, and more.
    """
    rng, n_classes = np.random.default_rng([seed, split, 0x401]), labels.max() + 1
    order, steps = rng.permutation(len(labels)), rng.integers(1, max(n_classes, 2), len(labels))
    chosen, noisy = order[: round(share * len(labels))], labels.copy()
    noisy[chosen] = (labels[chosen] + steps[chosen]) % n_classes
    return noisy


@dataclass(frozen=True)
class RecordedSplit:
    """What a run drew, so that others can repeat it exactly."""

    labelled: np.ndarray  # int64 (N_l,), places of the labelled images in the pool
    places: np.ndarray  # int64 (n_classes, P, 2), rows and columns (px) of the attacked pixels
    values: np.ndarray  # int64 (n_classes,), what they are set to, 0-255
    test_rows: np.ndarray  # int64 (N_t,), `Dataset.test_rows`; empty if the test set is not drawn
    content: str  # `Dataset.content`, which names the images that the places refer to


def describe_split(recorded: RecordedSplit, *, split: int) -> dict[str, Any]:
    """Describe a split in plain values for `split.json`, labelled images by split."""
    values = {name: array.tolist() for name, array in vars(recorded).items() if name != "content"}
    return values | {"content": recorded.content, "labelled": {str(split): values["labelled"]}}


def read_split(path: str | Path, *, split: int) -> RecordedSplit:
    """Read one split from a file of `describe_split`'s form, which may hold several.

    Raises `SplitError`: no such file, not of this form, or without this split.
    """
    try:
        recorded = json.loads(Path(path).read_text("utf-8"))
        rows = recorded["labelled"].get(str(split), [])
        lists = rows, recorded["places"], recorded["values"], recorded["test_rows"]
        found = RecordedSplit(*(np.array(a, np.int64) for a in lists), recorded["content"])
    except OSError as error:
        raise SplitError(f"splits_file {path} cannot be read: {error.strerror}") from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise SplitError(f"splits_file {path} is not a file of recorded splits") from None
    if not rows:
        told = f"has splits {', '.join(recorded['labelled'])}, not {split}"
        raise SplitError(f"splits_file {path} {told}")
    return found


def check_recorded(recorded: RecordedSplit, *, content: str, image_size: int) -> None:
    """Raise `SplitError` if a split was recorded on other images, or on larger ones."""
    if recorded.content != content:
        told = f"recorded on other images (content {recorded.content}, here {content})"
        raise SplitError(f"splits_file was {told}: use the same dataset, limits and seed")
    if (place := recorded.places.max(initial=0)) >= image_size:
        told = f"outside images of image_size = {image_size}"
        raise SplitError(f"splits_file has an attacked pixel at {place} px, {told}")
