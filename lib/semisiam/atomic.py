"""Files that are whole or not there, and files that one run at a time has locked."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import lock_descriptor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block succeeds."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # else a machine that dies may leave the name without content
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; bytes of file names that are no UTF-8 are kept as escapes."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8", errors="backslashreplace")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if there is none that can be read."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def lock_file(path: Path, seconds: float) -> int | None:
    """Lock a file, made if need be, trying for some seconds.

    Returns:
        A descriptor that holds the lock until it is closed, here and in every process that
        inherits it, however they end; None if somebody else holds it.

    Raises:
        OSError: it cannot be made, or the file system has no locks, which the error says.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + seconds
    try:
        while not lock_descriptor(descriptor, blocking=False):
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.05)
    except OSError as error:
        os.close(descriptor)
        told = f"its file system has no locks ({error.strerror}); choose a folder on another one"
        raise OSError(error.errno, told, str(path)) from None
    return descriptor
