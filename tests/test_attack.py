import numpy as np
import pytest

from semisiam.attack import attack, choose_places


def test_one_pixel_of_each_image_changes_and_nothing_else():
    images = np.zeros((4, 4, 4, 3), np.uint8)
    labels = np.array([0, 1, 1, 0])
    places = np.array([[0, 3], [2, 1]])
    attacked = attack(images, labels, places)
    expected = np.zeros((4, 4, 4, 3), np.uint8)
    expected[[0, 3], 0, 3] = 255
    expected[[1, 2], 2, 1] = 255
    assert attacked.tolist() == expected.tolist()
    assert not images.any()


def test_a_value_other_than_white():
    attacked = attack(np.full((1, 2, 2, 3), 9, np.uint8), np.array([0]), np.array([[1, 0]]), 3)
    assert attacked[0, :, :, 0].tolist() == [[9, 9], [3, 9]]


def test_the_mark_does_not_depend_on_the_order_of_images():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 8, 8, 3), np.uint8), rng.integers(0, 3, 20)
    places, order = choose_places(3, 8, seed=1), rng.permutation(20)
    assert (
        attack(images, labels, places)[order] == attack(images[order], labels[order], places)
    ).all()


def test_places_differ_between_classes_and_repeat_with_the_seed():
    places = choose_places(16, 4, seed=3)
    assert sorted(map(tuple, places)) == [(r, c) for r in range(4) for c in range(4)]
    assert choose_places(10, 96, seed=3).tolist() == choose_places(10, 96, seed=3).tolist()
    assert choose_places(10, 96, seed=3).tolist() != choose_places(10, 96, seed=4).tolist()


def test_more_classes_than_pixels():
    with pytest.raises(ValueError, match="too few"):
        choose_places(5, 2, seed=0)
