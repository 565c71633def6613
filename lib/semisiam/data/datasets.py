"""Data sets as uint8 arrays of one size, prepared once and opened memory-mapped (III-A)."""

import hashlib
import json
import os
import shlex
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from semisiam.data.files import DataError, cache_folder, enumerate_few, show
from semisiam.data.parts import NOTHING, Halving, Part, draw_stratified, draw_test
from semisiam.data.pixels import Reader
from semisiam.data.sources import SOURCES, Source

PREPARED_VERSION = 7  # raise when the same files would be prepared to other arrays
Prepared = tuple[Path, dict[str, Any], dict[str, Part]]  # folder, facts, parts


@dataclass(frozen=True)
class Dataset:
    """A data set at one image size S; images are uint8 (N, S, S, 3) in 0-255 and read-only."""

    name: str
    class_names: tuple[str, ...]
    train: np.ndarray  # the pool that labelled sets are drawn from
    train_labels: np.ndarray  # int64 (N,), from 0
    unlabelled: np.ndarray  # D_u; the very array `train` where all images have labels
    test: np.ndarray  # used once, at the end
    test_labels: np.ndarray  # int64 (N,), from 0
    notes: tuple[str, ...]  # what a reader of any result must know, e.g. of reduced scale
    test_rows: np.ndarray  # int64, test images among all labelled ones; empty if not drawn
    content: str  # 16 hex digits that identify the images of all parts in order, at any size
    parts: dict[str, Part]  # train, test and unlabelled: with names, groups and digests
    facts: dict[str, dict[str, list[int]]]  # by part, of `pixels.Reader.write`
    decoding: dict[str, list[float]]  # for `embed`, the `value_range` of deep images if any are
    folder: Path  # of the prepared arrays


def load(
    name: str,
    image_size: int,
    *,
    data_dir: str = "",
    unlabelled_limit: int = 0,
    test_limit: int = 0,
    test_split: str = "random",
    unlabelled_classes: str = "same",
    test_rows: Sequence[int] | None = None,
    seed: int = 0,
    skip_damaged: bool = False,
    local: bool = False,
) -> Dataset:
    """Open a data set at one image size, preparing it first if need be.

    Args:
        name, image_size, data_dir, unlabelled_limit, test_limit, test_split, seed: as in `Cell`.
            Limits draw at random, stratified where there are labels; D_l comes from the same.
        unlabelled_classes: as in `Cell`, see `_choose_classes`.
        test_rows: a recorded test set, `Dataset.test_rows`, to repeat instead of drawing one.
        skip_damaged: leave out images that do not decode, and note it, instead of stopping.
        local: download nothing and leave the arrays of images empty, see `cli.identify`.

    Raises `DataError` where the data is not there, damaged or unusable.
    """
    rows = None if test_rows is None else [*map(int, test_rows)]  # plain ones, as Halving's name is
    halving = Halving(seed, test_split, rows)
    folder, facts, parts = _prepare(name, image_size, data_dir, halving, skip_damaged, local)
    if local:
        parts = {name: part._replace(images=NOTHING) for name, part in parts.items()}
    parts, notes = _limit(parts, unlabelled_limit, test_limit, seed)
    parts, class_names = _choose_classes(parts, facts["class_names"], unlabelled_classes)
    train, test = parts["train"], parts["test"]
    unlabelled = parts.get("unlabelled", train)
    content = hashlib.sha256(json.dumps(class_names).encode())
    for part, of in sorted(parts.items()):
        content.update(part.encode() + of.digests.tobytes() + of.labels.tobytes())
    return Dataset(
        name=name,
        class_names=tuple(class_names),
        train=train.images,
        train_labels=train.labels,
        unlabelled=unlabelled.images,
        test=test.images,
        test_labels=test.labels,
        notes=(*facts["notes"], *notes),
        test_rows=np.array(facts["test_rows"], np.int64),
        content=content.hexdigest()[:16],
        parts={"train": train, "test": test, "unlabelled": unlabelled},
        facts=facts["parts"],
        decoding=facts["decoding"],
        folder=folder,
    )


def _limit(
    parts: dict[str, Part], unlabelled_limit: int, test_limit: int, seed: int
) -> tuple[dict[str, Part], list[str]]:
    """Draw subsets of the unlabelled pool and the test images, and say so."""
    parts, notes = dict(parts), []
    pool = "unlabelled" if "unlabelled" in parts else "train"
    for what, part, limit in (("unlabelled", pool, unlabelled_limit), ("test", "test", test_limit)):
        labels = parts[part].labels
        if not 0 < limit < len(labels):
            continue
        if limit < (n_classes := len(np.unique(labels))):
            told = f"less than one image for each of {n_classes} classes"
            raise DataError(f"{what}_limit = {limit} is {told}")
        notes.append(f"reduced scale: {limit:,} of {len(labels):,} {what} images")
        parts[part] = parts[part].select(draw_stratified(labels, limit, seed))
    return parts, notes


def _choose_classes(
    parts: dict[str, Part], class_names: list[str], which: str
) -> tuple[dict[str, Part], list[str]]:
    """Give D_u other classes than D_l, halves of them in order (Oliver et al., NeurIPS 2018).

    `fewer`: D_u has the first half, D_l and test images all. Otherwise these have the first half,
    and D_u has all (`more`) or the second half (`other`).
    """
    if which == "same":
        return parts, class_names
    if "unlabelled" in parts:
        raise DataError(f"unlabelled_classes = {which!r}: nobody knows the classes of D_u here")
    half = (len(class_names) + 1) // 2
    if which != "fewer" and half < 2:
        raise DataError(f"unlabelled_classes = {which!r} needs at least three classes")
    first = {n: part.select(np.flatnonzero(part.labels < half)) for n, part in parts.items()}
    train = parts["train"]
    if which == "fewer":
        return parts | {"unlabelled": first["train"]}, class_names
    others = train.select(np.flatnonzero(train.labels >= half))
    return first | {"unlabelled": train if which == "more" else others}, class_names[:half]


def _prepare(
    name: str, image_size: int, data_dir: str, halving: Halving, skip_damaged: bool, local: bool
) -> Prepared:
    """Open a data set's arrays in the cache, making them if they are missing or damaged."""
    # where there is no such user Path's own raises
    place = Path(os.path.expanduser(data_dir)).absolute() if data_dir else None  # noqa: PTH111
    split = halving.test_split
    if name not in SOURCES:
        raise DataError(f"unknown data set {name!r}: choose one of {', '.join(SOURCES)}")
    if split != "random" and (name, split) != ("malaria", "patient"):
        raise DataError(f"test_split = {split!r}: 'random', or for malaria also 'patient'")
    try:
        if place and not place.is_dir():
            told = "a file, give its folder" if place.exists() else "there is no such folder"
            raise DataError(f"data_dir = {str(place)!r}: {told}")
        source = SOURCES[name](place)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from None
    for half in (halving._replace(test_rows=None), halving):  # drawn so, or as recorded
        identity = f"{PREPARED_VERSION} {source.identity}" + f"-{half}" * bool(source.test_share)
        key = hashlib.sha256(identity.encode()).hexdigest()[:12]
        folder = cache_folder() / "prepared" / f"{name}-{image_size}px-{key}"
        if (prepared := _open(folder)) and halving.test_rows in (None, prepared[1]["test_rows"]):
            return prepared
    if local and not source.local:
        raise DataError(f"{name} is neither prepared nor here: it has to be downloaded")
    settings = {"name": name, "size": image_size, "dir": place and show(str(place.resolve()))}
    settings |= {"test-split": split, "seed": halving.seed}
    with _writing(folder) as temporary:
        if not _open(folder):  # no other process was faster
            _write(temporary, source, halving, settings, skip_damaged)
            with suppress(FileNotFoundError):  # if a file has gone since, the cells find out
                if SOURCES[name](place).identity != source.identity:
                    told = "changed while it was read, or holds SEMISIAM_CACHE: try again"
                    raise DataError(f"{place or name} {told}")
            shutil.rmtree(folder, ignore_errors=True)  # a damaged one
            temporary.rename(folder)
    if prepared := _open(folder):
        return prepared
    raise DataError(f"{folder} cannot be read back: the disk may be failing")


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to prepare `folder` in, to one process at a time, and clear it away."""
    temporary = folder.with_name(f".{folder.name}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(temporary.with_suffix(".lock")):  # the system undoes it at a kill
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            try:
                yield temporary
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, NotImplementedError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(
            f"cannot write to the cache {folder.parent}: {why}; set SEMISIAM_CACHE to a folder "
            "that can be written, with space enough, on a disk that knows locks"
        ) from None


def _open(folder: Path) -> Prepared | None:
    """Open prepared arrays, or return None if they are not there or damaged."""
    try:
        with np.load(folder / "items.npz") as items:  # a .zip, so its hashes are checked
            facts = json.loads(str(items["facts"]))
            parts = {}
            for part in facts["parts"]:
                of_part = Part(*(items[f"{part}_{of}"] for of in Part._fields))
                shape = (len(of_part.labels), *[facts["image_size"]] * 2, 3)
                images = np.memmap(folder / f"{part}.bin", np.uint8, "r").reshape(shape)
                parts[part] = of_part._replace(images=images)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None
    return folder, facts, parts


def _write(
    folder: Path, source: Source, halving: Halving, settings: dict[str, Any], skip_damaged: bool
) -> None:
    """Write a data set's arrays into an empty folder."""
    raw, rows = draw_test(source.read(), source.test_share, halving)
    reader, parts, about, items = Reader(settings["size"], parts=raw.parts), {}, {}, {}
    for name, part in raw.parts.items():
        parts[name], about[name] = reader.write(folder / f"{name}.bin", part)
        items |= {f"{name}_{of}": column for of, column in parts[name]._asdict().items()}
    if reader.damaged and not skip_damaged:
        total = sum(len(part.names) for part in raw.parts.values())
        told = f"{len(reader.damaged):,} of {total:,} images do not decode:\n  "
        told += enumerate_few(reader.damaged, 10, "\n  ")
        given = [f"--{key}={value}" for key, value in settings.items() if value and key != "name"]
        command = shlex.join(["semisiam", "data", settings["name"], *given, "--skip-damaged"])
        raise DataError(f"{told}\nmend or remove them, or prepare the data without them: {command}")
    classes, present = list(raw.class_names), set(parts["train"].labels)
    empty = [f"in {name}" for name, part in parts.items() if not len(part.labels)]
    if empty := empty + [f"in train of {c}" for i, c in enumerate(classes) if i not in present]:
        raise DataError(f"no image is left {', '.join(empty)}")
    copies, labels = [], parts["test"].labels
    copies += [f"test images of {c}: none" for i, c in enumerate(classes) if i not in labels]
    for name in parts.keys() - {"test"}:
        known = {*map(bytes, parts[name].digests)}
        if count := sum(bytes(digest) in known for digest in parts["test"].digests):
            copies.append(f"test images that are {name} images, too: {count:,}")
    digests = [bytes(digest) for n in ("train", "test") for digest in parts[n].digests]
    of_pixels = pd.Series([*parts["train"].labels, *labels]).groupby(digests).nunique()
    if count := (of_pixels > 1).sum():
        copies.append(f"pictures that have more than one class: {count:,}")
    few = enumerate_few(reader.damaged, separator="; ")
    damaged = f"images that do not decode left out ({len(reader.damaged):,}): {few}"
    facts = {
        "class_names": classes,
        "notes": [*raw.notes, *reader.describe(classes), *sorted(copies), *[damaged] * bool(few)],
        "parts": about,
        "test_rows": rows,
        "image_size": settings["size"],
        "decoding": {"value_range": reader.value_range} if reader.value_range else {},
    }
    np.savez(folder / "items.npz", facts=json.dumps(facts), **items)
    for path in folder.iterdir():  # the rename must not outlive the content in a power cut
        with path.open("rb") as file:
            os.fsync(file.fileno())


def summarise(dataset: Dataset) -> str:
    """Describe a data set in plain text: parts, classes, notes, and where it is kept."""
    n = len(dataset.class_names)
    counts = {p: np.bincount(dataset.parts[p].labels, minlength=n) for p in ("train", "test")}
    classes = pd.DataFrame(counts, index=pd.Index(dataset.class_names, name="class"))
    about = f"{dataset.name}, {dataset.train.shape[1]} px, content {dataset.content}"
    notes = "\n".join(f"- {note}" for note in dataset.notes)
    tables = describe_parts(dataset).to_string(), classes.to_string()
    return "\n\n".join([about, *tables, f"{notes}\nkept in {dataset.folder}"])


def describe_parts(dataset: Dataset) -> pd.DataFrame:
    """Describe train, unlabelled (if it is not train) and test: one row a part.

    Columns: `images`; `heights` and `widths` before resizing (px) and `values` after it, as
    "smallest-largest"; `repeats`, images equal to an earlier one; `in train`, to a training image.
    """
    keys = {part: of.digests.view("V16").ravel() for part, of in dataset.parts.items()}
    if dataset.unlabelled is dataset.train:
        del keys["unlabelled"]
    rows = {}
    for part, digests in keys.items():
        facts = dataset.facts.get(part, dataset.facts["train"])  # D_u may be cut from train
        (low_h, low_w), (high_h, high_w) = facts["smallest"], facts["largest"]
        rows[part] = {
            "images": len(digests),
            "heights": f"{low_h}-{high_h}",
            "widths": f"{low_w}-{high_w}",
            "values": "{}-{}".format(*facts["values"]),
            "repeats": len(digests) - len(np.unique(digests)),
            "in train": np.isin(digests, keys["train"]).sum() if part != "train" else "-",
        }
    return pd.DataFrame.from_dict(rows, orient="index")
