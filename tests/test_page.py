"""A study's report: self-contained, complete, honest about what is missing."""

import json
import re
import shutil
import sys
from html.parser import HTMLParser

import findings
import pairing
import pandas as pd
import pytest
import yaml
from command import invoke
from made_up import write_cell
from PIL import Image

from semisiam import ROOT
from semisiam.cell import SettingsError, Study
from semisiam.evidence import page
from semisiam.evidence.page import write_report

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
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
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
    return study, home / "demo", Page(write_report(study, home / "demo", []))


def test_nothing_is_asked_for_from_anywhere(finished):
    _, _, page = finished
    assert not page.tags & {"link", "iframe", "object", "embed", "base", "video", "audio"}
    for reference in page.references:
        assert reference.startswith(("data:image/", "#", "report/")), reference[:80]
    without_images = re.sub(r"data:image/[^\"]+", "", page.source)
    for request in ("url(", "@import", "fetch(", "XMLHttpRequest", "http:", "https:", "import("):
        assert request not in without_images


def test_the_verdict_comes_first_then_a_figure_then_the_contents(finished):
    _, _, page = finished
    order = ("Is the siamese network better?", "<img", "Contents</h3>")
    places = [page.source.index(x) for x in order]
    assert places == sorted(places)
    links = [reference[1:] for reference in page.references if reference.startswith("#")]
    assert len(links) > 10
    assert set(links) <= page.anchors


def test_code_and_notes_for_readers_of_the_notebook_are_not_on_the_page(finished):
    _, _, page = finished
    assert "import " not in page.text
    assert "papermill" not in page.text
    assert "Two helpers" not in page.text


@pytest.mark.parametrize("name", ["study", page.OWN])
def test_a_page_has_no_formulas_for_it_cannot_set_them(name):
    cells = [cell for cell in pairing.source(name).cells if cell.cell_type == "markdown"]
    shown = [c for c in cells if page.SKIPPED not in c.metadata.get("tags", [])]
    assert [cell.source for cell in shown if "$" in cell.source] == []


def test_whatever_the_page_links_to_is_there(finished):
    _, folder, page = finished
    linked = [r for r in page.references if r.startswith("report/")]
    assert len(linked) > 20
    for reference in linked:
        assert (folder / reference).exists(), reference


def test_every_figure_is_kept_and_has_an_alternative_text(finished):
    _, folder, page = finished
    pictures = sorted((folder / "report").glob("*.svg"))
    assert len(pictures) == page.source.count("<img") >= 10
    for picture in pictures:
        assert min(Image.open(picture.with_suffix(".png")).size) > 100
    alts = re.findall(r'<img[^>]*alt="([^"]*)"', page.source)
    assert len(alts) == len(pictures)
    assert all(len(alt) > 10 and "No description" not in alt for alt in alts)


def test_the_numbers_are_those_of_the_cells(finished):
    _, folder, page = finished
    # supervised 60, 61, 62; semi 70, 72, 74: gains 10, 11, 12
    for number in ("61.0 ± 1.0 (3)", "72.0 ± 2.0 (3)", "+11.0 ± 1.0 (3)", "66.0 ± 1.0 (3)"):
        assert number in page.cells
    # t(0.975, 2) = 4.303, over sqrt(3): 2.48
    assert "+11.0 (+8.5 to +13.5)" in page.cells
    differences = pd.read_csv(folder / "report" / "differences-as_trained.csv", na_values=[])
    gains = differences[differences["what"] == "gain"]
    assert "<0.0001" in page.cells  # the attack costs 40 points in every labelled set
    assert gains["mean"].tolist() == pytest.approx([31.0, 11.0])
    accuracy = pd.read_csv(folder / "report" / "accuracy-digits-5pct.csv")
    assert accuracy["n"].tolist() == [3] * 12


def test_latex_is_a_table_with_its_signs_in_mathematics(finished):
    _, folder, _ = finished
    latex = (folder / "report" / "accuracy-digits-5pct.tex").read_text()
    assert r"61.0 $\pm$ 1.0 (3)" in latex
    assert r"\toprule" in latex
    assert not set("±−Δ†") & set(latex)


def test_what_a_reader_must_know_is_said(finished):
    _, _, page = finished
    assert "12 of 12 cells are done" in page.text
    assert "not whether the paper's claim holds" in page.text
    assert "every cell of the study is done" in page.text
    assert "published" not in page.cells  # the paper has nothing on digits
    assert "Digits <b>& dots</b>." in page.text
    assert "<b>& dots" not in page.source
    for shown in ("2.21.0", "Abacus", "1,000", "Notes: made up."):
        assert shown in page.text


def test_failed_missing_twice_and_foreign_cells_are_told(tmp_path):
    study, folder = load(tmp_path / "demo.yaml", STUDY), tmp_path / "demo"
    run(study, folder, collapsed=True)
    failed, half, missing = (f"digits-small_cnn-5pct-clean-semi-s{split}" for split in range(3))
    for name in (failed, missing):
        (folder / name / "done.json").unlink()
    (folder / half / "metrics.json").write_text('{"accuracy": 0.')
    write_cell(folder, 0.99, dataset="digits", mode="semi", split=7, name="stranger")
    undone = [[failed, "failed", "OutOfLuck: no"], [missing, "waiting", "not run"]]
    page = Page(write_report(study, folder, undone))
    assert "9 of 12 cells are done" in page.text
    assert "1 cells failed." in page.text
    assert f"{failed} failed OutOfLuck: no" in page.text
    assert f"{half} unread not done, or a file of it cannot be read" in page.text
    assert "stranger left out done, but not a cell of the study" in page.text
    assert "99.0" not in page.text
    assert "In 9 of 9 cells the embedding collapsed" in page.text
    assert "3 †" in page.cells
    assert "61.0 ± 1.0 (3)" not in page.cells  # collapsed, as trained
    assert "66.0 ± 1.0 (3)" in page.cells


def test_the_command_writes_the_page_and_fails_where_cells_are_missing(tmp_path):
    load(tmp_path / "demo.yaml", STUDY)
    arguments = ["report", str(tmp_path / "demo.yaml"), "--outputs", str(tmp_path)]
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "12 cells are not done" in result.output
    page = Page(tmp_path / "demo" / "report.html")
    assert "0 of 12 cells are done" in page.text
    assert page.text.count("not run") == 12


def test_a_mixture_of_scales_is_refused_in_one_message(tmp_path):
    settings = STUDY | {"rules": [{"when": {"split": 2}, "set": {"batch_size": 8}}]}
    study, folder = load(tmp_path / "mixed.yaml", settings), tmp_path / "mixed"
    run(study, folder)
    with pytest.raises(SettingsError, match=r"no report of mixed: .* batch_size"):
        write_report(study, folder, [])
    assert not (folder / "report.html").exists()


def test_variants_and_backbones_of_different_scale_have_tables_each(tmp_path):
    settings = {
        "base": {"dataset": "malaria", "label_fraction": 0.01, "image_size": 96},
        "axes": {
            "mode": ["supervised", "semi"],
            "backbone": ["resnet50_v2", "inception_v3"],
            "bn_momentum": [0.9, 0.99],
        },
        "rules": [{"when": {"backbone": "inception_v3"}, "set": {"image_size": 128}}],
    }
    study, folder = load(tmp_path / "sizes.yaml", settings), tmp_path / "sizes"
    run(study, folder)
    page = Page(write_report(study, folder, []))
    for value in ("0.9", "0.99"):
        assert f"bn_momentum = {value}" in page.text
        assert (folder / "report" / f"accuracy-malaria-1pct-bn_momentum___{value}.csv").exists()
    assert "mean of all" not in page.text  # 96 and 128 px are never averaged
    assert "92.3 ± 1.2" in page.cells  # published, InceptionV3
    assert "96 and 128 px a side" in page.text


def test_the_gains_of_a_recorded_study_have_room_for_their_legend(tmp_path, monkeypatch):
    kept = tmp_path / "published" / "fashion_small"
    shutil.copytree(findings.PUBLISHED / kept.name, kept)
    cells = json.loads((kept / "cells.json").read_text())
    few = [cell for cell in cells if "mobilenet_v2-1pct" in cell["cell"]]
    (kept / "cells.json").write_text(json.dumps(few))
    monkeypatch.setattr(findings, "PUBLISHED", kept.parent)
    page = Page(findings.report_recorded(kept.name, tmp_path / "site"))
    assert "Warning" not in page.text and str(tmp_path) not in page.source
    assert "+69.6" in page.cells  # a published gain stands beside, the fourth in the legend


def test_a_recorded_study_of_many_variants_has_no_warning_and_no_path(tmp_path, monkeypatch):
    """Its titles once held all that varies, so that figures had no room to be drawn."""
    kept = tmp_path / "published" / "audit_controls"
    shutil.copytree(findings.PUBLISHED / kept.name, kept)
    cells = json.loads((kept / "cells.json").read_text())
    kinds = ("-rotation", "-marked-semi", "-median", "-four-pixels")  # the whole takes minutes
    few = [cell for cell in cells if cell["cell"].endswith(kinds)]
    assert len(few) == 5 * 3  # `-median` is the end of `-marked-median`, too
    (kept / "cells.json").write_text(json.dumps(few))
    monkeypatch.setattr(findings, "PUBLISHED", kept.parent)
    page = Page(findings.report_recorded(kept.name, tmp_path / "site"))
    assert "Warning" not in page.text
    for path in (str(ROOT), sys.prefix, "site-packages", str(tmp_path), "/tmp/"):
        assert path not in page.source
    assert page.text.count("Does it cost the siamese network?") == 2
    assert "defence = median" in page.cells
    assert max(len(file.name) for file in (tmp_path / "site").rglob("*.csv")) < 100


def test_a_variant_has_its_own_check_and_its_own_reading(tmp_path):
    settings = {
        "base": {"dataset": "digits", "label_fraction": 0.05, "mode": "semi"},
        "axes": {"split": [0, 1, 2]},
        "variants": {"rotation": {}, "no-task": {"pretext": "none"}},
    }
    study, folder = load(tmp_path / "tasks.yaml", settings), tmp_path / "tasks"
    for name, cell in study.cells().items():
        again = (0.50, 0.58, 0.61)[cell.split]  # -10, -2, +1 points
        write_cell(folder, 0.6, again, name=name, **cell.model_dump())
    write_report(study, folder, [])
    kept = folder / "report"
    assert "pretext task, training" in (kept / "accuracy-digits-5pct.tex").read_text()
    assert "pretext task" not in (kept / "accuracy-digits-5pct-pretext___none.tex").read_text()
    readings = pd.read_csv(kept / "readings.csv", keep_default_na=False)
    assert readings["variant"].tolist() == ["", "pretext = none"]
    assert readings[["n", "lower"]].to_numpy().tolist() == [[3, 2]] * 2
    assert readings["mean"].tolist() == pytest.approx([-11 / 3] * 2)


def test_variants_stand_beside_the_first_with_their_own_checks(tmp_path):
    settings = {
        "base": {"dataset": "digits", "label_fraction": 0.05, "mode": "semi"},
        "axes": {"split": [0, 1, 2]},
        "variants": {
            "rotation": {},
            "updates": {"mode": "supervised", "equal_updates": True},
            "twins": {"pretext": "barlow_twins"},
            "patched": {"attack": "patch"},
        },
    }
    study, folder = load(tmp_path / "kinds.yaml", settings), tmp_path / "kinds"
    for name, cell in study.cells().items():
        accuracy = 0.5 + cell.split / 100 + (cell.mode == "supervised") * (2 + cell.split) / 100
        metrics = {"pretext_check": {"diagonal": 0.9, "off_diagonal": 0.8, "by_batch": True}}
        metrics = metrics if cell.pretext == "barlow_twins" else {}
        if cell.mode == "semi" and not metrics:
            metrics = {"rotation_accuracy": {"training": 0.9, "test": 0.8}}
        write_cell(folder, accuracy, name=name, metrics=metrics, **cell.model_dump())
    page = Page(write_report(study, folder, []))
    table = pd.read_csv(folder / "report" / "variants.csv", keep_default_na=False, index_col=0)
    assert table["variant"].tolist() == ["rotation", "updates", "twins", "patched"]
    same = "51.0 ± 1.0 (3)"
    assert table["accuracy"].tolist() == [same, "54.0 ± 2.0 (3)", same, same]
    checks = ["80 (chance 25)", "", "10 (chance 0)", "80 (chance 25)"]
    assert table["pretext task"].tolist() == checks
    # 2, 3, 4: mean 3, standard error 1 / sqrt(3), t(0.975, 2) = 4.303
    nothing = "0.0 (0.0 to 0.0)"
    assert table["minus rotation"].tolist() == ["", "+3.0 (+0.5 to +5.5)", nothing, nothing]
    assert table["strength"].tolist() == ["", "suggestive", "untested", ""]
    drawn = (folder / "report" / "accuracies-digits-5pct.svg").read_text("utf-8")
    assert "attack\xa0=\xa0patch" in drawn  # each row's text is a comment there
    assert "No labelled set has run in both modes" not in page.text


def test_variants_of_other_labelled_sets_are_not_paired(tmp_path):
    few, many = {"label_fraction": 0.05}, {"label_fraction": 0.1, "epochs": 9}
    settings = {"base": {"dataset": "digits", "epochs": 3}, "axes": {"split": [0, 1, 2]}}
    settings["variants"] = {"few": few, "many": many}
    study, folder = load(tmp_path / "two.yaml", settings), tmp_path / "two"
    for name, cell in study.cells().items():
        write_cell(folder, 0.5 + cell.label_fraction, name=name, **cell.model_dump())
    page = Page(write_report(study, folder, []))
    assert "few" in page.cells and "minus few" not in page.cells
    assert "Of all cells: dataset = digits." in page.text  # not epochs = 3


def test_one_variant_alone_is_no_reference(tmp_path):
    settings = {
        "base": {"dataset": "digits", "label_fraction": 0.05, "mode": "semi"},
        "axes": {"split": [0, 1]},
        "variants": {"alone": {"pretext_images": "labelled"}},
    }
    study, folder = load(tmp_path / "one.yaml", settings), tmp_path / "one"
    for name, cell in study.cells().items():
        write_cell(folder, 0.5, name=name, **cell.model_dump())
    page = Page(write_report(study, folder, []))
    # 50 % against the pixels that are recorded of these labelled sets
    assert "Is the siamese network better than no training (Pixels)?" in page.cells
    assert "Is the siamese network better?" not in page.cells
    assert "pretext_images = labelled" in page.text
    assert "Accuracy without any training" not in page.text
