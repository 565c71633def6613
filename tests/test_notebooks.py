"""Every notebook equals its source, was executed cleanly and in order, and reads in small steps.

That the cells still compute what they show is nbval's part of `make test`.
"""

import ast
import inspect
import re
import statistics
import types
import typing
from urllib.parse import urlsplit

import pairing
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from semisiam.cell import Cell

NAMES = pairing.names()
CHECKED = "nbval-check-output"  # the tag of a cell whose output nbval compares
TAGS = {CHECKED, "parameters", "solution", "not-on-page", "verdict"}
LONGEST, MEDIAN = 20, 5  # lines of code in a cell
CHAPTERS = [name for name in NAMES if name[:2].isdigit()]
LINK = re.compile(
    r"\]\(([^)]*)\)|^\[[^]]+\]: *(.*)$", re.MULTILINE
)  # [text](target), [text]: target
RUN_DEPENDENT = {
    "a path of this machine": r"(?<![\w.])/(?:work|root|home|Users|tmp|var)/\w",
    "an address in memory": r" at 0x[0-9a-f]{6,}",
    "a duration or a speed": r"\d ?[mµnu]?s/(?:step|it|epoch)\b|\dit/s\b|Wall time|CPU times",
    "a progress bar": r"\d+%\|",
    "a random id of a pandas style": r'id="T_[0-9a-f]{5}"',
}
each_notebook = pytest.mark.parametrize("name", NAMES)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def python(cell):
    """Parse a cell's source, with IPython's magics turned into calls."""
    return ast.parse(TransformerManager().transform_cell(cell.source))


def output_texts(cell):
    """Give all that a cell shows as text: streams, and the textual forms of its results."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        for kind, data in output.get("data", {}).items():
            if kind.startswith("text/") or kind == "image/svg+xml":
                yield data


def test_the_notebooks_are_there():
    assert "master" in NAMES


def test_nbval_runs_every_notebook(request):
    if not request.config.getoption("nbval_lax"):
        pytest.skip("not a whole run: `make test` has nbval run the notebooks")
    collected = {item.path.stem for item in request.session.items if item.path.suffix == ".ipynb"}
    assert collected == set(NAMES)


@each_notebook
def test_py_and_ipynb_agree(name):
    assert pairing.differences(name) == [], "run `make notebooks`"


@each_notebook
def test_metadata_depends_on_no_run(name):
    notebook = pairing.executed(name)
    assert notebook.metadata == pairing.METADATA
    for cell in notebook.cells:
        known = {"tags", "alt", "jupyter", "lines_to_next_cell"}  # the last one is jupytext's
        assert set(cell.metadata) <= known


@each_notebook
def test_executed_in_order_without_error(name):
    cells = code_cells(pairing.executed(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert [o for o in outputs if o.output_type == "error"] == []
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []


@each_notebook
def test_outputs_hold_no_warning(name):
    for cell in code_cells(pairing.executed(name)):
        for text in output_texts(cell):
            assert not re.search(r"\b\w*Warning\b: |\bWARNING\b", text), cell.source


@each_notebook
def test_outputs_depend_on_no_run(name):
    for cell in code_cells(pairing.executed(name)):
        for text in output_texts(cell):
            found = [what for what, pattern in RUN_DEPENDENT.items() if re.search(pattern, text)]
            assert found == [], cell.source


@each_notebook
def test_nbval_compares_at_least_five_cells(name):
    compared = [c for c in code_cells(pairing.source(name)) if CHECKED in _tags(c)]
    assert len(compared) >= 5


@each_notebook
def test_cells_are_marked_by_known_tags_alone(name):
    """A misspelt tag would leave an output unchecked, and nbval also obeys comments."""
    for cell in pairing.source(name).cells:
        assert set(_tags(cell)) <= TAGS
        assert "NBVAL" not in cell.source, "use the tag nbval-check-output"


@each_notebook
def test_solutions_are_hidden(name):
    for cell in pairing.source(name).cells:
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert hidden == ("solution" in _tags(cell))


@each_notebook
def test_cells_are_small(name):
    cells = [c for c in code_cells(pairing.source(name)) if "parameters" not in _tags(c)]
    sizes = [len(re.findall(r"^[ \t]*[^\s#]", cell.source, re.MULTILINE)) for cell in cells]
    assert max(sizes) <= LONGEST
    assert statistics.median(sizes) <= (10 if name == "study" else MEDIAN)  # tables of one report


@each_notebook
def test_classes_are_in_the_library(name):
    for cell in code_cells(pairing.source(name)):
        classes = [node.name for node in ast.walk(python(cell)) if isinstance(node, ast.ClassDef)]
        assert classes == []


@each_notebook
def test_opens_with_its_title(name):
    first = pairing.source(name).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")


@each_notebook
def test_local_links_lead_to_a_file(name):
    for link in find_links(name):
        if "://" not in link:
            path = pairing.NOTEBOOKS / link.split("#")[0]
            assert path.is_file(), link


@each_notebook
def test_outside_links_are_well_formed(name):
    for link in find_links(name):
        if "://" in link:
            parts = urlsplit(link)
            assert parts.scheme == "https", link
            assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
            assert not re.search(r"[\s<>\"]|[.,;]$", link), link


def test_links_of_both_kinds_are_found():
    text = "[a](b.ipynb), ([c](https://d.org/e))\n[f]: https://g.org"
    assert [one or other for one, other in LINK.findall(text)] == [
        "b.ipynb",
        "https://d.org/e",
        "https://g.org",
    ]


def test_chapters_are_numbered_in_a_row():
    assert [name[:2] for name in CHAPTERS] == [f"{number:02}" for number in range(10)]


@pytest.mark.parametrize("name", CHAPTERS)
def test_links_to_the_neighbours_follow_the_order(name):
    texts = [cell.source for cell in pairing.source(name).cells if cell.cell_type == "markdown"]
    place = CHAPTERS.index(name)
    before, after = CHAPTERS[:place][-1:], CHAPTERS[place + 1 :][:1]
    assert re.findall(r"Before: \[(\w+)\]\(\1\.ipynb\)", texts[0]) == before
    assert re.findall(r"Next: \[(\w+)\]\(\1\.ipynb\)", texts[0]) == after
    assert re.findall(r"^Next: \[(\w+)\]\(\1\.ipynb\)", texts[-1], re.MULTILINE) == after


def test_parameters_of_master_are_the_fields_of_cell():
    (cell,) = [c for c in code_cells(pairing.source("master")) if "parameters" in _tags(c)]
    parameters = {
        node.target.id: (ast.unparse(node.annotation), ast.literal_eval(node.value))
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.AnnAssign)
    }
    assert len(parameters) == len(ast.parse(cell.source).body)
    fields = {
        name: (_notebook_type(field.annotation), field.default)
        for name, field in Cell.model_fields.items()
    }
    assert list(parameters) == list(fields)
    for name in fields:
        assert parameters[name] == fields[name]
        assert type(parameters[name][1]) is type(fields[name][1])
    explained = _explain_fields(cell.source)
    assert list(explained) == list(parameters)  # each has a comment
    ours = _explain_fields(inspect.getsource(Cell))
    assert ours.items() <= explained.items()
    choices = {
        n for n, f in Cell.model_fields.items() if typing.get_origin(f.annotation) is typing.Literal
    }
    assert set(explained) - set(ours) == choices  # which say themselves what there is


def find_links(name):
    """List the targets of all links in a notebook's text."""
    texts = [cell.source for cell in pairing.source(name).cells if cell.cell_type == "markdown"]
    return [one or other for text in texts for one, other in LINK.findall(text)]


def _tags(cell):
    return cell.metadata.get("tags", [])


def _explain_fields(source):
    """Give the comment behind each `name: type = value`."""
    found = re.findall(r"^ *(\w+): .* = .*?  # (.+)$", source, re.MULTILINE)
    return dict(found)


def _notebook_type(annotation):
    """Write a field's type as in the notebook: a choice among strings is a `str`."""
    if typing.get_origin(annotation) is typing.Literal:
        return "str"
    return str(annotation) if isinstance(annotation, types.UnionType) else annotation.__name__
