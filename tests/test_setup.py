"""pyproject.toml is the one source of dependencies; everything else must agree with it."""

import os
import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from semisiam import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ({"sys_platform": "linux", "os_name": "posix"}, {"sys_platform": "darwin"})
LOCK = (ROOT / "requirements.lock").read_text()


def locked():
    """Read the lock as (requirement, number of hashes)."""
    entries = re.split(r"\n(?=\S)", LOCK)
    return [
        (Requirement(entry.split("\\\n")[0].strip()), entry.count("--hash=sha256:"))
        for entry in entries
        if not entry.startswith("#")
    ]


def declared():
    project = PROJECT["project"]
    return [
        Requirement(line)
        for line in (
            *PROJECT["build-system"]["requires"],  # the project is built without isolation
            *project["dependencies"],
            *project["optional-dependencies"]["test"],
        )
    ]


def tracked_files():
    git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if git.returncode:
        pytest.skip("not a git checkout: there is no list of tracked files")
    return [ROOT / name for name in git.stdout.split("\0") if name]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS, ids=["linux", "macos"])
def test_lock_has_one_allowed_version_of_each(platform, python):
    target = {"python_version": python, "python_full_version": f"{python}.9", **platform}
    pins = {
        wanted: [
            pin.specifier
            for pin, _ in locked()
            if pin.name == wanted.name and (pin.marker is None or pin.marker.evaluate(target))
        ]
        for wanted in declared()
    }
    assert [str(wanted) for wanted, found in pins.items() if len(found) != 1] == []
    for wanted, ((version,),) in pins.items():
        assert version.operator == "=="
        assert wanted.specifier.contains(version.version), f"{wanted}: {version} is locked"


def test_every_entry_of_the_lock_has_a_hash():
    assert [str(pin) for pin, hashes in locked() if not hashes] == []


def test_lock_names_no_host_and_no_option():
    assert "//" not in LOCK
    assert re.findall(r"^-.*", LOCK, re.MULTILINE) == []


def test_pythons_agree():
    allowed = SpecifierSet(PROJECT["project"]["requires-python"])
    assert [v for v in ("3.10", *PYTHONS, "3.14") if v in allowed] == list(PYTHONS)
    makefile = (ROOT / "Makefile").read_text()
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in makefile
    assert "3.11, 3.12 or 3.13" in makefile
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert set(workflow["jobs"]["test"]["strategy"]["matrix"]["python"]) <= set(PYTHONS)


def test_environment_is_thin():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, from_pip = environment["dependencies"]
    assert python == f"python {PROJECT['project']['requires-python']}"
    assert pip == "pip"
    assert from_pip == {"pip": ["-e .[test]"]}  # a lock with hashes would refuse the project itself


def test_actions_are_pinned_to_commits():
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        used = re.findall(r"uses: (\S+)", path.read_text())
        assert used
        assert [name for name in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name)] == []


def test_the_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["project"]["version"]
    assert {"message", "title", "authors", "license"} <= set(citation)
    assert citation["references"][0]["doi"] == "10.1109/SIBGRAPI54419.2021.00038"
    assert citation["references"][0]["doi"] in (ROOT / "README.md").read_text("utf-8")


def test_ci_runs_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "make test"
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert {"run": "make test"} in workflow["jobs"]["test"]["steps"]


def test_a_failed_set_up_leaves_no_stamp(tmp_path):
    ready = tmp_path / "ready"
    ready.touch()
    os.utime(ready, (0, 0))
    command = ["make", "lint", f"READY={ready}", "PYTHON=no-such-python"]
    make = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert make.returncode != 0
    assert "no-such-python is not there" in make.stderr
    assert not ready.exists()


def test_tracked_files_name_no_machine():
    places = r"/(?:work|root|home|Users)/\w|\.pyenv|(?:pypi|pythonhosted|npmjs|debian)\.org"
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked_files()
        if path.is_file() and path.name != "test_setup.py"
        for match in re.finditer(places, path.read_text(errors="ignore"))
    ]
    assert found == []
