"""Which image belongs where: class folders or a label table, and test sets drawn at random."""

import csv
import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from semisiam.data import files
from semisiam.data.files import DataError, Member, enumerate_few, is_image
from semisiam.data.pixels import Picture

LAYOUT = (
    "expected are CLASS/*.png|jpg|... with an optional unlabelled/* and test/CLASS/*, or images "
    "beside a labels.csv with the columns file,label[,group]"
)
NO_CLASSES = {
    *("train", "training", "val", "valid", "validation"),
    *("test", "testing", "unlabelled", "unlabeled"),
}
UNSUPPORTED = "images of formats that are not supported left out: {}"
NOTHING = np.zeros(0, np.int64)


class Part(NamedTuple):
    """The images of one part of a data set, in order: as read, then as prepared.

    images: as read, yields `(pixels, remark)`, see `pixels.decode_image`; grey may be (H, W).
        Prepared, uint8 (N, S, S, 3), memory-mapped and read-only. Empty where only named.
    names: where each image came from, e.g. a file name; str (N,).
    labels: int64 (N,), classes from 0; -1 where there is none.
    groups: what each image shares with others, e.g. its patient; str (N,), or empty.
    digests: prepared, hashes of the original pixels, uint8 (N, 16); equal ones are duplicates.
    """

    images: Iterable[Picture] | np.ndarray
    names: np.ndarray
    labels: np.ndarray
    groups: np.ndarray = NOTHING
    digests: np.ndarray = NOTHING

    def select(self, rows: np.ndarray) -> "Part":
        """Copy those rows, int or bool, of everything that is not empty."""
        return Part(*(np.asarray(column[rows]) if len(column) else column for column in self))


Layout = tuple[list[str], dict[str, Part], list[str]]  # class names, parts, notes


def read_layout(place: Path, members: dict[str, Member]) -> Layout:
    """Read one's own images: class names, parts without pixels, notes. Raises `DataError`."""
    if not any(map(is_image, members)):
        unsupported = files.count_unsupported(members, " (not supported: {})")
        raise DataError(f"{place} holds no image{unsupported}: {LAYOUT}")
    read = _read_table if "labels.csv" in members else _read_classes
    return read(place, members)


def choose_images(
    place: Path, members: dict[str, Member], folders: Sequence[str]
) -> tuple[Part, list[str]]:
    """Choose the image files in some folders of one depth; labels are places in `folders`.

    Also returns notes of other files. Raises `DataError` where a folder has no image.
    """
    depth, places = folders[0].count("/") + 1, {folder: i for i, folder in enumerate(folders)}
    inside = {name: places.get("/".join(name.split("/")[:depth])) for name in members}
    inside = {name: i for name, i in inside.items() if i is not None}
    names = list(filter(is_image, inside))
    labels = np.array([inside[name] for name in names], np.int64)
    if missing := [folder for folder, i in places.items() if i not in labels]:
        others = (name for name, i in inside.items() if i not in labels)
        unsupported = files.count_unsupported(others, " (not supported: {})")
        raise DataError(
            f"{place} has no image in {', '.join(missing)}{unsupported}: "
            "add images or remove the folder"
        )
    notes = [told] if (told := files.count_unsupported(inside, UNSUPPORTED)) else []
    if others := sorted(n for n in inside if not files.is_picture(n)):
        notes.append(f"files that are not images left out ({len(others)}): {enumerate_few(others)}")
    return Part(NOTHING, np.array(names), labels), notes


def _read_classes(place: Path, members: dict[str, Member]) -> Layout:
    """Read class folders; see `read_layout`."""
    folders = [name[:-1] for name in files.walk(place) if name[-1] == "/"]
    tops = sorted(name for name in folders if "/" not in name)
    classes = [top for top in tops if top not in ("test", "unlabelled")]
    nested = {name.split("/")[0] for name in folders if "/" in name}
    odd = [c for c in classes if c.casefold() in NO_CLASSES and (c != "train" or c in nested)]
    if odd:
        raise DataError(f"{place} has {', '.join(odd)}, which is no class: {LAYOUT}")
    if (count := len(classes)) < 2:
        raise DataError(f"{place} has {count} class folders: at least 2 are needed; {LAYOUT}")
    of_test = {name[5:] for name in folders if name.startswith("test/") and name.count("/") == 1}
    if unknown := sorted(of_test - set(classes)):
        raise DataError(f"{place}/test has {', '.join(unknown)}, which is no class")
    wanted = {"train": classes, "test": [f"test/{name}" for name in classes]}
    wanted |= {"unlabelled": ["unlabelled"]}
    parts, notes, loose = {}, [], set(filter(is_image, members))
    for name, inside in wanted.items():
        if name in ("train", *tops):
            parts[name], said = choose_images(place, members, inside)
            notes, loose = notes + said, loose - set(parts[name].names.tolist())
    if "unlabelled" in parts:
        parts["unlabelled"].labels[:] = -1
    if loose:
        few = enumerate_few(sorted(loose))
        notes.append(f"images outside the class folders left out ({len(loose)}): {few}")
    return classes, parts, notes


def _read_table(place: Path, members: dict[str, Member]) -> Layout:
    """Read images beside labels.csv; see `read_layout`."""
    path, images = place / "labels.csv", list(filter(is_image, members))
    labelled = {file: (label, group) for file, label, group in _parse_table(path, members) if label}
    names = np.array([name for name in images if name in labelled])
    others = np.array([name for name in images if name not in labelled])
    if strange := [n for n in others if "/" in n and not n.startswith("unlabelled/")]:
        raise DataError(
            f"{path} names no label for images in folders, {enumerate_few(strange)}: "
            "put unlabelled images beside it or into unlabelled/, or remove it"
        )
    classes, labels = np.unique([labelled[name][0] for name in names], return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"{path} has {len(classes)} classes: at least 2 are needed")
    groups = np.array([labelled[name][1] for name in names])
    if not groups.any():
        groups = NOTHING
    elif not groups.all():
        raise DataError(f"{path} gives no group to {enumerate_few(names[groups == ''])}")
    for c, name in enumerate(classes) if len(groups) else ():
        if (labels == c).sum() > 1 and len(of_class := np.unique(groups[labels == c])) == 1:
            raise DataError(
                f"{path}: all images of {name} are of one group, {of_class[0]}: label images of "
                "another group too"
            )
    parts = {"train": Part(NOTHING, names, labels.astype(np.int64), groups)}
    if len(others):
        parts["unlabelled"] = Part(NOTHING, others, np.full(len(others), -1))
    notes = [told] if (told := files.count_unsupported(members, UNSUPPORTED)) else []
    return classes.tolist(), parts, notes


def _parse_table(path: Path, members: dict[str, Member]) -> list[list[str]]:
    """Read a label table's lines: file, label, group, "" for what is not given."""
    with files.reading(path):
        data = path.read_bytes()
    try:
        table = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), restval="")
        columns = table.fieldnames or []
        rows = [[(row.get(c) or "").strip() for c in ("file", "label", "group")] for row in table]
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not UTF-8 in line {line}: save it as CSV UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as a CSV: {error}") from None
    if len(columns) == 1 and ";" in columns[0]:
        raise DataError(f"{path} is separated by semicolons: save it with commas")
    if not {"file", "label"} <= set(columns):
        raise DataError(f"{path} has the columns {','.join(columns)}: it needs file,label[,group]")
    named = [file for file, *_ in rows if file]
    wrong = {
        "names files more than once": [file for file, n in Counter(named).items() if n > 1],
        "names files that are not there": [file for file in named if file not in members],
        "names files that are no images": [file for file in named if not is_image(file)],
        "gives labels without a file": [label for file, label, _ in rows if label and not file],
    }
    for what, of in wrong.items():
        if of:
            raise DataError(f"{path} {what} ({len(of)}): {enumerate_few(of)}; mend the table")
    return rows


@dataclass(frozen=True)
class Halving:
    """How a data set without an official test set gets one: drawn by `seed`, or as recorded.

    test_split: `random`, `patient` (malaria) or `group` (a folder whose label table has groups).
    test_rows: recorded places of the test images among all images in order, instead of a draw.
    """

    seed: int = 0
    test_split: str = "random"
    test_rows: Sequence[int] | None = None

    def __str__(self) -> str:
        """Describe it for notes; equal texts mean equal halves."""
        if self.test_rows is None:
            return f"drawn by {self.test_split} with seed {self.seed}"
        return f"as recorded ({hashlib.sha256(str(list(self.test_rows)).encode()).hexdigest()[:8]})"

    def halve(self, images: Part, share: float) -> tuple[dict[str, Part], list[int]]:
        """Halve labelled images to `train` and `test`; also returns the places of the test images.

        At random `share` of all is for test, by patient a half, by group a third. Raises
        `DataError` where groups are too few, or the record is of other images.
        """
        labels = images.labels
        if self.test_rows is not None:
            is_test = np.isin(np.arange(len(labels)), self.test_rows)
            if is_test.sum() != len(self.test_rows) or is_test.all() or not is_test.any():
                raise DataError(
                    f"the recorded test set is not one of these {len(labels):,} images: "
                    f"{len(self.test_rows):,} places from {min(self.test_rows, default=0)} on"
                )
        elif self.test_split == "random":
            is_test = hold_out(labels, share, self.seed)
        else:
            draw = {"patient": halve_patients, "group": hold_out_groups}[self.test_split]
            is_test = draw(images.groups, labels, self.seed)
        halves = {"train": images.select(~is_test), "test": images.select(is_test)}
        return halves, np.flatnonzero(is_test).tolist()


def hold_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose `share` of all images at random for test, at least one of each class: bool (N,)."""
    count = max(round(share * len(labels)), len(np.unique(labels)))
    return np.isin(np.arange(len(labels)), draw_stratified(labels, count, seed))


def hold_out_groups(groups: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Choose about a third for test, stratified, no group on both sides: bool (N,).

    Raises `DataError` where no such third has every class on both sides.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # slow, and rarely needed

    folds, n_classes = StratifiedGroupKFold(3, shuffle=True, random_state=seed), len(set(labels))
    if len(set(groups)) >= 3 and np.bincount(labels).max() >= 3:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a class with two images, which may do
            thirds = list(folds.split(labels, labels, groups))
        for sides in thirds:
            if all(len(set(labels[side])) == n_classes for side in sides):
                return np.isin(np.arange(len(labels)), sides[1])
    raise DataError(
        "no third of the groups has images of every class and leaves some: "
        "label images of more groups, at least 3 with each class"
    )


def draw_stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw `count` images at random, each class by its share, but at least one image of each.

    `count` is at least the number of classes. Returns sorted indices, int64 (count,).
    """
    rng = np.random.default_rng([seed, count])
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * (count / len(labels))
    quotas = np.maximum(np.floor(shares), 1).astype(int)
    while quotas.sum() < count:
        quotas[np.argmax(shares - quotas)] += 1
    while quotas.sum() > count:
        quotas[np.argmax(np.where(quotas > 1, quotas - shares, -np.inf))] -= 1
    drawn = [
        rng.choice(np.flatnonzero(labels == c), quota, replace=False)
        for c, quota in zip(classes, quotas, strict=True)
    ]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def halve_patients(patients: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Halve images so that no patient is on both sides and the classes are nearly even: bool (N,).

    Patients are taken in random order; each joins the side that it makes more even.
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
