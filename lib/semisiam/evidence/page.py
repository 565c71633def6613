"""A study's report: `notebooks/study` run once, what it shows made into one offline page."""

import re
from pathlib import Path
from string import Template

import nbformat
import papermill
import yaml
from nbconvert import HTMLExporter
from traitlets.config import Config

from semisiam import ROOT
from semisiam.atomic import replacing
from semisiam.cell import Study

NOTEBOOK = ROOT / "notebooks" / "study.ipynb"
SKIPPED = "not-on-page"  # tag of cells for readers of the notebook alone
SECTION = re.compile(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link"')


class ReportError(ValueError):
    """The report cannot be made; the message says why."""


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
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    try:
        done = papermill.execute_notebook(
            notebook,
            None,
            parameters,
            kernel_name="python3",
            progress_bar=False,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
    except papermill.PapermillExecutionError as error:
        raise ReportError(f"no report of {study.name}: {error.evalue}") from None
    with replacing(folder / "report.html") as temporary:
        temporary.write_text(make_page(done, study.name), "utf-8")
    return folder / "report.html"


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
