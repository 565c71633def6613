"""Raw files: where they are kept, how they are fetched, checked, and decoded to pixels."""

import gzip
import hashlib
import io
import os
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}

PAUSE = 1.0  # s, before downloads are tried again


class DataError(ValueError):
    """Data that cannot be used; the message says what is wrong, where, and what to do."""


def cache_folder() -> Path:
    """Where downloads and prepared arrays are kept: SEMISIAM_CACHE, else the user's cache."""
    import pooch  # slow, and most calls do not need it

    return Path(os.environ.get("SEMISIAM_CACHE") or pooch.os_cache("semisiam")).expanduser()


def digest(path: Path) -> str:
    """Return the sha256 of a file, 64 hex digits.

    It is remembered for as long as the file's inode, size and times of change stay the same, so
    gigabytes are read once and every write to the file is still noticed.
    """
    stat = path.stat()
    seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    memo = cache_folder() / "checked" / "-".join(map(str, seen))
    with suppress(OSError):
        return memo.read_text("ascii")
    with path.open("rb") as file:
        value = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(OSError):  # a read-only cache only costs the time to read the file again
        memo.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memo.parent, delete=False) as file:
            file.write(value)
        Path(file.name).replace(memo)
    return value


def fetch(folder: Path, file: str, urls: Sequence[str], sha256: str, size: int) -> Path:
    """Return `folder/file`, downloading it from the first of `urls` that works.

    All addresses are tried in turn, three times over, with a longer pause before each round; the
    file appears only once its hash is right.

    Raises:
        DataError: no address works; the message says which file to put where.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    problems = {}
    for attempt in range(3):
        time.sleep(attempt * PAUSE)
        for url in urls:
            bar = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**18)
            try:
                return Path(pooch.retrieve(url, f"sha256:{sha256}", file, folder, downloader=bar))
            except (requests.RequestException, ValueError, OSError) as error:
                problems[url] = _brief(error)
    raise DataError(
        f"cannot download {file}:\n"
        + "\n".join(f"  {url}: {problem}" for url, problem in problems.items())
        + f"\nput the file {file} ({size:,} bytes, sha256 {sha256}) into {folder}, "
        "or give the folder it is in (--dir, data_dir)"
    )


def _brief(error: Exception) -> str:
    import requests

    if "hash" in str(error):
        return "what it sends is not the right file (wrong sha256)"
    if isinstance(error, requests.HTTPError):
        return f"HTTP {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke each time"
    return "no connection" if isinstance(error, requests.ConnectionError) else str(error)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a broken file raises into a `DataError` that names the file."""
    broken = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, RuntimeError)
    try:
        yield
    except broken as error:
        raise DataError(
            f"{path} is truncated, damaged or unreadable ({error}): remove it and fetch it again"
        ) from None


def read_gzip(path: Path) -> bytes:
    """Read a file, decompressing it if its name ends in .gz. Raises `DataError`."""
    with reading(path):
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@dataclass(frozen=True)
class Member:
    """A file in an archive or a folder: its size (bytes) and how to open it."""

    size: int
    open: Callable[[], IO[bytes]]


def list_members(place: Path) -> dict[str, Member]:
    """List the files of a folder, a .zip or a .tar.gz by their paths in it, sorted, none hidden.

    Archives are read in place, never unpacked.

    Raises:
        DataError: the archive is broken or has a path that leads out of it.
    """
    with reading(place):
        if place.is_dir():
            files = [path for path in place.rglob("*") if path.is_file()]
            found = {
                path.relative_to(place).as_posix(): Member(
                    path.stat().st_size, partial(path.open, "rb")
                )
                for path in files
            }
        elif place.suffix == ".zip":
            archive = zipfile.ZipFile(place)
            infos = [info for info in archive.infolist() if not info.is_dir()]
            found = {i.filename: Member(i.file_size, partial(archive.open, i)) for i in infos}
        else:
            archive = tarfile.open(place)  # noqa: SIM115 - its members are read later
            infos = [info for info in archive if info.isfile()]
            found = {i.name: Member(i.size, partial(archive.extractfile, i)) for i in infos}
    for name in found:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(f"{place} has a path that leads out of it, {name!r}: do not use it")
    return {name: found[name] for name in sorted(found) if "/." not in f"/{name}"}


def decode_members(members: Sequence[Member]) -> Iterator[tuple[np.ndarray | None, str]]:
    """Read and decode image files one at a time; see `decode_image`."""
    for member in members:
        try:
            with member.open() as file:
                data = file.read()
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
            yield None, f"cannot be read ({error})"
        else:
            yield decode_image(data)


def decode_image(data: bytes) -> tuple[np.ndarray | None, str]:
    """Decode an image file to red, green and blue.

    Returns:
        uint8 (H, W, 3) in 0-255, and what had to be converted ("" if nothing, else e.g. "grey");
        or None and why the file does not decode.
    """
    if not data:
        return None, "is empty (0 bytes)"
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _to_rgb(image)
    except UnidentifiedImageError:
        return None, "is not an image that Pillow knows"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, zlib.error) as error:
        return None, f"does not decode ({error})"


def _to_rgb(image: Image.Image) -> tuple[np.ndarray | None, str]:
    """Convert any of Pillow's modes; what it would clip or lay bare is scaled or flattened."""
    remarks = []
    if image.getexif().get(0x0112, 1) != 1:
        image = ImageOps.exif_transpose(image)
        remarks.append("turned upright as its EXIF says")
    if image.mode.startswith("I"):
        remarks.append("16-bit")
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
    elif image.mode == "F":
        return None, "holds floating-point pixels, whose range is unknown"
    if image.has_transparency_data:
        remarks.append("alpha laid on white")
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode in ("1", "L"):
        remarks.append("grey")
    elif image.mode != "RGB":
        remarks.append({"P": "palette"}.get(image.mode, image.mode))
    return np.asarray(image.convert("RGB")), ", ".join(remarks)
