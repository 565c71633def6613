"""The printed numbers: all there, as printed, and which of them do not add up."""

import numpy as np
import pytest

from semisiam.evidence.paper import read_printed
from semisiam.evidence.statistics import weigh_deltas

ROW = ["dataset", "percent", "backbone"]


def test_every_number_of_tables_one_to_six_is_there():
    accuracy, delta = read_printed("accuracy"), read_printed("delta")
    assert len(accuracy) == 6 * 3 * 2 * 2
    assert not accuracy.duplicated([*ROW, "mode", "attack"]).any()
    assert len(delta) == 6 * 3 * 2
    assert not delta.duplicated([*ROW, "attack"]).any()
    assert not accuracy.isna().any(axis=None)
    assert accuracy["mean"].between(10, 94.4).all()
    tables = accuracy.groupby("table")[["dataset", "percent"]].first().apply(tuple, axis=1)
    assert tables.to_dict() == {
        "I": ("stl10", 1),
        "II": ("stl10", 5),
        "III": ("fashion_mnist", 1),
        "IV": ("fashion_mnist", 5),
        "V": ("malaria", 1),
        "VI": ("malaria", 5),
    }


@pytest.mark.parametrize(
    ("cell", "mean", "std"),
    [
        (("stl10", 1, "mobilenet_v2", "semi", "pixel"), 31.9, 2.7),
        (("stl10", 1, "resnet50_v2", "supervised", "none"), 34.8, 1.3),
        (("stl10", 5, "inception_v3", "semi", "none"), 65.6, 3.0),
        (("fashion_mnist", 1, "resnet50_v2", "semi", "none"), 79.3, 5.7),
        (("fashion_mnist", 5, "mobilenet_v2", "supervised", "pixel"), 36.2, 8.5),
        (("malaria", 1, "inception_v3", "supervised", "none"), 60.2, 9.0),
        (("malaria", 5, "resnet50_v2", "supervised", "pixel"), 83.2, 15.0),
    ],
)
def test_spot_values(cell, mean, std):
    printed = read_printed("accuracy").set_index([*ROW, "mode", "attack"]).loc[cell]
    assert (printed["mean"], printed["std"]) == (mean, std)


def test_every_delta_is_the_difference_of_its_means():
    compared = weigh_deltas()  # not one is even off by the last digit: there are no exceptions
    assert (compared["difference"] == compared["delta"]).all()


def test_a_delta_that_disagrees_would_be_noticed(monkeypatch):
    wrong = read_printed("delta").assign(delta=lambda t: t["delta"].mask(t.index == 3, 9.9))
    original = read_printed

    def misprint(name):
        return wrong if name == "delta" else original(name)

    monkeypatch.setattr("semisiam.evidence.statistics.read_printed", misprint)
    assert weigh_deltas()["agrees"].sum() == 35


def test_chance_is_printed_without_spread_in_eight_numbers():
    printed = read_printed("accuracy")
    exact = printed[printed["std"] == 0]
    assert len(exact) == 8
    assert set(exact["backbone"]) == {"mobilenet_v2"}
    assert set(exact["mode"]) == {"supervised"}
    assert set(exact["mean"]) == {10.0, 49.9}


def test_mean_gains_with_and_without_mobilenet():
    delta = read_printed("delta")
    others = delta[delta["backbone"] != "mobilenet_v2"]
    assert delta.groupby("attack")["delta"].mean().round(2).to_dict() == {
        "none": 18.64,
        "pixel": 7.96,
    }
    assert others.groupby("attack")["delta"].mean().round(2).to_dict() == {
        "none": 8.29,
        "pixel": -0.11,
    }


def test_weighing_a_delta_by_hand():
    # Table V, InceptionV3, no attack: +32.1 from 60.2 ± 9.0 and 92.3 ± 1.2, five runs each
    row = weigh_deltas().set_index([*ROW, "attack"]).loc[("malaria", 1, "inception_v3", "none")]
    error = np.sqrt((9.0**2 + 1.2**2) / 5)
    assert (row["high"] - row["low"]) / 2 == pytest.approx(2.739 * error, rel=0.01)
    assert row["p"] < 0.01


def test_every_class_row_is_there():
    classes = read_printed("classwise")
    assert classes.groupby("table").size().to_dict() == {"IX": 8, "VII": 24, "VIII": 24, "X": 8}
    assert len(read_printed("classwise_accuracy")) == 8


@pytest.mark.parametrize(
    ("table", "mode", "name", "scores"),
    [
        ("VII", "supervised", "cat", (0.44, 0.47, 0.46)),
        ("VII", "semi", "truck", (0.73, 0.75, 0.74)),
        ("VIII", "supervised", "horse", (0.54, 0.68, 0.61)),
        ("VIII", "semi", "deer", (0.30, 0.32, 0.31)),
        ("IX", "supervised", "parasitized", (0.75, 0.37, 0.49)),
        ("X", "semi", "std", (0.007, 0.09, 0.04)),
    ],
)
def test_spot_class_rows(table, mode, name, scores):
    classes = read_printed("classwise").set_index(["table", "mode", "class"])
    assert tuple(classes.loc[(table, mode, name), ["precision", "recall", "f1"]]) == scores


def test_f1_is_the_harmonic_mean_but_for_rounding():
    rows = read_printed("classwise").query("`class` not in ['mean', 'std']")
    p, r = rows["precision"], rows["recall"]
    assert ((2 * p * r / (p + r)) - rows["f1"]).abs().max() < 0.0105


def test_printed_spreads_are_sample_ones_cut_off_not_rounded():
    rows = read_printed("classwise").melt(["table", "mode", "class"], ["precision", "recall", "f1"])
    printed = rows[rows["class"].isin(["mean", "std"])]
    printed = printed.pivot(index=["table", "mode", "variable"], columns="class", values="value")
    rows = rows[~rows["class"].isin(["mean", "std"])].groupby(["table", "mode", "variable"])
    computed = rows["value"].agg(["mean", "std"])  # the sample one
    assert len(computed) == len(printed) == 24
    digits = np.where(printed["std"] == 0.007, 1000, 100)  # one is printed with three decimals
    cut = np.floor((computed["std"] * digits).round(6)) / digits
    assert (cut == printed["std"]).all()
    assert (np.floor((computed["mean"] * 100).round(6)) / 100 == printed["mean"]).all()


def test_mean_recall_of_balanced_test_sets_equals_the_accuracy():
    # so it does, to rounding, in the rows; Table VII (supervised) prints 0.62 beside 0.631
    rows = read_printed("classwise").query("`class` not in ['mean', 'std']")
    recall = rows.groupby(["table", "mode"])["recall"].mean()
    accuracy = read_printed("classwise_accuracy").set_index(["table", "mode"])["accuracy"]
    assert (recall - accuracy).abs().max() <= 0.0075


def test_the_class_tables_are_of_one_run_near_the_mean():
    keys = [*ROW, "mode", "attack"]
    one = read_printed("classwise_accuracy").set_index(keys)["accuracy"] * 100
    of_five = read_printed("accuracy").set_index(keys)
    both = of_five.join(one, how="inner")
    assert ((both["accuracy"] - both["mean"]).abs() <= 2 * both["std"]).all()
    assert (both["accuracy"] != both["mean"]).all()
