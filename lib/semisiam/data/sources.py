"""The raw data sets: one function each, from official files or one's own to images and labels.

A source is a function `(folder, halving) -> Source`, listed in `SOURCES`. To add one,
write the function and the line; everything from resizing to the command line then works.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np

from semisiam.data import files
from semisiam.data.files import Archive, DataError, Member
from semisiam.data.parts import Halving, Part, choose_images, hold_out, read_layout
from semisiam.data.pixels import Picture, decode_members


@dataclass(frozen=True)
class Raw:
    """A whole data set as read: `parts` has train, test and, where D_u is not train, unlabelled.

    test_rows: places of the test images among all labelled ones in order, if they were drawn.
    """

    class_names: tuple[str, ...]
    parts: dict[str, Part]
    notes: Sequence[str] = ()
    test_rows: Sequence[int] = ()


@dataclass(frozen=True)
class Source:
    """Where a data set comes from: `identity` changes when its files or its halves do.

    local: whether all files are here, so that `read` downloads nothing.
    """

    identity: str
    read: Callable[[], Raw]
    local: bool = True


def take(images: np.ndarray, of: str, labels: np.ndarray, rows: np.ndarray) -> Part:
    """Make a part of an array in memory from those rows for which `rows`, bool (N,), is True."""
    names = np.array([f"{of}[{row}]" for row in np.flatnonzero(rows)])
    return Part(zip(images[rows], repeat("")), names, labels[rows].astype(np.int64))


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
    for file in FASHION_FILES if folder else ():
        _read_idx(folder, file)  # even if the arrays are ready: these files were asked for
    local = all(_find_idx(folder, file) for file in FASHION_FILES)
    return Source("official", partial(_read_fashion, folder), local)


def _read_fashion(folder: Path | None) -> Raw:
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        labels = _read_idx(folder, f"{prefix}-labels-idx1-ubyte")
        images = _read_idx(folder, f"{prefix}-images-idx3-ubyte")
        parts[part] = take(images, part, labels, np.ones(len(labels), bool))
    return Raw(FASHION_CLASSES, parts, ("grey images repeated to 3 channels",))


def _read_idx(folder: Path | None, file: str) -> np.ndarray:
    """Read one idx file, uint8 (N,) or (N, 28, 28), if its content is the official one."""
    size, packed, unpacked = FASHION_FILES[file]
    urls = [f"{mirror}{file}.gz" for mirror in FASHION_MIRRORS]
    if not (path := _find_idx(folder, file)):
        if folder:
            raise DataError(
                f"{folder} has neither {file} nor {file}.gz: put one there, from {urls[0]}"
            )
        downloads = files.cache_folder() / "downloads" / "fashion_mnist"
        path = files.fetch(downloads, f"{file}.gz", urls, packed, size)
    content = files.read_gzip(path)
    if hashlib.sha256(content).hexdigest() != unpacked:
        raise DataError(
            f"{path} is not Fashion-MNIST's {file} (its content's sha256 differs): "
            "remove it and fetch it again; some mirrors serve MNIST under this name"
        )
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def _find_idx(folder: Path | None, file: str) -> Path | None:
    downloads = files.cache_folder() / "downloads" / "fashion_mnist"
    places = [folder] if folder else [downloads, DEBIAN_FASHION]
    paths = (place / name for place in places for name in (file, f"{file}.gz"))
    return next(filter(Path.is_file, paths), None)


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

STL10_CLASSES = (
    *("airplane", "bird", "car", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)
STL10_FILES = {"train": "train_X", "test": "test_X", "unlabelled": "unlabeled_X"}
STL10_BYTES = 3 * 96 * 96


def stl10(folder: Path | None, halving: Halving) -> Source:
    """STL-10: 5,000 training, 8,000 test and 100,000 unlabelled colour images of 96x96 pixels."""
    place, identity = files.locate(STL10, folder, "stl10")
    return Source(identity, partial(_read_stl10, place), place.exists())


def _read_stl10(place: Path) -> Raw:
    members, notes = files.open_archive(STL10, place)
    named = {name.rsplit("/")[-1]: member for name, member in members.items()}
    labels = {part: _read_stl10_labels(place, named, part) for part in STL10_FILES}
    present = np.unique(labels["train"])
    if absent := [name for c, name in enumerate(STL10_CLASSES) if c not in present]:
        dropped = np.isin(labels["test"], present, invert=True).sum()
        notes.append(
            f"classes without a training image left out, with {dropped} test images: "
            + ", ".join(absent)
        )
    parts, new = {}, np.append(np.searchsorted(present, np.arange(10)), -1)  # new[-1] is -1
    for part, file in STL10_FILES.items():
        kept = np.isin(labels[part], [-1, *present])
        names = np.array([f"{file}[{row}]" for row in np.flatnonzero(kept)])
        images = _stream_stl10(place, named[f"{file}.bin"], kept)
        parts[part] = Part(images, names, new[labels[part][kept]])
    return Raw(tuple(STL10_CLASSES[c] for c in present), parts, notes)


def _read_stl10_labels(place: Path, named: dict[str, Member], part: str) -> np.ndarray:
    """Read labels, int64 (N,), from 0 where the file counts from 1; -1 where there are none."""
    images, labels = f"{STL10_FILES[part]}.bin", f"{part}_y.bin"
    if absent := {images, *[labels] * (part != "unlabelled")} - set(named):
        raise DataError(f"{place} has no {' and no '.join(sorted(absent))}: fetch it again")
    count, rest = divmod(named[images].size, STL10_BYTES)
    if rest or not count:
        raise DataError(f"{place}: {images} is truncated ({rest} bytes after {count} whole images)")
    if part == "unlabelled":
        return np.full(count, -1)
    with files.reading(place), named[labels].open() as file:
        found = np.frombuffer(file.read(), np.uint8).astype(np.int64) - 1
    wrong = (found[(found < 0) | (found > 9)] + 1).tolist()
    if wrong or len(found) != count:
        few = f", and outside 1-10: {files.enumerate_few(list(map(str, wrong)))}" if wrong else ""
        raise DataError(f"{place}: {labels} has {len(found)} labels for {count} images{few}")
    return found


def _stream_stl10(place: Path, member: Member, kept: np.ndarray) -> Iterator[Picture]:
    """Read images, which are stored channel by channel and column by column."""
    with files.reading(place), member.open() as file:
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
    place, identity = files.locate(MALARIA, folder, "malaria")
    return Source(f"{identity}-{halving}", partial(_read_malaria, place, halving), place.exists())


def _read_malaria(place: Path, halving: Halving) -> Raw:
    members, notes = files.open_archive(MALARIA, place)
    members = {"/".join(name.split("/")[-2:]): member for name, member in members.items()}
    images, ignored = choose_images(place, members, MALARIA_CLASSES)
    patients = find_patients(images.names)
    parts, rows = halving.halve(images._replace(groups=patients), 1 / 2)
    shared = np.intersect1d(parts["train"].groups, parts["test"].groups)
    said = (
        f"test set: a half {halving}; {len(shared)} of {len(np.unique(patients))} patients are "
        "on both sides"
    )
    return Raw(MALARIA_CLASSES, _decode(parts, members), [*notes, *ignored, said], rows)


def find_patients(names: np.ndarray) -> np.ndarray:
    """Return the patient of each malaria image, `C` and a number, with which its name begins.

    Raises `DataError` where a name begins otherwise.
    """
    found = [re.match(r"C\d+", name.split("/")[-1]) for name in names]
    if None in found:
        raise DataError(f"the name of {names[found.index(None)]} does not begin with a patient")
    return np.array([match.group() for match in found])


def _decode(parts: dict[str, Part], members: dict[str, Member]) -> dict[str, Part]:
    """Give the parts the pictures that their names name, read when they are asked for."""
    return {
        part: of._replace(images=decode_members([members[name] for name in of.names]))
        for part, of in parts.items()
    }


def folder(folder: Path | None, halving: Halving) -> Source:
    """One's own images: `CLASS/*.png|jpg|...` with an optional `unlabelled/*` and `test/CLASS/*`.

    Or images beside `labels.csv`, with the columns file, label and, if wished, group; those without
    a label are the unlabelled ones. Without any, D_u is the training set; without `test`, a third
    of the labelled images is drawn for it, stratified and, if there are groups, by whole groups.
    """
    if folder is None:
        raise DataError("the data set 'folder' needs data_dir: a folder with one folder per class")
    return Source(f"{files.identify_files(folder)}-{halving}", partial(_read_own, folder, halving))


def _read_own(place: Path, halving: Halving) -> Raw:
    members = files.list_members(place)
    classes, parts, notes = read_layout(place, members)
    rows = []
    if "test" not in parts:
        images = parts["train"]
        if few := [classes[c] for c in np.flatnonzero(np.bincount(images.labels) == 1)]:
            raise DataError(
                f"{place} has a single image of {', '.join(few)}: add more, or give test images "
                "of their own"
            )
        halving = replace(halving, test_split="group") if len(images.groups) else halving
        halves, rows = halving.halve(images, 1 / 3)
        parts |= halves
        notes.append(f"test set: a third of the labelled images, {halving}")
    return Raw(tuple(classes), _decode(parts, members), notes, rows)


SOURCES: dict[str, Callable[[Path | None, Halving], Source]] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "stl10": stl10,
    "malaria": malaria,
    "folder": folder,
}
