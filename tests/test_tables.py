"""Results as text, in the paper's layout."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from made_up import write_cell

from semisiam.evidence import results, tables

BASE = {"dataset": "fashion_mnist", "label_fraction": 0.01, "image_size": 96}


@pytest.fixture
def cells(tmp_path):
    for split, semi in enumerate((0.70, 0.75, 0.80)):
        base = BASE | {"backbone": "mobilenet_v2", "split": split}
        write_cell(
            tmp_path, 0.10, 0.68, mode="supervised", epochs=5, metrics={"collapsed": True}, **base
        )
        write_cell(tmp_path, semi, mode="semi", **base)
    write_cell(tmp_path, 0.60, mode="semi", backbone="resnet50_v2", **BASE)
    return results.collect(tmp_path)


def lay_out(cells, dataset, percent):
    """Without a word on the pretext task."""
    check = results.check_pretext(cells.iloc[:0], pd.DataFrame())
    return tables.lay_out(cells, dataset, percent, check)


def test_the_papers_layout(cells):
    table = lay_out(cells, "fashion_mnist", 1.0)
    assert list(table.columns) == [
        ("Supervised", "Pixel attack"),
        ("Supervised", "No attack"),
        ("Semi-supervised", "Pixel attack"),
        ("Semi-supervised", "No attack"),
        ("Δ", "Pixel attack"),
        ("Δ", "No attack"),
    ]
    assert list(table.loc["MobileNetV2"].index) == [
        "published",
        "as trained",
        "re-estimated",
        "better of both",
    ]
    rows = table.loc["MobileNetV2"].to_numpy().tolist()
    assert rows == [
        ["10.0 ± 0.0", "10.0 ± 0.0", "69.2 ± 2.7", "79.6 ± 1.9", "+59.2", "+69.6"],
        ["", "3 †", "", "75.0 ± 5.0 (3)", "", ""],
        ["", "68.0 ± 0.0 (3)", "", "75.0 ± 5.0 (3)", "", "+7.0 ± 5.0 (3)"],
        ["", "68.0 ± 0.0 (3)", "", "75.0 ± 5.0 (3)", "", "+7.0 ± 5.0 (3)"],
    ]


def test_the_check_stands_below(cells):
    index = [("fashion_mnist", 1.0, "mobilenet_v2", "none")]
    index = pd.MultiIndex.from_tuples(index, names=["dataset", "percent", "backbone", "attack"])
    check = pd.DataFrame({"test": [27.4], "training": [29.0]}, index)
    table = tables.lay_out(cells, "fashion_mnist", 1.0, check)
    texts = table.loc[("MobileNetV2", "pretext task, test")].tolist()
    assert texts == ["", "", "", "27", "", ""]


@pytest.mark.parametrize(
    ("rotation", "answer", "strength"),
    [(0.9, "yes", "shown"), (0.3, "the pretext task was not learnt", "untested")],
)
def test_a_verdict_needs_a_task_that_was_learnt(tmp_path, rotation, answer, strength):
    check = {"rotation_accuracy": {"training": 0.99, "test": rotation, "by_batch": True}}
    for split in range(5):  # gains of 10, 11, 12, 13, 14 points
        write_cell(tmp_path, 0.5, dataset="digits", mode="supervised", split=split)
        gained = 0.6 + split / 100
        write_cell(tmp_path, gained, dataset="digits", mode="semi", split=split, metrics=check)
    cells = results.collect(tmp_path)
    histories = results.read_details(tmp_path, cells["cell"], "history")
    (row,) = tables.give_verdicts(cells, histories).to_dict("records")
    assert row["question"] == "Is the siamese network better?"
    assert (row["answer"], row["strength"]) == (answer, strength)
    assert row["points"] == "+12.0 (+10.0 to +14.0)"  # 2.776 · √(2.5 / 5)
    assert (row["n"], row["draws"], row["over"]) == ("n = 5", "", "Small CNN, 5 %")


def test_a_clean_gain_does_not_rest_on_what_was_learnt_under_attack(tmp_path):
    for split, attack in product(range(3), ("none", "pixel")):
        of = {"split": split, "backbone": "small_cnn", "attack": attack, **BASE}
        write_cell(tmp_path, 0.5 + split / 100, mode="supervised", epochs=5, **of)
        check = {"training": 1.0, "test": 0.9 if attack == "none" else 0.4, "by_batch": True}
        write_cell(
            tmp_path, 0.6 + split / 90, mode="semi", metrics={"rotation_accuracy": check}, **of
        )
    cells = results.collect(tmp_path)
    verdicts = tables.give_verdicts(cells, pd.DataFrame()).set_index("question")["answer"]
    assert verdicts["Is the siamese network better?"] == "yes"
    assert verdicts["Is it better under attack?"] == "the pretext task was not learnt"


def test_a_combination_that_learnt_is_not_judged_by_one_that_did_not(tmp_path):
    for backbone, right, splits in (("small_cnn", 0.9, range(5)), ("mobilenet_v2", 0.3, range(3))):
        check = {"rotation_accuracy": {"training": right, "test": right}}
        for split in splits:  # the mean over both has three splits, so each is listed
            base = {"dataset": "digits", "backbone": backbone, "split": split}
            write_cell(tmp_path, 0.5, mode="supervised", **base)
            write_cell(tmp_path, 0.6 + split / 100, mode="semi", metrics=check, **base)
    cells = results.collect(tmp_path)
    histories = results.read_details(tmp_path, cells["cell"], "history")
    found = tables.give_verdicts(cells, histories).set_index("over")["answer"]
    assert found["Small CNN, 5 %"] == "yes"
    assert found["MobileNetV2, 5 %"] == "the pretext task was not learnt"


def test_a_network_that_loses_to_raw_pixels_is_told_so(tmp_path):
    check = {"rotation_accuracy": {"training": 0.9, "test": 0.9}}
    for split in range(3):  # 10 points below pixels, 20 above an untrained network, give or take 1
        base = {"dataset": "digits", "split": split}
        for mode, accuracy in (("supervised", 0.4), ("semi", 0.7)):
            for attack, cost in (("none", 0), ("pixel", 0.2 * (mode == "semi") - 0.1)):
                of = {"mode": mode, "attack": attack} | base
                metrics = check if mode == "semi" else {}
                write_cell(tmp_path, accuracy - cost, metrics=metrics, **of)
        of = {"mode": "frozen", "label_fraction": 0.05} | base
        write_cell(tmp_path, 0.8 + split / 100, backbone="pixels", name=f"p{split}", **of)
        write_cell(tmp_path, 0.5 - split / 100, backbone="small_cnn", name=f"u{split}", **of)
    cells = results.collect(tmp_path)
    trained = cells[cells["mode"] != "frozen"]
    free = results.find_references(trained, cells)
    histories = results.read_details(tmp_path, trained["cell"], "history")
    found = tables.give_verdicts(trained, histories, free).set_index("question")
    lost = found.loc["Is the siamese network better than no training (Pixels)?"]
    assert list(lost[["answer", "strength", "draws"]]) == ["no, worse", "shown", ""]
    assert lost["points"] == "−11.0 (−13.5 to −8.5)"  # t(0.975, 2) = 4.303, over √3: 2.48
    won = found.loc["Is the siamese network better than no training (Small CNN, untrained)?"]
    assert list(won[["answer", "points"]]) == ["yes", "+21.0 (+18.5 to +23.5)"]
    assert found.loc["Does the attack cost the supervised network?", "answer"] == "no, it helps"
    assert list(found.index).index("Is it better under attack?") == 3
    assert not any("no training" in q for q in tables.give_verdicts(trained, histories)["question"])


UNLEARNT = "the pretext task was not learnt"


@pytest.mark.parametrize(
    ("small", "mobile", "right", "told"),
    [
        ((10, 11, 12), (-30, 5, 10), 0.9, {"mean of all": "unclear", "Small CNN, 5 %": "yes"}),
        (
            (40, 41, 42),
            (-10, -11, -12),
            0.9,
            {"mean of all": "yes", "MobileNetV2, 5 %": "no, worse"},
        ),
        (
            (40, 41, 42),
            (10, 11, 12),
            0.3,
            {"mean of all": UNLEARNT, "Small CNN, 5 %": "yes", "MobileNetV2, 5 %": UNLEARNT},
        ),
    ],
)
def test_a_mean_hides_no_firm_combination(tmp_path, small, mobile, right, told):
    of = {"small_cnn": (small, 0.9), "mobilenet_v2": (mobile, right)}
    for backbone, (gains, named) in of.items():
        check = {"rotation_accuracy": {"training": named, "test": named, "by_batch": True}}
        for split, gain in enumerate(gains):
            base = {"dataset": "digits", "split": split, "backbone": backbone}
            write_cell(tmp_path, 0.5, mode="supervised", **base)
            write_cell(tmp_path, 0.5 + gain / 100, mode="semi", metrics=check, **base)
    cells = results.collect(tmp_path)
    histories = results.read_details(tmp_path, cells["cell"], "history")
    found = tables.give_verdicts(cells, histories).set_index("over")["answer"]
    assert found.to_dict() == told


def test_an_answer_that_does_not_outlast_the_correction_is_a_perhaps(tmp_path):
    check = {"rotation_accuracy": {"training": 0.99, "test": 0.9}}
    for split, gain in enumerate((0.08, 0.12, 0.16)):  # p = 0.035, times 3 of 5 tests: 0.106
        base = {"dataset": "digits", "split": split}
        for attack, loss in (("none", 0), ("pixel", 0.1)):  # of the siamese network alone
            write_cell(tmp_path, 0.5, mode="supervised", attack=attack, **base)
            semi = {"mode": "semi", "attack": attack, "metrics": check}
            write_cell(tmp_path, 0.5 + gain - loss, **semi, **base)
    cells = results.collect(tmp_path)
    histories = results.read_details(tmp_path, cells["cell"], "history")
    found = tables.give_verdicts(cells, histories).set_index("question")
    answers = found[["answer", "strength"]].agg(", ".join, axis=1)
    assert answers["Is the siamese network better?"] == "perhaps yes, suggestive"
    assert answers["Does it cost the siamese one more?"] == "yes, shown"
    assert answers["Does the attack cost the supervised network?"] == "unclear, "


def test_one_split_has_no_spread_and_what_was_not_run_is_blank(cells):
    trained = lay_out(cells, "fashion_mnist", 1.0).loc["ResNet50V2"].loc["as trained"]
    assert trained.tolist() == ["", "", "", "60.0 (1)", "", ""]


def test_a_data_set_outside_the_paper_has_no_published_line(tmp_path):
    write_cell(tmp_path, 0.5, dataset="digits", mode="semi")
    table = lay_out(results.collect(tmp_path), "digits", 5.0)
    lines = ["as trained", "re-estimated", "better of both"]
    assert table.index.tolist() == [("Small CNN", line) for line in lines]


@pytest.mark.parametrize(
    ("value", "text"), [(1.44, "+1.4"), (-0.1, "−0.1"), (-0.04, "0.0"), (0, "0.0"), (np.nan, "")]
)
def test_signs(value, text):
    assert tables.write_signed(value) == text


def test_classes_beside_the_published(tmp_path):
    key = ("malaria", 1.0, "inception_v3", "none")
    base = {"dataset": "malaria", "label_fraction": 0.01, "backbone": "inception_v3"}
    home = write_cell(tmp_path, 0.62, mode="supervised", image_size=128, **base)
    report = (home / "report.csv").read_text().replace("cat", "Parasitized")
    (home / "report.csv").write_text(report.replace("dog", "Uninfected"))
    cells = results.collect(tmp_path)
    classes = results.average_classes(
        cells, results.read_details(tmp_path, cells["cell"], "report")
    )
    table = tables.lay_out_classes(cells, classes, key)["Supervised"]
    assert table.loc["Parasitized"].tolist() == ["0.70", "0.80", "0.75", "0.75", "0.37", "0.49"]
    assert table.loc["mean ± std"].tolist() == [
        "0.70 ± 0",
        "0.70 ± 0.14",
        "0.70 ± 0.07",
        "0.66 ± 0.12",
        "0.62 ± 0.35",
        "0.59 ± 0.14",
    ]
    assert table.loc["accuracy"].tolist() == ["0.620", "", "", "0.624", "", ""]


def test_the_scale_in_a_line(cells):
    assert tables.describe_scale(cells) == (
        "96 px a side, N_u = 1,000, N_l = 10, 20 test images, "
        "epochs 5 (supervised) and 3 (semi), on Abacus, 2 cores"
    )
