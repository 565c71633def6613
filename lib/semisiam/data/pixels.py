"""Pixels: image files decoded, deep ones scaled by one range, all resized, written to arrays."""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from semisiam.data.files import FORMATS, DataError, Opener, enumerate_few
from semisiam.data.parts import NOTHING, Part

# by the EXIF orientation, the steps through rows and columns; from 5 on they change places first
STEPS = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
Picture = tuple[np.ndarray | None, str]  # see `decode_image`


def decode(images: Iterable[Opener | np.ndarray]) -> Iterator[Picture]:
    """Read and decode image files one at a time, see `decode_image`; arrays stay as they are."""
    for image in images:
        if isinstance(image, np.ndarray):
            yield image, ""
            continue
        try:
            with image() as file:
                yield decode_image(file.read())
        except Exception as error:  # whatever it is, it is this file's
            yield None, f"cannot be read ({str(error) or type(error).__name__})"


def decode_image(data: bytes) -> Picture:
    """Decode an image file: its pixels and what was converted ("" if nothing, else e.g. "grey").

    Pixels are uint8 (H, W, 3) in 0-255, or, of an image deeper than 8 bits, its own values for
    `scale`, (H, W) or (H, W, 3). Of a file that does not decode: None and why.
    """
    if not data:
        return None, "is empty (0 bytes)"
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
                return None, f"holds {frames} frames or pages: save the one you mean on its own"
            if _ends_in_zeros(data, image.format):
                return None, "was cut off: its end is zeros"
            tile = image.tile  # loading clears it
            image.load()
            orientation, turned = image.getexif().get(0x0112), ""
            pixels, remark = _convert(data, image, str(tile))
            if pixels is not None and orientation in STEPS:
                down, across = STEPS[orientation]
                pixels = (pixels.swapaxes(0, 1) if orientation >= 5 else pixels)[::down, ::across]
                turned = "turned upright as its EXIF says"
            first = "the first picture of several (MPO)" if image.format == "MPO" else ""
            return pixels, ", ".join(filter(None, [first, turned, remark]))
    except Image.DecompressionBombError:
        return None, f"has over {2 * Image.MAX_IMAGE_PIXELS:,} pixels: cut it up or save it smaller"
    except Image.UnidentifiedImageError:
        odd = ", or a TIFF cut off, of odd channels or depth" * (data[:2] in (b"II", b"MM"))
        return None, f"is not an image that Pillow knows{odd} (it begins with {data[:16]!r})"
    except Exception as error:  # a broken file may raise anything
        return None, f"does not decode ({error})"


def _ends_in_zeros(data: bytes, kind: str | None) -> bool:
    """Say if zeros stand for the end of a PNG, JPEG or WEBP: Pillow would decode them to pixels."""
    whole = data.rstrip(b"\0")
    if kind == "WEBP":  # its size stands in front
        return len(whole) + 512 <= 8 + int.from_bytes(data[4:8], "little")
    if kind == "PNG":
        return len(data) - len(whole) >= 512 and b"IEND\xaeB`\x82" not in data
    ends = whole.count(b"\xff\xd9") >= whole.count(b"\xff\xd8\xff")  # also of a thumbnail
    return kind in ("JPEG", "MPO") and len(data) - len(whole) >= 512 and not ends


def _convert(data: bytes, image: Image.Image, tile: str) -> Picture:
    """Convert any of Pillow's modes; what it would clip or lay bare is kept deep or flattened."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    depth = max(tags.get(258, (8,)))
    if depth > 8 and tags.get(284) == 2 and tags.get(277, 1) > 1:
        return None, "has deep colours in separate planes: save it with interleaved (chunky) ones"
    if depth == 8 and 2 in tags.get(339, ()):
        return None, "has signed 8-bit values: save it with unsigned ones"
    if "'RGB', 65535)" in tile:  # Pillow takes the upper bytes, black if only 12 bits are in use
        return None, "has 16-bit colours in a PPM: save it as PNG or TIFF"
    if "'RGB;16" in tile:
        return _read_rgb16(data, image), "16-bit"
    if image.mode[0] in "IF":
        if depth > 8 and tags.get(262) == 0:
            return None, "has more than 8 bits with 0 for white: save it with 0 for black"
        if not np.isfinite(pixels := np.asarray(image)).all():
            return None, "holds values that are no finite numbers"
        if depth == 32 and image.mode == "I" and tags.get(339, (1,))[0] == 1:
            pixels = pixels.view(np.uint32)  # Pillow takes it for signed
        kinds = {"I": "over 8 bits, grey", "F": "floating point, grey"}
        return pixels, kinds.get(image.mode, "16-bit, grey")
    if ";16" in tile and image.format != "BMP":  # Pillow takes the upper bytes, as above
        return None, "has 16 bits and a further channel, e.g. alpha: save it as grey or RGB"
    remarks = ["further channels left out"] * (image.format == "TIFF" and "X" in tile)
    if image.has_transparency_data:
        remarks.append("alpha laid on white")
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode in ("1", "L"):
        remarks.append("grey")
    elif image.mode != "RGB":
        remarks.append({"P": "palette"}.get(image.mode, image.mode))
    return np.asarray(image.convert("RGB")), ", ".join(remarks)


def _read_rgb16(data: bytes, image: Image.Image) -> np.ndarray:
    """Read 16-bit colour: Pillow gives its upper bytes, and the lower if told the other order."""
    low = Image.open(io.BytesIO(data), formats=FORMATS)
    other = "RGB;16L" if "RGB;16B" in str(low.tile) else "RGB;16B"
    for i, tile in enumerate(low.tile):
        args = other if isinstance(tile.args, str) else (other, *tile.args[1:])
        low.tile[i] = tile._replace(args=args)
    return np.asarray(image).astype(np.uint16) << 8 | np.asarray(low)


def find_range(deep: Iterable[np.ndarray]) -> tuple[float, float]:
    """Find the one range [low, high) of deep images' values that is to become 0-255.

    It is a whole depth (8 to 16 bits) if all values lie in it and the middle 99.8 % of them fill at
    least half; else it is those 99.8 %, or all where they are one value. 2,000 values an image do.
    """
    least, most, some = np.inf, -np.inf, []
    for pixels in deep:
        least, most = min(least, pixels.min()), max(most, pixels.max())
        rows = np.random.default_rng(0).integers(0, pixels.size, 2000)
        some.append(pixels.ravel()[rows] if pixels.size > 2000 else pixels.ravel())
    if len({values.dtype.kind == "f" for values in some}) > 1:
        told = "of the images deeper than 8 bits some hold whole values, some floating-point ones"
        raise DataError(f"{told}: save all alike")
    values = np.concatenate(some)
    low, high = np.percentile(values, [0.1, 99.9], method="nearest").astype(float)
    for depth in (8, 10, 12, 14, 16) if values.dtype.kind in "iu" else ():
        if least >= 0 and most < 2**depth and high - low + 1 >= 2**depth / 2:
            return 0.0, float(2**depth)
    if low == high:  # a few bright spots on an empty ground
        low, high = float(least), float(most)
    whole = values.dtype.kind in "iu" or low == high
    return low, high + 1 if whole else float(np.nextafter(high, np.inf))


def scale(pixels: np.ndarray, low: float, high: float) -> tuple[np.ndarray, int]:
    """Scale deep values in [low, high) to uint8 (H, W, 3), and count the values clipped."""
    values = pixels.astype(float)
    clipped = np.count_nonzero((values < low) | (values >= high))
    levels = np.clip((values - low) * (256 / (high - low)), 0, 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2) if levels.ndim == 2 else levels, clipped


def resize(image: np.ndarray, image_size: int) -> np.ndarray:
    """Resize to a square, bilinear and antialiased; grey is repeated to three channels.

    Takes uint8 (H, W) or (H, W, 3) in 0-255, whose aspect is not kept, and S, a size in px; returns
    uint8 (S, S, 3).
    """
    picture = Image.fromarray(image).convert("RGB")
    return np.asarray(picture.resize((image_size, image_size), Image.Resampling.BILINEAR))


@dataclass
class Reader:
    """Reads images at one size, and keeps what there is to tell of them all."""

    image_size: int
    value_range: Sequence[float] = ()  # [low, high) of images deeper than 8 bits
    parts: dict[str, Part] = field(default_factory=dict)  # to find that range in, if need be
    remarks: Counter = field(default_factory=Counter)  # of (remark, class)
    damaged: list[str] = field(default_factory=list)
    clipped: int | None = None  # values of deep images, if there are any
    flat: int = 0  # images that are of one value all over
    sides: dict[int, list[int]] = field(default_factory=dict)  # longer ones (px), by class

    def read(self, part: Part, what: str) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Read images one at a time; yields row, original pixels and resized ones, both uint8.

        Images that do not decode are left out and named in `damaged`.
        """
        progress = tqdm(decode(part.images), what, len(part.names), leave=False, disable=None)
        for row, (pixels, remark) in enumerate(progress):
            if pixels is not None and pixels.dtype != np.uint8:
                pixels, remark = self._scale(pixels, remark)
            elif pixels is not None and self.value_range and not self.parts:
                less = "8 bits: not scaled as the cell's deeper ones"
                remark = ", ".join(filter(None, [remark, less]))
            if pixels is None:
                self.damaged.append(f"{part.names[row]} {remark}")
            else:
                self.remarks[remark, part.labels[row]] += 1
                self.flat += pixels.min() == pixels.max()
                self.sides.setdefault(part.labels[row], []).append(max(pixels.shape[:2]))
                yield row, pixels, resize(pixels, self.image_size)

    def _scale(self, pixels: np.ndarray, remark: str) -> Picture:
        if not self.value_range and not self.parts:
            return None, f"is deeper than 8 bits ({remark}), and the cell's images were not"
        if not self.value_range:  # rare, so it is no loss to look at all images
            every = (image for part in self.parts.values() for image, _ in decode(part.images))
            self.value_range = find_range(i for i in every if i is not None and i.dtype != np.uint8)
        levels, clipped = scale(pixels, *self.value_range)
        self.clipped = (self.clipped or 0) + clipped
        some = pixels.ravel()[:: max(1, pixels.size // 10_000)]
        before, after = (len(np.unique(of)) for of in (some, scale(some, *self.value_range)[0]))
        lost = after <= max(1, min(256, before) // 8) < before
        told = ", few grey levels are left in the range of all (no-data values, several depths?)"
        return levels, remark + told * lost

    def write(self, path: Path, part: Part) -> tuple[Part, dict[str, list[int]]]:
        """Stream a part's images to a file, raw uint8 (N, S, S, 3), one in memory at a time.

        Returns the part without images, and without those that do not decode, and facts: the
        `smallest` and `largest` height and width before resizing, and the range of `values` after.
        """
        kept, digests, sizes = [], [], []
        low, high = 255, 0
        with path.open("wb") as file:
            for row, pixels, resized in self.read(part, path.stem):
                file.write(resized.tobytes())
                kept.append(row)
                salt = "x".join(map(str, pixels.shape)).encode()[:16]
                content = np.ascontiguousarray(pixels)
                digests.append(hashlib.blake2b(content, digest_size=16, salt=salt).digest())
                sizes.append(pixels.shape[:2])
                low, high = min(low, resized.min()), max(high, resized.max())
        facts = {
            "smallest": np.min(sizes, axis=0, initial=2**31 - 1).tolist(),
            "largest": np.max(sizes, axis=0, initial=0).tolist(),
            "values": [int(low), int(high)],
        }
        hashes = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)
        return part._replace(images=NOTHING).select(kept)._replace(digests=hashes), facts

    def describe(self, class_names: Sequence[str] = ()) -> list[str]:
        """Say which images were converted, of which class if of one, and how deep ones scaled."""
        notes = []
        for remark in sorted({remark for remark, _ in self.remarks if remark}):
            of = {c: n for (said, c), n in self.remarks.items() if said == remark}
            alone = [c for c in of if c >= 0 and of[c] > 2 and len(of.keys() - {-1}) == 1]
            told = f", the labelled ones all of {class_names[alone[0]]}" if alone else ""
            notes.append(f"images converted, {remark}: {sum(of.values()):,}{told}")
        spans = {c: (min(px), max(px)) for c, px in self.sides.items() if c >= 0 and len(px) > 4}
        lows, highs = zip(*spans.values(), strict=True) if spans else ([0], [0])
        if max(lows) > min(highs):
            told = [f"{class_names[c]} {low}-{high}" for c, (low, high) in sorted(spans.items())]
            notes.append(f"sizes tell classes apart, longer side in px: {enumerate_few(told, 10)}")
        if self.flat:
            notes.append(f"images of one value all over: {self.flat:,}")
        if self.clipped is not None:
            told = "values from {:g} to below {:g} became 0-255".format(*self.value_range)
            told += " in all such images (a whole depth, or the middle 99.8 %)"
            notes.append(f"deeper than 8 bits: {told}, {self.clipped:,} values clipped")
        return notes
