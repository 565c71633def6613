"""The raw data sets: one function each, from files in their official formats to images.

A source is a function `(folder, halving) -> Source`, listed in `SOURCES`. To add one,
write the function and the line; everything from resizing to the command line then works.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np

from semisiam.data.draws import Halving, hold_out
from semisiam.data.files import (
    IMAGE_SUFFIXES,
    DataError,
    Member,
    cache_folder,
    decode_members,
    digest,
    fetch,
    list_members,
    read_gzip,
    reading,
)

Picture = tuple[np.ndarray | None, str]  # see `files.decode_image`


@dataclass(frozen=True)
class Part:
    """The images of one part of a data set, in order.

    images: yields `(pixels, remark)`, pixels uint8 (H, W) or (H, W, 3) in 0-255 of any size, or
        None where an image does not decode; the remark says what was converted, or why not.
    names: where each image came from, e.g. a file name; str (N,).
    labels: int64 (N,), classes from 0; -1 where there is none.
    """

    images: Iterable[Picture]
    names: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Raw:
    """A whole data set as read: `parts` has train, test and, where D_u is not train, unlabelled.

    test_rows: int64, places of the test images among all labelled ones in order of their names;
        empty where the test set is not drawn.
    """

    class_names: tuple[str, ...]
    parts: dict[str, Part]
    notes: tuple[str, ...] = ()
    test_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True)
class Source:
    """Where a data set comes from: `identity` changes when its files or its halves do."""

    identity: str
    read: Callable[[], Raw]


def take(images: np.ndarray, of: str, labels: np.ndarray, rows: np.ndarray) -> Part:
    """Make a part of an array in memory from those rows for which `rows`, bool (N,), is True."""
    names = np.array([f"{of}[{row}]" for row in np.flatnonzero(rows)])
    return Part(zip(images[rows], repeat("")), names, labels[rows].astype(np.int64))


# scikit-learn's digits


def digits(folder: Path | None, halving: Halving) -> Source:
    """The 1,797 digits of 8x8 pixels that come with scikit-learn; a fixed third is the test set."""
    return Source("scikit-learn", _read_digits)


def _read_digits() -> Raw:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    is_test = hold_out(bunch.target, 1 / 3, seed=0)  # whatever the halving: as if official
    parts = {"train": ~is_test, "test": is_test}
    return Raw(
        class_names=tuple(map(str, bunch.target_names)),
        parts={name: take(images, "digits", bunch.target, rows) for name, rows in parts.items()},
        notes=(
            "digits (8x8, scikit-learn) show the machinery, not the paper's claim",
            "grey values 0-16 scaled to 0-255; a fixed stratified third is the test set",
        ),
    )


# Fashion-MNIST

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
FASHION_MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
FASHION_FILES = {  # bytes and sha256 of the .gz, sha256 of its content
    "train-images-idx3-ubyte": (
        26421880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte": (
        29515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte": (
        4422102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte": (
        5148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # apt install dataset-fashion-mnist


def fashion_mnist(folder: Path | None, halving: Halving) -> Source:
    """Zalando's 60,000 + 10,000 grey images of 28x28 pixels; D_u is the training set."""
    if folder:
        for file in FASHION_FILES:  # even if the arrays are ready: these files were asked for
            _read_idx(folder, file)
    return Source("official", partial(_read_fashion, folder))


def _read_fashion(folder: Path | None) -> Raw:
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        labels = _read_idx(folder, f"{prefix}-labels-idx1-ubyte")
        images = _read_idx(folder, f"{prefix}-images-idx3-ubyte")
        parts[part] = take(images, part, labels, np.ones(len(labels), bool))
    return Raw(FASHION_CLASSES, parts, ("grey images repeated to 3 channels",))


def _read_idx(folder: Path | None, file: str) -> np.ndarray:
    """Read one idx file, uint8 (N,) or (N, 28, 28), if its content is the official one."""
    path = _find_fashion(folder, file)
    content = read_gzip(path)
    if hashlib.sha256(content).hexdigest() != FASHION_FILES[file][2]:
        raise DataError(
            f"{path} is not Fashion-MNIST's {file} (its content's sha256 differs): "
            "remove it and fetch it again; some mirrors serve MNIST under this name"
        )
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def _find_fashion(folder: Path | None, file: str) -> Path:
    downloads = cache_folder() / "downloads" / "fashion_mnist"
    for place in [folder] if folder else [downloads, DEBIAN_FASHION]:
        for path in (place / file, place / f"{file}.gz"):
            if path.is_file():
                return path
    urls = [f"{mirror}{file}.gz" for mirror in FASHION_MIRRORS]
    if folder:
        raise DataError(f"{folder} has neither {file} nor {file}.gz: put one there, from {urls[0]}")
    size, sha256, _ = FASHION_FILES[file]
    return fetch(downloads, f"{file}.gz", urls, sha256, size)


# STL-10 and Malaria: one archive each


@dataclass(frozen=True)
class Archive:
    """An official archive; `inside` is its folder, `marker` what that folder must hold."""

    file: str
    url: str
    size: int
    sha256: str
    inside: str
    marker: str


STL10 = Archive(
    file="stl10_binary.tar.gz",
    url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    size=2640397119,
    sha256="f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
    inside="stl10_binary",
    marker="train_X.bin",
)
MALARIA = Archive(
    file="cell_images.zip",
    url="https://data.lhncbc.nlm.nih.gov/public/Malaria/cell_images.zip",
    size=353452851,
    sha256="0a949556b2414159b5100192609805376654c4266d8d187be9b1922fad43c668",
    inside="cell_images",
    marker="Parasitized",
)


def _locate(archive: Archive, folder: Path | None, name: str) -> tuple[Path, str]:
    """Say where an archive, or what was unpacked from it, is or will be, and its identity.

    The official archive need not be there for its prepared arrays to be used.
    """
    home = folder or cache_folder() / "downloads" / name
    if (path := home / archive.file).is_file():
        sha256 = digest(path)
        if sha256 != archive.sha256 and path.stat().st_size == archive.size:
            raise DataError(f"{path} is damaged (wrong sha256): remove it and fetch it again")
        return path, sha256
    for place in (home / archive.inside, home):
        if (place / archive.marker).exists():
            return place, _identify_files(place)
    if folder:
        raise DataError(
            f"{folder} has neither {archive.file} nor what is in it ({archive.inside}/"
            f"{archive.marker}): put it there, from {archive.url}"
        )
    return path, archive.sha256


def _identify_files(folder: Path) -> str:
    """Hash names, sizes and times of change of all files, which is much faster than reading."""
    listing = []
    for path in sorted(folder.rglob("*")):
        stat = path.stat()
        changed = (stat.st_size, stat.st_mtime_ns) if path.is_file() else ()
        listing.append((path.relative_to(folder).as_posix(), *changed))
    return hashlib.sha256(repr(listing).encode()).hexdigest()


def _open_archive(archive: Archive, place: Path) -> tuple[dict[str, Member], list[str]]:
    """List the archive's files, after a download if need be, and note if it is not official."""
    if not place.exists():
        place = fetch(place.parent, archive.file, [archive.url], archive.sha256, archive.size)
    notes = []
    if place.is_dir():
        notes.append(f"read from unpacked files, not checked against {archive.file}'s sha256")
    elif digest(place) != archive.sha256:
        notes.append(f"not the official {archive.file} (other sha256): a subset, or changed")
    return list_members(place), notes


STL10_CLASSES = (
    *("airplane", "bird", "car", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)
STL10_BYTES = 3 * 96 * 96


def stl10(folder: Path | None, halving: Halving) -> Source:
    """STL-10: 5,000 training, 8,000 test and 100,000 unlabelled colour images of 96x96 pixels."""
    place, identity = _locate(STL10, folder, "stl10")
    return Source(identity, partial(_read_stl10, place))


def _read_stl10(place: Path) -> Raw:
    members, notes = _open_archive(STL10, place)
    files = {name.rsplit("/")[-1]: member for name, member in members.items()}
    labels = {part: _read_stl10_labels(place, files, part) for part in ("train", "test")}
    present = np.unique(labels["train"])
    if absent := [name for c, name in enumerate(STL10_CLASSES) if c not in present]:
        dropped = np.isin(labels["test"], present, invert=True).sum()
        notes.append(
            f"classes without a training image left out, with {dropped} test images: "
            + ", ".join(absent)
        )
    n_unlabelled = _count_stl10(place, files, "unlabeled_X.bin")
    labels["unlabelled"] = np.full(n_unlabelled, -1)
    parts = {}
    for part, file in (("train", "train_X"), ("test", "test_X"), ("unlabelled", "unlabeled_X")):
        kept = np.isin(labels[part], [-1, *present])
        images = _stream_stl10(place, files[f"{file}.bin"], kept)
        names = np.array([f"{file}[{row}]" for row in np.flatnonzero(kept)])
        new_labels = np.searchsorted(present, labels[part][kept])
        parts[part] = Part(images, names, new_labels if part != "unlabelled" else labels[part])
    return Raw(tuple(STL10_CLASSES[c] for c in present), parts, tuple(notes))


def _count_stl10(place: Path, files: dict[str, Member], file: str) -> int:
    if file not in files:
        raise DataError(f"{place} has no {file}: fetch it again")
    count, rest = divmod(files[file].size, STL10_BYTES)
    if rest or not count:
        raise DataError(f"{place}: {file} is truncated ({rest} bytes after {count} whole images)")
    return count


def _read_stl10_labels(place: Path, files: dict[str, Member], part: str) -> np.ndarray:
    """Read labels, int64 (N,), classes from 0 where the file counts from 1."""
    n_images = _count_stl10(place, files, f"{part}_X.bin")
    if f"{part}_y.bin" not in files:
        raise DataError(f"{place} has no {part}_y.bin: fetch it again")
    with reading(place), files[f"{part}_y.bin"].open() as file:
        labels = np.frombuffer(file.read(), np.uint8).astype(np.int64) - 1
    if len(labels) != n_images:
        raise DataError(f"{place}: {part}_y.bin has {len(labels)} labels for {n_images} images")
    if len(wrong := np.flatnonzero((labels < 0) | (labels > 9))):
        raise DataError(
            f"{place}: {part}_y.bin has {len(wrong)} labels outside 1-10, "
            f"the first is {labels[wrong[0]] + 1} at place {wrong[0]}"
        )
    return labels


def _stream_stl10(place: Path, member: Member, kept: np.ndarray) -> Iterator[Picture]:
    """Read images, which are stored channel by channel and column by column."""
    with reading(place), member.open() as file:
        for keep in kept:
            content = file.read(STL10_BYTES)
            if len(content) < STL10_BYTES:
                raise EOFError("an image is cut short")
            if keep:
                pixels = np.frombuffer(content, np.uint8).reshape(3, 96, 96)
                yield pixels.transpose(2, 1, 0), ""


MALARIA_CLASSES = ("Parasitized", "Uninfected")


def malaria(folder: Path | None, halving: Halving) -> Source:
    """NIH's 27,558 images of blood cells, halved at random; D_u is the training half.

    The paper's halves share their patients; halved by patient, no patient is in both.
    """
    place, identity = _locate(MALARIA, folder, "malaria")
    return Source(f"{identity}-{halving}", partial(_read_malaria, place, halving))


def _read_malaria(place: Path, halving: Halving) -> Raw:
    members, notes = _open_archive(MALARIA, place)
    members = {"/".join(name.split("/")[-2:]): member for name, member in members.items()}
    names, labels, ignored = _choose_images(place, members, MALARIA_CLASSES)
    patients = find_patients(names)
    is_test = halving.choose(labels, 1 / 2, patients)
    shared = np.intersect1d(patients[is_test], patients[~is_test])
    said = (
        f"test set: a half {halving}; {len(shared)} of {len(np.unique(patients))} patients are "
        "on both sides"
    )
    parts = {
        part: Part(decode_members([members[n] for n in names[rows]]), names[rows], labels[rows])
        for part, rows in (("train", ~is_test), ("test", is_test))
    }
    notes = (*notes, *ignored, said)
    return Raw(MALARIA_CLASSES, parts, notes, test_rows=np.flatnonzero(is_test))


def find_patients(names: np.ndarray) -> np.ndarray:
    """Return the patient of each malaria image, `C` and a number, with which its name begins.

    Raises:
        DataError: a name begins otherwise.
    """
    found = [re.match(r"C\d+", name.split("/")[-1]) for name in names]
    if None in found:
        raise DataError(f"the name of {names[found.index(None)]} does not begin with a patient")
    return np.array([match.group() for match in found])


def _choose_images(
    place: Path, members: dict[str, Member], folders: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Choose the image files in some folders of one depth.

    Returns:
        Their names, str (N,); the index of each one's folder, int64 (N,); notes of other files.
    """
    index = {folder: i for i, folder in enumerate(folders)}
    depth = folders[0].count("/") + 1
    places = {name: index.get("/".join(name.split("/")[:depth])) for name in members}
    inside = [name for name, i in places.items() if i is not None]
    names = [name for name in inside if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    labels = np.array([places[name] for name in names], np.int64)
    if missing := [folder for folder, i in index.items() if i not in labels]:
        raise DataError(
            f"{place} has no image in {', '.join(missing)}: add images or remove the folder"
        )
    notes = []
    if others := sorted(set(inside) - set(names)):
        listed = ", ".join(others[:3] + ["..."] * (len(others) > 3))
        notes.append(f"files that are not images left out ({len(others)}): {listed}")
    return np.array(names), labels, notes


# one's own images


def folder(folder: Path | None, halving: Halving) -> Source:
    """One's own images: `CLASS/*.png|jpg|...` with an optional `unlabelled/*` and `test/CLASS/*`.

    Without `unlabelled`, D_u is the training set; without `test`, a third of the labelled images
    is drawn for it, stratified. Images are stretched to squares.
    """
    if folder is None:
        raise DataError("the data set 'folder' needs data_dir: a folder with one folder per class")
    return Source(f"{_identify_files(folder)}-{halving}", partial(_read_folder, folder, halving))


def _read_folder(place: Path, halving: Halving) -> Raw:
    members = list_members(place)
    tops = sorted(path.name for path in place.iterdir() if path.is_dir())
    classes = [top for top in tops if top not in ("test", "unlabelled") and top[0] != "."]
    if len(classes) < 2:
        raise DataError(f"{place} has {len(classes)} class folders: at least 2 are needed")
    chosen = {"train": _choose_images(place, members, classes)}
    if "test" in tops:
        chosen["test"] = _choose_images(place, members, [f"test/{name}" for name in classes])
        if unknown := {path.name for path in (place / "test").iterdir()} - set(classes):
            raise DataError(f"{place}/test has {', '.join(sorted(unknown))}, which is no class")
    if "unlabelled" in tops:
        chosen["unlabelled"] = _choose_images(place, members, ["unlabelled"])
    notes = [note for *_, part_notes in chosen.values() for note in part_notes]
    files = {part: (names, labels) for part, (names, labels, _) in chosen.items()}
    if "unlabelled" in files:
        names, labels = files["unlabelled"]
        files["unlabelled"] = names, np.full_like(labels, -1)
    is_test = np.zeros(0, bool)
    if "test" not in files:
        names, labels = files["train"]
        is_test = halving.choose(labels, 1 / 3)
        files |= {"train": (names[~is_test], labels[~is_test])}
        files |= {"test": (names[is_test], labels[is_test])}
        notes.append(f"test set: a third of the labelled images, {halving}")
    parts = {
        part: Part(decode_members([members[n] for n in names]), names, labels)
        for part, (names, labels) in files.items()
    }
    return Raw(tuple(classes), parts, tuple(notes), test_rows=np.flatnonzero(is_test))


SOURCES: dict[str, Callable[[Path | None, Halving], Source]] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "stl10": stl10,
    "malaria": malaria,
    "folder": folder,
}
