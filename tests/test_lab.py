"""JupyterLab opens every notebook in a real browser, runs one and saves it back to its pair."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import pairing
import pytest
from playwright.sync_api import expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
OFFLINE = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # all cells in the page
}
expect.set_options(timeout=60_000)  # ms
RUN = "02_pixel_attack"  # the notebook that is run in the browser; it has the widgets
STARTING, RUNNING = 60, 600  # s

pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason=f"no browser: install one of {', '.join(BROWSERS)}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Copy the notebooks; every `.py` looks older than its `.ipynb`, as a clone may leave them."""
    copy = tmp_path_factory.mktemp("lab") / "notebooks"
    shutil.copytree(pairing.NOTEBOOKS, copy)
    for source in copy.glob("*.py"):
        os.utime(source, (1e9, 1e9))
    return copy


@pytest.fixture(scope="module")
def lab(folder):
    """Start JupyterLab without the user's settings, on a port that it chooses; give its info."""
    config, runtime = folder.parent / "config", folder.parent / "runtime"
    (config / "labconfig").mkdir(parents=True)
    (config / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0"]
    command += ["--ip=127.0.0.1", f"--ServerApp.root_dir={folder.parent}"]
    places = {"JUPYTER_CONFIG_DIR": str(config), "JUPYTER_RUNTIME_DIR": str(runtime)}
    with (folder.parent / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | places, stdout=log, stderr=log)
    try:
        yield _wait_for(server, runtime)
    finally:
        server.terminate()
        server.wait(STARTING)


def _wait_for(server, runtime):
    for _ in range(STARTING * 5):
        assert server.poll() is None, "JupyterLab did not start: see lab.log"
        for info in runtime.glob("jpserver-*.json"):
            return json.loads(info.read_text())
        time.sleep(0.2)
    raise TimeoutError("JupyterLab did not start in time: see lab.log")


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=False, args=OFFLINE
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, lab):
    """Give a fresh page that is logged in; it must ask nothing of any other machine."""
    page = browser.new_page(viewport={"width": 1200, "height": 1600})
    page.set_default_timeout(60_000)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{lab['url']}lab?token={lab['token']}")
    yield page
    page.close()
    assert [
        url for url in asked if not re.match(r"(https?|ws)://127\.0\.0\.1|data:|blob:", url)
    ] == []


def open_notebook(page, lab, name):
    assert pairing.differences(name) == [], "run `make notebooks`"  # or Lab refuses to open it
    page.goto(f"{lab['url']}lab/tree/notebooks/{name}.ipynb?reset")
    cells = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell")
    expect(cells).to_have_count(len(pairing.source(name).cells))
    expect(page.locator(".jp-Dialog")).to_have_count(0)
    return cells


@pytest.mark.parametrize("name", pairing.names())
def test_lab_shows_a_notebook(page, lab, name, tmp_path):
    cells = open_notebook(page, lab, name)
    expect(cells.first.locator("h1")).to_be_visible()
    pictures = sum("image/png" in output.get("data", {}) for output in _outputs(name))
    expect(cells.locator(".jp-OutputArea-output img")).to_have_count(pictures)
    page.screenshot(path=tmp_path / f"{name}.png")


def test_lab_runs_drives_and_saves_a_notebook(page, lab, folder, tmp_path, monkeypatch):
    before = (folder / f"{RUN}.py").read_text()
    cells = open_notebook(page, lab, RUN)
    kernel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-ExecutionIndicator")
    expect(kernel).to_have_attribute("data-status", "idle")  # before that nothing is queued
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    code = [cell for cell in pairing.source(RUN).cells if cell.cell_type == "code"]
    # a cell whose source is hidden, as a solution's is, shows no number
    last = max(i for i, c in enumerate(code) if not c.metadata.get("jupyter", {}))
    cells_of_code = cells.and_(page.locator(".jp-CodeCell"))
    last_prompt = cells_of_code.nth(last).locator(".jp-InputPrompt")
    expect(last_prompt).to_have_text("[*]:")
    expect(last_prompt).not_to_have_text("[*]:", timeout=RUNNING * 1000)
    expect(kernel).to_have_attribute("data-status", "idle", timeout=RUNNING * 1000)
    drive_explorer(page, cells, tmp_path)
    page.screenshot(path=tmp_path / "run.png")
    for noise in ("error", "stderr"):
        shown = cells.locator(f"[data-mime-type='application/vnd.jupyter.{noise}']")
        assert shown.all_inner_texts() == []
    expect(last_prompt).to_have_text(f"[{last + 1}]:")
    page.keyboard.press("Control+s")
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)
    assert (folder / f"{RUN}.py").read_text() == before
    monkeypatch.setattr(pairing, "NOTEBOOKS", folder)
    assert pairing.differences(RUN) == []
    assert "formats" not in pairing.executed(RUN).metadata.get("jupytext", {})


def drive_explorer(page, cells, tmp_path):
    """Move the explorer's first slider one step; the picture must follow."""
    explorer = cells.locator(".widget-interact")
    picture = explorer.locator("img")
    expect(picture).to_have_count(1)
    shown = picture.get_attribute("src")
    explorer.locator(".noUi-handle").first.press("ArrowRight")
    expect(picture).not_to_have_attribute("src", shown)
    explorer.screenshot(path=tmp_path / "explorer.png")


def _outputs(name):
    cells = pairing.executed(name).cells
    return [output for cell in cells for output in cell.get("outputs", [])]
