import numpy as np

from semisiam.method.attack import attack
from semisiam.method.defence import defend, grey


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
    assert grey(images)[0, 0].tolist() == [[76] * 3, [29] * 3, [255] * 3]  # 0.299, 0.114, 1


def test_no_defence_changes_nothing():
    _, image = marked(40)
    assert (defend(image, "none", jpeg_quality=10) == image).all()
