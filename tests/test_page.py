"""The report page: self-contained, complete, honest about what is missing."""

import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
import yaml
from made_up import write_cell
from PIL import Image

from semisiam.cell import Study
from semisiam.evidence.report import write_report
from semisiam.evidence.results import MixtureError

STUDY = {
    "description": "Digits <b>& dots</b>.",
    "base": {"dataset": "digits", "label_fraction": 0.05},
    "axes": {"mode": ["supervised", "semi"], "attack": ["none", "pixel"], "split": [0, 1, 2]},
    "rules": [{"when": {"mode": "supervised"}, "set": {"epochs": 100}}],
}
ACCURACY = {
    ("supervised", "none"): 0.60,
    ("supervised", "pixel"): 0.20,
    ("semi", "none"): 0.70,
    ("semi", "pixel"): 0.50,
}


def load(path, settings):
    path.write_text(yaml.safe_dump(settings))
    return Study.load(path)


def run(study, folder, **metrics):
    """Write every cell of a study; accuracy grows by a point a split, semi's by two."""
    for name, cell in study.cells().items():
        accuracy = ACCURACY[cell.mode, cell.attack] + cell.split * (1 + (cell.mode == "semi")) / 100
        settings = cell.model_dump()
        write_cell(folder, accuracy, accuracy + 0.05, name=name, metrics=metrics, **settings)


class Page(HTMLParser):
    """What a page refers to, its anchors, its tables' cells and its text."""

    def __init__(self, path):
        super().__init__()
        self.references, self.anchors, self.cells, self.tags = [], set(), [], set()
        self.source = path.read_text("utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                self.references.append(value)
            if name == "id":
                self.anchors.add(value)

    def handle_data(self, data):
        self.cells.append(data.strip())

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.cells))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished study on digits and its page."""
    home = tmp_path_factory.mktemp("outputs")
    study = load(home / "demo.yaml", STUDY)
    run(study, home / "demo")
    return study, home / "demo", Page(write_report(study, home / "demo"))


def test_the_page_is_where_it_was_promised(finished):
    _, folder, _ = finished
    assert (folder / "report.html").is_file()


def test_nothing_is_asked_for_from_anywhere(finished):
    _, _, page = finished
    assert not page.tags & {"link", "iframe", "object", "embed", "base", "video", "audio"}
    for reference in page.references:
        assert reference.startswith(("data:image/", "#", "report/")), reference[:80]
    without_images = re.sub(r"data:image/[^\"]+", "", page.source)
    for request in ("url(", "@import", "fetch(", "XMLHttpRequest", "http:", "https:", "import("):
        assert request not in without_images


def test_contents_lead_to_every_section(finished):
    _, _, page = finished
    links = [reference for reference in page.references if reference.startswith("#")]
    assert len(links) == 12
    assert {link[1:] for link in links} <= page.anchors


def test_whatever_the_page_links_to_is_there(finished):
    _, folder, page = finished
    linked = [r for r in page.references if r.startswith("report/")]
    assert len(linked) > 20
    for reference in linked:
        assert (folder / reference).exists(), reference


def test_every_figure_is_there_as_svg_and_png_and_every_table_as_csv_and_latex(finished):
    _, folder, page = finished
    suffixes = {}
    for path in (folder / "report").iterdir():
        suffixes.setdefault(path.stem, set()).add(path.suffix)
        assert path.stat().st_size > 0
    assert all(
        {".svg", ".png"} <= found or {".csv", ".tex"} <= found for found in suffixes.values()
    )
    figures = [name for name, found in suffixes.items() if ".svg" in found]
    assert page.source.count("<img") == len(figures)
    # the method, times; for each attack accuracies, differences, a pair of losses and of t-SNE
    assert len(figures) == 2 + 2 + 2 + 4 + 4
    for name in figures:
        assert min(Image.open(folder / "report" / f"{name}.png").size) > 100


def test_the_numbers_are_those_of_the_cells(finished):
    _, folder, page = finished
    # supervised 60, 61, 62; semi 70, 72, 74: Δ 10, 11, 12
    for number in ("61.0 ± 1.0 (3)", "72.0 ± 2.0 (3)", "+11.0 ± 1.0 (3)", "66.0 ± 1.0 (3)"):
        assert number in page.cells
    # t(0.975, 2) = 4.303, over sqrt(3): 2.48
    assert "+8.5 to +13.5" in page.cells
    statistics = pd.read_csv(folder / "report" / "statistics-as_trained.csv")
    assert statistics.set_index("attack")["mean"].to_dict() == pytest.approx(
        {"none": 11.0, "pixel": 31.0}
    )
    accuracy = pd.read_csv(folder / "report" / "accuracy-digits-5pct.csv")
    assert len(accuracy) == 2 * 4
    assert accuracy["n"].tolist() == [3] * 8


def test_latex_is_a_table_with_its_signs_in_mathematics(finished):
    _, folder, _ = finished
    latex = (folder / "report" / "accuracy-digits-5pct.tex").read_text()
    assert r"61.0 $\pm$ 1.0 (3)" in latex
    assert r"\toprule" in latex
    assert not set("±−Δ†") & set(latex)


def test_digits_are_said_to_show_the_machinery_only(finished):
    _, _, page = finished
    assert "not whether the paper's claim holds" in page.text
    assert "says nothing about any of them" in page.text


def test_scale_versions_and_text_are_shown_and_escaped(finished):
    _, _, page = finished
    assert "Digits <b>& dots</b>." in page.text
    assert "<b>& dots" not in page.source
    for shown in ("2.21.0", "Abacus", "1,000", "10,000", "made up"):
        assert shown in page.text


def test_all_done_is_said(finished):
    _, _, page = finished
    assert "12 of 12 cells are done" in page.text
    assert "every cell of the study is done" in page.text
    assert "collapsed:" not in page.text


def test_the_same_cells_give_the_same_page(finished):
    study, folder, page = finished
    assert write_report(study, folder).read_text("utf-8") == page.source


def test_failed_missing_twice_and_foreign_cells_are_told(tmp_path):
    study, folder = load(tmp_path / "demo.yaml", STUDY), tmp_path / "demo"
    run(study, folder, collapsed=True)
    failed, half, missing = (f"digits-small_cnn-5pct-clean-semi-s{split}" for split in range(3))
    done = json.loads((folder / failed / "done.json").read_text())
    why = {"reason": "OutOfLuck: no", "seconds": 1, "hash": done["hash"]}
    (folder / failed / "failed.json").write_text(json.dumps(why))
    (folder / failed / "done.json").unlink()
    (folder / half / "metrics.json").write_text('{"accuracy": 0.')
    for path in (folder / missing).iterdir():
        path.unlink()
    write_cell(folder, 0.99, dataset="digits", mode="semi", split=7, name="stranger")
    page = Page(write_report(study, folder))
    assert "9 of 12 cells are done" in page.text
    assert "Failed cells: 1; cells not run: 2." in page.text
    assert f"{failed} failed OutOfLuck: no" in page.text
    assert f"{half} damaged done, but a file of it cannot be read" in page.text
    assert "stranger left out done, but not a cell of the study" in page.text
    assert "99.0" not in page.text
    assert "In 9 of 9 cells the embedding collapsed" in page.text
    assert "61.0 ± 1.0 (3) †" in page.text
    # no semi cell without attack is left: blank, and no Δ
    statistics = pd.read_csv(folder / "report" / "statistics-as_trained.csv")
    assert statistics["attack"].tolist() == ["pixel"]


def test_a_study_with_no_done_cell_has_a_page_that_says_so(tmp_path):
    study = load(tmp_path / "demo.yaml", STUDY)
    (tmp_path / "demo").mkdir()
    page = Page(write_report(study, tmp_path / "demo"))
    assert "0 of 12 cells are done" in page.text
    assert "Accuracy" not in page.text


def test_an_axis_outside_the_tables_makes_a_table_each(tmp_path):
    settings = STUDY | {"axes": {"mode": ["supervised", "semi"], "bn_momentum": [0.9, 0.99]}}
    study, folder = load(tmp_path / "audit.yaml", settings), tmp_path / "audit"
    run(study, folder)
    page = Page(write_report(study, folder))
    for value in ("0.9", "0.99"):
        assert f"bn_momentum = {value}" in page.text
        assert (folder / "report" / f"accuracy-digits-5pct-bn_momentum_{value}.csv").exists()
    assert "at least two splits" in page.text


def test_a_mixture_of_scales_is_refused(tmp_path):
    settings = STUDY | {"rules": [{"when": {"split": 2}, "set": {"batch_size": 8}}]}
    study, folder = load(tmp_path / "mixed.yaml", settings), tmp_path / "mixed"
    run(study, folder)
    with pytest.raises(MixtureError, match="batch_size"):
        write_report(study, folder)
    assert not (folder / "report.html").exists()


def test_backbones_of_different_scale_have_tables_but_no_common_mean(tmp_path):
    settings = {
        "base": {"dataset": "malaria", "label_fraction": 0.01, "image_size": 96},
        "axes": {"mode": ["supervised", "semi"], "backbone": ["resnet50_v2", "inception_v3"]},
        "rules": [{"when": {"backbone": "inception_v3"}, "set": {"image_size": 128}}],
    }
    study, folder = load(tmp_path / "sizes.yaml", settings), tmp_path / "sizes"
    run(study, folder)
    page = Page(write_report(study, folder))
    for what in ("No mean over backbones", "No ledger"):
        assert f"{what}: cells of different scale" in page.text
    assert "96 and 128 px a side" in page.text
    assert (folder / "report" / "accuracy-malaria-1pct.csv").exists()


def test_one_mode_alone_has_no_difference(tmp_path):
    settings = STUDY | {"axes": {"mode": ["semi"], "split": [0, 1]}, "rules": []}
    study, folder = load(tmp_path / "alone.yaml", settings), tmp_path / "alone"
    run(study, folder)
    page = Page(write_report(study, folder))
    assert "No split has run in both modes" in page.text
    assert "71.0 ± 1.4 (2)" in page.text


def test_the_papers_cells_get_a_ledger_and_its_tables(tmp_path):
    settings = {
        "base": {
            "dataset": "malaria",
            "backbone": "inception_v3",
            "label_fraction": 0.01,
            "image_size": 128,
        },
        "axes": STUDY["axes"] | {"split": [0, 1]},
    }
    study, folder = load(tmp_path / "malaria.yaml", settings), tmp_path / "malaria"
    run(study, folder)
    page = Page(write_report(study, folder))
    for shown in ("Table V)", "Table IX, one run)", "Figure 8)", "92.3 ± 1.2", "+32.1"):
        assert shown in page.text
    ledger = pd.read_csv(folder / "report" / "claims.csv").set_index("claim")
    assert ledger["run"].max() == 4
    assert "not enough runs: 1 of 1 above 0, 17 not run" in page.text
