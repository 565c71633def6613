"""What the terminal shows of a grid: a live table, plain lines elsewhere, and the failures."""

import os
from collections import Counter
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from semisiam.cell import Cell
from semisiam.run.grid import estimate_seconds
from semisiam.run.worker import Status


def describe_all(cells: dict[str, Cell], status: dict[str, Status], workers: int) -> str:
    """Count the cells of each state, and say when all are done if that is known."""
    counts, seconds = Counter(s.state for s in status.values()), estimate_seconds(cells, status)
    told = ", ".join(
        f"{counts[state]} {state}" for state in ("done", "running", "failed", "waiting")
    )
    left = [name for name, s in status.items() if s.state in ("running", "waiting")]
    if not left or not all(name in seconds for name in left):
        return told
    longest = max(seconds[name] for name in left)
    all_left = max(longest, sum(seconds[name] for name in left) / workers)
    return f"{told}; about {describe_seconds(all_left)} left, {workers} side by side"


def describe_seconds(seconds: float) -> str:
    """Say a duration as one reads it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def describe_cell(name: str, status: Status) -> list[str]:
    """Say where a cell stands: state and name, epoch, loss, images per second, time left, why."""
    told, progress = [f"{status.state:8}{name}"], status.progress
    if progress and status.state == "running":
        left = (progress["epochs"] - progress["epoch"]) * progress["seconds"]
        told.append(f"epoch {progress['epoch']}/{progress['epochs']}")
        told.append(f"loss {progress['loss']:.3f}")
        told.append(f"{progress['images_per_second']:.0f} images/s")
        told.append(f"{describe_seconds(left)} left" if left else "evaluating")
    return [*told, f"({status.reason})"] if status.reason and status.state != "failed" else told


class GridDisplay:
    """A live table on a terminal, or one plain line per started or finished cell elsewhere.

    Enter it to get the function to call with the status of every cell.
    """

    def __init__(self, cells: dict[str, Cell], workers: int, title: str = ""):
        self.cells, self.workers, self.title = cells, workers, title
        self.console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.last: dict[str, Status] = {}

    def __enter__(self) -> "GridDisplay":
        if self.title:
            self.console.print(self.title)
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()
        self.console.print(describe_all(self.cells, self.last, self.workers))

    def __call__(self, status: dict[str, Status]) -> None:
        """Show the status of every cell."""
        for name, cell in status.items():
            changed = self.last and self.last[name].state != cell.state
            if changed and cell.state in ("done", "failed"):
                self.console.print(f"{cell.state:8}{name}  {describe_seconds(cell.seconds)}")
            elif changed and cell.state == "running" and not self.live.is_started:
                self.console.print(*describe_cell(name, cell))
        self.last = dict(status)
        if self.live.is_started:
            self.live.update(self.draw(status), refresh=True)

    def draw(self, status: dict[str, Status]) -> Group:
        """Draw a bar for all cells, and a line for each that runs."""
        bar, running = Table.grid(padding=(0, 2)), Table.grid(padding=(0, 2))
        ended = sum(cell.state in ("done", "failed") for cell in status.values())
        line = describe_all(self.cells, status, self.workers)
        bar.add_row(ProgressBar(len(status), ended, width=40), line)
        for name, cell in status.items():
            if cell.state == "running":
                running.add_row(*describe_cell(name, cell))
        return Group(bar, running)


def show(cells: dict[str, Cell], status: dict[str, Status], workers: int, folder: Path) -> None:
    """Print a line for each cell with its index, the counts, the time left, and the failures."""
    lines, seconds = [], estimate_seconds(cells, status)
    for index, (name, cell) in enumerate(status.items()):
        told = describe_cell(name, cell)
        if cell.state == "waiting" and name in seconds:
            told.insert(1, f"about {describe_seconds(seconds[name])}")
        lines.append("  ".join([f"{index:5}", *told]))
    lines.append(describe_all(cells, status, workers))
    Console().out(*lines, sep="\n", highlight=False)
    show_failed(status, folder)


def show_failed(status: dict[str, Status], folder: Path) -> None:
    """Print which cells failed, why, and where the log is, one line each to copy from."""
    failed = {name: cell for name, cell in status.items() if cell.state == "failed"}
    lines = [f"\n{len(failed)} failed:"] if failed else []
    for name, cell in failed.items():
        log = os.path.relpath(folder / name / "log.txt")
        lines.append(f"{name}\n    why  {cell.reason}\n    log  {log}")
    Console(stderr=True).out(*lines, sep="\n", end="\n" * bool(lines), highlight=False)
