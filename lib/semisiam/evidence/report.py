"""One self-contained page from a study's cells: tables, figures, statistics and claims.

The page asks for nothing from anywhere: figures are inside it. Every figure is also saved as SVG
and PNG, every table as CSV and LaTeX, in the study's `report/` folder.
"""

import base64
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from semisiam.cell import Study
from semisiam.evidence import results, sections
from semisiam.evidence.sections import Picture, Section, Table
from semisiam.run.folder import replacing
from semisiam.run.grid import Status, read_status

LATEX = {"±": r"$\pm$", "−": "$-$", "Δ": r"$\Delta$", "†": r"$\dagger$", "×": r"$\times$"}
LONG_TEXT = re.compile("<td>([^<]{26,})<")
COLLAPSED = '<b class="warn" title="the embedding is all but constant">†</b>'


def write_report(study: Study, folder: Path) -> Path:
    """Write `report.html` from the cells of a study that are done.

    Args:
        study: the grid; done cells in the folder that are not of it are left out, and named.
        folder: `outputs/STUDY`.

    Returns:
        The path of the page. Figures and tables go to `folder / "report"`.

    Raises:
        MixtureError: cells of one table differ in scale.
    """
    found = results.collect(folder)
    hashes = {name: cell.hash for name, cell in study.cells().items()}
    cells = found[found["hash"] == found["cell"].map(hashes)].reset_index(drop=True)
    status = read_status(study, folder.parent)
    target = folder / "report"
    target.mkdir(parents=True, exist_ok=True)
    parts = [*describe_cells(study, folder, cells)] if len(cells) else []
    parts.append(list_exceptions(found, cells, status))
    page = load_template().render(
        study=study,
        n_cells=len(status),
        n_done=len(cells),
        warnings=[*warn(cells, status)],
        sections=[(part, [save(block, target) for block in part.blocks]) for part in parts],
    )
    with replacing(folder / "report.html") as temporary:
        temporary.write_text(page, "utf-8")
    return folder / "report.html"


def load_template() -> jinja2.Template:
    """Load the page's template."""
    loader = jinja2.PackageLoader("semisiam.evidence")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    return environment.get_template("report.html.j2")


def describe_cells(study: Study, folder: Path, cells: pd.DataFrame) -> Iterator[Section]:
    """Yield the sections about the cells that are done, in reading order."""
    variants = results.split_variants(cells, study.varied)
    firsts = results.pick_first(cells)
    reports = results.read_details(folder, cells["cell"], "report")
    histories = results.read_details(folder, cells["cell"], "history")
    yield sections.show_summary(variants)
    yield sections.show_method(folder, firsts)
    yield sections.show_accuracies(variants)
    yield sections.show_statistics(variants)
    yield sections.show_claims(variants, reports, histories)
    yield sections.show_losses(variants, histories)
    yield sections.show_projections(variants, results.read_details(folder, firsts["cell"], "tsne"))
    yield sections.show_classes(variants, reports)
    yield sections.show_separability(variants)
    yield sections.show_times(cells)
    yield sections.show_scale(cells)


def warn(cells: pd.DataFrame, status: dict[str, Status]) -> Iterator[str]:
    """Yield what a reader must know before any number."""
    if "digits" in set(cells["dataset"]):
        yield (
            "This study ran on scikit-learn's digits, tiny images with a small network: it shows "
            "that the machinery works, not whether the paper's claim holds."
        )
    if len(cells) and (collapsed := int(cells["collapsed"].sum())):
        yield (
            f"In {collapsed} of {len(cells)} cells the embedding collapsed: it is all but constant "
            "and the accuracy as trained says nothing about the weights. Look at the re-estimated "
            "one. These cells are marked †."
        )
    failed = sum(cell.state == "failed" for cell in status.values())
    missing = len(status) - len(cells) - failed
    if failed or missing > 0:
        yield (
            f"Failed cells: {failed}; cells not run: {max(missing, 0)}. What rests on them is "
            "blank; they are listed at the end."
        )
    if len(cells) and cells["duplicate_of"].any():
        yield "Some cells have the same settings: only the first of each counts. See the end."


def list_exceptions(found: pd.DataFrame, cells: pd.DataFrame, status: dict[str, Status]) -> Section:
    """List cells that are not done, ran twice, or lie in the folder without being of the study."""
    damaged = Status("damaged", "done, but a file of it cannot be read")
    status = {name: damaged if s.state == "done" else s for name, s in status.items()}
    done = set(cells["cell"])
    rows = [(name, s.state, s.reason) for name, s in status.items() if name not in done]
    twice = cells[cells["duplicate_of"] != ""]
    rows += [
        (name, "duplicate", f"same settings as {first}")
        for name, first in zip(twice["cell"], twice["duplicate_of"], strict=True)
    ]
    rows += [
        (name, "left out", "done, but not a cell of the study as it is now")
        for name in found["cell"]
        if name not in set(cells["cell"])
    ]
    if not rows:
        return Section("Cells not done", "None: every cell of the study is done, and none twice.")
    frame = pd.DataFrame(rows, columns=["cell", "state", "why"])
    explanation = "A failed cell's log.txt, in its folder, tells more."
    return Section(
        "Cells not done",
        explanation,
        [Table("exceptions", f"{len(rows)} cells.", frame, sortable=True)],
    )


def save(block: Table | Picture | str, target: Path) -> dict[str, Any]:
    """Save a block's files in `target` and return what the template shows of it."""
    if isinstance(block, Table):
        save_table(block, target)
        return {"table": write_html(block), "name": block.name, "caption": block.caption}
    if isinstance(block, Picture):
        panels = [save_panel(block, panel, target) for panel in block.panels]
        return {"panels": panels, "caption": block.caption}
    return {"text": block}


def save_table(table: Table, target: Path) -> None:
    """Save a table as CSV (the numbers) and LaTeX (as shown; it needs the package booktabs)."""
    frame, data = table.frame, table.frame if table.data is None else table.data
    data.to_csv(target / f"{table.name}.csv", index=not isinstance(data.index, pd.RangeIndex))
    caption = table.caption
    for sign in "%_&#":
        caption = caption.replace(sign, f"\\{sign}")
    index = not isinstance(frame.index, pd.RangeIndex)
    latex = frame.to_latex(index=index, escape=True, multirow=False, caption=caption)
    for sign, code in LATEX.items():
        latex = latex.replace(sign, code)
    (target / f"{table.name}.tex").write_text(latex, "utf-8")


def write_html(table: Table) -> Markup:
    """Write a table as HTML; long texts may wrap, and a collapsed embedding stands out."""
    index = not isinstance(table.frame.index, pd.RangeIndex)
    html = table.frame.to_html(
        index=index, index_names=False, border=0, classes="sortable" * table.sortable
    )
    return Markup(LONG_TEXT.sub(r'<td class="text">\1<', html).replace("†", COLLAPSED))


def save_panel(picture: Picture, panel: str, target: Path) -> dict[str, Any]:
    """Save a panel as SVG and PNG, and return its name, width (px) and the image as an address."""
    name, figure = sections.make_name(picture.name, panel), picture.panels[panel]
    images = {"svg": draw(figure, "svg")}
    figure.set_layout_engine("none")  # the layout is found, and finding it is slow
    images["png"] = draw(figure, "png")
    for kind, image in images.items():
        (target / f"{name}.{kind}").write_bytes(image)
    kind, image = ("png", images["png"]) if picture.many_marks else ("svg+xml", images["svg"])
    address = f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
    return {"name": name, "width": round(figure.get_figwidth() * 96), "address": address}


def draw(figure: Figure, kind: str) -> bytes:
    """Draw a figure as `svg` or `png`, the same bytes for the same figure."""
    file = BytesIO()
    figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()
