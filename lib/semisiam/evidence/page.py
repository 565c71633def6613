"""Pages from notebooks: a study's report, and the answer for a folder of one's own images."""

import re
from pathlib import Path
from string import Template
from typing import Any

import nbformat
import papermill
import yaml
from nbconvert import HTMLExporter
from traitlets.config import Config

from semisiam import ROOT
from semisiam.atomic import replacing
from semisiam.cell import Study

SKIPPED = "not-on-page"  # tag of cells for readers of the notebook alone
SECTION = re.compile(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link"')


class ReportError(ValueError):
    """The report cannot be made; the message says why."""


def write_own(folder: Path, output: Path, parameters: dict[str, Any]) -> Path:
    """Run `notebooks/09_own_images` on a folder of images and write `own.html`, the verdict first.

    Args:
        folder: the images, in one of the layouts that the notebook explains.
        output: where page, tables and the kept encoder go; a run that was cut off goes on there.
        parameters: others of the notebook.

    Raises:
        ReportError: the notebook stopped; nothing that was computed is lost.
    """
    given = parameters | {"folder": str(folder.resolve()), "output_dir": str(output.resolve())}
    notebook = run_notebook("09_own_images", given, f"{folder} cannot be judged", progress_bar=True)
    cells = notebook.cells
    verdict = [c for c in cells if "verdict" in c.metadata.get("tags", [])]
    intro = nbformat.v4.new_markdown_cell(f"# {folder.name}\n\n## The answer")
    rest = [c for c in cells[1:] if c not in verdict]
    notebook.cells = [intro, *reversed(verdict), *rest]  # the words before the picture
    return write_page(output / "own.html", notebook, folder.name)


def run_notebook(
    name: str, parameters: dict[str, Any], refused: str, *, progress_bar: bool = False
) -> nbformat.NotebookNode:
    """Run one of our notebooks with papermill; raises `ReportError` with the notebook's message."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    try:
        return papermill.execute_notebook(
            notebook,
            None,
            parameters,
            kernel_name="python3",
            progress_bar=progress_bar,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
    except papermill.PapermillExecutionError as error:
        raise ReportError(f"{refused}: {error.evalue}") from None


def write_page(path: Path, notebook: nbformat.NotebookNode, title: str) -> Path:
    """Write a page atomically; see `make_page`."""
    with replacing(path) as temporary:
        temporary.write_text(make_page(notebook, title), "utf-8")
    return path


def write_report(study: Study, folder: Path, undone: list[list[str]]) -> Path:
    """Write `report.html` from the cells of a study that are done.

    Args:
        study: the grid; done cells in the folder that are not of it are left out, and named.
        folder: `outputs/STUDY`.
        undone: name, state and reason of each cell that is not done.

    Returns:
        The path of the page. Figures, tables and the study as it was go to `folder / "report"`.

    Raises:
        ReportError: the notebook stopped, for instance since cells of one table differ in scale.
    """
    kept = folder / "report"
    kept.mkdir(parents=True, exist_ok=True)
    settings = kept / f"{study.name}.yaml"
    settings.write_text(yaml.safe_dump(study.model_dump(exclude={"name"}), sort_keys=False))
    places = {"study_file": settings, "cells_folder": folder, "kept_folder": kept}
    places["references_folder"] = ROOT / "outputs" / "published" / "references"
    parameters = {name: str(path.resolve()) for name, path in places.items()} | {"undone": undone}
    done = run_notebook("study", parameters, f"no report of {study.name}")
    return write_page(folder / "report.html", done, study.name)


def make_page(notebook: nbformat.NotebookNode, title: str) -> str:
    """Make HTML of the text and outputs of an executed notebook, without its code.

    The page asks for nothing from anywhere. Its contents stand before the second section, so that
    the first one is what a reader sees.
    """
    config = Config({"TagRemovePreprocessor": {"remove_cell_tags": {SKIPPED}, "enabled": True}})
    exporter = HTMLExporter(
        config, template_name="basic", exclude_input=True, exclude_output_prompt=True
    )
    body, _ = exporter.from_notebook_node(notebook)
    sections = SECTION.findall(body)
    contents = "".join(f'<li><a href="#{name}">{text}</a></li>' for name, text in sections)
    later = body.find(f'<h2 id="{sections[1][0]}"') if len(sections) > 1 else len(body)
    template = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
    return template.substitute(
        title=title, first=body[:later], contents=contents, rest=body[later:]
    )
