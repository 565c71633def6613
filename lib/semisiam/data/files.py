"""Raw files: the official ones, fetched and checked, and one walker for folders and archives."""

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
from functools import partial
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import IO

import pandas as pd
from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")  # alone are read
IMAGE_SUFFIXES = {s for s, kind in Image.registered_extensions().items() if kind in FORMATS}
IMAGE_SUFFIXES.add(".mpo")  # a JPEG with a second picture
OTHER_PICTURES = {  # images too, but in formats that cannot be read here
    *(".heic", ".heif", ".jxl", ".svg", ".psd", ".xcf", ".tga", ".ico", ".eps", ".exr", ".fits"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".dcm", ".czi", ".nd2", ".lif", ".lsm"),
    *(".svs", ".ndpi", ".vsi", ".oib", ".oif", ".stk", ".zvi", ".ims", ".scn", ".mrc", ".nii"),
}
SYSTEM = {  # what systems leave in folders, besides hidden names
    *("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
    *("__MACOSX", "desktop.ini", "Icon\r"),
}
OFFICIAL = pd.read_csv(  # by file: what it is and holds; `inside` shows that it was unpacked
    Path(__file__).with_name("official.csv"), index_col="file", keep_default_na=False
).to_dict("index")
PAUSE = 1.0  # s, before downloads are tried again
HINTS = {  # what `requests` says at length
    "ConnectionError": "no connection",
    "ConnectTimeout": "no connection",
    "ProxyError": "the proxy does not let it through: look at HTTP_PROXY and HTTPS_PROXY",
    "SSLError": "its certificate is not trusted: set REQUESTS_CA_BUNDLE to your network's own",
}
CHANGE = attrgetter("st_size", "st_mtime_ns", "st_ctime_ns")  # what tells that a file changed
Opener = Callable[[], IO[bytes]]  # opens a file in an archive or a folder


class DataError(ValueError):
    """Data that cannot be used; the message says what is wrong, where, and what to do."""

    def __str__(self) -> str:
        """Give the message as text that any terminal can show."""
        return show(super().__str__())


def cache_folder() -> Path:
    """Where downloads and prepared arrays are kept: SEMISIAM_CACHE, else the user's cache."""
    import pooch  # slow, and most calls do not need it

    # where there is no such user Path's own raises
    place = os.path.expanduser(os.environ.get("SEMISIAM_CACHE", ""))  # noqa: PTH111
    if place.startswith("~"):
        raise DataError(f"SEMISIAM_CACHE = {place}: there is no such user")
    return Path(place or pooch.os_cache("semisiam"))


def fetch(folder: Path, file: str) -> Path:
    """Return `folder/file`, downloading this official file from the first address that works.

    All are tried three times, unless a whole but wrong file came; the file appears only once its
    hash is right. Raises `DataError`.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    official, problems = OFFICIAL[file], {}
    for attempt in range(3):
        urls = [u for u in official["urls"].split() if not isinstance(problems.get(u), ValueError)]
        time.sleep(attempt * PAUSE * bool(urls))
        for url in urls:
            bar = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**18)
            sha256 = f"sha256:{official['sha256']}"
            try:
                return Path(pooch.retrieve(url, sha256, file, folder, downloader=bar))
            except (requests.RequestException, ValueError, OSError) as error:
                problems[url] = HINTS.get(type(error).__name__, error)
    told = "".join(f"\n  {url}: {problem}" for url, problem in problems.items())
    raise DataError(
        f"cannot download {file}:{told}\nput the file {file} ({official['bytes']:,} bytes, sha256 "
        f"{official['sha256']}) into {folder}, or give the folder it is in (--dir, data_dir)"
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a broken file raises into a `DataError` that names the file."""
    broken = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, RuntimeError)
    try:
        yield
    except broken as error:
        if why := getattr(error, "strerror", None):  # the disk's or the rights' fault
            raise DataError(f"{path} cannot be read: {why}") from None
        told = f"truncated, damaged or unreadable ({error}): remove it and fetch it again"
        raise DataError(f"{path} is {told}") from None


def show(name: str) -> str:
    r"""Write a file's name as text; bytes that are no UTF-8 become e.g. \xe9."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_skipped(name: str) -> bool:
    return any(part.startswith(".") or part in SYSTEM for part in PurePosixPath(name).parts)


def list_hidden(folder: Path) -> list[str]:
    """List images that `walk` skips for a dot, but not what systems leave there (`._NAME`)."""
    found = []
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_skipped(name)]
        dotted = [name for name in names if name[0] == "." and name[1:2] != "_"]
        images = [name for name in dotted if is_image(name.removesuffix(".icloud"))]
        found += [show(str((Path(here) / name).relative_to(folder))) for name in images]
    return sorted(found)


def walk(folder: Path) -> dict[str, Path]:
    """List all in a folder, to any depth: names as shown, those of folders with "/", to paths.

    Hidden names and what systems leave there are skipped, links followed, loops ended. Raises
    `DataError` where a folder cannot be listed or links lead nowhere.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be listed: {error.strerror}")

    found, dangling = {}, []
    for here, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        place = Path(here)
        above = {path.resolve() for path in (place, *place.parents)}
        kept = [n for n in folders if not _is_skipped(n) and (place / n).resolve() not in above]
        folders[:] = kept  # where it goes on
        found |= {f"{show(str((place / n).relative_to(folder)))}/": place / n for n in kept}
        for path in (place / name for name in names if not _is_skipped(name)):
            name = show(str(path.relative_to(folder)))
            if path.is_file():
                found[name] = path
            elif path.is_symlink():
                dangling.append(name)
    if dangling:
        few = enumerate_few(sorted(dangling))
        raise DataError(f"{folder} has links that lead nowhere: {few}; mend or remove them")
    return dict(sorted(found.items()))


def list_members(place: Path) -> dict[str, Opener]:
    """List the files of a folder, a .zip or a .tar.gz by their paths in it, sorted; see `walk`.

    Archives are never unpacked. Raises `DataError` if one is broken or a path leads out of it.
    """
    if place.is_dir():
        found = {name: path for name, path in walk(place).items() if name[-1] != "/"}
        return {name: partial(path.open, "rb") for name, path in found.items()}
    with reading(place):
        if place.suffix == ".zip":
            archive = zipfile.ZipFile(place)
            infos = [info for info in archive.infolist() if not info.is_dir()]
            found = {info.filename: partial(archive.open, info) for info in infos}
        else:
            archive = tarfile.open(place)  # noqa: SIM115 - its members are read later
            infos = [info for info in archive if info.isfile()]
            found = {show(info.name): partial(archive.extractfile, info) for info in infos}
    for name in found:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(f"{place} has a path that leads out of it, {name!r}: do not use it")
    return {name: found[name] for name in sorted(found) if not _is_skipped(name)}


def shorten(place: Path, members: dict[str, Opener], n_parts: int) -> dict[str, Opener]:
    """Name files by the last parts of their paths; raises `DataError` where two images agree."""
    short: dict[str, str] = {}
    for name in members:
        key = "/".join(name.split("/")[-n_parts:])
        other = short.setdefault(key, name)
        parts = [place.stem, *other.split("/")]  # Kaggle's malaria is there twice, a folder deeper
        again = ["/".join(parts[1:i] + parts[i - 1 :]) for i in range(1, len(parts))]
        if name not in (other, *again) and (is_image(key) or key.endswith(".bin")):
            raise DataError(f"{place} has {key} twice: {other} and {name}; remove one")
    return {key: members[name] for key, name in short.items()}


def is_image(name: str) -> bool:
    """Tell from a file's name whether it is an image that can be read."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_picture(name: str) -> bool:
    """Tell whether it is an image, in a format that can be read or not."""
    return is_image(name) or PurePosixPath(name).suffix.lower() in OTHER_PICTURES


def count_unsupported(names: Iterable[str]) -> str:
    """Say in brackets how many images of each unsupported format there are; "" if none."""
    suffixes = Counter(PurePosixPath(name).suffix.lower() for name in names)
    counts = [f"{n:,} {s}" for s, n in sorted(suffixes.items()) if s in OTHER_PICTURES]
    return f" (not supported: {', '.join(counts)})" if counts else ""


def tell_left_out(names: Iterable[str]) -> list[str]:
    """Note which files are no images, or images of formats that are not supported."""
    unsupported, others = count_unsupported(names), sorted(n for n in names if not is_picture(n))
    told = f"files that are not images left out ({len(others)}): {enumerate_few(others)}"
    return [f"images left out{unsupported}"] * bool(unsupported) + [told] * bool(others)


def enumerate_few(items: Sequence[str], count: int = 3, separator: str = ", ") -> str:
    """Join the first few texts; dots stand for the others."""
    return separator.join([*items[:count], *["..."] * (len(items) > count)])


def locate(file: str, folder: Path | None) -> tuple[Path, str]:
    """Say where an official archive, or what was unpacked from it, is or will be; its identity.

    The official archive need not be there for its prepared arrays to be used.
    """
    official = OFFICIAL[file]
    inside, home = official["inside"], folder or cache_folder() / "downloads" / official["dataset"]
    if (path := home / file).is_file():
        about = CHANGE(path.stat())
        right = about[0] == official["bytes"]  # `open_archive` reads it all and makes sure
        return path, official["sha256"] if right else str(about)
    for marker in (home / inside, home / Path(inside).name):
        if marker.exists():
            return marker.parent, identify_files(marker.parent)
    if folder:
        told = f"nor what is in it ({inside}): put it there, from {official['urls']}"
        raise DataError(f"{folder} has neither {file} {told}")
    return path, official["sha256"]


def identify_files(folder: Path) -> str:
    """Hash names, sizes and times of change of all files, which is much faster than reading."""
    listing = [(n, *(CHANGE(p.stat()) if n[-1] != "/" else ())) for n, p in walk(folder).items()]
    return hashlib.sha256(repr(listing).encode()).hexdigest()


def open_archive(file: str, place: Path) -> tuple[dict[str, Opener], list[str]]:
    """List an official archive's files, fetching it if need be, and note if it is another one."""
    if not place.exists():
        place = fetch(place.parent, file)
    if place.is_dir():
        members = list_members(place)
        note = f"read from {len(members):,} unpacked files, not checked against {file}'s sha256"
        return members, [note]
    with reading(place), place.open("rb") as opened:
        right = hashlib.file_digest(opened, "sha256").hexdigest() == OFFICIAL[file]["sha256"]
    if not right and place.stat().st_size == OFFICIAL[file]["bytes"]:
        raise DataError(f"{place} is damaged (wrong sha256): remove it and fetch it again")
    note = f"not the official {file} (other sha256): a subset, or changed"
    return list_members(place), [] if right else [note]
