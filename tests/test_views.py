import math

import numpy as np
import pytest
import tensorflow as tf

from semisiam.data.datasets import _choose_classes, load
from semisiam.data.files import DataError
from semisiam.data.parts import Part
from semisiam.method import model, views
from semisiam.method.pretext import draw_labels

# two columns without correlation: against themselves the identity, swapped 0 and 1 change places
COLUMNS = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)


@pytest.mark.parametrize(
    ("second", "loss", "diagonal", "off_diagonal"),
    [
        (COLUMNS, 0, 1, 0),
        (5 * COLUMNS + 3, 0, 1, 0),  # a unit's scale and mean do not count
        (COLUMNS[:, ::-1], (1 + 1 + 2 * 0.005) / 2, 0, 1),
        (-COLUMNS, (4 + 4) / 2, -1, 0),
    ],
)
def test_barlow_twins_of_matrices_worked_out_by_hand(second, loss, diagonal, off_diagonal):
    both = np.concatenate([COLUMNS, second])
    assert float(views.barlow_twins(None, tf.constant(both))) == pytest.approx(loss, abs=1e-5)
    found = views.check_correlation(both, None)
    assert found["diagonal"] == pytest.approx(diagonal, abs=1e-5)
    assert found["off_diagonal"] == pytest.approx(off_diagonal, abs=1e-5)


def test_a_unit_that_is_constant_gives_no_nan():
    both = np.ones((8, 2), np.float32)
    assert float(views.barlow_twins(None, tf.constant(both))) == pytest.approx(1)


def test_consistency_counts_confident_weak_views_alone():
    weak = [[0.96, 0.04], [0.9, 0.1], [0.02, 0.98]]
    strong = [[0.5, 0.5], [0.01, 0.99], [0.75, 0.25]]
    both = tf.constant(weak + strong)
    with tf.GradientTape() as tape:
        tape.watch(both)
        loss = views.consistency(None, both)
    assert float(loss) == pytest.approx((math.log(2) + math.log(4)) / 3)
    gradient = tf.convert_to_tensor(tape.gradient(loss, both)).numpy()
    assert (gradient[:3] == 0).all()  # a target is no way to a lower loss
    assert (gradient[[3, 5]] != 0).any()
    check = views.check_pseudo_labels(both.numpy(), np.array([0, 0, 0]))
    assert check == {"confident": pytest.approx(2 / 3), "accuracy": 0.5}
    unsure = views.check_pseudo_labels(np.full((4, 2), 0.5), np.array([0, 1]))
    assert unsure == {"confident": 0, "accuracy": None}


@pytest.mark.parametrize("task", views.VIEW_TASKS)
@pytest.mark.parametrize("compiled", [False, True])
def test_views_keep_shape_and_range_and_depend_on_the_label_alone(task, compiled):
    draw = tf.function(views.draw_views) if compiled else views.draw_views
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    labels = draw_labels(6, task=task, seed=[0, 1], epoch=2)
    assert (labels == draw_labels(6, task=task, seed=[0, 1], epoch=2)).all()
    assert (labels != draw_labels(6, task=task, seed=[0, 1], epoch=3)).any()
    first, again = (draw(tf.constant(images), tf.constant(labels), task) for _ in range(2))
    assert (first.shape, first.dtype) == ((12, 8, 8, 3), tf.uint8)
    assert (first.numpy() == again.numpy()).all()
    assert (first[:6].numpy() != first[6:].numpy()).any()
    other = draw(tf.constant(images), tf.constant(labels + 1), task)
    assert (first.numpy() != other.numpy()).any()


def test_a_crop_of_a_quarter_shows_half_of_the_width_or_more():
    ramp = np.broadcast_to(10 * np.arange(9, dtype=np.uint8), (100, 9, 9))[..., None]
    shown = views.crop(tf.constant(ramp), [0, 1], area=0.25).numpy()
    widths = np.ptp(shown[:, 0, :, 0], axis=1)  # of all it is 80
    assert widths.min() >= 39 and widths.max() <= 81
    assert widths.min() < 50 and widths.max() > 70
    areas = (widths / 80) ** 2  # even between a quarter and all
    assert np.mean(areas < (0.25 + 1) / 2) == pytest.approx(0.5, abs=0.15)


def test_brightness_changes_by_up_to_two_fifths_and_stays_in_range():
    white = np.full((100, 9, 9, 3), 255, np.uint8)
    shown = views.distort(tf.constant(white), [0, 1]).numpy()
    assert shown.min() >= 0.6 * 255 and shown.max() == 255
    assert np.mean(shown[:, 0, 0, 0] < 255) == pytest.approx(0.5, abs=0.15)


def test_a_crop_of_all_is_the_image_or_its_mirror():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    found = np.concatenate([views.crop(images, [seed, 0], area=1.0) for seed in range(9)])
    mirrored = images[:, :, ::-1]
    same = [np.allclose(a, images[i % 2]) for i, a in enumerate(found)]
    turned = [np.allclose(a, mirrored[i % 2]) for i, a in enumerate(found)]
    assert set(zip(same, turned, strict=True)) == {(True, False), (False, True)}


def test_consistency_has_no_head_of_its_own():
    encoder = model.build_encoder("small_cnn", 32)
    network = model.build_siamese(encoder, 3, "consistency")
    assert network.count_params() == encoder.count_params() + 128 * 3 + 3
    assert len(network.trainable_variables) == len(encoder.trainable_variables) + 2


def test_classes_of_the_unlabelled_images():
    same = load("digits", 8)

    def classes(which):
        data = load("digits", 8, unlabelled_classes=which)
        assert data.content != same.content
        equal = [(same.train == image).all(axis=(1, 2, 3)) for image in data.unlabelled[::40]]
        present = same.train_labels[np.argmax(equal, axis=1)]
        return [data.train_labels, data.test_labels, present], data

    (train, test, unlabelled), fewer = classes("fewer")
    assert set(train) == set(test) == set(range(10))
    assert max(unlabelled) < 5
    assert len(fewer.unlabelled) == (same.train_labels < 5).sum()
    assert (fewer.train == same.train).all()
    (train, test, unlabelled), more = classes("more")
    assert set(train) == set(test) == set(range(5))
    assert max(unlabelled) >= 5 > min(unlabelled)
    assert more.class_names == same.class_names[:5]
    (train, test, unlabelled), _ = classes("other")
    assert set(train) == set(test) == set(range(5))
    assert min(unlabelled) >= 5


def test_classes_that_nobody_knows_are_not_chosen():
    part = Part(np.zeros((2, 8, 8, 3), np.uint8), np.array(["a", "b"]), np.array([0, 1]))
    with pytest.raises(DataError, match="nobody knows"):
        _choose_classes({"train": part, "unlabelled": part}, ["x", "y", "z"], "fewer")
    with pytest.raises(DataError, match="at least three"):
        _choose_classes({"train": part, "test": part}, ["x", "y"], "more")
