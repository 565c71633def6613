import numpy as np
import pytest

from semisiam.method.pretext import TASKS, draw_labels, transform, transform_all

IMAGE = np.array([[1, 2], [3, 4]], np.uint8)[None, :, :, None]
TURNED = [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]


def test_each_rotation_of_a_2x2_image():
    rotated = transform(np.repeat(IMAGE, 4, axis=0), np.arange(4))
    assert rotated[..., 0].tolist() == TURNED
    assert rotated.dtype == np.uint8


@pytest.mark.parametrize(("task", "count"), [("rotation", 4), ("rotation_flip", 6), ("jigsaw", 24)])
def test_each_label_inverts_its_transform(task, count):
    size = 4
    places = np.arange(size**2, dtype=np.int32).reshape(1, size, size, 1)
    changed, labels = transform_all(places, task)
    assert labels.tolist() == list(range(count))
    assert len(np.unique(changed.reshape(count, -1), axis=0)) == count  # all are different
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    moved, _ = transform_all(image, task)
    for label in labels:  # where each pixel came from says where to put it back
        back = np.argsort(changed[label].ravel())
        assert (moved[label].reshape(-1, 3)[back] == image.reshape(-1, 3)).all()


def test_flips_and_tiles_of_small_images():
    assert transform_all(IMAGE, "rotation_flip")[0][4:, ..., 0].tolist() == [
        [[3, 4], [1, 2]],
        [[2, 1], [4, 3]],
    ]
    tiles = transform_all(IMAGE, "jigsaw")[0][..., 0]
    assert tiles[0].tolist() == [[1, 2], [3, 4]]
    assert tiles[1].tolist() == [[1, 2], [4, 3]]
    assert tiles[23].tolist() == [[4, 3], [2, 1]]


def test_without_a_task_images_stay_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8)
    assert (transform(images, np.arange(8) % len(TASKS["none"]), "none") == images).all()


def test_all_four_of_every_image():
    images, labels = transform_all(np.concatenate([IMAGE, IMAGE + 10]))
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert images[::2, ..., 0].tolist() == TURNED
    assert (images[1::2] == images[::2] + 10).all()


def test_rotations_are_equally_frequent_and_new_each_epoch():
    first, second = (
        draw_labels(1002, task="rotation", seed=[0, 1], epoch=epoch) for epoch in (0, 1)
    )
    assert sorted(np.bincount(first)) == [250, 250, 251, 251]
    assert 0.6 < (first != second).mean() < 0.9  # 3/4 by chance
    assert np.bincount(draw_labels(48, task="jigsaw", seed=[0], epoch=0)).tolist() == [2] * 24
    assert (first == draw_labels(1002, task="rotation", seed=[0, 1], epoch=0)).all()
    assert (first != draw_labels(1002, task="rotation", seed=[0, 2], epoch=0)).any()
