import numpy as np

from semisiam.pretext import draw_rotations, rotate, rotate_all

IMAGE = np.array([[1, 2], [3, 4]], np.uint8)[None, :, :, None]
TURNED = [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]


def test_each_rotation_of_a_2x2_image():
    rotated = rotate(np.repeat(IMAGE, 4, axis=0), np.arange(4))
    assert rotated[..., 0].tolist() == TURNED
    assert rotated.dtype == np.uint8


def test_a_turn_back_undoes_each_rotation():
    rng = np.random.default_rng(0)
    images, turns = rng.integers(0, 256, (9, 5, 5, 3), np.uint8), rng.integers(0, 4, 9)
    assert (rotate(rotate(images, turns), -turns % 4) == images).all()


def test_all_four_of_every_image():
    images, labels = rotate_all(np.concatenate([IMAGE, IMAGE + 10]))
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert images[::2, ..., 0].tolist() == TURNED
    assert (images[1::2] == images[::2] + 10).all()


def test_rotations_are_equally_frequent_and_new_each_epoch():
    first, second = (draw_rotations(1002, seed=[0, 1], epoch=epoch) for epoch in (0, 1))
    assert sorted(np.bincount(first)) == [250, 250, 251, 251]
    assert 0.6 < (first != second).mean() < 0.9  # 3/4 by chance
    assert (first == draw_rotations(1002, seed=[0, 1], epoch=0)).all()
    assert (first != draw_rotations(1002, seed=[0, 2], epoch=0)).any()
