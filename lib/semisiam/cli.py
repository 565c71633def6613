"""The command line: `semisiam grid`, `status`, `record`, `report`, `own`, `data` and `embed`."""

import errno
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import click

from semisiam import ROOT
from semisiam.cell import Cell, SettingsError, Study

PAPER_SIZES = {"malaria": 128, "digits": 32}  # the others: 96 (III-B); digits are not the paper's
PATH, FOLDER = click.Path(path_type=Path), click.Path(file_okay=False, path_type=Path)
COUNT, MINUTES = click.IntRange(1), click.FloatRange(0, min_open=True)
FROM_ZERO, SIZE = click.IntRange(0), click.IntRange(8, 1024)


class _Group(click.Group):
    """Turn a user's mistake into one message and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        for name in ("stdout", "stderr"):  # which may be closed
            stream = getattr(sys, name) or Path(os.devnull).open("w")  # noqa: SIM115
            stream.reconfigure(errors="backslashreplace")  # a terminal need not know our letters
            setattr(sys, name, stream)
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()  # where a full disk shows at last
        except ValueError as error:
            if type(error).__module__.startswith("semisiam"):
                raise click.ClickException(str(error)) from None
            raise
        except OSError as error:  # a file or folder of the user's, a full disk
            if error.errno == errno.EPIPE:  # click knows what to do
                raise
            if not error.filename:
                sys.stdout = None  # it is full: Python would try once more as it ends
            told = ": ".join(str(of) for of in (error.filename, error.strerror or error) if of)
            raise click.ClickException(told) from None
        except KeyboardInterrupt:
            click.echo("stopped; give the same command again to go on", err=True)
            sys.exit(130)


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(package_name="semisiam")
def main() -> None:
    """Few labels, many unlabelled images: does self-supervision help, and under attack?"""
    cache = os.environ.get("SEMISIAM_CACHE", "")
    if cache and cache[0] != "~":  # kernels run in other folders
        os.environ["SEMISIAM_CACHE"] = str(Path(cache).resolve())


def _load_study(_ctx: click.Context, _param: click.Parameter, path: str) -> Study:
    from semisiam.run.folder import find_outputs

    find_outputs()  # a study needs the checkout
    return Study.load(path)


study_argument = click.argument("study", callback=_load_study, metavar="STUDY.yaml")
outputs_option = click.option(
    "--outputs", type=FOLDER, default=ROOT / "outputs", help="Holds one folder per study."
)
only_option = click.option(
    "--only",
    multiple=True,
    callback=lambda _ctx, _param, words: " ".join(words),
    metavar="SETTINGS|NAME",
    help="Cells like 'backbone=resnet50_v2 split=0,1' or, by name, '*-rotation'; all must hold.",
)


def identify(cell: Cell) -> str:
    """Give `Dataset.content` of a cell's data without reading pixels.

    Arrays are prepared if the raw files are here; "" where they are not or cannot be used.
    """
    split = cell.split if cell.splits_file else 0  # without a file all splits have the same images
    return _identify(cell.splits_file, split, **cell.data_settings)


@cache
def _identify(splits_file: str, split: int, **settings: Any) -> str:
    from semisiam.data import datasets
    from semisiam.method.splits import SplitError, read_split

    with suppress(SplitError, datasets.DataError):
        rows = read_split(splits_file, split=split).test_rows if splits_file else None
        return datasets.load(**settings, test_rows=rows, local=True).content
    return ""


@main.command()
@study_argument
@outputs_option
@only_option
@click.option("--workers", type=COUNT, show_default="2, or one a GPU", help="Cells side by side.")
@click.option("--dry-run", is_flag=True, help="List cells, time and disk needed, and stop.")
@click.option("--index", type=FROM_ZERO, help="Run this one of the chosen cells, from 0.")
@click.option("--scheduler", metavar="ADDRESS|FILE", help="A Dask cluster: tcp://HOST:8786.")
@click.option("--threads", type=COUNT, show_default="all, shared out", help="For each cell.")
@click.option("--stall-minutes", type=MINUTES, default=240, help="End a cell stuck for so long.")
@click.option("--retries", type=FROM_ZERO, default=1, help="Times to start a dead cell anew.")
def grid(study: Study, outputs: Path, only: str, index: int | None, **how: Any) -> None:
    """Run every cell of a study that is not done yet.

    Each cell is one run of notebooks/master.ipynb in a process of its own, in
    OUTPUTS/STUDY/CELL/. A cell that fails is reported at the end and does not stop the others; one
    that somebody else works on is waited for. Run the same command again to run what is not done:
    a cell that was cut off goes on from its last checkpoint. Ctrl-C ends all cells. Results
    repeat to the last digit only with the same number of threads.

    Exit code 0 only if all the cells asked for are done, 130 after Ctrl-C.
    """
    from semisiam.run import display, grid

    if how["scheduler"] and how["workers"]:
        raise SettingsError(
            "--workers is for this machine: on Dask each thread of a worker runs a cell"
        )
    scheduler, workers = how.pop("scheduler"), how.pop("workers") or len(grid.list_gpus()) or 2
    cells, folder = grid.choose_cells(study, only, index), outputs / study.name
    before = grid.read_status(cells, folder, identify)
    if how.pop("dry_run"):
        display.show(cells, before, workers, folder)
        click.echo(grid.check_disk(folder, cells, before))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # batch systems end jobs with it
    place = grid.running_here(min(workers, len(cells)), **how)
    if scheduler:
        from semisiam.run.cluster import running_on

        place = running_on(scheduler, **how)
    with place as (executor, run, slots, title), display.showing(cells, slots, title) as show:
        status = grid.run_study(cells, folder, before, executor, run, show)
    _identify.cache_clear()  # images and results may have changed meanwhile
    for name, now in grid.read_status(cells, folder, identify).items():
        if status[name].state == "done" and now.state in ("failed", "waiting"):
            status[name] = replace(now, state="failed")
    display.show_failed(status, folder)
    sys.exit(any(cell.state != "done" for cell in status.values()))


@main.command()
@study_argument
@outputs_option
@only_option
def status(study: Study, outputs: Path, only: str) -> None:
    """Say which cells of a study are done, running, failed or waiting.

    It reads the disk, so it can be asked at any time, from any terminal. (If prepared arrays were
    deleted, it makes them first, which takes minutes.) Exit code 0 only if all cells are done.
    """
    from semisiam.run import display, grid

    cells, folder = grid.choose_cells(study, only), outputs / study.name
    status = grid.read_status(cells, folder, identify)
    running = sum(cell.state == "running" for cell in status.values())
    display.show(cells, status, max(2, running), folder)
    sys.exit(any(cell.state != "done" for cell in status.values()))


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
    from semisiam.run.folder import OTHER_IMAGES
    from semisiam.run.grid import read_status

    cells, folder = study.cells(), outputs / study.name
    status = read_status(cells, folder, identify)
    undone = {name: cell.reason for name, cell in status.items() if cell.state != "done"}
    for name, reason in undone.items():
        if reason.startswith(OTHER_IMAGES):
            raise SettingsError(f"{name}: {reason}; run the grid again")
    if len(undone) == len(cells):
        raise SettingsError(f"no cell of {study.name} is done: there is nothing to record")
    for path in {path for cell in cells.values() for path in (cell.weights, cell.splits_file)}:
        if path.startswith(("/", "~")):
            told = "give a path relative to where you call semisiam, and run the cells again"
            raise SettingsError(f"{path} would be recorded: {told}")
    others = {path.parent.name for path in folder.glob("*/params.yaml")} - cells.keys()
    target = ROOT / "outputs" / "published" / study.name
    results.record(folder, target, left_out=undone.keys() | others)
    click.echo(target)
    recorded = set(results.collect(target)[["cell", "hash"]].itertuples(index=False, name=None))
    if missing := sum((name, cell.hash) not in recorded for name, cell in cells.items()):
        raise SettingsError(f"{missing} cells of {study.name} were never recorded")


@main.command()
@study_argument
@outputs_option
def report(study: Study, outputs: Path) -> None:
    """Write OUTPUTS/STUDY/report.html, one page that opens offline, from the cells done so far.

    Exit code 0 only if it was written from all cells of the study.
    """
    from semisiam.evidence.page import write_report
    from semisiam.run.grid import read_status

    status = read_status(study.cells(), outputs / study.name, identify)
    undone = [[name, s.state, s.reason] for name, s in status.items() if s.state != "done"]
    click.echo(write_report(study, outputs / study.name, undone))
    if undone:
        raise SettingsError(f"{len(undone)} cells are not done; the report lists them")


@main.command()
@click.argument("folder", type=PATH)
@click.option("--output", type=FOLDER, show_default="in outputs/own", help="For page and encoder.")
@click.option(
    "-p", "settings", type=(str, str), multiple=True, metavar="NAME VALUE", help="Set a parameter."
)
def own(folder: Path, output: Path | None, settings: tuple[tuple[str, str], ...]) -> None:
    """Say what works best on your own images, how sure that is, and what to label next.

    FOLDER has one folder a class and one called `unlabelled`; or images and a table labels.csv with
    the columns file, label and, if wished, group. It runs notebooks/09_own_images and writes one
    page, own.html, that opens offline; beside it label_next.csv, to fill in, and the best of what
    was tried, for `semisiam embed`. To compare a pretrained network, too, as it is: -p backbone
    mobilenet_v2 -p weights imagenet. Run it again to go on after a stop; runs with other settings
    need another --output, or they replace the page.

    Exit code 0 only if the page was written, 130 after Ctrl-C.
    """
    from semisiam.data import datasets
    from semisiam.evidence.page import read_settings, write_own
    from semisiam.run.folder import find_outputs, hold
    from semisiam.run.grid import make_folder

    places, given = find_outputs() / "own", read_settings(dict(settings))
    if given.get("weights", "").endswith(".h5"):
        given["weights"] = str(Path(given["weights"]).resolve())
    base = {"dataset": "folder", "data_dir": str(folder), "image_size": 64}
    cell = Cell.check(base | {k: v for k, v in given.items() if k in Cell.model_fields and v})
    data = datasets.load(**cell.data_settings)
    if output and output.resolve().is_relative_to(folder.resolve()):
        raise SettingsError(f"--output {output} lies in {folder}: choose a place outside")
    output = output or places / f"{folder.resolve().name}-{data.content[:8]}"
    if hold(make_folder(output / ".folds")) is None:  # until the end, but the notebook clears it
        raise SettingsError(f"--output: another run works in {output}; choose another")
    click.echo(write_own(folder, output, given))


@main.command()
@click.argument("name")
@click.option("--dir", "data_dir", default="", help="Folder of archive, files or your images.")
@click.option("--size", type=SIZE, show_default="the paper's", help="Height and width (px).")
@click.option("--test-split", default="random", help="How malaria is halved: random or patient.")
@click.option("--seed", type=FROM_ZERO, default=0, help="For drawing halves.")
@click.option("--skip-damaged", is_flag=True, help="Leave out images that do not decode.")
def data(name: str, size: int | None, **settings: Any) -> None:
    """Fetch, check and prepare a data set, and describe it.

    NAME is digits, fashion_mnist, stl10, malaria or folder (CLASS/*.png, *.jpg, ... with optional
    folders unlabelled/ and test/CLASS/; or images beside a labels.csv with the columns file, label
    and, if wished, group; images without a label are the unlabelled ones). Downloads and prepared
    arrays are kept in the folder SEMISIAM_CACHE, by default in the user's cache; what is in its
    `prepared` may be deleted. Halved by patient, malaria has no patient on both sides.
    """
    from semisiam.data import datasets

    prepared = datasets.load(name, size or PAPER_SIZES.get(name, 96), **settings)
    click.echo(datasets.summarise(prepared))


@main.command()
@click.argument("cell_folder", type=PATH)
@click.argument("images", type=PATH)
@click.option(
    "--output", type=PATH, default="embeddings.csv", help="A .csv or an .npz, written anew."
)
def embed(cell_folder: Path, images: Path, output: Path) -> None:
    """Write embeddings and predicted classes of new images.

    CELL_FOLDER is the folder of a finished cell, e.g. outputs/demo/CELL. IMAGES is an image file,
    or a folder that is searched to any depth; images of any size are resized as the cell's were.
    The class is that of the linear SVM on the cell's labelled embeddings (of `own` the best's).

    A .csv has one line an image: file (its path in IMAGES), predicted_class, confidence, e0, e1 and
    so on. An .npz has the arrays files, predicted_classes, confidences and embeddings (float32, one
    row an image). confidence is the probability that the network's own class head gives to the
    class; it is not calibrated. Images that cannot be read are left out and named: exit code 0 only
    if every image is in it.
    """
    from semisiam import embed

    table = embed.write_embeddings(cell_folder, images, output)
    click.echo(f"{len(table):,} images embedded: {click.format_filename(output)}")
    for note in table.attrs["notes"]:
        click.echo(note)
    if left_out := table.attrs["left_out"]:
        raise click.ClickException(embed.explain_left_out(left_out, len(table)))
