"""Pages from notebooks: a study's report, and the answer for a folder of one's own images."""

import re
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import nbformat
import papermill
import yaml
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from traitlets.config import Config

from semisiam import ROOT
from semisiam.atomic import replacing
from semisiam.cell import SettingsError, Study

NOTEBOOKS = ROOT / "notebooks"
SKIPPED = "not-on-page"  # tag of cells for readers of the notebook alone
OWN = "09_own_images"
LINK = re.compile(r"\[(\w+)\]\(\w+\.ipynb\)")  # to another notebook, which no page has beside it
SECTION = re.compile(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link"')


def write_own(folder: Path, output: Path, parameters: dict[str, Any]) -> Path:
    """Run notebook `OWN` on a folder of images and write `output / "own.html"`, the verdict first.

    `parameters` are others of the notebook. A run that was cut off goes on where it was. Raises
    `SettingsError` if the notebook stopped.
    """
    given = parameters | {"folder": str(folder.resolve()), "output_dir": str(output.resolve())}
    notebook = run_notebook(OWN, given, f"{folder} cannot be judged", progress_bar=True)
    cells, name = notebook.cells, folder.resolve().name
    for cell in cells:
        cell.source = LINK.sub(r"\1", cell.source)
    verdict = [c for c in cells if "verdict" in c.metadata.get("tags", [])]
    intro = nbformat.v4.new_markdown_cell(f"# `{name}`\n\n## In short")
    rest = [c for c in cells[1:] if c not in verdict]
    notebook.cells = [intro, *reversed(verdict), *rest]  # the words before the picture
    return write_page(output / "own.html", notebook, name)


def read_settings(texts: dict[str, str]) -> dict[str, Any]:
    """Read parameters of notebook `OWN` from text, as declared there. Raises `SettingsError`."""
    declared = papermill.inspect_notebook(nbformat.read(NOTEBOOKS / f"{OWN}.ipynb", as_version=4))
    kinds = {name: of["inferred_type_name"] for name, of in declared.items()}
    known = [name for name in kinds if name not in ("folder", "output_dir", "digits_per_class")]
    settings = {}
    for name, text in texts.items():
        if name not in known:
            raise SettingsError(f"-p {name}: there is no such parameter, but {', '.join(known)}")
        try:
            settings[name] = {"str": str, "int": int, "float": float}[kinds[name]](text)
        except ValueError:
            raise SettingsError(f"-p {name} {text}: {kinds[name]} is needed") from None
    return settings


def run_notebook(
    name: str, parameters: dict[str, Any], refused: str, *, progress_bar: bool = False
) -> nbformat.NotebookNode:
    """Run one of our notebooks with papermill; raises `SettingsError` that says what stopped it."""
    # a kernel of this very Python, whatever `python3` is for this user
    spec = KernelSpec(argv=make_ipkernel_cmd(), display_name="Python 3", language="python")
    KernelSpecManager.get_kernel_spec = lambda self, name: spec
    try:
        return papermill.execute_notebook(
            nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4),
            None,
            parameters,
            kernel_name="python3",
            cwd=NOTEBOOKS,  # not a folder of images, whose .py files it would import
            progress_bar=progress_bar,
            start_timeout=600,
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )
    except papermill.PapermillExecutionError as error:
        ours = ("SettingsError", "DataError", "SplitError")  # whose messages say all
        kind = "" if error.ename in ours else f"{error.ename}: "
        raise SettingsError(f"{refused}: {kind}{error.evalue}") from None
    except (DeadKernelError, RuntimeError) as error:  # the second if it died, or hung, at its start
        if "ernel " not in str(error):  # it is of something else
            raise
        told = f"its process was killed (too little memory?) or did not start: try again ({error})"
        raise SettingsError(f"{refused}: {told}") from None


def write_report(study: Study, folder: Path, undone: list[list[str]]) -> Path:
    """Write `folder / "report.html"` from the cells of a study that are done; gives its path.

    `folder` is `outputs/STUDY`; cells there that are not of the study are left out, and named, as
    are those `undone`: name, state and reason. Figures, tables and the study as it was go to
    `folder / "report"`. Raises `SettingsError` if, e.g., cells of one table differ in scale.
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


def write_page(path: Path, notebook: nbformat.NotebookNode, title: str) -> Path:
    """Write text and outputs of an executed notebook, without its code, as HTML, atomically.

    It asks for nothing from anywhere. A reader sees the first section, then the contents.
    """
    config = Config({"TagRemovePreprocessor": {"remove_cell_tags": {SKIPPED}, "enabled": True}})
    looks = {"template_name": "basic", "exclude_input": True, "exclude_output_prompt": True}
    body, _ = HTMLExporter(config, **looks).from_notebook_node(notebook)
    sections = SECTION.findall(body)
    contents = "".join(f'<li><a href="#{name}">{text}</a></li>' for name, text in sections)
    later = body.find(f'<h2 id="{sections[1][0]}"') if len(sections) > 1 else len(body)
    parts = {"first": body[:later], "contents": contents, "rest": body[later:]}
    template = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
    with replacing(path) as temporary:
        temporary.write_text(template.substitute(parts, title=escape(title)), "utf-8")
    return path
