import numpy as np
import pytest

from semisiam.data.draws import draw_stratified, halve_patients, hold_out
from semisiam.data.files import DataError


def test_a_draw_keeps_the_shares_of_the_classes():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    drawn = draw_stratified(labels, 20, seed=0)
    assert np.bincount(labels[drawn]).tolist() == [12, 6, 2]
    assert len(set(drawn)) == 20 and (np.diff(drawn) > 0).all()


def test_a_draw_that_does_not_divide_gives_the_rest_to_the_largest_remainders():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    assert np.bincount(labels[draw_stratified(labels, 7, seed=0)]).tolist() == [4, 2, 1]


def test_a_rare_class_keeps_one_image():
    labels = np.repeat([0, 1, 2], [97, 1, 2])
    assert np.bincount(labels[draw_stratified(labels, 5, seed=0)]).tolist() == [3, 1, 1]


def test_all_images_without_labels_are_one_class():
    drawn = draw_stratified(np.full(50, -1), 20, seed=0)
    assert len(set(drawn)) == 20


def test_draws_follow_the_seed():
    labels = np.arange(100) % 4
    first = draw_stratified(labels, 40, seed=1)
    assert (first == draw_stratified(labels, 40, seed=1)).all()
    assert (first != draw_stratified(labels, 40, seed=2)).any()


def test_holding_out_half_of_an_odd_number():
    is_test = hold_out(np.arange(27) % 3, 1 / 2, seed=0)
    assert is_test.sum() == 14  # 13.5 is rounded to even


def test_holding_out_leaves_every_class_on_both_sides():
    labels = np.repeat(np.arange(10), 2)
    is_test = hold_out(labels, 1 / 3, seed=0)
    assert set(labels[is_test]) == set(labels[~is_test]) == set(range(10))


def test_a_class_of_one_image_cannot_be_held_out():
    with pytest.raises(DataError, match="a single image"):
        hold_out(np.array([0, 0, 1]), 1 / 2, seed=0)


def test_patients_stay_together_and_halves_are_even():
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 40, 2000).astype(str)
    labels = rng.integers(0, 2, 2000)
    is_test = halve_patients(patients, labels, seed=0)
    assert not set(patients[is_test]) & set(patients[~is_test])
    assert 900 < is_test.sum() < 1100
    assert 450 < (is_test & (labels == 1)).sum() < 550
    assert (is_test != halve_patients(patients, labels, seed=1)).any()
