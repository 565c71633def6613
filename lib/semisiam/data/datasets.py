"""Data sets as uint8 arrays of one size: the structure that every later stage takes (III-A).

The arrays are prepared once, kept in the cache and opened memory-mapped. Cells that prepare the
same data at once wait for the first and share its arrays.
"""

import errno
import hashlib
import json
import os
import shlex
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from filelock import FileLock
from PIL import Image
from tqdm import tqdm

from semisiam.data.files import DataError, cache_folder, enumerate_few, find_range, scale, show
from semisiam.data.sources import SOURCES, Halving, Part, Raw, Source, draw_stratified

PREPARED_VERSION = 2  # raise when the same files would be prepared to other arrays
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
OF_ITEMS = ("names", "labels", "groups", "digests")
Prepared = tuple[Path, dict[str, Any], dict[str, Part]]  # folder, facts, parts


@dataclass(frozen=True)
class Dataset:
    """A data set at one image size S; images are uint8 (N, S, S, 3) in 0-255 and read-only.

    train, train_labels: the pool that labelled sets are drawn from; labels int64 (N,), from 0.
    unlabelled: D_u; the very array `train` where the data set has no images without labels.
    test, test_labels: used once, at the end.
    groups, test_groups: what images share, e.g. their patient, str (N,); empty if nobody said.
    notes: what a reader of any result must know (reduced scale, conversions, classes left out).
    test_rows: int64, places of the test images among all labelled ones, for `load`'s `test_rows`;
        empty where the test set is not drawn.
    content: 16 hex digits that identify the images of all parts and their order, whatever the
        image size or machine; indices recorded for one content mean nothing for another.
    train_origin, unlabelled_origin, test_origin: the parts, with names and digests, see `Part`.
    facts: of the prepared arrays: sizes before resizing (height, width) and value range.
    decoding: empty, or where images deeper than 8 bits were scaled, `value_range`: the values
        [low, high) that became 0-255; to be kept with a model, so that `embed` can do the same.
    folder: where the prepared arrays are kept.
    """

    name: str
    class_names: tuple[str, ...]
    train: np.ndarray
    train_labels: np.ndarray
    unlabelled: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    groups: np.ndarray
    test_groups: np.ndarray
    notes: tuple[str, ...]
    test_rows: np.ndarray
    content: str
    train_origin: Part
    unlabelled_origin: Part
    test_origin: Part
    facts: dict[str, dict[str, list[int]]]
    decoding: dict[str, list[float]]
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
    skip_damaged: bool = False,
) -> Dataset:
    """Open a data set at one image size, preparing it first if need be.

    Images are resized with Pillow's bilinear filter, which averages over all pixels it covers
    when it shrinks (antialiasing), whatever their aspect; grey is repeated to three channels.

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
        skip_damaged: leave out images that do not decode, and note it, instead of stopping.

    Raises:
        DataError: the data is not there, damaged or unusable.
    """
    settings = {"name": name, "size": image_size, "dir": data_dir, "test-split": test_split}
    folder, facts, parts = _prepare(settings | {"seed": seed}, test_rows, skip_damaged)
    parts, notes = _limit(parts, unlabelled_limit, test_limit, seed)
    train, test = parts["train"], parts["test"]
    unlabelled = parts.get("unlabelled", train)
    return Dataset(
        name=name,
        class_names=tuple(facts["class_names"]),
        train=train.images,
        train_labels=train.labels,
        unlabelled=unlabelled.images,
        test=test.images,
        test_labels=test.labels,
        groups=train.groups,
        test_groups=test.groups,
        notes=(*facts["notes"], *notes),
        test_rows=np.array(facts["test_rows"], np.int64),
        content=_hash_content(facts["class_names"], parts),
        train_origin=train,
        unlabelled_origin=unlabelled,
        test_origin=test,
        facts=facts["parts"],
        decoding=facts["decoding"],
        folder=folder,
    )


def identify(
    name: str,
    image_size: int,
    *,
    data_dir: str = "",
    unlabelled_limit: int = 0,
    test_limit: int = 0,
    test_split: str = "random",
    test_rows: Sequence[int] | None = None,
    seed: int = 0,
) -> str:
    """Give `Dataset.content` for the same arguments without reading pixels.

    The arrays are prepared first if they are not and the raw files are here.

    Returns:
        16 hex digits, or "" where the data would have to be downloaded or cannot be used.
    """
    settings = {"name": name, "size": image_size, "dir": data_dir, "test-split": test_split}
    try:
        _, facts, parts = _prepare(settings | {"seed": seed}, test_rows, download=False)
        bare = {part: replace(arrays, images=np.zeros(0)) for part, arrays in parts.items()}
        bare, _ = _limit(bare, unlabelled_limit, test_limit, seed)
    except DataError:
        return ""
    return _hash_content(facts["class_names"], bare)


def find_hidden_labels(dataset: Dataset) -> np.ndarray:
    """Labels of D_u, int64 (N_u,), for controls alone; training never sees them.

    Raises:
        DataError: D_u is not the training pool, so nobody knows them.
    """
    if dataset.unlabelled is not dataset.train:
        raise DataError(f"attack_unlabelled: the unlabelled images of {dataset.name} have no class")
    return dataset.train_labels


def _limit(
    parts: dict[str, Part], unlabelled_limit: int, test_limit: int, seed: int
) -> tuple[dict[str, Part], list[str]]:
    """Draw subsets of the unlabelled pool and the test images, and say so."""
    parts, notes = dict(parts), []
    pool = "unlabelled" if "unlabelled" in parts else "train"
    limits = {"unlabelled": (pool, unlabelled_limit), "test": ("test", test_limit)}
    for what, (part, limit) in limits.items():
        labels = parts[part].labels
        if not 0 < limit < len(labels):
            continue
        if limit < (n_classes := len(np.unique(labels))):
            raise DataError(
                f"{what}_limit = {limit} is less than one image for each of {n_classes} classes"
            )
        notes.append(f"reduced scale: {limit:,} of {len(labels):,} {what} images")
        rows = draw_stratified(labels, limit, seed)
        arrays = vars(parts[part]).items()
        parts[part] = Part(**{k: np.asarray(v[rows]) if len(v) else v for k, v in arrays})
    return parts, notes


def _hash_content(class_names: list[str], parts: dict[str, Part]) -> str:
    content = hashlib.sha256(json.dumps(class_names).encode())
    for name, part in sorted(parts.items()):
        content.update(name.encode() + part.digests.tobytes() + part.labels.tobytes())
    return content.hexdigest()[:16]


# the cache


def _prepare(
    settings: dict[str, Any],
    test_rows: Sequence[int] | None,
    skip_damaged: bool = False,
    download: bool = True,
) -> Prepared:
    """Open a data set's arrays in the cache, making them if they are missing or damaged."""
    name, halving = settings["name"], Halving(settings["seed"], settings["test-split"], test_rows)
    source = _find_source(name, settings["dir"], halving)
    key = hashlib.sha256(f"{PREPARED_VERSION} {source.identity}".encode()).hexdigest()[:12]
    folder = cache_folder() / "prepared" / f"{name}-{settings['size']}px-{key}"
    if prepared := _open(folder):
        return prepared
    if not (download or source.local):
        raise DataError(f"{name} is neither prepared nor here: it has to be downloaded")
    with _writing(folder) as temporary:
        if prepared := _open(folder):  # another process was faster
            return prepared
        _write(temporary, source, settings, skip_damaged)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        temporary.rename(folder)
    if prepared := _open(folder):
        return prepared
    raise DataError(f"{folder} cannot be read back: the disk may be failing")


def _find_source(name: str, data_dir: str, halving: Halving) -> Source:
    if name not in SOURCES:
        raise DataError(f"unknown data set {name!r}: choose one of {', '.join(SOURCES)}")
    if halving.test_split not in (("random", "patient") if name == "malaria" else ("random",)):
        raise DataError(
            f"test_split = {halving.test_split!r}: 'random', or for malaria also 'patient'"
        )
    folder = Path(data_dir).expanduser() if data_dir else None
    if folder and not folder.is_dir():
        raise DataError(f"data_dir = {data_dir!r}: there is no such folder")
    return SOURCES[name](folder, halving)


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to prepare `folder` in, to one process at a time, and clear it away.

    Raises:
        DataError: the cache cannot be written.
    """
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
        remedy = "make room or " if getattr(error, "errno", 0) in FULL else ""
        raise DataError(
            f"cannot write to the cache {folder.parent}: {why}; {remedy}set SEMISIAM_CACHE to a "
            "folder that can be written, on a disk that knows locks"
        ) from None


def _open(folder: Path) -> Prepared | None:
    """Open prepared arrays, or return None if they are not there or damaged."""
    try:
        with np.load(folder / "items.npz") as items:  # a .zip, so its hashes are checked
            facts = json.loads(str(items["facts"]))
            parts = {
                part: Part(
                    images=np.load(folder / f"{part}.npy", mmap_mode="r"),
                    **{item: items[f"{part}_{item}"] for item in OF_ITEMS},
                )
                for part in facts["parts"]
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    whole = all(len(part.images) == len(part.labels) for part in parts.values())
    return (folder, facts, parts) if whole else None


class _DeepImage(Exception):
    """An image is deeper than 8 bits, and the range of values is not known yet."""


@dataclass
class _Told:
    """What there is to tell of the images: conversions, damaged ones, values clipped."""

    remarks: Counter = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    clipped: int = 0


def _write(folder: Path, source: Source, settings: dict[str, Any], skip_damaged: bool) -> None:
    """Write a data set's arrays into an empty folder."""
    raw, value_range, told = source.read(), None, _Told()
    try:
        written = _write_parts(folder, raw, settings["size"], None, told)
    except _DeepImage:  # rare, so it is no loss to look at all images and begin anew
        pictures = (picture for part in source.read().parts.values() for picture, _ in part.images)
        value_range = find_range(p for p in pictures if p is not None and p.dtype != np.uint8)
        raw, told = source.read(), _Told()
        written = _write_parts(folder, raw, settings["size"], value_range, told)
    items = {f"{name}_{k}": v for name, (kept, _) in written.items() for k, v in kept.items()}
    if told.damaged and not skip_damaged:
        _refuse_damaged(told.damaged, sum(len(p.names) for p in raw.parts.values()), settings)
    _check_classes(raw, items)
    place = show(str(Path(settings["dir"]).expanduser().resolve())) if settings["dir"] else ""
    facts = {
        "settings": settings | {"dir": place},
        "class_names": raw.class_names,
        "notes": [*raw.notes, *_describe_changes(told, value_range)],
        "parts": {name: facts for name, (_, facts) in written.items()},
        "test_rows": raw.test_rows.tolist(),
        "decoding": {"value_range": value_range} if value_range else {},
    }
    np.savez(folder / "items.npz", facts=json.dumps(facts), **items)
    for path in folder.iterdir():  # the rename must not outlive the content in a power cut
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _write_parts(folder: Path, raw: Raw, *how: Any) -> dict[str, tuple[dict, dict]]:
    parts = raw.parts.items()
    return {name: _write_part(folder / f"{name}.npy", part, *how) for name, part in parts}


def _write_part(
    path: Path, part: Part, image_size: int, value_range: tuple | None, told: _Told
) -> tuple[dict[str, np.ndarray], dict[str, list[int]]]:
    """Stream a part's images to a .npy file, one in memory at a time; give items and facts."""
    kept, digests, sizes, low, high = [], [], [], 255, 0
    progress = tqdm(part.images, path.stem, len(part.names), leave=False, disable=None)
    with path.open("wb") as file:
        _write_header(file, len(part.names), image_size)
        for row, (pixels, remark) in enumerate(progress):
            if pixels is None:
                told.damaged.append(f"{part.names[row]} {remark}")
                continue
            if pixels.dtype != np.uint8:
                if value_range is None:
                    raise _DeepImage
                pixels, clipped = scale(pixels, *value_range)
                told.clipped += clipped
            resized = resize(pixels, image_size)
            file.write(resized.tobytes())
            kept.append(row)
            digests.append(_hash_image(pixels))
            sizes.append(pixels.shape[:2])
            told.remarks[remark] += 1
            low, high = min(low, resized.min()), max(high, resized.max())
        _write_header(file, len(kept), image_size)
    items = {
        "names": part.names[kept],
        "labels": part.labels[kept],
        "groups": part.groups[kept] if len(part.groups) else part.groups,
        "digests": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16),
    }
    ends = {"smallest": np.min(sizes, axis=0, initial=2**31 - 1)}
    ends |= {"largest": np.max(sizes, axis=0, initial=0)}
    facts = {name: value.tolist() for name, value in ends.items()}
    return items, facts | {"values": [int(low), int(high)]}


def _write_header(file: BinaryIO, n_images: int, image_size: int) -> None:
    """Write the .npy header at the start; its length is the same for any number of images."""
    file.seek(0)
    shape = (n_images, image_size, image_size, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def resize(image: np.ndarray, image_size: int) -> np.ndarray:
    """Resize to a square, bilinear and antialiased; grey is repeated to three channels.

    Args:
        image: uint8 (H, W) or (H, W, 3) in 0-255; the aspect is not kept.
        image_size: S (px).

    Returns:
        uint8 (S, S, 3); the image itself where it has that size already.
    """
    if image.shape[:2] != (image_size, image_size):
        picture = Image.fromarray(image).resize((image_size, image_size), Image.Resampling.BILINEAR)
        image = np.asarray(picture)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _hash_image(pixels: np.ndarray) -> bytes:
    salt = "x".join(map(str, pixels.shape)).encode()[:16]
    return hashlib.blake2b(np.ascontiguousarray(pixels), digest_size=16, salt=salt).digest()


def _refuse_damaged(damaged: list[str], total: int, settings: dict[str, Any]) -> None:
    given = [f"--{key}={value}" for key, value in settings.items() if value and key != "name"]
    command = shlex.join(["semisiam", "data", settings["name"], *given, "--skip-damaged"])
    raise DataError(
        f"{len(damaged):,} of {total:,} images do not decode:\n  "
        + enumerate_few(damaged, 10, "\n  ")
        + f"\nmend or remove them, or prepare the data without them: {show(command)}"
    )


def _check_classes(raw: Raw, items: dict[str, np.ndarray]) -> None:
    counts = np.bincount(items["train_labels"], minlength=len(raw.class_names))
    if empty := [name for name, n in zip(raw.class_names, counts, strict=True) if not n]:
        raise DataError(f"no training image is left of: {', '.join(empty)}")
    if empty := [name for name in raw.parts if not len(items[f"{name}_labels"])]:
        raise DataError(f"no image is left in: {', '.join(empty)}")
    if len(raw.class_names) < 2:
        raise DataError(f"there is only one class with training images: {raw.class_names[0]}")


def _describe_changes(told: _Told, value_range: tuple[float, float] | None) -> list[str]:
    """Say which images were converted or left out, and how deep ones were scaled."""
    notes = [f"images converted, {w}: {n:,}" for w, n in sorted(told.remarks.items()) if w]
    if value_range:
        low, high = value_range
        notes.append(
            f"deeper than 8 bits: values from {low:g} to below {high:g} became 0-255 in all such "
            f"images (a whole depth, or the middle 99.8 %), {told.clipped:,} values clipped"
        )
    if told.damaged:
        few = enumerate_few(told.damaged, separator="; ")
        notes.append(f"images that do not decode left out ({len(told.damaged):,}): {few}")
    return notes


def list_prepared() -> pd.DataFrame:
    """List what is ready in the cache, one row each: settings, counts of images, MB, folder."""
    rows = []
    for folder in sorted((cache_folder() / "prepared").glob("[!.]*")):
        if prepared := _open(folder):
            _, facts, parts = prepared
            counts = {part: len(arrays.labels) for part, arrays in parts.items()}
            megabytes = round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6)
            about = {"unlabelled": "= train"} | counts | {"MB": megabytes, "folder": str(folder)}
            rows.append(facts["settings"] | about)
    return pd.DataFrame(rows)


# descriptions


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
    labels = {"train": dataset.train_labels, "test": dataset.test_labels}
    n = len(dataset.class_names)
    counts = {part: np.bincount(of_part, minlength=n) for part, of_part in labels.items()}
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
    keys = {part: origin.digests.view("V16").ravel() for part, origin in origins.items()}
    rows = {}
    for part, digests in keys.items():
        facts = dataset.facts[part]
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
