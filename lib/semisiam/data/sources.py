"""The raw data sets: one function each, from official files or one's own to images and labels.

A source is a function `folder -> Source`, listed in `SOURCES`; to add one: see CONTRIBUTING.md.
"""

import gzip
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from semisiam.data import files
from semisiam.data.files import DataError, Opener
from semisiam.data.parts import Part, Raw, choose_images, hold_out, read_layout


class Source(NamedTuple):
    """Where a data set comes from."""

    identity: str  # changes when its files do
    read: Callable[[], Raw]
    test_share: float = 0  # of labelled images, drawn for test; 0: there are test images
    local: bool = True  # whether `read` downloads nothing


def digits(folder: Path | None) -> Source:
    """The 1,797 digits of 8x8 pixels that come with scikit-learn; a fixed third is the test set."""
    if folder:
        raise DataError("digits come with scikit-learn: leave out the folder (--dir, data_dir)")
    return Source("scikit-learn", _read_digits)


def _read_digits() -> Raw:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    whole, is_test = number(images, "digits", bunch.target), hold_out(bunch.target, 1 / 3, seed=0)
    notes = (
        "digits (8x8, scikit-learn) show the machinery, not the paper's claim",
        "grey values 0-16 scaled to 0-255; a fixed stratified third is the test set",
    )
    parts = {"train": whole.select(~is_test), "test": whole.select(is_test)}
    return Raw(bunch.target_names.astype(str), parts, notes)


def number(images: np.ndarray, of: str, labels: np.ndarray) -> Part:
    """Make a part of arrays in memory; the images are named by their numbers."""
    names = np.array([f"{of}[{row}]" for row in range(len(labels))])
    return Part(images, names, labels.astype(np.int64))


FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # apt install dataset-fashion-mnist


def fashion_mnist(folder: Path | None) -> Source:
    """Zalando's 60,000 + 10,000 grey images of 28x28 pixels; D_u is the training set."""
    names = [file for file, about in files.OFFICIAL.items() if about["dataset"] == "fashion_mnist"]
    found = [path.stat() for file in names if (path := _find_idx(folder, file)).is_file()]
    # whatever may be in a folder that is named
    identity = str([(of.st_size, of.st_mtime_ns) for of in found]) if folder else "official"
    local = len(found) == len(names)
    return Source(identity, partial(_read_fashion, folder), local=local)


def _read_fashion(folder: Path | None) -> Raw:
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        labels = _read_idx(folder, f"{prefix}-labels-idx1-ubyte.gz")
        parts[part] = number(_read_idx(folder, f"{prefix}-images-idx3-ubyte.gz"), part, labels)
    return Raw(FASHION_CLASSES, parts, ("grey images repeated to 3 channels",))


def _read_idx(folder: Path | None, file: str) -> np.ndarray:
    """Read one idx file, uint8 (N,) or (N, 28, 28), if its content is the official one."""
    path, about = _find_idx(folder, file), files.OFFICIAL[file]
    if not path.is_file():
        if folder:
            where = f"put one there, from {about['urls']}"
            raise DataError(f"{folder} has neither {file[:-3]} nor {file}: {where}")
        files.fetch(path.parent, file)
    with files.reading(path):
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    if hashlib.sha256(content).hexdigest() != about["content_sha256"]:
        told = f"{path} is not Fashion-MNIST's {file[:-3]} (its content's sha256 differs): "
        told += "remove it and fetch it again; some mirrors serve MNIST under this name"
        raise DataError(told)
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def _find_idx(folder: Path | None, file: str) -> Path:
    """Say where a file is, packed or not, or where it will be."""
    home = folder or files.cache_folder() / "downloads" / "fashion_mnist"
    places = [home] if folder else [home, DEBIAN_FASHION]
    paths = (place / name for place in places for name in (file[:-3], file))
    return next(filter(Path.is_file, paths), home / file)


STL10_CLASSES = (
    *("airplane", "bird", "car", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)
STL10_FILES = {"train": "train_X", "test": "test_X", "unlabelled": "unlabeled_X"}
STL10_BYTES = 3 * 96 * 96


def stl10(folder: Path | None) -> Source:
    """STL-10: 5,000 training, 8,000 test and 100,000 unlabelled colour images of 96x96 pixels."""
    place, identity = files.locate("stl10_binary.tar.gz", folder)
    return Source(identity, partial(_read_stl10, place), local=place.exists())


def _read_stl10(place: Path) -> Raw:
    members, notes = files.open_archive("stl10_binary.tar.gz", place)
    named = files.shorten(place, members, 1)
    labels = {part: _read_stl10_labels(place, named, part) for part in STL10_FILES}
    present = np.unique(labels["train"])
    if absent := [name for c, name in enumerate(STL10_CLASSES) if c not in present]:
        dropped = np.isin(labels["test"], present, invert=True).sum()
        told = f"classes without a training image left out, with {dropped} test images"
        notes.append(f"{told}: {', '.join(absent)}")
    parts, new = {}, np.append(np.searchsorted(present, np.arange(10)), -1)  # new[-1] is -1
    for part, file in STL10_FILES.items():
        kept = np.isin(labels[part], [-1, *present])
        images = _stream_stl10(place, named[f"{file}.bin"], kept)
        parts[part] = number((), file, new[labels[part]]).select(kept)._replace(images=images)
    return Raw([STL10_CLASSES[c] for c in present], parts, notes)


def _read_stl10_labels(place: Path, named: dict[str, Opener], part: str) -> np.ndarray:
    """Read labels, int64 (N,), from 0 where the file counts from 1; -1 where there are none."""
    images, labels = f"{STL10_FILES[part]}.bin", f"{part}_y.bin"
    if absent := {images, *[labels] * (part != "unlabelled")} - set(named):
        raise DataError(f"{place} has no {' and no '.join(sorted(absent))}: fetch it again")
    with files.reading(place), named[images]() as file:
        count, rest = divmod(file.seek(0, os.SEEK_END), STL10_BYTES)
    if rest or not count:
        raise DataError(f"{place}: {images} is truncated ({rest} bytes after {count} whole images)")
    if part == "unlabelled":
        return np.full(count, -1)
    with files.reading(place), named[labels]() as file:
        found = np.frombuffer(file.read(), np.uint8).astype(np.int64) - 1
    outside = np.count_nonzero((found < 0) | (found > 9))
    if outside or len(found) != count:
        few = f", {outside} of them outside 1-10" if outside else ""
        raise DataError(f"{place}: {labels} has {len(found)} labels for {count} images{few}")
    return found


def _stream_stl10(place: Path, member: Opener, kept: np.ndarray) -> Iterator[np.ndarray]:
    """Read images, which are stored channel by channel and column by column."""
    with files.reading(place), member() as file:
        for keep in kept:
            content = file.read(STL10_BYTES)
            if keep:
                yield np.frombuffer(content, np.uint8).reshape(3, 96, 96).transpose(2, 1, 0)


MALARIA_CLASSES = ("Parasitized", "Uninfected")


def malaria(folder: Path | None) -> Source:
    """NIH's 27,558 images of blood cells; D_u is the training half (both share patients)."""
    place, identity = files.locate("cell_images.zip", folder)
    return Source(identity, partial(_read_malaria, place), 1 / 2, place.exists())


def _read_malaria(place: Path) -> Raw:
    members, notes = files.open_archive("cell_images.zip", place)
    members = files.shorten(place, members, 2)
    images = choose_images(place, members, MALARIA_CLASSES)
    patients = [re.match(r"C\d+", name.split("/")[-1]) for name in images.names]
    if None in patients:
        name = images.names[patients.index(None)]
        raise DataError(f"the name of {name} does not begin with a patient")
    images = images._replace(groups=np.array([match.group() for match in patients]))
    return Raw(MALARIA_CLASSES, {"train": images}, notes + files.tell_left_out(members))


def folder(folder: Path | None) -> Source:
    """One's own images, laid out as `parts.LAYOUT` says; those without a label are D_u.

    Without any, D_u is the training set; without `test`, a third of the labelled images is drawn
    for it, stratified and, if there are groups, by whole groups.
    """
    if folder is None:
        raise DataError("the data set 'folder' needs data_dir: a folder with one folder per class")
    identity = f"2 {files.identify_files(folder)}"  # raise when these would be read otherwise
    return Source(identity, lambda: read_layout(folder, files.list_members(folder)), 1 / 3)


SOURCES: dict[str, Callable[[Path | None], Source]] = {
    source.__name__: source for source in (digits, fashion_mnist, stl10, malaria, folder)
}
