import io
import struct
import zlib

import numpy as np
import pytest
from archives import encode, make_images
from PIL import Image, ImageOps

from semisiam.data.files import DataError
from semisiam.data.parts import Part
from semisiam.data.pixels import Reader, decode, decode_image, find_range, scale


def test_an_rgb_image_decodes_unchanged():
    pixels = make_images(1, 5, 7, 3)[0]
    for kind in ("png", "bmp", "tiff", "webp"):
        decoded, remark = decode_image(encode(pixels, kind, lossless=True))
        assert (decoded == pixels).all() and remark == ""


def as_image(mode: str, *values) -> Image.Image:
    image = Image.new(mode, (2, 2))
    image.putdata(values)
    return image


@pytest.mark.parametrize(
    ("image", "kind", "expected", "remark"),
    [
        (as_image("L", 0, 100, 200, 255), "png", [0, 100, 200, 255], "grey"),
        (as_image("1", 0, 255, 255, 0), "png", [0, 255, 255, 0], "grey"),
        (
            as_image("LA", (0, 255), (100, 255), (100, 0), (0, 128)),
            "png",
            [0, 100, 255, 127],
            "alpha laid on white",
        ),
    ],
)
def test_grey_images_are_converted(image, kind, expected, remark):
    decoded, said = decode_image(encode(image, kind))
    assert decoded.dtype == np.uint8 and decoded.shape == (2, 2, 3)
    assert (decoded == np.reshape(expected, (2, 2, 1))).all()
    assert said == remark


def test_colour_images_are_converted():
    cmyk = as_image("CMYK", (0, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 0), (0, 0, 0, 255))
    decoded, remark = decode_image(encode(cmyk, "tiff"))
    assert (decoded[:, 0] == 255).all() and (decoded[:, 1] == 0).all() and remark == "CMYK"

    red = Image.new("RGB", (2, 2), (255, 0, 0)).quantize(2)
    decoded, remark = decode_image(encode(red, "png"))
    assert (decoded == [255, 0, 0]).all() and remark == "palette"

    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    decoded, remark = decode_image(encode(clear, "png"))
    assert (decoded == 255).all() and remark == "alpha laid on white"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"GIF? no", "not an image"),
        (encode(make_images(1, 50, 50, 3)[0])[:3000], "does not decode"),
        (encode(as_image("F", 0, 1, np.nan, 2), "tiff"), "no finite numbers"),
    ],
)
def test_what_does_not_decode_says_why(data, why):
    pixels, remark = decode_image(data)
    assert pixels is None and why in remark


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_file_whose_end_became_zeros_does_not_decode(kind):
    slopes = np.add.outer(np.arange(200), np.arange(200)) // 2
    slopes += make_images(1, 200, 200, 1)[0, ..., 0] % 9
    whole = encode(np.repeat(slopes.astype(np.uint8)[..., None], 3, axis=2), kind)
    cut = whole[: len(whole) // 3]
    assert decode_image(cut + bytes(len(whole) - len(cut)))[0] is None
    for more in (b"", b"x", b"\xff\xda a film of a motion photo"):  # as some cameras do
        padded, _ = decode_image(whole + more + bytes(4096))
        assert (padded == decode_image(whole)[0]).all()


def test_far_too_large_a_picture_does_not_decode(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    pixels, told = decode_image(encode(make_images(1, 9, 9, 3)[0]))
    assert pixels is None and told.startswith("has over 80 pixels: cut it up")


def test_an_orientation_is_read_without_writing_the_exif_again():
    entries = struct.pack("<HHI4s", 0x112, 3, 1, b"\6\0\0\0")
    entries += struct.pack("<HHI4s", 296, 2, 2, b"2\0\0\0")  # a unit that is text, not a number
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + b"\0" * 4
    decoded, remark = decode_image(encode(Image.new("RGB", (40, 60)), "jpeg", exif=exif))
    assert decoded.shape == (40, 60, 3) and "upright" in remark


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(make_images(1, 5, 7, 3)[0], "png", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (decode_image(data)[0] == np.asarray(expected)).all()


def test_whatever_a_broken_file_raises_is_said_of_that_file(monkeypatch):
    good = encode(make_images(1, 9, 9, 3)[0])

    def breaks(self):
        raise struct.error("bad tag")

    def cannot_open():
        raise ValueError("no such thing")

    monkeypatch.setattr(Image.Image, "getexif", breaks)
    assert decode_image(good) == (None, "does not decode (bad tag)")
    members = [cannot_open, lambda: io.BytesIO(b"")]
    said = [remark for _, remark in decode(members)]
    assert said == ["cannot be read (no such thing)", "is empty (0 bytes)"]


def test_only_the_formats_that_are_meant_are_opened():
    data = encode(make_images(1, 9, 9, 3)[0], "tga")
    told = f"is not an image that Pillow knows (it begins with {data[:16]!r})"
    assert decode_image(data) == (None, told)


@pytest.mark.parametrize(("kind", "lossless"), [("jpeg2000", True), ("avif", False)])
def test_newer_formats(kind, lossless):
    pixels = np.full((16, 16, 3), 90, np.uint8)
    decoded, remark = decode_image(encode(pixels, kind))
    assert remark == "" and np.abs(decoded.astype(int) - 90).max() <= (0 if lossless else 3)


@pytest.mark.parametrize("kind", ["gif", "webp", "tiff", "png"])
def test_files_of_several_frames_are_refused(kind):
    blank, image = (
        Image.fromarray(a) for a in (np.zeros((9, 9), np.uint8), make_images(1, 9, 9)[0])
    )
    data = encode(blank, kind, save_all=True, append_images=[image])
    assert decode_image(data) == (None, "holds 2 frames or pages: save the one you mean on its own")


def test_a_phones_photo_with_a_second_picture_is_the_first():
    first, second = (Image.fromarray(a) for a in make_images(2, 16, 16, 3))
    decoded, remark = decode_image(encode(first, "mpo", save_all=True, append_images=[second]))
    expected = Image.open(io.BytesIO(encode(first, "jpeg")))
    assert (decoded == np.asarray(expected)).all()
    assert remark == "the first picture of several (MPO)"


# images deeper than 8 bits


def png16(pixels: np.ndarray) -> bytes:
    """A 16-bit PNG of uint16 (H, W) or (H, W, 2 to 4), which Pillow cannot write in colour."""
    (height, width), kind = pixels.shape[:2], {2: 4, 3: 2, 4: 6}.get(pixels.shape[-1], 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    blocks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    written = [
        struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in blocks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


@pytest.mark.parametrize("channels", [2, 4])
def test_deep_images_with_alpha_are_refused(channels):
    decoded, told = decode_image(png16(np.full((6, 5, channels), 4095, np.uint16)))
    assert decoded is None and told.startswith("has 16 bits and a further")


def tiff(pixels: np.ndarray, **tags: int) -> bytes:
    """A plain TIFF of uint8, 16 or 32, (H, W) or (H, W, C), or (C, H, W) in planes; no checks."""
    planes, depth = tags.get("planes", 1), 8 * pixels.itemsize
    (height, width), channels = pixels.shape[:2], 1 if pixels.ndim == 2 else pixels.shape[2]
    if planes == 2:
        channels, height, width = pixels.shape
    colour = tags.get("colour", 1 if channels == 1 else 2)
    strips = [400 + i * pixels.nbytes // channels for i in range(channels)]
    sizes = [pixels.nbytes // channels] * channels
    if planes == 1:
        strips, sizes = [400], [pixels.nbytes]
    entries = {256: [width], 257: [height], 258: [depth] * channels, 259: [1], 262: [colour]}
    entries |= {273: strips, 277: [channels], 278: [height], 279: sizes, 284: [planes]}
    entries |= {338: [0] * (channels - 3)} if channels > 3 else {}
    entries |= {339: [tags["sign"]]} if "sign" in tags else {}
    data, lists, free = b"", b"", 14 + 12 * len(entries)
    for tag, values in sorted(entries.items()):
        one = struct.pack("<I", values[0])
        if len(values) > 1:
            one = struct.pack("<I", free + len(lists))
            lists += struct.pack(f"<{len(values)}I", *values)
        data += struct.pack("<HHI", tag, 4, len(values)) + one
    data = b"II" + struct.pack("<HIH", 42, 8, len(entries)) + data + bytes(4) + lists
    return data + bytes(400 - len(data)) + pixels.astype(f"<u{pixels.itemsize}").tobytes()


def tiff16(pixels: np.ndarray) -> bytes:
    """A 16-bit colour TIFF of uint16 (H, W, 3)."""
    return tiff(pixels)


@pytest.mark.parametrize("write", [png16, tiff16])
def test_16_bit_colour_keeps_both_its_bytes(write):
    pixels = np.random.default_rng(0).integers(0, 65536, (4, 5, 3), np.uint16)
    decoded, remark = decode_image(write(pixels))
    assert (decoded == pixels).all() and remark == "16-bit"


def test_what_pillow_would_turn_into_noise_or_a_negative_is_refused():
    pixels = np.random.default_rng(0).integers(0, 65536, (3, 4, 5), np.uint16)
    decoded, told = decode_image(tiff(pixels, planes=2))
    assert decoded is None and told.startswith("has deep colours in separate planes: save it with")
    decoded, told = decode_image(tiff(pixels[0], colour=0))
    assert (
        decoded is None
        and told == "has more than 8 bits with 0 for white: save it with 0 for black"
    )
    assert (decode_image(tiff(pixels[0]))[0] == pixels[0]).all()
    flat = np.array([[0, 200]], np.uint8)
    assert (decode_image(tiff(flat, colour=0))[0][..., 0] == 255 - flat).all()  # Pillow inverts it
    planes = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    assert (decode_image(tiff(planes, planes=2))[0] == np.moveaxis(planes, 0, 2)).all()


def test_32_bit_values_without_a_sign_stay_positive():
    pixels = np.array([[5, 2**31 + 5]], np.uint32)
    decoded, remark = decode_image(tiff(pixels))
    assert (decoded == pixels).all() and remark == "over 8 bits, grey"


def test_16_bit_colours_of_a_ppm_are_refused():
    values = np.full((2, 2, 3), 4000, ">u2")  # of 12 bits, in a file that says 16: all but black
    decoded, told = decode_image(b"P6 2 2 65535\n" + values.tobytes())
    assert decoded is None and told.startswith("has 16-bit colours in a PPM: save it as")
    plain = b"P6 2 2 255\n" + bytes([7] * 12)
    assert (decode_image(plain)[0] == 7).all()
    told_12_bits = b"P6 2 2 4095\n" + values.tobytes()
    assert (decode_image(told_12_bits)[0] == 249).all()  # 4000 of 4095


def test_signed_bytes_are_refused():
    signed = tiff(np.array([[0, 255]], np.uint8), sign=2)
    assert decode_image(signed) == (None, "has signed 8-bit values: save it with unsigned ones")


def test_channels_beyond_the_third_are_left_out_and_told():
    pixels = np.arange(40, dtype=np.uint8).reshape(2, 4, 5)
    decoded, remark = decode_image(tiff(pixels))
    assert (decoded == pixels[..., :3]).all() and remark == "further channels left out"


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bit_grey_keeps_its_values(kind):
    pixels = np.array([[0, 0x1234], [0x8000, 0xFFFF]], np.uint16)
    decoded, remark = decode_image(encode(pixels, kind))
    assert (decoded == pixels).all() and remark == "16-bit, grey"
    levels, clipped = scale(decoded, 0, 2**16)
    assert levels[..., 0].tolist() == [[0, 0x12], [0x80, 255]] and clipped == 0
    assert levels.shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(256, dtype=np.uint16), (0, 256)),  # 8 bits in a deeper file
        (np.arange(65536, dtype=np.uint16), (0, 65536)),
        (np.arange(4096, dtype=np.int32), (0, 4096)),
        (np.arange(1000, 2001, dtype=np.uint16), (1001, 2000)),  # 1,001 values, one at each end
        (np.arange(-500, 501, dtype=np.int32), (-499, 500)),
        (np.full(9, 700, np.uint16), (700, 701)),
    ],
)
def test_the_range_is_a_whole_depth_or_the_middle_of_the_values(values, expected):
    assert find_range([values[:, None]]) == expected


def test_whole_and_floating_point_values_have_no_common_range():
    with pytest.raises(DataError, match="some hold whole values, some floating-point ones: save"):
        find_range([np.zeros((2, 2), np.uint16), np.zeros((2, 2), np.float32)])


def test_floating_point_values_are_scaled_too():
    values = np.linspace(-1, 1, 1001, dtype=np.float32)[:, None]
    levels, clipped = scale(values, *find_range([values]))
    assert levels.min() == 0 and levels.max() == 255 and clipped == 2


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_a_few_bright_spots_on_an_empty_ground_keep_their_values(kind):
    values = np.zeros((100, 100), kind)
    values[0, :2] = 50, 100
    levels, clipped = scale(values, *find_range([values]))
    assert clipped == 0 and levels[1, 1, 0] == 0
    assert 120 <= levels[0, 0, 0] <= 130 and levels[0, 1, 0] >= 250


def test_empty_deep_images_are_black():
    for kind in (np.uint16, np.float32):
        assert scale(np.zeros((9, 9), kind), *find_range([np.zeros((9, 9), kind)]))[0].max() == 0


def test_a_value_for_no_data_that_crushes_all_others_is_told():
    real = np.random.default_rng(0).integers(500, 700, (32, 32)).astype(np.uint16)
    other = np.where(np.arange(32)[:, None] < 2, np.uint16(65535), real)  # 6 % of it: no data
    reader = Reader(8, value_range=(500.0, 65536.0))
    pictures = [real, other, np.arange(2048, dtype=np.uint16).reshape(32, 64) * 32]
    blue = pictures[2][..., None] * np.array([0, 0, 1], np.uint16)  # as stained nuclei are
    part = Part([*pictures, blue], np.array([*"abcd"]), np.zeros(4, int))
    assert len([*reader.read(part, "images")]) == 4
    told = [n for (said, _), n in reader.remarks.items() if "few grey levels are left" in said]
    assert sum(told) == 2
