"""Random choices of images: test sets that are not official, and subsets of reduced scale."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semisiam.data.files import DataError


@dataclass(frozen=True)
class Halving:
    """How a data set without an official test set gets one: drawn by `seed`, or as recorded.

    test_split: `random` or `patient`.
    rows: places of the test images among all images in order, as recorded by an earlier run;
        they take the place of a draw.
    """

    seed: int = 0
    test_split: str = "random"
    rows: Sequence[int] | None = None

    def __str__(self) -> str:
        """Describe it for notes; equal texts mean equal halves."""
        if self.rows is None:
            return f"drawn by {self.test_split} with seed {self.seed}"
        return f"as recorded ({hashlib.sha256(str(list(self.rows)).encode()).hexdigest()[:8]})"

    def choose(
        self, labels: np.ndarray, share: float, patients: np.ndarray | None = None
    ) -> np.ndarray:
        """Choose the test images: bool (N,), True for test.

        Args:
            labels: int (N,), classes from 0.
            share: of all images, for a random draw; by patient it is a half.
            patients: str (N,), needed by `test_split` patient.

        Raises:
            DataError: a class is too small, or the record is of other images.
        """
        if self.rows is None and self.test_split == "patient":
            return halve_patients(patients, labels, self.seed)
        if self.rows is None:
            return hold_out(labels, share, self.seed)
        is_test = np.isin(np.arange(len(labels)), self.rows)
        if is_test.sum() != len(self.rows) or is_test.all() or not is_test.any():
            raise DataError(
                f"the recorded test set is not one of these {len(labels):,} images: "
                f"{len(self.rows):,} places from {min(self.rows, default=0)} on"
            )
        return is_test


def hold_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose test images at random, `share` of all and as near as possible of each class.

    Returns:
        bool (N,), True for test; every class has an image on both sides.

    Raises:
        DataError: a class has fewer than two images.
    """
    counts = np.unique_counts(labels).counts
    if counts.min() < 2:
        raise DataError("a class has a single image: add more, or give test images of their own")
    count = max(round(share * len(labels)), len(counts))
    return np.isin(np.arange(len(labels)), draw_stratified(labels, count, seed))


def draw_stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw `count` images at random, each class by its share, but at least one image of each.

    Args:
        labels: int (N,), classes from 0.
        count: at least the number of classes, at most N.
        seed: any non-negative integer.

    Returns:
        Sorted indices, int64 (count,).
    """
    rng = np.random.default_rng([seed, count])
    counts = np.unique_counts(labels).counts
    shares = counts * (count / len(labels))
    quotas = np.maximum(np.floor(shares), 1).astype(int)
    while quotas.sum() < count:
        quotas[np.argmax(shares - quotas)] += 1
    while quotas.sum() > count:
        quotas[np.argmax(np.where(quotas > 1, quotas - shares, -np.inf))] -= 1
    classes = zip(np.unique(labels), quotas, strict=True)
    drawn = [rng.choice(np.flatnonzero(labels == c), q, replace=False) for c, q in classes]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def halve_patients(patients: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Halve images so that no patient is on both sides and the classes are nearly even.

    Patients are taken in random order; each joins the side that it makes more even.

    Args:
        patients: str (N,).
        labels: int (N,), classes from 0.
        seed: any non-negative integer.

    Returns:
        bool (N,), True for test.
    """
    rng = np.random.default_rng(seed)
    excess = np.zeros(labels.max() + 1)  # how many more train than test images a class has
    is_test = np.zeros(len(labels), bool)
    for patient in rng.permutation(np.unique(patients)):
        of_patient = patients == patient
        counts = np.bincount(labels[of_patient], minlength=len(excess))
        to_test = np.abs(excess - counts).sum() < np.abs(excess + counts).sum()
        excess += -counts if to_test else counts
        is_test |= of_patient & to_test
    return is_test
