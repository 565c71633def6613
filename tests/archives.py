"""Made-up data sets in the official formats, a few kilobytes each."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from semisiam.data import files, sources


def make_images(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Noise, so no two images are equal: uint8 (n, *shape)."""
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def encode(pixels: np.ndarray, kind: str = "png", **options) -> bytes:
    """Encode pixels, or a Pillow image, as an image file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def make_stl10(labels: dict[str, list[int]], n_unlabelled: int) -> dict[str, bytes]:
    """STL-10's files by name; `labels` of train and test count from 1."""
    made = {}
    for seed, (part, of_part) in enumerate(labels.items()):
        images = make_images(len(of_part), 96, 96, 3, seed=seed)
        made[f"{part}_X.bin"] = images.transpose(0, 3, 2, 1).tobytes()
        made[f"{part}_y.bin"] = bytes(of_part)
    unlabelled = make_images(n_unlabelled, 96, 96, 3, seed=9)
    return made | {"unlabeled_X.bin": unlabelled.transpose(0, 3, 2, 1).tobytes()}


def make_malaria(n: int, n_patients: int = 4) -> dict[str, bytes]:
    """Malaria's files by name: 2 n images of several sizes, of some patients, and a Thumbs.db."""
    made = {"Parasitized/Thumbs.db": b"x", "Uninfected/Thumbs.db": b"x"}
    for seed, name in enumerate(sources.MALARIA_CLASSES):
        for i in range(n):
            pixels = make_images(1, 20 + i, 30, 3, seed=100 * seed + i)[0]
            made[f"{name}/C{i % n_patients}P1ThinF_IMG_{seed}_cell_{i}.png"] = encode(pixels)
    return made


def write_files(folder: Path, content: dict[str, bytes]) -> Path:
    """Write files under a folder."""
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_zip(path: Path, content: dict[str, bytes], inside: str = "cell_images/") -> Path:
    """Write a .zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(inside + name, data)
    return path


def write_tar(path: Path, content: dict[str, bytes], inside: str = "stl10_binary/") -> Path:
    """Write a .tar.gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(inside + name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def make_official(monkeypatch: pytest.MonkeyPatch, file: str, **facts: str | int) -> None:
    """Change what is known of an official file, or make a new one known."""
    monkeypatch.setitem(files.OFFICIAL, file, files.OFFICIAL.get(file, {}) | facts)


def make_fashion(monkeypatch: pytest.MonkeyPatch, *mirrors: str) -> dict[str, bytes]:
    """Fashion-MNIST's .gz files with 20 + 10 images, made the official ones; no Debian package."""
    packed = {}
    for prefix, n in (("train", 20), ("t10k", 10)):
        images = make_images(n, 28, 28, seed=n)
        header = bytes([0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 28, 0, 0, 0, 28])
        labels = bytes([0, 0, 8, 1, 0, 0, 0, n]) + bytes(i % 10 for i in range(n))
        made = {"images-idx3": header + images.tobytes(), "labels-idx1": labels}
        for kind, content in made.items():
            file, data = f"{prefix}-{kind}-ubyte.gz", gzip.compress(content, mtime=0)
            hashes = (hashlib.sha256(of).hexdigest() for of in (data, content))
            facts = dict(zip(("sha256", "content_sha256"), hashes, strict=True))
            urls = " ".join(f"{mirror}{file}" for mirror in mirrors)
            make_official(monkeypatch, file, bytes=len(data), urls=urls, **facts)
            packed[file] = data
    monkeypatch.setattr(sources, "DEBIAN_FASHION", Path("/nowhere"))
    return packed


def write_folder(place: Path, classes=("cat", "dog"), n: int = 6, size=(20, 30)) -> str:
    """Write a folder of one's own: `n` PNGs a class; returns its path as a setting."""
    for seed, name in enumerate(classes):
        images = make_images(n, *size, 3, seed=seed)
        write_files(place / name, {f"{i}.png": encode(image) for i, image in enumerate(images)})
    return str(place)


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on 127.0.0.1; yields the address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
