"""Raw files: fetched, checked, and listed by one walker."""

import gzip
import hashlib
import os
import sys
import tarfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

IMAGE_SUFFIXES = {  # those that people give to these formats
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif"),
}
OTHER_PICTURES = {  # images too, but in formats that cannot be read here
    *(".heic", ".heif", ".jxl", ".svg", ".psd", ".xcf", ".tga", ".ico", ".eps", ".exr", ".fits"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".dcm", ".czi", ".nd2", ".lif", ".lsm"),
    *(".svs", ".ndpi", ".vsi", ".oib", ".oif"),
}
SYSTEM = {  # what systems leave in folders, besides hidden names
    *("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
    *("__MACOSX", "desktop.ini", "Icon\r"),
}
PAUSE = 1.0  # s, before downloads are tried again


class DataError(ValueError):
    """Data that cannot be used; the message says what is wrong, where, and what to do."""

    def __str__(self) -> str:
        """Give the message as text that any terminal can show."""
        return show(super().__str__())


def cache_folder() -> Path:
    """Where downloads and prepared arrays are kept: SEMISIAM_CACHE, else the user's cache."""
    import pooch  # slow, and most calls do not need it

    return Path(os.environ.get("SEMISIAM_CACHE") or pooch.os_cache("semisiam")).expanduser()


def fetch(folder: Path, file: str, urls: Sequence[str], sha256: str, size: int) -> Path:
    """Return `folder/file`, downloading it from the first of `urls` that works.

    All are tried three times; the file appears only once its hash is right. Raises `DataError`.
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
    told = "".join(f"\n  {url}: {problem}" for url, problem in problems.items())
    raise DataError(
        f"cannot download {file}:{told}\nput the file {file} ({size:,} bytes, sha256 {sha256}) "
        f"into {folder}, or give the folder it is in (--dir, data_dir)"
    )


def _brief(error: Exception) -> str:
    from requests import exceptions

    if "hash" in str(error):
        return "what it sends is not the right file (wrong sha256)"
    if isinstance(error, exceptions.HTTPError):
        return f"HTTP {error.response.status_code} {error.response.reason}"
    if isinstance(error, exceptions.ChunkedEncodingError):
        return "the connection broke each time"
    if isinstance(error, exceptions.ProxyError):
        return "the proxy does not let it through: look at HTTP_PROXY and HTTPS_PROXY"
    if isinstance(error, exceptions.SSLError):
        return "its certificate is not trusted: set REQUESTS_CA_BUNDLE to your network's own"
    return "no connection" if isinstance(error, exceptions.ConnectionError) else str(error)


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


def show(name: str) -> str:
    r"""Write a file's name as text; bytes that are no UTF-8 become e.g. \xe9."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_skipped(name: str) -> bool:
    return any(part.startswith(".") or part in SYSTEM for part in name.split("/"))


def walk(folder: Path) -> dict[str, Path]:
    """List all in a folder, to any depth: names as shown, those of folders with "/", to paths.

    Hidden names and what systems leave there are skipped, links followed, loops ended. Raises
    `DataError` where a folder cannot be listed or links lead nowhere.
    """
    found, dangling, waiting = {}, [], [("", folder, ())]
    try:
        while waiting:
            inside, place, above = waiting.pop()
            above = (*above, place.resolve())
            for path in place.iterdir():
                name = inside + show(path.name)
                if _is_skipped(path.name) or (path.is_dir() and path.resolve() in above):
                    continue
                if path.is_dir():
                    found[f"{name}/"] = path
                    waiting.append((f"{name}/", path, above))
                elif path.is_file():
                    found[name] = path
                elif path.is_symlink():
                    dangling.append(name)
    except OSError as error:
        raise DataError(f"{place} cannot be listed: {error.strerror}") from None
    if dangling:
        few = enumerate_few(sorted(dangling))
        raise DataError(f"{folder} has links that lead nowhere: {few}; mend or remove them")
    return dict(sorted(found.items()))


def list_members(place: Path) -> dict[str, Member]:
    """List the files of a folder, a .zip or a .tar.gz by their paths in it, sorted; see `walk`.

    Archives are never unpacked. Raises `DataError` if one is broken or a path leads out of it.
    """
    if place.is_dir():
        found = {name: path for name, path in walk(place).items() if name[-1] != "/"}
        return {n: Member(p.stat().st_size, partial(p.open, "rb")) for n, p in found.items()}
    with reading(place):
        if place.suffix == ".zip":
            archive = zipfile.ZipFile(place)
            infos = [info for info in archive.infolist() if not info.is_dir()]
            found = {i.filename: Member(i.file_size, partial(archive.open, i)) for i in infos}
        else:
            archive = tarfile.open(place)  # noqa: SIM115 - its members are read later
            infos = [info for info in archive if info.isfile()]
            found = {show(i.name): Member(i.size, partial(archive.extractfile, i)) for i in infos}
    for name in found:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(f"{place} has a path that leads out of it, {name!r}: do not use it")
    return {name: found[name] for name in sorted(found) if not _is_skipped(name)}


def is_image(name: str) -> bool:
    """Tell from a file's name whether it is an image that can be read."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_picture(name: str) -> bool:
    """Tell whether it is an image, in a format that can be read or not."""
    return is_image(name) or PurePosixPath(name).suffix.lower() in OTHER_PICTURES


def count_unsupported(names: Iterable[str], said: str) -> str:
    """Say in `said` how many images of each unsupported format there are, or nothing if none."""
    suffixes = Counter(PurePosixPath(name).suffix.lower() for name in names)
    counts = [f"{n:,} {s}" for s, n in sorted(suffixes.items()) if s in OTHER_PICTURES]
    return said.format(", ".join(counts)) if counts else ""


def enumerate_few(items: Sequence[str], count: int = 3, separator: str = ", ") -> str:
    """Join the first few texts; dots stand for the others."""
    return separator.join([*items[:count], *["..."] * (len(items) > count)])


@dataclass(frozen=True)
class Archive:
    """An official archive; `inside` is its folder, `marker` what that folder must hold."""

    file: str
    url: str
    size: int
    sha256: str
    inside: str
    marker: str


def locate(archive: Archive, folder: Path | None, name: str) -> tuple[Path, str]:
    """Say where an archive, or what was unpacked from it, is or will be, and its identity.

    The official archive need not be there for its prepared arrays to be used.
    """
    home = folder or cache_folder() / "downloads" / name
    if (path := home / archive.file).is_file():
        stat = path.stat()
        official = stat.st_size == archive.size  # `open_archive` reads it all and makes sure
        return path, archive.sha256 if official else f"{stat.st_size} {stat.st_mtime_ns}"
    for place in (home / archive.inside, home):
        if (place / archive.marker).exists():
            return place, identify_files(place)
    if folder:
        inside = f"{archive.inside}/{archive.marker}"
        raise DataError(
            f"{folder} has neither {archive.file} nor what is in it ({inside}): put it there, "
            f"from {archive.url}"
        )
    return path, archive.sha256


def identify_files(folder: Path) -> str:
    """Hash names, sizes and times of change of all files, which is much faster than reading."""
    stats = {name: path.stat() for name, path in walk(folder).items()}
    listing = [(n, *((s.st_size, s.st_mtime_ns) if n[-1] != "/" else ())) for n, s in stats.items()]
    return hashlib.sha256(repr(listing).encode()).hexdigest()


def open_archive(archive: Archive, place: Path) -> tuple[dict[str, Member], list[str]]:
    """List the archive's files, after a download if need be, and note if it is not official."""
    if not place.exists():
        place = fetch(place.parent, archive.file, [archive.url], archive.sha256, archive.size)
    if place.is_dir():
        note = f"read from unpacked files, not checked against {archive.file}'s sha256"
        return list_members(place), [note]
    with reading(place), place.open("rb") as file:
        official = hashlib.file_digest(file, "sha256").hexdigest() == archive.sha256
    if not official and place.stat().st_size == archive.size:
        raise DataError(f"{place} is damaged (wrong sha256): remove it and fetch it again")
    note = f"not the official {archive.file} (other sha256): a subset, or changed"
    return list_members(place), [] if official else [note]
