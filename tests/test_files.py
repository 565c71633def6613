import hashlib
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
import requests
from archives import make_images, make_official, write_files, write_tar, write_zip

from semisiam.data import files
from semisiam.data.files import DataError, fetch, list_members

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
    with pytest.MonkeyPatch.context() as patch:
        facts = {"sha256": SHA256, "bytes": len(CONTENT), "urls": " ".join(urls)}
        make_official(patch, "x.bin", **facts)
        return fetch(folder, "x.bin")


def test_a_download_that_breaks_off_starts_again(server, tmp_path):
    assert get(tmp_path, f"{server}/broken-once/x").read_bytes() == CONTENT
    assert Server.asked == ["/broken-once/x"] * 2


@pytest.mark.parametrize(
    ("way", "why", "tried"),
    [
        ("wrong", "does not match the known hash", 1),  # it came whole, so it would come again
        ("broken", "Connection broken", 3),
        ("missing", "404 Client Error: Not Found", 3),
    ],
)
def test_a_failed_download_says_what_to_do_and_leaves_nothing(server, tmp_path, way, why, tried):
    with pytest.raises(DataError) as caught:
        get(tmp_path / "new", f"{server}/{way}/x")
    message = str(caught.value)
    for words in (why, "put the file x.bin", "1,024,000 bytes", SHA256, str(tmp_path / "new")):
        assert words in message
    assert not any((tmp_path / "new").iterdir())
    assert Server.asked == [f"/{way}/x"] * tried


def test_no_server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DataError, match="no connection"):
        get(tmp_path, f"http://127.0.0.1:{port}/x")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.exceptions.SSLError("certificate verify failed"), "REQUESTS_CA_BUNDLE"),
        (requests.exceptions.ProxyError("Tunnel connection failed"), "HTTPS_PROXY"),
    ],
)
def test_a_certificate_or_a_proxy_is_not_called_no_connection(tmp_path, monkeypatch, error, words):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(requests, "get", fails)
    with pytest.raises(DataError, match=words) as caught:
        get(tmp_path, "https://127.0.0.1/x")
    assert "no connection" not in str(caught.value)


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
        with members["b/2.bin"]() as file:
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


# the walker


def test_the_walker_skips_what_systems_leave_and_shows_folders(tmp_path):
    made = {"cat/1.png": b"x", "cat/@eaDir/1.png": b"x", ".git/x": b"x", "cat/.DS_Store": b"x"}
    write_files(tmp_path, made | {"__MACOSX/cat/1.png": b"x", "#recycle/1.png": b"x"})
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / ".#1.png").symlink_to("someone@somewhere.1:2")  # an Emacs lock
    assert list(files.walk(tmp_path)) == ["cat/", "cat/1.png", "empty/"]
    assert list(list_members(tmp_path)) == ["cat/1.png"]


def test_the_walker_follows_links_and_ends_loops(tmp_path):
    write_files(tmp_path / "elsewhere", {"1.png": b"x"})
    place = write_files(tmp_path / "own", {"dog/1.png": b"x"})
    (place / "cat").symlink_to(tmp_path / "elsewhere")
    (place / "dog" / "again").symlink_to(place)
    assert list(list_members(place)) == ["cat/1.png", "dog/1.png"]
    (place / "dog" / "lost.png").symlink_to("nowhere")
    (place / "cat" / "loop").symlink_to("loop")
    with pytest.raises(DataError, match=r"links that lead nowhere: cat/loop, dog/lost\.png; mend"):
        list_members(place)


def test_names_that_are_no_utf8_are_shown_escaped(tmp_path):
    write_files(tmp_path, {os.fsdecode(b"caf\xe9/\xe9.png"): b"x"})
    members = list_members(tmp_path)
    assert list(members) == ["caf\\xe9/\\xe9.png"]
    with members["caf\\xe9/\\xe9.png"]() as file:
        assert file.read() == b"x"


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    assert files.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("SEMISIAM_CACHE")
    assert files.cache_folder().name == "semisiam"
