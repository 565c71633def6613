"""The pages show what `outputs/published/` holds: tables to the letter, the figure to the pixel."""

import io
import json
import re

import findings
import matplotlib.pyplot as plt
import numpy as np
import pairing
import pandas as pd
import pytest
from made_up import write_cell

from semisiam import ROOT
from semisiam.cell import Cell, Study
from semisiam.evidence import results, statistics


@pytest.mark.parametrize("page", findings.PAGES, ids=lambda page: page.parent.name + page.stem)
def test_a_page_shows_the_recorded_numbers(page):
    assert findings.fill_in(page) == page.read_text("utf-8"), "run `make readme`"


def test_the_figure_shows_the_recorded_accuracies():
    drawn = io.BytesIO()
    findings.draw_headline().savefig(drawn, format="png", dpi=findings.DPI)
    ours, kept = plt.imread(io.BytesIO(drawn.getvalue())), plt.imread(findings.HEADLINE)
    assert ours.shape == kept.shape, "run `make readme`"
    differing = (np.abs(ours - kept) > 0.1).any(axis=-1).mean()
    assert differing < 1e-4, "run `make readme`"  # a dot that moved is more


@pytest.mark.parametrize(
    "path", sorted(findings.PUBLISHED.glob("*/cells.json")), ids=lambda p: p.parent.name
)
def test_what_is_recorded_was_run_by_code_of_these_results(path):
    runs = json.loads(path.read_text("utf-8"))
    assert [r["cell"] for r in runs if Cell.check(r["settings"]).hash != r["metrics"]["hash"]] == []


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.split()) <= 850
    assert len(text.splitlines()) <= 110


def test_the_readme_links_to_every_notebook_and_to_nothing_else():
    text = (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert {f"notebooks/{name}.ipynb" for name in pairing.names()} <= set(links)


def test_references_are_averaged_over_labelled_sets(monkeypatch):
    cells = pd.DataFrame({"dataset": ["fashion_mnist"] * 2 + ["malaria"] * 2})
    cells["accuracy"] = [0.77, 0.79, 0.58, 0.60]
    cells = cells.assign(attack="none", percent=1.0, backbone="pixels", test_split="random")
    cells = cells.assign(image_size=96, unlabelled_limit=0)
    untrained = cells.assign(backbone="mobilenet_v2", accuracy=cells["accuracy"] - 0.1)
    read = findings.read
    given = {"references": pd.concat([cells, untrained])}
    monkeypatch.setattr(findings, "read", lambda name: given.get(name, read(name)))
    _, answer, evidence, _ = findings.judge_pixels()
    assert "**78.0 ± 1.4 %** (Fashion-MNIST), **59.0 ± 1.4 %** (malaria)" in answer
    assert answer.endswith("68.0 ± 1.4, 49.0 ± 1.4")
    assert evidence.endswith("n = 2")
    assert findings.gather_headline()["no network: pixels"][1] == pytest.approx([77, 79])


def test_printed_differences_are_averaged_over_what_was_run():
    table = statistics.compare(findings.read("fashion_small"))
    printed = table["published"].xs(results.MEAN, level=("percent", "backbone"))
    # MobileNetV2 and ResNet50V2 at 1 % and 5 %, Tables III and IV
    expected = np.mean([69.6, 2.3, 39.1, 1.6]), np.mean([59.2, 2.2, 38.3, 3.9])
    found = [printed["gain", "fashion_mnist", attack] for attack in ("none", "pixel")]
    assert np.allclose(found, expected, atol=0.05)


def test_tasks_and_scenarios_are_told_with_their_checks(tmp_path, monkeypatch):
    (tmp_path / "references").symlink_to(findings.PUBLISHED / "references")
    monkeypatch.setattr(findings, "PUBLISHED", tmp_path)
    plus = {"rotation": 0.1, "barlow_twins": 0.05, "consistency": -0.02}  # over equal updates
    hit = {0: 0.1, 1: 0.0, 2: 0.0}  # what marks cost, by labelled set
    for study in ("fashion_gain", "scenarios"):
        cells = Study.load(ROOT / "params" / "studies" / f"{study}.yaml").cells()
        for name, cell in cells.items():
            if cell.split > 2 or cell.pretext == "none":
                continue
            metrics = {"n_classes": 10, "trigger": [{"flipped": 0.0}]}
            if cell.mode == "semi" and cell.pretext == "rotation":
                metrics["rotation_accuracy"] = {"training": 0.9, "test": 0.8}
            elif cell.pretext == "barlow_twins":  # 0.4 of the way: not learnt
                metrics["pretext_check"] = {"diagonal": 0.5, "off_diagonal": 0.1, "by_batch": True}
            elif cell.pretext == "consistency":
                metrics["pretext_check"] = {"confident": 0.6, "accuracy": 0.7}
            added = plus[cell.pretext] * (cell.mode == "semi")
            cost = hit[cell.split] * (cell.attack == "pixel")
            accuracy = 0.5 - cost + added * (1 + (cell.label_noise > 0))
            write_cell(tmp_path / study, accuracy, name=name, metrics=metrics, **cell.model_dump())
    _, answer, evidence, firm = findings.judge_tasks()
    assert answer.startswith("Barlow Twins (not learnt) +5.0 ")
    assert "rotation with one-pixel marks +10.0 " in answer
    assert "; rotation with 20 % wrong labels +20.0 " in answer and "; Barlow" not in answer
    assert evidence == "the same; n = 3 to 3 (3 planned), 28 tests"
    assert firm == "**shown**"  # no spread at all
    assert findings.compare_tasks()["mean"]["lost", "noise", "rotation"] == pytest.approx(-10)
    _, robust, *_, firm = findings.judge_robustness()
    told = "untested (marks cost its baseline +3.3 (−11.0 to +17.7) points)"
    assert robust.endswith(told)
    assert firm == "counted; ours untested"


def test_what_the_labelled_images_alone_would_do_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(findings, "PUBLISHED", tmp_path)
    values = {"rotation": 0.60, "equal-updates": 0.55, "rotation-labelled": 0.53}
    for study in ("fashion_gain", "labelled_task"):
        for name, cell in Study.load(ROOT / f"params/studies/{study}.yaml").cells().items():
            accuracy = next((v for k, v in values.items() if name.endswith(f"-{k}")), 0.4)
            accuracy += 0.02 * (cell.split - 2) * name.endswith("-labelled")
            metrics = {"trigger": [{"flipped": 0.0}]}
            write_cell(tmp_path / study, accuracy, name=name, metrics=metrics, **dict(cell))
    _, answer, evidence, firm = findings.judge_need()
    # over five sets the standard error is 2 · √2.5 / √5 = 1.414, and t is 2.776
    alone = "over the task on labelled images alone, which adds −2.0 (−5.9 to +1.9)"
    assert answer == f"Yes: **+7.0 (+3.1 to +10.9)** {alone}"
    assert (evidence, firm) == ("the same; n = 5", "**shown** where bold")


@pytest.mark.parametrize(
    "named, sets, answer",
    [
        (0.31, 3, "Not yet: 31 to 33 %"),
        (0.9, 3, "Yes: 90 to 92 %"),
        (0.31, 1, "Not yet: 31 %"),
    ],
)
def test_a_task_that_was_not_learnt_on_cells_is_told(named, sets, answer, tmp_path, monkeypatch):
    monkeypatch.setattr(findings, "PUBLISHED", tmp_path)
    cells = Study.load(ROOT / "params/studies/malaria_task.yaml").cells()
    for name, cell in cells.items():
        if cell.split < sets or (sets == 1 and cell.split == 1 and cell.mode == "semi"):
            right = named + 0.01 * cell.split * (sets > 1)
            metrics = {"rotation_accuracy": {"training": named, "test": right, "by_batch": True}}
            metrics = {} if cell.mode == "supervised" else metrics
            accuracy = 0.6 if cell.mode == "semi" else 0.75 + 0.05 * cell.split
            write_cell(
                tmp_path / "malaria_task", accuracy, name=name, metrics=metrics, **dict(cell)
            )
    # a set without its partner is left out; the standard error of −15, −20, −25 is 5 / √3
    added = {3: "−20.0 (−32.4 to −7.6)", 1: "−15.0"}[sets]
    told = findings.judge_cells()
    assert told[1].startswith(answer)
    assert "rising" not in told[1]  # the made-up history stays at a half
    assert told[1].endswith(f"; {added} points against equal updates")
    assert told[2].endswith(f"n = {sets}")


@pytest.mark.parametrize(
    "named, sets, answer, firm",
    [
        (0.9, 5, "**+5.0 ", "**shown** where bold"),
        (0.9, 2, "+5.0 ", "suggestive"),
        (0.3, 5, "+5.0 ", "untested"),
    ],
)
def test_a_gain_is_shown_by_a_learnt_task_over_both_its_controls(
    named, sets, answer, firm, tmp_path, monkeypatch
):
    (tmp_path / "references").symlink_to(findings.PUBLISHED / "references")
    monkeypatch.setattr(findings, "PUBLISHED", tmp_path)
    values = {"rotation": 0.60, "equal-updates": 0.55, "no-task": 0.50}
    for name, cell in Study.load(ROOT / "params/studies/fashion_gain.yaml").cells().items():
        control = name.split(f"-s{cell.split}-")[1]
        if control == "no-task" and cell.split >= sets:
            continue
        metrics = {"trigger": [{"flipped": 0.0}]}
        if control == "rotation":
            metrics["rotation_accuracy"] = {"training": named, "test": named, "by_batch": True}
        write_cell(
            tmp_path / "fashion_gain", values[control], name=name, metrics=metrics, **dict(cell)
        )
    told = findings.judge_gain()
    assert told[1].startswith(answer)
    assert told[3] == firm


@pytest.mark.parametrize("alone", [False, True])
def test_at_the_papers_size_equal_updates_are_told_once_they_were_run(alone, tmp_path, monkeypatch):
    for study in ("references", "audit_momentum"):
        (tmp_path / study).symlink_to(findings.PUBLISHED / study)
    monkeypatch.setattr(findings, "PUBLISHED", tmp_path)
    for name, cell in Study.load(ROOT / "params/studies/fashion_task.yaml").cells().items():
        metrics = {"n_updates": 9380}
        if cell.mode == "semi":
            metrics["rotation_accuracy"] = {"training": 0.9, "test": 0.8, "by_batch": True}
        if cell.pretext == "rotation" and (alone or cell.mode == "semi"):
            accuracy = 0.8 if cell.mode == "semi" else 0.7
            write_cell(
                tmp_path / "fashion_task", accuracy, name=name, metrics=metrics, **dict(cell)
            )
    _, answer, evidence, firm = findings.judge_size()
    told = "equal updates 70.0 (a ninth of them: 76.2)"
    told = told if alone else "labels alone 76.2 after a ninth of its updates"
    start = "80 % of rotations named. Siamese network 80.0 %; "
    assert answer.startswith(f"{start}{told}; raw pixels ")
    assert evidence.endswith("10 epochs (paper: 30); n = 1") and firm == "suggestive"
