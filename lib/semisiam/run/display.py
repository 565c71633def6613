"""What the terminal shows of a grid: a live table, plain lines elsewhere, and the failures."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar

from semisiam.cell import Cell
from semisiam.run.grid import estimate_seconds
from semisiam.run.worker import Status


def describe_all(cells: dict[str, Cell], status: dict[str, Status], workers: int) -> str:
    """Count the cells of each state, and say when all are done if that is known."""
    counts, seconds = Counter(s.state for s in status.values()), estimate_seconds(cells, status)
    told = ", ".join(f"{counts[s]} {s}" for s in ("done", "running", "failed", "waiting"))
    left = [seconds.get(n) for n, s in status.items() if s.state in ("running", "waiting")]
    if not left or None in left:
        return told
    all_left = max(*left, sum(left) / workers)
    return f"{told}; about {describe_seconds(all_left)} left, {workers} side by side"


def describe_seconds(seconds: float) -> str:
    """Say a duration as one reads it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def describe_cell(name: str, status: Status, left: float | None) -> str:
    """Say where a cell stands, with the seconds that it still takes, if they are known."""
    told, progress = [f"{status.state:8}{name}"], status.progress
    if progress and status.state == "running":
        told.append(f"epoch {progress['epoch']}/{progress['epochs']}")
        told.append(f"loss {progress['loss']:.3f}")
        told.append(f"{progress['images_per_second']:.0f} images/s")
    if left:
        told.append(f"about {describe_seconds(left)} left")
    elif left == 0 and status.state == "running":
        told.append("evaluating")
    if status.reason and status.state != "failed":
        told.append(f"({status.reason})")
    return "  ".join(told)


@contextmanager
def showing(cells: dict[str, Cell], workers: int, title: str = "") -> Iterator[Callable]:
    """Show a grid: a live table on a terminal, a line per started or finished cell elsewhere.

    Yields the function to call with the status of every cell.
    """
    plain = not sys.stderr.isatty()  # where lines are not to be wrapped
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=plain)
    console.on_broken_pipe = lambda: setattr(console, "quiet", True)  # rich ends this process
    live = Live(console=console, auto_refresh=False, transient=True)
    last: dict[str, Status] = {}

    def update(status: dict[str, Status]) -> None:
        try:
            for name, cell in status.items():
                changed = last.get(name, cell).state != cell.state
                if changed and cell.state in ("done", "failed"):
                    console.print(f"{cell.state:8}{name}  {describe_seconds(cell.seconds)}")
                elif (changed or not last) and cell.state == "running" and plain:
                    console.print(describe_cell(name, cell, None))
            live.update(draw(cells, status, workers), refresh=True)  # shows on terminals alone
        except OSError:  # a terminal that was closed or a full disk stops no cell
            console.quiet = True
        last.update(status)

    with suppress(OSError):
        console.print(title) if title else None
        live.start()
    try:
        yield update
    finally:
        with suppress(OSError):
            live.stop()
            console.print(describe_all(cells, last, workers)) if last else None


def draw(cells: dict[str, Cell], status: dict[str, Status], workers: int) -> Group:
    """Draw a bar for all cells, and a line for each that runs."""
    ended = sum(cell.state in ("done", "failed") for cell in status.values())
    running = [name for name, cell in status.items() if cell.state == "running"]
    seconds = estimate_seconds(cells, status)
    lines = [describe_cell(name, status[name], seconds.get(name)) for name in running]
    told = "", describe_all(cells, status, workers)  # the first ends the line of the bar
    return Group(ProgressBar(len(status), ended, width=40), *told, *lines)


def show(cells: dict[str, Cell], status: dict[str, Status], workers: int, folder: Path) -> None:
    """Print a line for each cell with its index, the counts, the time left, and the failures."""
    seconds = estimate_seconds(cells, status)
    for index, (name, cell) in enumerate(status.items()):
        print(f"{index:5}  {describe_cell(name, cell, seconds.get(name))}")
    print(describe_all(cells, status, workers))
    show_failed(status, folder)


def show_failed(status: dict[str, Status], folder: Path) -> None:
    """Print which cells failed, why, and where the log is, one line each to copy from."""
    failed = {name: cell for name, cell in status.items() if cell.state == "failed"}
    if failed:
        print(f"\n{len(failed)} failed:", file=sys.stderr)
    for name, cell in failed.items():
        told, log = f"{name}\n    why  {cell.reason}", folder / name / "log.txt"
        told += f"\n    log  {os.path.relpath(log)}" * log.exists()
        print(told, file=sys.stderr)
