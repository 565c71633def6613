"""The command line: `semisiam grid`, `status`, `report`, `data` and `embed`."""

import signal
import sys
import time
from pathlib import Path
from typing import Any

import click

from semisiam import ROOT
from semisiam.cell import Study

PAPER_SIZES = {"malaria": 128, "digits": 32}  # the others: 96 (III-B); digits are not the paper's


class _Group(click.Group):
    """Turn a user's mistake into one message and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ValueError as error:
            if type(error).__module__.startswith("semisiam"):
                raise click.ClickException(str(error)) from None
            raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="semisiam")
def main() -> None:
    """Few labels, many unlabelled images: does self-supervision help, and under attack?"""


class _StudyFile(click.ParamType):
    name = "STUDY.yaml"

    def convert(self, value: Any, param: Any, ctx: Any) -> Study:
        return Study.load(value)


study_argument = click.argument("study", type=_StudyFile(), metavar="STUDY.yaml")
outputs_option = click.option(
    "--outputs",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "outputs",
    show_default="outputs/ of the checkout",
    help="Folder that holds one folder per study.",
)


only_option = click.option(
    "--only",
    default="",
    metavar="SETTINGS",
    help="Only cells with these settings, e.g. 'backbone=resnet50_v2 split=0,1'.",
)


@main.command()
@study_argument
@outputs_option
@only_option
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    show_default="2, or one a GPU",
    help="Cells side by side; the machine's threads are shared out among them.",
)
@click.option("--dry-run", is_flag=True, help="List cells, time and disk needed, and stop.")
@click.option("--index", type=click.IntRange(min=0), help="Run this one cell, counted from 0.")
@click.option(
    "--scheduler",
    metavar="ADDRESS|FILE",
    help="Run the cells on a Dask cluster: tcp://HOST:8786, or the scheduler file.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    show_default="shared out",
    help="Threads of each cell. Results repeat to the last digit only with the same number.",
)
@click.option(
    "--stall-minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=240,
    show_default=True,
    help="End a cell when no epoch ends for so long; data and evaluation count too.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Start a cell again so often if its process dies; not if the notebook raises.",
)
def grid(
    study: Study,
    outputs: Path,
    only: str,
    workers: int | None,
    dry_run: bool,
    index: int | None,
    scheduler: str | None,
    threads: int | None,
    **limits: Any,
) -> None:
    """Run every cell of a study that is not done yet.

    Each cell is one run of notebooks/master.ipynb in a process of its own, in
    OUTPUTS/STUDY/CELL/. A cell that fails is reported at the end and does not stop the others; one
    that somebody else works on is waited for. Run the same command again to run what is not done:
    a cell that was cut off goes on from its last finished epoch. Ctrl-C ends all cells.

    Exit code 0 only if all the cells asked for are done, 130 after Ctrl-C.
    """
    from semisiam.run import display, grid
    from semisiam.run.worker import Options

    if index is not None and (scheduler or dry_run):
        raise click.UsageError("--index runs one cell here: without --scheduler and --dry-run")
    options = Options(threads=threads or 0, **limits)
    cells = grid.choose_cells(study, only)
    if index is not None:
        cells, workers = grid.choose_index(cells, index), 1
    workers = workers or len(grid.list_gpus()) or 2
    before = grid.read_status(study, outputs, cells)
    needed = grid.estimate_bytes(cells, before, workers)
    if dry_run:
        display.show_plan(cells, before, workers, needed, grid.measure_free(outputs))
        return
    if warning := grid.check_disk(outputs, needed):
        click.echo(f"warning: {warning}", err=True)
    asked = {"cells": cells, "options": options}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # batch systems end jobs with it
    try:
        if scheduler:
            from semisiam.run.cluster import Cluster

            with (
                Cluster(scheduler) as cluster,
                display.GridDisplay(cells, cluster.count_slots(), cluster.describe()) as show,
            ):
                status = cluster.run_study(study, outputs, on_change=show, say=show.say, **asked)
        else:
            with display.GridDisplay(cells, workers) as show:
                status = grid.run_study(study, outputs, workers=workers, on_change=show, **asked)
    except KeyboardInterrupt:
        click.echo("stopped; the same command goes on from here", err=True)
        sys.exit(130)
    display.show_failed(status, outputs / study.name)
    sys.exit(any(cell.state != "done" for cell in status.values()))


@main.command()
@study_argument
@outputs_option
@only_option
def status(study: Study, outputs: Path, only: str) -> None:
    """Say which cells of a study are done, running, failed or waiting.

    It reads the disk, so it can be asked at any time, from any terminal. Exit code 0 only if all
    cells are done.
    """
    from semisiam.run import display
    from semisiam.run.grid import choose_cells, read_status

    cells = read_status(study, outputs, choose_cells(study, only))
    display.show_status(cells)
    display.show_failed(cells, outputs / study.name)
    sys.exit(any(cell.state != "done" for cell in cells.values()))


@main.command()
@study_argument
@outputs_option
def record(study: Study, outputs: Path) -> None:
    """Record a study's numbers in outputs/published/STUDY, to commit and to rebuild tables from.

    Settings, metrics, class-wise tables, histories and t-SNE points; no image, no model, no path.
    Cells recorded before stay, so that a study may be run on several machines, one after the other.
    Exit code 0 only if every cell of the study is recorded now.
    """
    from semisiam.evidence import results

    if results.collect(outputs / study.name).empty:
        raise click.ClickException(f"no cell of {study.name} is done: there is nothing to record")
    target = results.record(outputs / study.name, ROOT / "outputs" / "published" / study.name)
    click.echo(target)
    recorded = set(results.collect(target)["hash"])
    missing = sum(cell.hash not in recorded for cell in study.cells().values())
    if missing:
        raise click.ClickException(f"{missing} cells of {study.name} were never recorded")


@main.command()
@study_argument
@outputs_option
def report(study: Study, outputs: Path) -> None:
    """Write OUTPUTS/STUDY/report.html, one page that opens offline, from the cells done so far.

    Exit code 0 only if it was written from all cells of the study.
    """
    from semisiam.evidence.page import write_report
    from semisiam.run.grid import read_status

    status = read_status(study, outputs)
    undone = [
        [name, cell.state, cell.reason] for name, cell in status.items() if cell.state != "done"
    ]
    click.echo(write_report(study, outputs / study.name, undone))
    if undone:
        raise click.ClickException(f"{len(undone)} cells are not done; the report lists them")


@main.command()
@click.argument("name", required=False)
@click.option(
    "--dir",
    "data_dir",
    default="",
    show_default="the cache, and a download",
    help="Folder that holds the archive, or what was unpacked from it; for `folder`, the images.",
)
@click.option(
    "--size",
    type=click.IntRange(8, 1024),
    show_default="as in the paper: 128 for malaria, 96 else; 32 for digits",
    help="Height and width to resize to (px).",
)
@click.option(
    "--test-split",
    type=click.Choice(["random", "patient"]),
    default="random",
    show_default=True,
    help="How malaria is halved: at random (paper), or with no patient on both sides.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the halves.")
@click.option("--skip-damaged", is_flag=True, help="Leave out images that do not decode.")
@click.option("--list", "list_ready", is_flag=True, help="Show what is ready, and stop.")
def data(
    name: str | None, list_ready: bool, size: int | None, skip_damaged: bool, **settings: Any
) -> None:
    """Fetch, check and prepare a data set, and describe it.

    NAME is digits, fashion_mnist, stl10, malaria or folder (CLASS/*.png, *.jpg, ... with optional
    folders unlabelled/ and test/CLASS/). Downloads and prepared arrays are kept in the folder
    SEMISIAM_CACHE, by default in the user's cache.
    """
    from semisiam.data import datasets, prepared

    if list_ready:
        ready = prepared.list_prepared()
        click.echo("nothing is ready yet" if ready.empty else ready.to_string(index=False))
        return
    if name is None:
        raise click.UsageError("give a NAME, or --list")
    size = size or PAPER_SIZES.get(name, 96)
    started = time.perf_counter()
    prepared.prepare(name, size, skip_damaged=skip_damaged, **settings)
    seconds = time.perf_counter() - started
    click.echo(datasets.summarise(datasets.load(name, size, **settings)))
    click.echo(f"ready after {seconds:.1f} s")


@main.command()
@click.argument("cell_folder", type=click.Path(path_type=Path))
@click.argument("images", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default="embeddings.csv",
    show_default=True,
    help="File to write, a .csv or an .npz; replaced if it is there.",
)
def embed(cell_folder: Path, images: Path, output: Path) -> None:
    """Write embeddings and predicted classes of new images.

    CELL_FOLDER is the folder of a finished cell, e.g. outputs/demo/CELL. IMAGES is an image file,
    or a folder that is searched to any depth; images of any size are resized as the cell's were.
    The class is that of the linear SVM on the cell's labelled embeddings.

    A .csv has one line an image: file (its path in IMAGES), predicted_class, e0 to e127. An .npz
    has the arrays files, predicted_classes and embeddings (float32, one row an image). Exit code 0
    only if every image is in it.
    """
    from semisiam import embed

    with embed.writing(output) as temporary:
        table = embed.embed_images(cell_folder, images)
        embed.write_table(temporary, table)
    click.echo(f"{len(table):,} images embedded: {output}")
