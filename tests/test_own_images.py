"""Labelled images held out in folds, and digits laid out as a folder of one's own."""

import numpy as np
import pytest
from archives import make_images, write_folder

from semisiam.cell import Cell
from semisiam.data import datasets
from semisiam.data.files import DataError
from semisiam.method import own_images


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISIAM_CACHE", str(tmp_path / "cache"))


def test_digits_become_a_folder_of_ones_own(tmp_path):
    own_images.write_digits(tmp_path / "digits", per_class=3, n_unlabelled=50, seed=0)
    data = datasets.load("folder", 32, data_dir=str(tmp_path / "digits"))
    images, labels, names = own_images.pool_labelled(data)
    assert images.shape == (30, 32, 32, 3)
    assert np.bincount(labels).tolist() == [3] * 10
    assert [data.class_names[c] for c in labels] == [name.split("/")[0] for name in names]
    assert len(data.unlabelled) == 50
    files = [path.name for path in (tmp_path / "digits").rglob("*.png")]
    assert len(files) == len(set(files)) == 80


def test_the_comparison_needs_more_unlabelled_images_than_labelled_ones(tmp_path):
    folder = write_folder(tmp_path / "own", ("cat", "dog"), n=4)
    with pytest.raises(DataError, match="`unlabelled` has 0 images, the class folders 8"):
        own_images.pool_labelled(datasets.load("folder", 32, data_dir=folder))
    write_folder(tmp_path / "own", ("unlabelled",), n=8)
    with pytest.raises(DataError, match="`unlabelled` has 8 images, the class folders 8"):
        own_images.pool_labelled(datasets.load("folder", 32, data_dir=folder))


def test_each_image_is_held_out_once_and_classes_are_shared_out():
    labels = np.array([0] * 6 + [1] * 3)
    folds = own_images.draw_folds(labels, 3, seed=0)
    assert np.sum(folds, axis=0).tolist() == [1] * 9
    assert [np.bincount(labels[held_out]).tolist() for held_out in folds] == [[2, 1]] * 3
    again = own_images.draw_folds(labels, 3, seed=0)
    other = own_images.draw_folds(labels, 3, seed=1)
    assert np.array_equal(folds, again)
    assert not np.array_equal(folds, other)


def test_more_folds_than_images_of_a_class():
    with pytest.raises(DataError, match="4 folds, but a class has 3 labelled images"):
        own_images.draw_folds(np.array([0] * 6 + [1] * 3), 4, seed=0)


@pytest.mark.parametrize("mode", ["supervised", "semi"])
def test_no_fold_knows_of_another(mode):
    labels = np.arange(12) % 2
    images = make_images(12, 32, 32, 3) // np.where(labels == 0, 1, 8)[:, None, None, None]
    images = images.astype(np.uint8)
    folds = own_images.draw_folds(labels, 2, seed=0)
    cell = Cell(dataset="folder", mode=mode, epochs=2, batch_size=6)
    unlabelled = make_images(12, 32, 32, 3, seed=1)
    first = own_images.predict_held_out(cell, images, labels, unlabelled, folds)
    turned = own_images.predict_held_out(cell, images, labels, unlabelled, folds[::-1])
    assert set(first) == {"as trained", "re-estimated"}
    for how in first:
        assert (first[how] == turned[how]).all()
    assert (first["re-estimated"] == labels).mean() > 0.8  # bright and dark noise
