import json

import numpy as np
import pytest

from semisiam.method.splits import (
    RecordedSplit,
    SplitError,
    _share_evenly,
    add_noise,
    check_recorded,
    count_labelled,
    describe_split,
    draw_labelled,
    read_split,
)


@pytest.mark.parametrize(
    ("fraction", "n_unlabelled", "n_labelled"),
    [
        (0.01, 13_779, 137),  # the paper's counts (IV)
        (0.05, 13_779, 685),
        (0.01, 100_000, 1_000),
        (0.05, 100_000, 5_000),
        (0.01, 60_000, 600),
        (0.05, 60_000, 3_000),
        (0.07, 1_050, 70),
        (0.015, 1_000, 15),
        (0.285, 200, 57),  # a float product a little below
        (0.5, 199, 99),  # the paper's rule would give 50, and 100 of all
        (1.0, 199, 199),
    ],
)
def test_counts_follow_the_paper(fraction, n_unlabelled, n_labelled):
    assert count_labelled(fraction, n_unlabelled) == n_labelled


def share(total, available):
    return _share_evenly(total, np.array(available), np.random.default_rng(0)).tolist()


def test_classes_share_as_evenly_as_counts_allow():
    assert share(6, [10, 10, 10]) == [2, 2, 2]
    assert sorted(share(7, [10, 10, 10])) == [2, 2, 3]
    assert share(9, [1, 10, 10]) == [1, 4, 4]
    assert sorted(share(137, [6_889, 6_890])) == [68, 69]
    assert share(6, [1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("total", "available", "message"),
    [
        (7, [3, 3], "only 6 images have a label"),
        (1, [3, 3], "no labelled example"),
        (2, [3, 0], "no labelled example"),
        (0, [3, 3], "no labelled example"),
    ],
)
def test_too_many_or_too_few_labels(total, available, message):
    with pytest.raises(SplitError, match=message):
        share(total, available)


def test_a_split_is_reproducible_stratified_and_differs_from_the_others():
    labels = np.arange(200) % 4
    splits = [draw_labelled(labels, 20, split=i, seed=7) for i in range(5)]
    again = draw_labelled(labels, 20, split=3, seed=7)
    assert again.tolist() == splits[3].tolist()
    assert len({tuple(s) for s in splits}) == 5
    for chosen in splits:
        assert np.bincount(labels[chosen]).tolist() == [5, 5, 5, 5]
        assert len(set(chosen)) == 20
    assert draw_labelled(labels, 20, split=3, seed=8).tolist() != splits[3].tolist()


def test_the_labelled_set_is_the_same_on_every_machine():
    chosen = draw_labelled(np.arange(12) % 3, 6, split=1, seed=0)
    assert chosen.tolist() == [2, 3, 4, 9, 10, 11]


def test_a_recorded_split_is_read_back(tmp_path):
    path = tmp_path / "split.json"
    places, rows = np.array([[0, 1], [2, 3]]), np.array([5, 6])
    drawn = RecordedSplit(np.array([4, 9]), places, np.array([255, 0]), rows, "abc")
    path.write_text(json.dumps(describe_split(drawn, split=2)))
    read = read_split(path, split=2)
    assert read.labelled.tolist() == [4, 9]
    assert read.places.tolist() == places.tolist()
    assert read.values.tolist() == [255, 0]
    assert read.test_rows.tolist() == [5, 6]
    check_recorded(read, content="abc", image_size=4)
    with pytest.raises(SplitError, match="recorded on other images"):
        check_recorded(read, content="abd", image_size=4)
    with pytest.raises(SplitError, match="pixel at 3 px, outside images of image_size = 3"):
        check_recorded(read, content="abc", image_size=3)
    with pytest.raises(SplitError, match="has splits 2, not 3"):
        read_split(path, split=3)
    with pytest.raises(SplitError, match="cannot be read"):
        read_split(tmp_path / "none.json", split=2)
    ragged = describe_split(drawn, split=2) | {"places": [[0, 1], [2]]}
    for content in (b"[]", b"\xff\xfe", json.dumps(ragged).encode()):
        path.write_bytes(content)
        with pytest.raises(SplitError, match="not a file of recorded splits"):
            read_split(path, split=2)


def test_a_whole_percent_of_fewer_than_a_hundred_images():
    assert [count_labelled(0.05, n) for n in (60, 99, 100, 150)] == [3, 4, 5, 5]


@pytest.mark.parametrize(
    ("n_classes", "share", "changed"), [(10, 0.2, 20), (2, 0.5, 50), (3, 0, 0)]
)
def test_noise_changes_exactly_the_share_and_never_to_the_true_class(n_classes, share, changed):
    labels = np.arange(100) % n_classes
    noisy = add_noise(labels, share, split=0, seed=0)
    assert (noisy != labels).sum() == changed
    assert set(noisy) <= set(range(n_classes))
    assert (labels == np.arange(100) % n_classes).all()  # not in place


def test_each_wrong_class_is_as_likely_and_a_larger_share_holds_the_smaller():
    labels = np.zeros(30_000, int)
    labels[-1] = 3
    most = add_noise(labels, 0.9, split=1, seed=2)
    wrong = np.bincount(most[(most != labels)], minlength=4)[1:]
    assert wrong == pytest.approx([9000, 9000, 9000], rel=0.05)
    few = add_noise(labels, 0.1, split=1, seed=2)
    assert (few != labels)[few != most].sum() == 0
    assert (add_noise(labels, 0.1, split=2, seed=2) != few).any()
