"""Statistics whose answers can be worked out by hand or are in printed tables."""

import numpy as np
import pytest

from semisiam.evidence.statistics import (
    compare_paired,
    compare_summaries,
    correct_holm,
    interval,
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
    assert found["effect"] == pytest.approx(3 / np.sqrt(2.5))
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
