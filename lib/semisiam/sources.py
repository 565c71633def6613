"""The raw data sets: one function each, from files in their official formats to images.

A source is a function `(folder, seed, test_split) -> Source`, listed in `SOURCES`. To add one,
write the function and the line; everything from resizing to the command line then works.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np

from semisiam.files import DataError, cache_folder, fetch, read_gzip

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
    """A whole data set as read: `parts` has train, test and, where D_u is not train, unlabelled."""

    class_names: tuple[str, ...]
    parts: dict[str, Part]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where a data set comes from: `identity` changes when its files or its halves do."""

    identity: str
    read: Callable[[], Raw]


def hold_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose test images at random, `share` of all and as near as possible of each class.

    Returns:
        bool (N,), True for test.
    """
    chosen = draw_stratified(labels, round(share * len(labels)), seed)
    return np.isin(np.arange(len(labels)), chosen)


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


# scikit-learn's digits


def digits(folder: Path | None, seed: int, test_split: str) -> Source:
    """The 1,797 digits of 8x8 pixels that come with scikit-learn; a fixed third is the test set."""
    return Source("scikit-learn", _read_digits)


def _read_digits() -> Raw:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    is_test = hold_out(bunch.target, 1 / 3, seed=0)
    parts = {"train": ~is_test, "test": is_test}
    return Raw(
        class_names=tuple(map(str, bunch.target_names)),
        parts={name: _cut(images, "digits", bunch.target, rows) for name, rows in parts.items()},
        notes=(
            "digits (8x8, scikit-learn) show the machinery, not the paper's claim",
            "grey values 0-16 scaled to 0-255; a fixed stratified third is the test set",
        ),
    )


def _cut(images: np.ndarray, of: str, labels: np.ndarray, rows: np.ndarray) -> Part:
    """Make a part of some rows of an array in memory."""
    names = np.array([f"{of}[{row}]" for row in np.flatnonzero(rows)])
    return Part(zip(images[rows], repeat("")), names, labels[rows].astype(np.int64))


# Fashion-MNIST

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
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


def fashion_mnist(folder: Path | None, seed: int, test_split: str) -> Source:
    """Zalando's 60,000 + 10,000 grey images of 28x28 pixels; D_u is the training set."""
    return Source("official", partial(_read_fashion, folder))


def _read_fashion(folder: Path | None) -> Raw:
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        labels = _read_idx(folder, f"{prefix}-labels-idx1-ubyte")
        images = _read_idx(folder, f"{prefix}-images-idx3-ubyte")
        parts[part] = _cut(images, part, labels, np.ones(len(labels), bool))
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
    if folder:
        raise DataError(f"{folder} has neither {file} nor {file}.gz: put it there")
    size, sha256, _ = FASHION_FILES[file]
    urls = [f"{mirror}{file}.gz" for mirror in FASHION_MIRRORS]
    return fetch(downloads, f"{file}.gz", urls, sha256, size)


SOURCES: dict[str, Callable[[Path | None, int, str], Source]] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
}
