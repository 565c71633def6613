"""Arrays in the cache: images of one size, written once, opened memory-mapped and checked.

Cells that prepare the same data at once wait for the first and share its arrays. What is found
damaged is made again.
"""

import fcntl
import hashlib
import json
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from semisiam.data.draws import Halving
from semisiam.data.files import DataError, cache_folder, digest
from semisiam.data.sources import SOURCES, Part, Source

PREPARED_VERSION = 1  # raise when the same files would be prepared to other arrays


@dataclass(frozen=True)
class Origin:
    """What the images of a part were before they were resized.

    names: str (N,), the file, or the row of a file, that each image came from.
    digests: uint8 (N, 16), a hash of each image's original pixels; equal ones are duplicates.
    """

    names: np.ndarray
    digests: np.ndarray


@dataclass(frozen=True)
class PreparedPart:
    """One part: images uint8 (N, S, S, 3), memory-mapped, labels int64 (N,), -1 for none."""

    images: np.ndarray
    labels: np.ndarray
    origin: Origin


@dataclass(frozen=True)
class Prepared:
    """A data set in the cache: `facts` is its facts.json, `parts` its arrays."""

    folder: Path
    facts: dict
    parts: dict[str, PreparedPart]
    test_rows: np.ndarray


def prepare(
    name: str,
    image_size: int,
    *,
    data_dir: str = "",
    test_split: str = "random",
    test_rows: Sequence[int] | None = None,
    seed: int = 0,
    skip_damaged: bool = False,
) -> Prepared:
    """Open a data set's arrays in the cache, making them if they are missing or damaged.

    Images are resized with Pillow's bilinear filter, which averages over all pixels it covers
    when it shrinks (antialiasing), whatever their aspect; grey is repeated to three channels.

    Args:
        name, image_size, data_dir, test_split, test_rows, seed: as in `load`.
        skip_damaged: leave out images that do not decode, and note it, instead of stopping.

    Raises:
        DataError: see `load`.
    """
    source = _find_source(name, data_dir, Halving(seed, test_split, test_rows))
    key = hashlib.sha256(f"{PREPARED_VERSION} {source.identity}".encode()).hexdigest()[:12]
    folder = cache_folder() / "prepared" / f"{name}-{image_size}px-{key}"
    if prepared := _open(folder):
        return prepared
    with _writing(folder) as temporary:
        if prepared := _open(folder):  # another process was faster
            return prepared
        place = str(Path(data_dir).expanduser().resolve()) if data_dir else ""
        settings = {"name": name, "size": image_size, "dir": place}
        settings |= {"test-split": test_split, "seed": seed}
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
        with temporary.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the system undoes it when a process is killed
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            try:
                yield temporary
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"cannot write to the cache {folder.parent}: {error.strerror or error}; make room or "
            "set SEMISIAM_CACHE to a folder that can be written"
        ) from None


def _open(folder: Path) -> Prepared | None:
    """Open prepared arrays, or return None if they are not there or damaged."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        if any(digest(folder / file) != sha256 for file, sha256 in manifest.items()):
            return None
        facts = json.loads((folder / "facts.json").read_text("utf-8"))
        items = np.load(folder / "items.npz")
        parts = {
            part: PreparedPart(
                images=np.load(folder / f"{part}.npy", mmap_mode="r"),
                labels=items[f"{part}_labels"],
                origin=Origin(items[f"{part}_names"], items[f"{part}_digests"]),
            )
            for part in facts["parts"]
        }
        return Prepared(folder, facts, parts, items["test_rows"])
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _write(folder: Path, source: Source, settings: dict[str, Any], skip_damaged: bool) -> None:
    """Write a data set's arrays into an empty folder, `manifest.json` (the hashes) last."""
    raw = source.read()
    written = {
        name: _write_part(folder / f"{name}.npy", part, settings["size"])
        for name, part in raw.parts.items()
    }
    if not skip_damaged:
        _check_undamaged(written.values(), settings)
    _check_classes(raw.class_names, written)
    facts = {
        "settings": settings,
        "class_names": raw.class_names,
        "notes": [*raw.notes, *_describe_changes(written.values())],
        "parts": {name: part.facts for name, part in written.items()},
    }
    items = {f"{name}_{k}": v for name, part in written.items() for k, v in part.items.items()}
    np.savez(folder / "items.npz", test_rows=raw.test_rows, **items)
    (folder / "facts.json").write_text(json.dumps(facts, ensure_ascii=False), "utf-8")
    manifest = {path.name: digest(path) for path in sorted(folder.iterdir())}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    for path in folder.iterdir():  # the rename must not outlive the content in a power cut
        with path.open("rb") as file:
            os.fsync(file.fileno())


@dataclass(frozen=True)
class _Written:
    items: dict[str, np.ndarray]
    facts: dict[str, list[int]]
    remarks: Counter
    damaged: list[str]


def _write_part(path: Path, part: Part, image_size: int) -> _Written:
    """Stream a part's images to a .npy file, one image in memory at a time."""
    kept, digests, sizes, remarks, damaged = [], [], [], Counter(), []
    low, high = 255, 0
    progress = tqdm(part.images, path.stem, len(part.names), leave=False, disable=None)
    with path.open("wb") as file:
        _write_header(file, len(part.names), image_size)
        for row, (pixels, remark) in enumerate(progress):
            if pixels is None:
                damaged.append(f"{part.names[row]} {remark}")
                continue
            resized = resize(pixels, image_size)
            file.write(resized.tobytes())
            kept.append(row)
            digests.append(_hash_image(pixels))
            sizes.append(pixels.shape[:2])
            remarks[remark] += 1
            low, high = min(low, resized.min()), max(high, resized.max())
        _write_header(file, len(kept), image_size)
    items = {
        "labels": part.labels[kept],
        "names": part.names[kept],
        "digests": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16),
    }
    facts = {
        "smallest": np.min(sizes, axis=0, initial=2**31 - 1).tolist(),
        "largest": np.max(sizes, axis=0, initial=0).tolist(),
        "values": [int(low), int(high)],
    }
    return _Written(items, facts, remarks, damaged)


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


def _check_undamaged(parts: Collection[_Written], settings: dict[str, Any]) -> None:
    if damaged := [name for part in parts for name in part.damaged]:
        total = sum(len(part.items["labels"]) for part in parts) + len(damaged)
        given = [f"--{key}={value}" for key, value in settings.items() if value and key != "name"]
        command = shlex.join(["semisiam", "data", settings["name"], *given, "--skip-damaged"])
        raise DataError(
            f"{len(damaged):,} of {total:,} images do not decode:\n  "
            + "\n  ".join(damaged[:10] + ["..."] * (len(damaged) > 10))
            + f"\nmend or remove them, or prepare the data without them: {command}"
        )


def _check_classes(class_names: tuple[str, ...], parts: dict[str, _Written]) -> None:
    counts = np.bincount(parts["train"].items["labels"], minlength=len(class_names))
    if empty := [name for name, count in zip(class_names, counts, strict=True) if not count]:
        raise DataError(f"no training image is left of: {', '.join(empty)}")
    if empty := [name for name, part in parts.items() if not len(part.items["labels"])]:
        raise DataError(f"no image is left in: {', '.join(empty)}")
    if len(class_names) < 2:
        raise DataError(f"there is only one class with training images: {class_names[0]}")


def _describe_changes(parts: Collection[_Written]) -> list[str]:
    """Say which images were converted or left out."""
    remarks = sum((part.remarks for part in parts), Counter())
    damaged = [name for part in parts for name in part.damaged]
    notes = [f"images converted, {what}: {n:,}" for what, n in sorted(remarks.items()) if what]
    if damaged:
        listed = "; ".join(damaged[:3] + ["..."] * (len(damaged) > 3))
        notes.append(f"images that do not decode left out ({len(damaged):,}): {listed}")
    return notes


def list_prepared() -> pd.DataFrame:
    """List what is ready in the cache, one row each: settings, counts of images, MB, folder."""
    rows = []
    for folder in sorted((cache_folder() / "prepared").glob("[!.]*")):
        if prepared := _open(folder):
            counts = {part: len(arrays.labels) for part, arrays in prepared.parts.items()}
            megabytes = round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6)
            about = {"unlabelled": "= train"} | counts | {"MB": megabytes, "folder": str(folder)}
            rows.append(prepared.facts["settings"] | about)
    return pd.DataFrame(rows)
