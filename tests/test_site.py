"""The site's configuration lists every page; building it needs the extra `site` (`make site`)."""

import re
import runpy
import tomllib
from fnmatch import fnmatch

import findings
import pairing
import pytest
from packaging.requirements import Requirement

from semisiam import ROOT

CONF = runpy.run_path(str(ROOT / ".site" / "conf.py"))
LOCK = (ROOT / ".site" / "requirements.lock").read_text("utf-8")


def listed():
    blocks = re.findall(r"```\{toctree\}\n(.*?)```", CONF["CONTENTS"], re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line and line[0] != ":"]


def test_the_site_lists_every_notebook_and_page():
    pages = [str(page.relative_to(ROOT).with_suffix("")) for page in findings.PAGES]
    for page in [f"notebooks/{name}" for name in pairing.names()] + pages:
        assert page == CONF["root_doc"] or any(fnmatch(page, entry) for entry in listed()), page


@pytest.mark.parametrize("entry", listed())
def test_each_entry_is_a_page_that_is_read(entry):
    found = list(ROOT.glob(f"{entry}.ipynb")) + list(ROOT.glob(f"{entry}.md"))
    assert found
    for path in found:
        name = str(path.relative_to(ROOT))
        assert any(fnmatch(name, pattern) for pattern in CONF["include_patterns"]), name


def test_the_lock_has_an_allowed_version_of_each_and_hashes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    entries = [e for e in re.split(r"\n(?=\S)", LOCK) if not e.startswith("#")]
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "//" not in LOCK
    pins = {pin.name: pin for entry in entries if (pin := Requirement(entry.split("\\\n")[0]))}
    for wanted in map(Requirement, project["optional-dependencies"]["site"]):
        (version,) = pins[wanted.name].specifier
        assert wanted.specifier.contains(version.version)


def test_recorded_studies_are_linked_to_their_reports(tmp_path):
    (tmp_path / "reports" / "demo").mkdir(parents=True)
    (tmp_path / "reports" / "demo" / "report.html").touch()
    app = type("App", (), {"outdir": tmp_path})
    source = [(findings.PUBLISHED / "README.md").read_text("utf-8")]
    CONF["link_reports"](app, "outputs/published/README", source)
    assert source[0].count("../../reports/") == 1
    assert '<a href="../../reports/demo/report.html">report</a> |' in source[0]
