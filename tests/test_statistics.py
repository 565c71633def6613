"""Statistics whose answers can be worked out by hand or are in printed tables."""

import numpy as np
import pairing
import pandas as pd
import pytest
from made_up import write_cell

from semisiam.evidence import results
from semisiam.evidence.statistics import (
    compare,
    compare_controls,
    compare_modes,
    compare_paired,
    compare_summaries,
    correct_holm,
    interval,
    rate_strength,
    smallest_detectable,
)

T_975 = {2: 4.30265, 4: 2.77645, 8: 2.30600}  # Student's t, from any table


def test_paired_differences_of_one_to_five():
    # mean 3, variance 2.5, standard error sqrt(0.5), t = 3 / sqrt(0.5)
    found = compare_paired([1, 2, 3, 4, 5])
    assert found["n"] == 5
    assert found["mean"] == 3
    assert found["std"] == pytest.approx(np.sqrt(2.5))
    assert found["low"] == pytest.approx(3 - T_975[4] * np.sqrt(0.5), abs=1e-4)
    assert found["high"] == pytest.approx(3 + T_975[4] * np.sqrt(0.5), abs=1e-4)
    assert found["p"] == pytest.approx(0.0132, abs=1e-4)
    assert found["detectable"] == pytest.approx(1.68 * np.sqrt(2.5), abs=0.01)


def test_one_pair_has_a_mean_and_no_interval():
    found = compare_paired([7.0, np.nan])
    assert (found["n"], found["mean"]) == (1, 7.0)
    assert np.isnan([found["std"], found["low"], found["high"], found["p"]]).all()


def test_no_pair_has_nothing():
    assert compare_paired([])["n"] == 0
    assert np.isnan(compare_paired([])["mean"])


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (2.0, 0.0)])
def test_equal_differences_have_an_interval_of_one_number(value, p):
    found = compare_paired([value] * 3)
    assert (found["std"], found["low"], found["high"], found["p"]) == (0, value, value, p)


@pytest.mark.parametrize(("n", "deviations"), [(3, 3.26), (5, 1.68), (10, 1.00), (34, 0.495)])
def test_smallest_detectable_difference_equals_the_printed_tables(n, deviations):
    assert smallest_detectable(n) == pytest.approx(deviations, rel=0.01)


def test_difference_of_two_summaries_of_equal_spread():
    # equal variances and n = 5 each: 8 degrees of freedom, standard error 2 * sqrt(2 / 5)
    found = compare_summaries([1, -1], [70, 60], [2, 2], 5)
    reach = T_975[8] * 2 * np.sqrt(2 / 5)
    assert found["mean"] == 10
    assert (found["low"], found["high"]) == pytest.approx((10 - reach, 10 + reach), abs=1e-3)


def test_a_summary_without_spread_uses_the_other_ones_freedom():
    # the printed 10.0 ± 0.0 beside 69.2 ± 2.7: standard error 2.7 / sqrt(5), 4 degrees
    found = compare_summaries([1, -1], [69.2, 10.0], [2.7, 0.0], 5)
    assert found["high"] - found["mean"] == pytest.approx(T_975[4] * 2.7 / np.sqrt(5), abs=1e-3)


def test_no_spread_at_all():
    assert interval(3.0, 0.0, np.inf) == (3.0, 3.0, 0.0)


def test_holm_by_hand():
    # sorted 0.01, 0.03, 0.04: times 3, 2, 1 = 0.03, 0.06, 0.04, which may not fall again
    assert correct_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert correct_holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])


def test_holm_leaves_missing_tests_out_of_the_count():
    corrected = correct_holm([np.nan, 0.02, 0.04])
    assert np.isnan(corrected[0])
    assert corrected[1:] == pytest.approx([0.04, 0.04])


def estimate(low, high, n=5):
    return {"mean": (low + high) / 2, "low": low, "high": high, "n": n}


@pytest.mark.parametrize(
    ("estimates", "verdict"),
    [
        ([estimate(1, 3)], "supported"),
        ([estimate(1, 3), estimate(0.1, 9)], "supported"),
        ([estimate(-3, -1)], "contradicted"),
        ([estimate(1, 3), estimate(-3, -1, n=2)], "contradicted"),
        ([estimate(-1, 3)], "not established"),
        ([estimate(-1, 3, n=4)], "not enough runs"),
        ([estimate(np.nan, np.nan)], "not enough runs"),
        ([estimate(1, 3), estimate(np.nan, np.nan)], "not enough runs"),
        ([estimate(-3, -1), estimate(np.nan, np.nan)], "contradicted"),
    ],
)
def test_verdicts(estimates, verdict):
    assert pairing.functions("07_results").decide(estimates) == verdict


@pytest.mark.parametrize(
    ("n", "p", "learnt", "strength"),
    [
        (5, 0.01, True, "shown"),
        (3, 0.04, None, "shown"),
        (5, 0.01, False, "untested"),  # the task was not learnt
        (0, np.nan, True, "untested"),
        (2, 0.01, True, "suggestive"),
        (5, 0.20, True, "suggestive"),
        (1, np.nan, None, "suggestive"),
    ],
)
def test_strength(n, p, learnt, strength):
    assert rate_strength(n, p, learnt) == strength


BASE = {"dataset": "fashion_mnist", "backbone": "mobilenet_v2", "image_size": 96}
ROW = ("fashion_mnist", 1.0, "mobilenet_v2")
# supervised clean and attacked, semi clean and attacked, three splits
GRID = {
    ("supervised", "none"): (0.60, 0.62, 0.64),
    ("supervised", "pixel"): (0.50, 0.53, 0.56),
    ("semi", "none"): (0.70, 0.74, 0.78),
    ("semi", "pixel"): (0.50, 0.50, 0.56),
}


def write_grid(folder, grid=GRID, **settings):
    for (mode, attack), values in grid.items():
        for split, value in enumerate(values):
            cell = BASE | {"label_fraction": 0.01} | settings
            write_cell(folder, value, mode=mode, attack=attack, split=split, **cell)


def test_the_interaction_is_a_difference_of_its_own(tmp_path):
    write_grid(tmp_path)
    table = compare(results.collect(tmp_path))
    # costs: supervised 10, 9, 8; semi 20, 24, 22; the interaction 10, 15, 14
    row = table.loc[("interaction", *ROW, "")]
    assert (row["n"], row["mean"]) == (3, pytest.approx(13))
    assert row["std"] == pytest.approx(np.sqrt(7))  # (9 + 4 + 1) / 2
    assert row["low"] == pytest.approx(13 - T_975[2] * np.sqrt(7 / 3), abs=1e-3)
    assert row["p"] == pytest.approx(0.0136, abs=1e-4)  # t = 13 / sqrt(7/3) = 8.51, 2 degrees
    assert row["published"] == pytest.approx((79.6 - 69.2) - 0.0)
    assert table.loc[("cost", *ROW, "semi"), "mean"] == pytest.approx(22)
    assert table.loc[("gain", *ROW, "none"), "mean"] == pytest.approx(12)


def test_gains_costs_and_interactions_are_one_family(tmp_path):
    write_grid(tmp_path)
    table = compare(results.collect(tmp_path))
    assert list(dict.fromkeys(table.index.get_level_values("what"))) == [
        "gain",
        "cost",
        "interaction",
    ]
    assert len(table) == 2 + 2 + 1
    smallest = table.sort_values("p")
    assert smallest["p_holm"].iloc[0] == pytest.approx(5 * smallest["p"].iloc[0])
    second = max(5 * smallest["p"].iloc[0], 4 * smallest["p"].iloc[1])
    assert smallest["p_holm"].iloc[1] == pytest.approx(second)


def test_a_mean_stands_beside_backbones_and_is_of_the_family(tmp_path):
    write_grid(tmp_path)
    other = {("supervised", "none"): (0.5, 0.5, 0.5), ("semi", "none"): (0.54, 0.54, 0.54)}
    write_grid(tmp_path, other, backbone="resnet50_v2")
    table = compare(results.collect(tmp_path))
    mean = table.loc[("gain", "fashion_mnist", *results.MEAN, "none")]
    assert (mean["n"], mean["mean"]) == (3, pytest.approx(8))  # of 12 and 4
    assert mean["std"] == pytest.approx(1)  # 7, 8, 9
    assert mean["published"] == pytest.approx((69.6 + 2.3) / 2)
    assert len(table) == 5 + 1 + 1
    # the second backbone was not attacked, so there is nothing to average
    assert ("cost", "fashion_mnist", *results.MEAN, "semi") not in table.index


def test_a_collapsed_cell_is_in_no_mean_as_trained(tmp_path):
    write_grid(tmp_path)
    path = tmp_path / "fashion_mnist-mobilenet_v2-1pct-clean-supervised-s0" / "metrics.json"
    path.write_text(path.read_text().replace('"collapsed": false', '"collapsed": true'))
    cells = results.collect(tmp_path)
    table = results.summarise(cells).loc[(*ROW, "supervised", "none")]
    assert (table["n"], table["collapsed"]) == (2, 1)
    assert table["mean"] == pytest.approx(63)  # of 62 and 64
    assert compare(cells).loc[("gain", *ROW, "none"), "mean"] == pytest.approx(13)  # 12, 14
    again = compare(cells, "accuracy_recalibrated").loc[("gain", *ROW, "none")]
    assert (again["n"], again["mean"]) == (3, pytest.approx(12))


def test_a_backbone_that_collapsed_whole_leaves_no_mean_over_the_others(tmp_path):
    write_grid(tmp_path)
    for split in range(3):
        settings = BASE | {"backbone": "resnet50_v2", "label_fraction": 0.01, "split": split}
        write_cell(tmp_path, 0.1, mode="supervised", metrics={"collapsed": True}, **settings)
        write_cell(tmp_path, 0.5, mode="semi", **settings)
    table = compare(results.collect(tmp_path))
    assert table.loc[("gain", "fashion_mnist", *results.MEAN, "none"), "n"] == 0


def test_modes_are_paired_over_the_splits_both_have(tmp_path):
    write_grid(tmp_path, {("supervised", "none"): (0.6, 0.6), ("semi", "none"): (0.7, 0.8, 0.9)})
    row = compare_modes(results.collect(tmp_path)).loc[(*ROW, "none")]
    assert (row["n"], row["mean"]) == (2, pytest.approx(15))


def test_no_pair_at_all_gives_an_empty_comparison(tmp_path):
    write_grid(tmp_path, {("semi", "none"): (0.7,)})
    assert compare_modes(results.collect(tmp_path)).empty


def test_costs_tell_their_draws_of_places(tmp_path):
    write_grid(tmp_path)
    draws = compare(results.collect(tmp_path))["draws"]
    assert draws["gain", *ROW, "none"] == 0
    assert draws["cost", *ROW, "semi"] == draws["gain", *ROW, "pixel"] == 1


def test_controls_are_paired_over_splits(tmp_path):
    for control, values in {"rotation": (0.7, 0.8), "no-task": (0.6, 0.6)}.items():
        for split, value in enumerate(values):
            name = f"fashion_mnist-mobilenet_v2-1pct-clean-semi-s{split}-{control}"
            settings = {"mode": "semi", "label_fraction": 0.01, "split": split} | BASE
            trigger = {"trigger": [{"flipped": 0.1}, {"flipped": 0.3}]}
            write_cell(tmp_path, value, name=name, metrics=trigger, **settings)
    controls = results.read_controls(tmp_path)
    assert controls.loc[("rotation", 1), "as trained"] == pytest.approx(80)
    assert controls.loc[("rotation", 1), "trigger"] == pytest.approx(20)
    row = compare_controls(controls, [("rotation", "no-task")]).loc["rotation - no-task"]
    assert (row["n"], row["mean"]) == (2, pytest.approx(15))


def test_an_interaction_is_a_difference_of_two_differences():
    values = {"semi": [80, 70, 75], "semi, marked": [60, 40, 50]}
    values |= {"sup": [70, 60, 65], "sup, marked": [65, 60, 62.5]}
    controls = pd.DataFrame({"re-estimated": pd.DataFrame(values).unstack()})
    gains = ("semi", "sup"), ("semi, marked", "sup, marked")
    table = compare_controls(controls, [*gains, gains])
    # 10 each without marks; -5, -20 and -12.5 with them: the marks take 15, 30 and 22.5
    assert table["mean"].tolist() == [10, -12.5, 22.5]
    assert table["p_holm"].tolist() == pytest.approx(correct_holm(table["p"]))
    few = compare_controls(controls.drop(2, level=1), gains)  # two agree too easily
    assert few["p"].notna().all() and few["p_holm"].isna().all()
