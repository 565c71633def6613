"""A cell's folder: what a run leaves behind, whether it is done, and who works there.

A cell is done if and only if `done.json`, written last, is there, carries the hash of its settings
and the identity of its images, and the files it lists are as they were. Each file is written under
a temporary name and renamed, but for papermill's `cell.ipynb` and its `log.txt`.

Who works there has `lock` locked: the grid, and with the same descriptor papermill and the kernel.
"""

import faulthandler
import fcntl
import hashlib
import os
import platform
import re
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from filelock import lock_descriptor

from semisiam import ROOT
from semisiam.atomic import read_json, replacing, write_json
from semisiam.cell import NOT_RESULTS, RESULTS_VERSION, Cell, SettingsError

PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "semisiam")
RESULTS = ("metrics.json", "report.csv", "history.csv", "features.npz", "split.json", "model.keras")
NEEDED = ("metrics.json", "history.csv")
OTHER_IMAGES = "run on other images"
OTHER_CODE = "run by other code, or its params.yaml was changed"
SMALL = 2**16  # bytes; up to this files are compared by sha256, larger ones by size alone
LOCK = "SEMISIAM_LOCK"  # the descriptor that a kernel inherits from the grid
BY_HAND = ("jupyter", "pairing.py")  # programs that run notebooks where they are
_held: list[int] = []  # the descriptor of a kernel that was started by hand


def find_outputs() -> Path:
    """Find the checkout's outputs; raises `SettingsError` if the package lies apart from it."""
    if not (ROOT / "notebooks").is_dir():
        raise SettingsError("semisiam lies apart from its notebooks: `pip install -e CHECKOUT`")
    return ROOT / "outputs"


def find_folder(cell: Cell) -> Path:
    """Where the notebook that runs `cell` keeps its results.

    `output_dir` if set (the grid sets it); else beside the executed notebook, if papermill was
    started by hand; else `outputs/one`. Raises `SettingsError` if another program runs it.
    """
    if cell.output_dir:
        return Path(cell.output_dir)
    parent = psutil.Process(os.getppid())
    words = parent.cmdline()
    notebooks = [word for word in words if word.endswith(".ipynb")]
    if len(notebooks) == 2 and any("papermill" in word for word in words):
        moved = any(word.startswith("--cwd") for word in words)
        if set(notebooks[1]) & set("{}") or (moved and not Path(notebooks[1]).is_absolute()):
            raise SettingsError("output_dir: with --cwd or braces in the path, give it by -p")
        return (Path(parent.cwd()) / notebooks[1]).parent
    from_program = any(":memory:" in word for word in sys.argv)  # as nbclient starts kernels
    if from_program and not any(Path(word).name.startswith(BY_HAND) for word in words):
        told = 'give the folder of its results, parameters={"output_dir": "/x/1"}'
        program = "a notebook run from a program cannot know where it is written"
        raise SettingsError(f"output_dir: {program}; {told}")
    return find_outputs() / "one"


def open_folder(cell: Cell) -> Path:
    """Make the cell's folder ready: whatever was there no longer counts as done.

    It stays locked until this process ends, or opens another. Raises `SettingsError` if it cannot
    be written, or another process works there.
    """
    folder = find_folder(cell)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _inherits_lock(folder):
            while _held:
                os.close(_held.pop())
            if (descriptor := hold(folder, seconds=2)) is None:
                told = f"another run, or a notebook that is still open, holds {folder}"
                raise SettingsError(f"output_dir: {told}: end it, or give another output_dir")
            _held.append(descriptor)
        # where a crash was goes where stderr went before ipykernel took it: to the grid's log
        faulthandler.enable(getattr(sys.stderr, "_original_stdstream_copy", 2))
        start_over(folder, cell)
    except OSError as error:
        told = f"output_dir: cannot write to {folder}: {error.strerror}; give another one"
        raise SettingsError(told) from None
    return folder


def start_over(folder: Path, cell: Cell) -> None:
    """Write a cell's settings; what was done there counts no more, but for its last checkpoint."""
    for name in ("done.json", "failed.json"):
        (folder / name).unlink(missing_ok=True)
    for half_written in folder.glob(".[0-9]*-*"):  # by a process that was killed
        half_written.unlink(missing_ok=True)
    with replacing(folder / "params.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(cell.model_dump(), sort_keys=False), "utf-8")


def hold(folder: Path, seconds: float = 0) -> int | None:
    """Lock a cell's folder, trying for some seconds, and write there who did.

    Returns a descriptor that holds the lock until it is closed, here and in every process that
    inherits it, however they end; None if somebody else holds it. Raises `OSError` if the lock
    cannot be made, or the file system has none, which the error says.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + seconds
    try:
        while not lock_descriptor(descriptor, blocking=False):
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.05)
    except OSError as error:
        os.close(descriptor)
        told = f"its file system has no locks ({error.strerror})"
        raise OSError(error.errno, told, str(folder / "lock")) from None
    with suppress(OSError):  # a full disk is told by what must be written
        os.pwrite(descriptor, f"{name_process()}\n".encode(), 0)
    return descriptor


def name_process() -> str:
    """Name this process, `HOST, process PID`."""
    return f"{platform.node()}, process {os.getpid()}"


def find_holder(folder: Path) -> str:
    """Name who works on a cell, as `name_process` does; empty if nobody works there."""
    with suppress(OSError), (folder / "lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # who may only read may ask, too
        except BlockingIOError:
            return file.readline().strip() or "another host"
    return ""


def _inherits_lock(folder: Path) -> bool:
    with suppress(KeyError, ValueError, OSError):
        return os.path.samestat(os.fstat(int(os.environ[LOCK])), (folder / "lock").stat())
    return False


def close_folder(
    folder: Path,
    cell: Cell,
    *,
    metrics: dict[str, Any],  # plain values
    split: dict[str, Any],  # of `splits.describe_split`; its `content` names the images
    report: Any,  # a data frame, class by class
    history: Any,  # a data frame, epoch by epoch
    features: dict[str, np.ndarray],
    model: Any,  # of Keras, kept if the settings say so
) -> None:
    """Write the results of a cell into its folder, `done.json` last."""
    for name, table in {"report": report, "history": history}.items():
        with replacing(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    with replacing(folder / "features.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **features)
    (folder / "model.keras").unlink(missing_ok=True)  # of a run that kept it
    if cell.keep_model:
        with replacing(folder / "model.keras") as temporary:
            model.save(temporary)
    write_json(folder / "split.json", split)
    write_json(folder / "metrics.json", metrics)
    write_done(folder, cell, split.get("content", ""))


def write_done(folder: Path, cell: Cell, content: str) -> None:
    """Say that the cell is done, on which images, and list the results that this holds for."""
    files = {name: _describe_file(folder / name) for name in RESULTS if (folder / name).exists()}
    done = {"name": cell.name, "hash": cell.hash, "content": content}
    done |= {"results_version": RESULTS_VERSION + cell.scaled}
    write_json(folder / "done.json", done | {"files": files})
    for name in ("checkpoint.npz", "progress.json"):
        (folder / name).unlink(missing_ok=True)


def write_progress(folder: Path, cell: Cell, row: dict[str, Any], n_images: int) -> None:
    """Say which epoch ended, a row of `training.train` that has shown `n_images`."""
    speed = {"images_per_second": n_images / row["seconds"]}
    write_json(folder / "progress.json", row | speed | {"hash": cell.hash, "epochs": cell.epochs})


def explain_undone(folder: Path, cell: Cell, content: str = "") -> str:
    """Say why the cell in `folder` is not done; empty if it is.

    `content` is the identity of its images, `Dataset.content`; "" if nobody knows it.
    """
    if not (folder / "done.json").exists():
        return "not run" if not (folder / "params.yaml").exists() else "not finished"
    if not (done := read_json(folder / "done.json")):
        return "done.json cannot be read"
    if done.get("hash") != cell.hash:
        return _explain_stale(folder, cell, done)
    if content:
        ran = done.get("content") or read_json(folder / "split.json").get("content", content)
        if ran != content:
            return f"{OTHER_IMAGES}: content {ran}, now {content}"
    return _find_damage(folder, done.get("files", {}))


def _explain_stale(folder: Path, cell: Cell, done: dict[str, Any]) -> str:
    version = RESULTS_VERSION + cell.scaled
    if (ran := done.get("results_version", version)) != version:
        return f"run by code of results version {ran}, now {version}"
    try:
        old = Cell.read(folder / "params.yaml").model_dump()
    except (OSError, SettingsError):
        return "run with other settings, which cannot be read any more"
    now = cell.model_dump(exclude=NOT_RESULTS).items()
    changed = [f"{name} {old[name]}, now {value}" for name, value in now if old[name] != value]
    return "run with other settings: " + "; ".join(changed) if changed else OTHER_CODE


def _find_damage(folder: Path, files: dict[str, Any]) -> str:
    for name in dict.fromkeys((*NEEDED, *files)):
        path, kept = folder / name, files.get(name)
        if not path.exists():
            return f"{name} is missing"
        if kept and (size := path.stat().st_size) != kept["bytes"]:
            return f"{name} is damaged: {size} bytes, {kept['bytes']} when it was written"
        if kept and size <= SMALL and _describe_file(path) != kept:
            return f"{name} is damaged: it was changed after it was written"
    return ""


def _describe_file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def describe_machine() -> dict[str, Any]:
    """Describe hardware, versions and code as a run starts: the checkout may change meanwhile."""
    asked = os.environ.get("TF_NUM_INTRAOP_THREADS") or os.environ.get("OMP_NUM_THREADS", "")
    threads = re.match(r"\s*(\d+)", asked)  # OpenMP allows a list, one entry a level: 2,1
    hardware = {"cpu": _cpu_name(), "cores": psutil.cpu_count()}
    hardware["threads"] = int(threads[1]) if threads else psutil.cpu_count()
    hardware["onednn"] = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "")  # "": TensorFlow decides
    hardware["memory_gib"] = round(psutil.virtual_memory().total / 2**30)
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    about = {"hardware": hardware, "versions": versions, "revision": describe_revision()}
    return about | {"started": datetime.now(UTC).isoformat(timespec="seconds")}


def describe_revision(root: Path = ROOT) -> str:
    """The checkout's git commit, `+changes` if tracked files differ, or `unknown`."""
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+changes"]
    with suppress(OSError, subprocess.CalledProcessError):
        if (root / ".git").exists():  # not if it was unpacked in a repository of something else
            return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    return "unknown"


def _cpu_name() -> str:
    """Name the processor with its numbers, since hosts call very unequal ones `AMD EPYC`."""
    with suppress(OSError, KeyError):
        found = dict(re.findall(r"(?m)^(.+?)\s*: (.+)$", Path("/proc/cpuinfo").read_text()))
        return "{model name}, family {cpu family}, model {model}".format_map(found)
    return platform.processor() or platform.machine()
