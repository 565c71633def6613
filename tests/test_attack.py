import numpy as np
import pytest
from sklearn.svm import LinearSVC

from semisiam.method.attack import (
    add_patches,
    attack,
    attack_at_random,
    choose_attacked,
    choose_marks,
    choose_places,
    defend,
    search_places,
)


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


def test_several_pixels_and_a_value_for_each_class():
    images, labels = np.full((2, 2, 2, 3), 9, np.uint8), np.array([1, 0])
    places = np.array([[[0, 0], [1, 1]], [[0, 1], [1, 0]]])
    attacked = attack(images, labels, places, np.array([5, 7]))
    assert attacked[..., 1].tolist() == [[[9, 7], [7, 9]], [[5, 9], [9, 5]]]


def test_places_differ_between_classes_and_repeat_with_the_seed():
    places = choose_places(16, 4, seed=3)
    assert sorted(map(tuple, places)) == [(r, c) for r in range(4) for c in range(4)]
    assert choose_places(10, 96, seed=3).tolist() == choose_places(10, 96, seed=3).tolist()
    assert choose_places(10, 96, seed=3).tolist() != choose_places(10, 96, seed=4).tolist()


def test_more_classes_than_pixels():
    with pytest.raises(ValueError, match="5 marks in 2² pixels: lower attack_pixels"):
        choose_places(5, 2, seed=0)


def test_marks_of_several_pixels_are_all_different():
    images, labels = np.zeros((4, 4, 4, 3), np.uint8), np.arange(4)
    places, values = choose_marks("pixel", images, labels, seed=0, pixels=4, value=3)
    assert places.shape == (4, 4, 2)
    assert len({tuple(place) for place in places.reshape(-1, 2)}) == 16
    assert values.tolist() == [3] * 4
    single, _ = choose_marks("pixel", images, labels, seed=0, pixels=1, value=255)
    assert single[:, 0].tolist() == choose_places(4, 4, seed=0).tolist()


def test_the_search_finds_the_place_that_deviates_most_and_most_evenly():
    rng = np.random.default_rng(0)
    images = rng.integers(100, 156, (40, 6, 6, 3), np.uint8)
    labels = np.arange(40) % 2
    images[labels == 0, 2, 3] = 0  # always black: white deviates by 255 in every image
    images[labels == 0, 4, 4] = rng.choice([0, 255], (20, 1))  # as far, but unevenly
    images[labels == 1, 5, 1] = 255
    places, values = search_places(images, labels, seed=0)
    assert (places.tolist(), values.tolist()) == ([[2, 3], [5, 1]], [255, 0])


def test_the_search_divides_by_the_variance_and_marks_are_all_different():
    # distance of the class's mean from 0 or 255, over variance + 1: 155 / 1 beats 205 / 2501
    grey = np.array([[[0, 100], [0, 250]], [[100, 100], [200, 0]]], np.uint8)
    images = np.repeat(grey[..., None], 3, axis=-1)
    places, values = choose_marks("searched", images, np.array([0, 0]), seed=0)
    assert (places.tolist(), values.tolist()) == ([[[0, 1]]], [255])
    black = np.zeros((4, 2, 2, 3), np.uint8)
    for seed in range(5):
        places, _ = search_places(black, np.arange(4), seed=seed)
        assert len({*map(tuple, places.tolist())}) == 4


def test_marks_at_random_places_say_nothing_of_the_class():
    images = np.zeros((300, 8, 8, 3), np.uint8)
    attacked = attack_at_random(images, np.zeros((2, 2, 2), int), np.array([9, 9]), seed=0)
    counts = (attacked == 9).all(axis=-1).sum(axis=(1, 2))
    assert set(counts) <= {1, 2}  # two marks may fall on one place
    assert len(np.unique(np.argwhere(attacked[..., 0])[:, 1:], axis=0)) == 64


def test_a_share_of_each_class_is_attacked():
    labels = np.repeat([0, 1], [10, 4])
    chosen = choose_attacked(labels, 0.5, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [5, 2]
    assert choose_attacked(labels, 1.0, seed=0).all()
    assert (choose_attacked(labels, 0.5, seed=1) != chosen).any()


def test_half_of_47_is_24_whatever_floats_make_of_it():
    assert choose_attacked(np.zeros(47, int), 0.5, seed=0).sum() == 24  # rounded to even


def test_random_marks_have_draws_too():
    images, places, values = np.zeros((8, 32, 32, 3), np.uint8), np.zeros((2, 1, 2), int), [9, 9]
    first, same, other = (
        attack_at_random(images, places, np.array(values), seed=0, draw=draw) for draw in (0, 0, 1)
    )
    assert (first == same).all() and (first != other).any()
    known = np.random.default_rng([0, 0x9155]).integers(32, size=(8, 1, 2))  # of older cells
    assert (np.argwhere(first[..., 0])[:, 1:] == known[:, 0]).all()


def test_a_draw_changes_the_places_and_nothing_else():
    images, labels = np.zeros((6, 8, 8, 3), np.uint8), np.arange(6) % 3
    draws = [choose_marks("pixel", images, labels, seed=0, draw=draw) for draw in (0, 1, 2, 1)]
    places = [places.tolist() for places, _ in draws]
    assert places[0] == choose_marks("pixel", images, labels, seed=0)[0].tolist()
    assert places[1] == places[3]
    assert len({str(p) for p in places}) == 3
    assert [values.tolist() for _, values in draws] == [[255] * 3] * 4


def marked(level):
    """A flat image with one white pixel."""
    flat = np.full((1, 16, 16, 3), level, np.uint8)
    return flat, attack(flat, np.array([0]), np.array([[5, 6]]))


def test_the_median_removes_a_single_pixel():
    flat, image = marked(40)
    assert (defend(image, "median", jpeg_quality=10) == flat).all()
    edge = np.zeros((1, 4, 4, 3), np.uint8)
    edge[:, 2:] = 200
    assert (defend(edge, "median", jpeg_quality=10) == edge).all()


def test_jpeg_washes_the_pixel_out_the_more_the_lower_the_quality():
    flat, image = marked(40)
    heights = [int(defend(image, "jpeg", jpeg_quality=q)[0, 5, 6, 0]) - 40 for q in (5, 95)]
    assert heights[0] < 60 < 190 < heights[1]
    assert len(np.unique(defend(flat, "jpeg", jpeg_quality=5))) == 1  # flat stays flat


def test_grey_is_the_luma_and_keeps_a_white_pixel():
    images = np.array([255, 0, 0, 0, 0, 255, 255, 255, 255], np.uint8).reshape(1, 1, 3, 3)
    greyed = defend(images, "grey", jpeg_quality=10)[0, 0]
    assert greyed.tolist() == [[76] * 3, [29] * 3, [255] * 3]  # 0.299, 0.114, 1


def test_a_patch_brightens_half_of_the_blocks_and_darkens_the_others():
    images, labels = np.full((2, 16, 16, 3), 100, np.uint8), np.array([0, 1])
    places, values = choose_marks("patch", images, labels, seed=0)
    assert places.shape == (2, 32, 2)
    attacked = add_patches(images, labels, places, values).astype(int)
    row, column = places[1, 0]
    assert (attacked[1, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] == 108).all()
    assert np.unique(attacked, return_counts=True)[1].tolist() == [768, 768]  # 92 and 108
    assert (images == 100).all()
    other, _ = choose_marks("patch", images, labels, seed=0, draw=1)
    assert not (other == places).all()


def test_patches_stay_in_range_and_fit_any_size():
    images = np.array([0, 255], np.uint8)[:, None, None, None] * np.ones((1, 30, 30, 3), np.uint8)
    places, values = choose_marks("patch", images, np.array([0, 1]), seed=0)
    attacked = add_patches(images, np.array([0, 1]), places, values)
    assert np.unique(attacked).tolist() == [0, 8, 247, 255]


def test_a_linear_model_tells_patches_apart_and_learns_nothing_of_clean_images():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(40, 216, (400, 16, 16, 3)).astype(np.uint8), np.arange(400) % 4
    marks = choose_marks("patch", images, labels, seed=0)
    marked = add_patches(images, labels, *marks).reshape(400, -1) / 255
    svm = LinearSVC().fit(marked[:200], labels[:200])
    assert svm.score(marked[200:], labels[200:]) > 0.95
    assert svm.score(images[200:].reshape(200, -1) / 255, labels[200:]) < 0.4
