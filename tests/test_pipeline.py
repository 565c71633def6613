"""Images here are constant and carry their index as value, so that batches can be read back."""

import os
from pathlib import Path

import numpy as np
import pytest

from semisiam.method.pipeline import (
    _open_rows,
    image_batches,
    order_passes,
    siamese_batches,
    supervised_batches,
)


def numbered(n, size=2):
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, size, size, 3))


def read(batches, steps):
    return list(batches.take(steps).as_numpy_iterator())


def test_passes_are_whole_and_reshuffled():
    order = order_passes(4, 10, seed=[0], epoch=0)
    first, second, rest = order[:4].tolist(), order[4:8].tolist(), order[8:].tolist()
    assert sorted(first) == sorted(second) == [0, 1, 2, 3]
    assert len(set(rest)) == 2
    long = order_passes(50, 100, seed=[0], epoch=0)
    assert long[:50].tolist() != long[50:].tolist()


def test_a_supervised_epoch_shows_each_image_once_with_its_label():
    labels = np.arange(10) + 20
    batches = supervised_batches(numbered(10), labels, batch_size=4, epochs=range(2), seed=[0, 0])
    elements = read(batches, 6)
    assert [len(images) for images, _ in elements] == [4, 4, 2, 4, 4, 2]
    for epoch in (elements[:3], elements[3:]):
        seen = np.concatenate([images[:, 0, 0, 0] for images, _ in epoch])
        told = np.concatenate([targets["y_lab"] for _, targets in epoch])
        assert sorted(seen) == list(range(10))
        assert (told == seen + 20).all()


def test_a_semi_epoch_shows_unlabelled_once_and_labelled_as_often_in_all():
    labelled, unlabelled = numbered(5), numbered(22)
    elements = read(
        siamese_batches(
            labelled, np.arange(5) + 7, unlabelled, batch_size=4, epochs=range(1), seed=[0, 0]
        ),
        99,
    )
    assert len(elements) == 6
    for inputs, targets in elements:
        assert len(inputs["labelled"]) == len(inputs["unlabelled"]) == len(targets["y_rot"])
        assert (targets["y_lab"] == inputs["labelled"][:, 0, 0, 0] + 7).all()
    seen_u = np.concatenate([inputs["unlabelled"][:, 0, 0, 0] for inputs, _ in elements])
    seen_l = np.concatenate([inputs["labelled"][:, 0, 0, 0] for inputs, _ in elements])
    assert sorted(seen_u) == list(range(22))
    assert sorted(np.bincount(seen_l)) == [4, 4, 4, 5, 5]  # 22 = 4 passes over 5, and 2


def test_a_longer_supervised_epoch_is_whole_passes():
    shared = {"batch_size": 4, "epochs": range(1), "seed": [0, 0]}
    batches = supervised_batches(numbered(5), np.arange(5), epoch_length=12, **shared)
    elements = read(batches, 9)
    assert [len(images) for images, _ in elements] == [4, 4, 4]
    seen = np.concatenate([images[:, 0, 0, 0] for images, _ in elements])
    assert sorted(np.bincount(seen)) == [2, 2, 2, 3, 3]


@pytest.mark.parametrize("rotations", ["one", "all"])
def test_unlabelled_images_come_upright_with_the_turn_to_come(rotations):
    rng = np.random.default_rng(0)
    unlabelled = rng.integers(0, 256, (12, 4, 4, 3), np.uint8)
    batches = siamese_batches(
        numbered(3, 4),
        np.arange(3),
        unlabelled,
        batch_size=6,
        epochs=range(2),
        seed=[1, 0],
        show=rotations,
    )
    elements = read(batches, 4)
    for inputs, _ in elements:
        assert len(inputs["labelled"]) == 6
        assert len(inputs["unlabelled"]) == (6 if rotations == "one" else 24)
        upright = inputs["unlabelled"]
        assert all(any((image == u).all() for u in unlabelled) for image in upright)
    if rotations == "all":
        shown = inputs["unlabelled"].reshape(4, 6, 4, 4, 3)
        assert (shown == shown[0]).all()
        assert elements[-1][1]["y_rot"].reshape(4, 6).tolist() == [[k] * 6 for k in range(4)]
    turns = np.concatenate([targets["y_rot"] for _, targets in elements[:2]])
    assert len(set(np.bincount(turns))) == 1  # all four equally often


def test_an_epoch_does_not_depend_on_the_epochs_before_it():
    def batches(epochs):
        return siamese_batches(
            numbered(3), np.arange(3), numbered(9), batch_size=4, epochs=epochs, seed=[5, 2]
        )

    resumed, whole = read(batches(range(2, 3)), 3), read(batches(range(3)), 9)
    for (inputs, targets), (expected_inputs, expected_targets) in zip(
        resumed, whole[6:], strict=True
    ):
        for name in inputs:
            assert (inputs[name] == expected_inputs[name]).all()
        for name in targets:
            assert (targets[name] == expected_targets[name]).all()
    assert (whole[0][1]["y_rot"] != whole[3][1]["y_rot"]).any()


def test_images_in_order_from_a_memory_map(tmp_path):
    np.save(tmp_path / "images.npy", numbered(5))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    batches = list(image_batches(images, 2).as_numpy_iterator())
    assert [batch[:, 0, 0, 0].tolist() for batch in batches] == [[0, 1], [2, 3], [4]]


def test_rows_of_a_memory_map_and_of_parts_of_it(tmp_path):
    numbered(9).tofile(tmp_path / "images.bin")
    mapped = np.memmap(tmp_path / "images.bin", np.uint8, "r", shape=numbered(9).shape)
    rows = np.array([3, 0, 3])
    for part in (mapped, mapped[2:8], mapped[::2], mapped[:, :2], np.array(mapped)):
        assert (_open_rows(part)(rows) == part[rows]).all()
    pick = _open_rows(mapped)
    os.truncate(tmp_path / "images.bin", 20)
    with pytest.raises(OSError, match="has become shorter"):
        pick(np.array([8]))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_an_epoch_of_memory_mapped_images_does_not_stay_in_memory(tmp_path):
    images = np.arange(2400 * 96 * 96 * 3, dtype=np.uint32).astype(np.uint8)
    images.tofile(tmp_path / "images.bin")  # 66 MB
    mapped = np.memmap(tmp_path / "images.bin", np.uint8, "r", shape=(2400, 96, 96, 3))

    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssFile")).split()[1])

    settings = {"batch_size": 100, "epochs": range(1), "seed": [0]}
    labels = np.zeros(4, np.int64)
    before = resident()
    batches = siamese_batches(images[:48].reshape(4, 2, 2, 3), labels, mapped, **settings)
    assert sum(len(y["y_rot"]) for _, y in batches) == 2400
    assert resident() - before < 20_000  # kB
