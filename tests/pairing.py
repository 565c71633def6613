"""Notebooks from their sources: `pairing.py build [NAME ...]` and `pairing.py check [NAME ...]`.

A notebook is written in `notebooks/NAME.py` (percent format). `build` executes it and writes
`NAME.ipynb` so that nothing in it depends on the run: building twice leaves no difference.
jupytext's own `--sync` goes by file times, which a clone scrambles, and its `--test` passes on
stale outputs; so the `.py` always wins here, and `check` compares what the two files hold, to the
byte of the `.py` that JupyterLab would save, or it refuses a clone with scrambled file times.
"""

import ast
import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import jupytext
import nbformat
from jupytext.config import load_jupytext_config
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CELL_TIMEOUT = 600  # s
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET = "application/vnd.jupyter.widget-view+json"


def names() -> list[str]:
    """Name every notebook of which there is at least one of the two files, sorted."""
    return sorted({p.stem for p in NOTEBOOKS.iterdir() if p.suffix in (".py", ".ipynb")})


def source(name: str) -> NotebookNode:
    """Read the `.py` as a notebook without outputs."""
    return jupytext.read(NOTEBOOKS / f"{name}.py")


def executed(name: str) -> NotebookNode:
    """Read the `.ipynb`."""
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def functions(name: str) -> SimpleNamespace:
    """Return the functions, and what is imported, of a notebook that is not run."""
    found, kinds = {}, (ast.Import, ast.ImportFrom, ast.FunctionDef)
    for cell in source(name).cells:
        if cell.cell_type == "code":
            body = [node for node in ast.parse(cell.source).body if isinstance(node, kinds)]
            exec(compile(ast.Module(body, []), name, "exec"), found)
    return SimpleNamespace(**found)


def outline(notebook: NotebookNode) -> list[tuple[str, str, list[str]]]:
    """Give what the two files must share: type, source and tags of each cell."""
    return [(c.cell_type, c.source, sorted(c.metadata.get("tags", []))) for c in notebook.cells]


def differences(name: str) -> list[str]:
    """Say in which cells, counted from 1, the two files of a notebook disagree."""
    missing = [f"{name}.{s} is missing" for s in ("py", "ipynb") if not _path(name, s).exists()]
    if missing:
        return missing
    ours, theirs = outline(source(name)), outline(executed(name))
    found = [
        f"{name}: cell {number} differs between .py and .ipynb"
        for number, (a, b) in enumerate(zip(ours, theirs, strict=False), start=1)
        if a != b
    ]
    if len(ours) != len(theirs):
        found.append(f"{name}: {len(ours)} cells in the .py, {len(theirs)} in the .ipynb")
    if not found and _as_py(name) != _path(name, "py").read_text():
        found.append(f"{name}: blank lines differ, JupyterLab would not open a fresh clone's")
    return found


def build(name: str) -> None:
    """Execute the `.py` in its folder and replace the `.ipynb`; on an error nothing is written.

    Widgets are left out, as they show nothing without a kernel: put a static picture beside one.
    """
    notebook = source(name)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell, cell_id in zip(notebook.cells, _cell_ids(notebook), strict=True):
        cell.id = cell_id
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": NOTEBOOKS}},
        record_timing=False,
        coalesce_streams=True,
    )
    client.execute()
    notebook.metadata = nbformat.from_dict(METADATA)  # the client adds Python's version and widgets
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]
    part = _path(name, "ipynb.part")
    nbformat.write(notebook, part)
    part.replace(_path(name, "ipynb"))


def _path(name: str, suffix: str) -> Path:
    return NOTEBOOKS / f"{name}.{suffix}"


def _as_py(name: str) -> str:
    """Write the `.ipynb` as JupyterLab would save its `.py`."""
    config = load_jupytext_config(str(_path(name, "ipynb")))
    return jupytext.writes(executed(name), "py:percent", config=config)


def _cell_ids(notebook: NotebookNode) -> list[str]:
    """Derive ids from content, so that changing one cell leaves the ids of the others."""
    ids: list[str] = []
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        repeats = sum(i.startswith(digest) for i in ids)
        ids.append(f"{digest}-{repeats}" if repeats else digest)
    return ids


def main(command: str, *chosen: str) -> int:
    """Build or check the chosen notebooks (all by default); 0 if all went well."""
    if command == "build":
        for name in chosen or names():
            print(f"executing {name}", flush=True)
            try:
                build(name)
            except CellExecutionError as error:
                print(f"{name}.py: {error}", file=sys.stderr)
                return 1
    wrong = [line for name in chosen or names() for line in differences(name)]
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
