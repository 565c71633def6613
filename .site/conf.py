"""The site: notebooks as executed, README and recorded pages; see `make site`.

Sphinx reads this checkout's own files; nothing is executed, and a page asks for nothing from
anywhere: formulas become MathML, which browsers draw themselves.
"""

import subprocess

project = "semisiam"
author = "semisiam contributors"
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "notebooks/*.ipynb",
    "outputs/published/*.md",
    "params/studies/README.md",
]
exclude_patterns = [".*", "outputs/site", "lib", "tests"]  # not even looked into
CONTENTS = """
```{toctree}
:hidden:
:glob:
:caption: Notebooks

notebooks/0*
notebooks/master
notebooks/study
```

```{toctree}
:hidden:
:caption: What was found

outputs/published/claims
outputs/published/README
outputs/published/speed
```

```{toctree}
:hidden:
:caption: Use it

params/studies/README
CONTRIBUTING
CHANGELOG
```
"""


def ask_git(*words: str) -> str:
    """Ask git about this checkout; empty where there is none."""
    asked = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "semisiam"
html_math_renderer = "mathml"
html_last_updated_fmt = f"%d %b %Y, revision {ask_git('describe', '--always', '--dirty')}"
html_show_sphinx = False
html_show_copyright = False
html_sourcelink_suffix = ""  # notebooks are copied as .ipynb, so that figures can link to them
html_static_path = ["site.css"]
html_css_files = ["site.css"]


def add_contents(_app, page: str, source: list[str]) -> None:
    """Give README, the first page, the list of all others."""
    if page == root_doc:
        source[0] += CONTENTS


def link_reports(app, page: str, source: list[str]) -> None:
    """Link each recorded study to its report, where `make site` has made one."""
    if page == "outputs/published/README":
        for report in sorted(app.outdir.glob("reports/*/report.html")):
            name = report.parent.name
            link = f'<a href="../../reports/{name}/report.html">report</a>'
            source[0] = source[0].replace(
                f"studies/{name}.yaml) |", f"studies/{name}.yaml), {link} |"
            )


def name_source(_app, doctree, page: str) -> None:
    """Say below each figure of a notebook which notebook drew it, and at which revision."""
    from docutils import nodes

    if not page.startswith("notebooks/"):
        return
    recorded = ask_git("log", "-1", "--format=%h", "--", f"{page}.ipynb") or "unknown"
    for image in list(doctree.findall(nodes.image)):
        name = page.removeprefix("notebooks/") + ".ipynb"
        link = nodes.reference("", name, refuri=f"../_sources/{page}.ipynb", internal=True)
        words = nodes.Text("drawn by "), link, nodes.Text(f", revision {recorded}")
        source = nodes.paragraph("", "", *words, classes=["source"])
        image.parent.insert(image.parent.index(image) + 1, source)


def write_math(translator, node) -> None:
    """Write a formula as MathML."""
    from docutils import nodes
    from latex2mathml.converter import convert

    block = "block" if isinstance(node, nodes.math_block) else "inline"
    translator.body.append(convert(node.astext(), display=block))
    raise nodes.SkipNode


def setup(app) -> None:
    """Take part in the build."""
    app.connect("source-read", add_contents)
    app.connect("source-read", link_reports)
    app.connect("doctree-resolved", name_source)
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
