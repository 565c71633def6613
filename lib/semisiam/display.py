"""What the terminal shows of a grid: a live line, a table of failures."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from semisiam.grid import Status

STATES = ("done", "running", "failed", "waiting")


def count_states(status: dict[str, Status]) -> str:
    """Count the cells of each state: `3 done, 2 running, 0 failed, 7 waiting`."""
    counts = Counter(cell.state for cell in status.values())
    return ", ".join(f"{counts[state]} {state}" for state in STATES)


def estimate_left(status: dict[str, Status], workers: int) -> float | None:
    """Seconds until the grid ends, from the mean of the cells it has finished; None before."""
    seconds = [cell.seconds for cell in status.values() if cell.seconds]
    left = sum(cell.state in ("running", "waiting") for cell in status.values())
    return left * sum(seconds) / len(seconds) / workers if seconds else None


class GridDisplay:
    """A live line on a terminal, or one plain line per finished cell elsewhere.

    Enter it to get the function to call with the status of every cell.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self.console = Console(stderr=True)
        columns = (BarColumn(), TextColumn("{task.description}"))
        self.bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.told: set[str] = set()

    def __enter__(self) -> Callable[[dict[str, Status]], None]:
        self.bar.start()
        self.task = self.bar.add_task("starting", total=None)
        return self.update

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def update(self, status: dict[str, Status]) -> None:
        """Show the status of every cell."""
        left = estimate_left(status, self.workers)
        line = count_states(status) + (f", about {left / 60:.0f} min left" if left else "")
        finished = {n for n, cell in status.items() if cell.state in ("done", "failed")}
        self.bar.update(self.task, description=line, total=len(status), completed=len(finished))
        for name in sorted(finished - self.told):
            if status[name].seconds:  # else it was done before this grid began
                self.console.print(
                    f"{status[name].state:8}{name}  {status[name].seconds:.0f} s",
                    highlight=False,
                    soft_wrap=True,
                )
        self.told |= finished


def show_status(status: dict[str, Status]) -> None:
    """Print one line a cell, with what there is to say of it, and the counts."""
    console = Console()
    for name, cell in status.items():
        remark = f"  ({cell.reason})" if cell.reason and cell.state != "failed" else ""
        line = f"{cell.state:8}{name}{remark}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(count_states(status))


def show_failed(status: dict[str, Status], folder: Path) -> None:
    """Print which cells failed, why, and where the log is, one line each to copy from."""
    failed = {name: cell for name, cell in status.items() if cell.state == "failed"}
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    if failed:
        console.print(f"\n{len(failed)} failed:")
    for name, cell in failed.items():
        log = os.path.relpath(folder / name / "log.txt")
        console.print(f"{name}\n    why  {cell.reason}\n    log  {log}")
