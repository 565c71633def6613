import gzip
import hashlib
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import numpy as np
import pytest
from archives import encode, make_images, write_files, write_tar, write_zip
from PIL import Image

from semisiam.data import files
from semisiam.data.files import DataError, decode_image, digest, fetch, list_members, read_gzip

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISIAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(files, "PAUSE", 0.01)


class Server(BaseHTTPRequestHandler):
    """Serve CONTENT, or fail in the way the first part of the path says."""

    asked: ClassVar[list[str]] = []

    def do_GET(self):
        way = self.path.split("/")[1]
        breaks = way == "broken" or (way == "broken-once" and self.path not in self.asked)
        self.asked.append(self.path)
        if way == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        sent = bytes(len(CONTENT)) if way == "wrong" else CONTENT
        self.wfile.write(sent[: len(sent) // 2] if breaks else sent)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Server.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def get(folder: Path, *urls: str) -> Path:
    return fetch(folder, "x.bin", urls, SHA256, len(CONTENT))


def test_a_download_is_kept_and_not_repeated(server, tmp_path):
    path = get(tmp_path / "new", f"{server}/good/x")
    assert path.read_bytes() == CONTENT and path == tmp_path / "new" / "x.bin"
    get(tmp_path / "new", f"{server}/good/x")
    assert Server.asked == ["/good/x"]


def test_a_download_that_breaks_off_starts_again(server, tmp_path):
    assert get(tmp_path, f"{server}/broken-once/x").read_bytes() == CONTENT
    assert Server.asked == ["/broken-once/x"] * 2


def test_the_next_mirror_is_tried(server, tmp_path):
    assert get(tmp_path, f"{server}/missing/x", f"{server}/good/x").read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"half")
    assert get(tmp_path, f"{server}/good/x").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("wrong", "not the right file"),
        ("broken", "the connection broke each time"),
        ("missing", "HTTP 404"),
    ],
)
def test_a_failed_download_says_what_to_do_and_leaves_nothing(server, tmp_path, way, why):
    with pytest.raises(DataError) as caught:
        get(tmp_path / "new", f"{server}/{way}/x")
    message = str(caught.value)
    for words in (why, "put the file x.bin", "1,024,000 bytes", SHA256, str(tmp_path / "new")):
        assert words in message
    assert not any((tmp_path / "new").iterdir())


def test_no_server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DataError, match="no connection"):
        get(tmp_path, f"http://127.0.0.1:{port}/x")


def test_a_digest_is_remembered_until_the_file_changes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    assert digest(path) == digest(path) == SHA256
    assert len(list((tmp_path / "cache" / "checked").iterdir())) == 1
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=times)  # as a program that hides its change would
    assert digest(path) == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_a_digest_needs_no_cache(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    monkeypatch.setenv("SEMISIAM_CACHE", str(path / "below a file"))
    assert digest(path) == SHA256


def test_reading_gzip(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(CONTENT))
    assert read_gzip(path) == CONTENT
    for broken in (path.read_bytes()[:-9], b"no gzip"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"x\.gz is truncated, damaged"):
            read_gzip(path)


def test_folders_and_archives_list_alike(tmp_path):
    made = {"b/2.bin": b"two", "a/1.bin": b"one"}
    places = (
        write_files(tmp_path / "folder", made),
        write_zip(tmp_path / "x.zip", made, inside=""),
        write_tar(tmp_path / "x.tar.gz", made, inside=""),
    )
    for place in places:
        members = list_members(place)
        assert list(members) == ["a/1.bin", "b/2.bin"]
        assert members["b/2.bin"].size == 3
        with members["b/2.bin"].open() as file:
            assert file.read() == b"two"


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png"])
def test_archives_that_lead_out_are_refused(tmp_path, name):
    for place in (
        write_zip(tmp_path / "x.zip", {name: b"x"}, inside=""),
        write_tar(tmp_path / "x.tar.gz", {name: b"x"}, inside=""),
    ):
        with pytest.raises(DataError, match="leads out of it"):
            list_members(place)


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_truncated_archives(tmp_path, name):
    write = write_zip if name == "x.zip" else write_tar
    path = write(tmp_path / name, {"a.bin": make_images(1, 100_000).tobytes()})
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(DataError, match="truncated, damaged"):
        list_members(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="truncated, damaged"):
        list_members(path)


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
        (as_image("I;16", 0, 0x1234, 0x8000, 0xFFFF), "png", [0, 0x12, 0x80, 255], "16-bit, grey"),
        (as_image("I;16", 0, 0x1234, 0x8000, 0xFFFF), "tiff", [0, 0x12, 0x80, 255], "16-bit, grey"),
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


def test_a_photo_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = 255  # the right half is white
    decoded, remark = decode_image(encode(pixels, "png", exif=exif))
    assert decoded.shape == (16, 8, 3)
    assert (decoded[8:] == 255).all() and (decoded[:8] == 0).all()
    assert "upright" in remark


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"GIF? no", "not an image"),
        (encode(make_images(1, 50, 50, 3)[0])[:3000], "does not decode"),
        (encode(Image.new("F", (2, 2)), "tiff"), "floating-point"),
    ],
)
def test_what_does_not_decode_says_why(data, why):
    pixels, remark = decode_image(data)
    assert pixels is None and why in remark


def test_a_bit_flipped_inside_a_png_does_not_decode():
    data = bytearray(encode(make_images(1, 50, 50, 3)[0]))
    data[2000] ^= 1
    assert decode_image(bytes(data))[0] is None


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    assert files.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("SEMISIAM_CACHE")
    assert files.cache_folder().name == "semisiam"
