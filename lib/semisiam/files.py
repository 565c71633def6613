"""Raw files: where they are kept, how they are fetched, checked, and decoded to pixels."""

import gzip
import hashlib
import io
import os
import sys
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


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

    Each address is tried three times; the file appears only once its hash is right.

    Raises:
        DataError: no address works; the message says which file to put where.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    problems = []
    for url in urls:
        bar = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**18)
        keeper = pooch.create(folder, "", registry={file: sha256}, urls={file: url})
        keeper.retry_if_failed = 2
        try:
            return Path(keeper.fetch(file, downloader=bar))
        except (requests.RequestException, ValueError, OSError) as error:
            problems.append(f"  {url}: {_brief(error)}")
    raise DataError(
        f"cannot download {file}:\n" + "\n".join(problems) + f"\nput the file {file} "
        f"({size:,} bytes, sha256 {sha256}) into {folder}, or name the folder it is in"
    )


def _brief(error: Exception) -> str:
    if "hash" in str(error):
        return "what it sends is not the right file (wrong sha256)"
    if isinstance(error, PermissionError):
        return str(error)
    return f"{type(error).__name__}: {str(error)[:120]}"


def read_gzip(path: Path) -> bytes:
    """Read a file, decompressing it if its name ends in .gz. Raises `DataError`."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is truncated or damaged: {error}; fetch it again") from None


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
