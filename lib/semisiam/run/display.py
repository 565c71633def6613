"""What the terminal shows of a grid: a live table, plain lines elsewhere, and the failures."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from semisiam.cell import Cell
from semisiam.run.grid import estimate_seconds
from semisiam.run.worker import Status

STATES = ("done", "running", "failed", "waiting")


def count_states(status: dict[str, Status]) -> str:
    """Count the cells of each state: `3 done, 2 running, 0 failed, 7 waiting`."""
    counts = Counter(cell.state for cell in status.values())
    return ", ".join(f"{counts[state]} {state}" for state in STATES)


def estimate_left(cells: dict[str, Cell], status: dict[str, Status], workers: int) -> float | None:
    """Seconds until the grid ends; None as long as nothing can be said of some cell."""
    seconds = estimate_seconds(cells, status)
    left = [name for name, cell in status.items() if cell.state in ("running", "waiting")]
    if not all(name in seconds for name in left):
        return None
    longest = max((seconds[name] for name in left), default=0.0)
    return max(longest, sum(seconds[name] for name in left) / workers)


def describe_seconds(seconds: float | None) -> str:
    """Say a duration as one reads it: `40 s`, `12 min`, `3.5 h`."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def describe_progress(progress: dict[str, Any]) -> list[str]:
    """Say how far a cell is: epoch, loss, images per second, time left."""
    if not progress:
        return ["first epoch", "", "", ""]
    left = (progress["epochs"] - progress["epoch"]) * progress["seconds"]
    return [
        f"epoch {progress['epoch']}/{progress['epochs']}",
        f"loss {progress['loss']:.3f}",
        f"{progress['images_per_second']:.0f} images/s",
        f"{describe_seconds(left)} left" if left else "evaluating",
    ]


class GridDisplay:
    """A live table on a terminal, or one plain line per started or finished cell elsewhere.

    Enter it to get the function to call with the status of every cell.
    """

    def __init__(self, cells: dict[str, Cell], workers: int, title: str = ""):
        self.cells = cells
        self.workers = workers
        self.title = title
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.last: dict[str, Status] = {}

    def __enter__(self) -> "GridDisplay":
        if self.title:
            self.say(self.title)
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()
        if error is None:
            self.say(count_states(self.last))

    def __call__(self, status: dict[str, Status]) -> None:
        """Show the status of every cell."""
        for name, cell in status.items():
            before = self.last[name].state if self.last else ""
            if before not in ("", cell.state) and cell.state in ("done", "failed"):
                self.say(f"{cell.state:8}{name}  {describe_seconds(cell.seconds)}")
            elif before != cell.state == "running" and not self.live.is_started:
                self.say(f"{cell.state:8}{name}  {cell.reason}".rstrip())
        self.last = dict(status)
        if self.live.is_started:
            self.live.update(self._draw(status), refresh=True)

    def _draw(self, status: dict[str, Status]) -> Group:
        counts = Counter(cell.state for cell in status.values())
        left = describe_seconds(estimate_left(self.cells, status, self.workers))
        bar, running = Table.grid(padding=(0, 2)), Table.grid(padding=(0, 2))
        line = count_states(status) + (f"; about {left} left" if left else "")
        bar.add_row(ProgressBar(len(status), counts["done"] + counts["failed"], width=40), line)
        for name, cell in status.items():
            if cell.state == "running":
                running.add_row(Text(name), *describe_progress(cell.progress), Text(cell.reason))
        return Group(bar, running)

    def say(self, line: str) -> None:
        """Print a line above the table."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_status(status: dict[str, Status]) -> None:
    """Print one line a cell, with what there is to say of it, and the counts."""
    lines = []
    for name, cell in status.items():
        remarks = describe_progress(cell.progress) if cell.state == "running" else []
        if cell.state != "failed":
            remarks = [*remarks, f"({cell.reason})" if cell.reason else ""]
        lines.append("  ".join([f"{cell.state:8}{name}", *filter(None, remarks)]))
    Console().out(*lines, count_states(status), sep="\n", highlight=False)


def show_plan(
    cells: dict[str, Cell], status: dict[str, Status], workers: int, needed: int, free: int
) -> None:
    """Print what a grid would do: each cell with its index, state and time, and the sums."""
    lines, seconds = [], estimate_seconds(cells, status)
    for index, (name, cell) in enumerate(status.items()):
        about = f"about {describe_seconds(seconds[name])}" if name in seconds else ""
        remarks = [about, f"({cell.reason})" if cell.reason else ""]
        lines.append("  ".join([f"{index:5}  {cell.state:8}{name}", *filter(None, remarks)]))
    left = estimate_left(cells, status, workers)
    time = "unknown before the first is done" if left is None else f"about {describe_seconds(left)}"
    lines += [
        f"{len(status)} cells: {count_states(status)}",
        f"time, with {workers} side by side: {time}",
        f"disk: about {needed / 1e9:.2f} GB needed, {free / 1e9:.0f} GB free",
    ]
    Console().out(*lines, sep="\n", highlight=False)


def show_failed(status: dict[str, Status], folder: Path) -> None:
    """Print which cells failed, why, and where the log is, one line each to copy from."""
    failed = {name: cell for name, cell in status.items() if cell.state == "failed"}
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    if failed:
        console.print(f"\n{len(failed)} failed:")
    for name, cell in failed.items():
        log = os.path.relpath(folder / name / "log.txt")
        console.print(f"{name}\n    why  {cell.reason}\n    log  {log}")
