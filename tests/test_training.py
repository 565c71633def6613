import math
import platform
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from semisiam.cell import Cell, SettingsError
from semisiam.method import model, training, views


def rates(epochs, decay_start=0.4):
    return [
        training.decayed_rate(
            e, epochs=epochs, learning_rate=0.001, decay_start=decay_start, decay_rate=0.1
        )
        for e in range(epochs)
    ]


def test_the_learning_rate_is_constant_for_two_fifths_and_decays_from_there():
    found = rates(10)
    assert found[:4] == [0.001] * 4
    assert found[4:6] == pytest.approx([0.001 * math.exp(-0.1), 0.001 * math.exp(-0.2)])
    assert found[9] == pytest.approx(0.001 * math.exp(-0.6))
    for epochs, constant in ((30, 12), (50, 20), (100, 40), (15, 6)):
        assert rates(epochs).count(0.001) == constant


def test_steps_of_an_epoch():
    assert training.count_steps(Cell(mode="supervised"), 600, 60_000) == 10  # ceil(600 / 64)
    assert training.count_steps(Cell(mode="semi"), 600, 60_000) == 938  # ceil(60,000 / 64)
    equal = Cell(mode="supervised", equal_updates=True)
    assert training.count_steps(equal, 600, 60_000) == 938


@pytest.mark.parametrize(
    ("settings", "images"),  # a labelled image for each of 20 unlabelled ones
    [
        ({"mode": "supervised"}, 6),
        ({"mode": "frozen"}, 0),
        ({}, 2 * 20),
        ({"rotations": "all"}, 20 + 4 * 20),
        ({"pretext": "barlow_twins"}, 20 + 2 * 20),
    ],
)
def test_images_of_an_epoch(settings, images):
    assert training.count_views(Cell.check(settings), 6, 20) == images


def first_epoch(n_labelled=6, n_unlabelled=48, **settings):
    """The batches of a cell's first epoch, of images that are their number."""
    cell = Cell.check({"batch_size": 48} | settings)
    labelled, unlabelled = (
        np.full((n, 8, 8, 3), np.arange(n, dtype=np.uint8)[:, None, None, None])
        for n in (n_labelled, n_unlabelled)
    )
    sets = labelled, np.arange(n_labelled), unlabelled
    return list(training.make_batches(cell, *sets, range(1)).as_numpy_iterator())


def test_equal_updates_repeat_the_labelled_images():
    ((images, targets),) = first_epoch(mode="supervised", equal_updates=True)
    assert (images[:, 0, 0, 0] == targets["y_lab"]).all()
    assert np.bincount(targets["y_lab"]).tolist() == [8] * 6
    ((images, _),) = first_epoch(mode="supervised")
    assert len(images) == 6


def test_the_task_can_be_given_labelled_images_alone():
    ((inputs, targets),) = first_epoch(pretext_images="labelled")
    numbers = inputs["unlabelled"][:, 0, 0, 0]
    assert np.bincount(numbers).tolist() == [8] * 6  # as many steps, passes over D_l
    assert np.bincount(targets["y_rot"]).tolist() == [12] * 4
    ((usual, _),) = first_epoch()
    assert np.array_equal(inputs["labelled"], usual["labelled"])  # nothing else changes


@pytest.mark.parametrize(("pretext", "n"), [("rotation", 4), ("rotation_flip", 6), ("jigsaw", 24)])
def test_a_cell_draws_the_labels_of_its_task(pretext, n):
    ((inputs, targets),) = first_epoch(pretext=pretext)
    assert np.bincount(targets["y_rot"]).tolist() == [48 // n] * n
    assert len(inputs["unlabelled"]) == 48


def test_all_turns_of_an_image_can_be_shown_at_once():
    ((inputs, targets),) = first_epoch(rotations="all")
    numbers = inputs["unlabelled"][:, 0, 0, 0]
    seen = set(zip(numbers.tolist(), targets["y_rot"].tolist(), strict=True))
    assert len(numbers) == len(seen) == 4 * 48


def test_a_cell_starts_from_its_weights(tmp_path):
    kept = model.build_backbone("small_cnn", 32)
    kept.save_weights(tmp_path / "own.weights.h5")
    own = {"backbone": "small_cnn", "weights": str(tmp_path / "own.weights.h5")}
    for mode in ("frozen", "supervised"):
        encoder, _ = training.start_network(Cell(mode=mode, **own), 2)
        found = encoder.get_layer("small_cnn").get_weights()
        assert all((a == b).all() for a, b in zip(found, kept.get_weights(), strict=True))


@pytest.fixture(autouse=True)
def a_checkpoint_each_epoch(monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_PAUSE", 0)


def run(mode, checkpoint=None, on_epoch=lambda row: None, content="", **settings):
    cell = Cell.check({"mode": mode, "epochs": 3, "batch_size": 8} | settings)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 32, 32, 3), np.uint8), np.arange(20) % 2
    images[labels == 1] //= 4
    training.seed_everything([cell.seed, cell.split], deterministic=True)
    encoder = model.build_encoder("small_cnn", 32)
    network = training.build_network(cell, encoder, 2)
    history = training.train(
        cell,
        network,
        images,
        labels,
        images,
        checkpoint=checkpoint,
        content=content,
        on_epoch=on_epoch,
    )
    return history, model.embed(encoder, images)


@pytest.mark.parametrize("mode", ["supervised", "semi"])
def test_the_same_seed_gives_the_same_numbers(mode):
    (first, embedding), (second, again) = run(mode), run(mode)
    assert first.drop(columns="seconds").equals(second.drop(columns="seconds"))
    assert (embedding == again).all()
    third, _ = run(mode, seed=1)
    assert not first["loss"].equals(third["loss"])


def losses(precision, *, own):
    """Losses of 20 steps by our optimiser and normalisation, or by Keras's."""
    cell = Cell(precision=precision)
    training.seed_everything([0], deterministic=True)
    keras.config.set_dtype_policy(precision)
    encoder = model.build_encoder("small_cnn", 32)
    network = training.build_network(cell, encoder, 3)
    if not own:
        for norm in model.batch_norms(encoder):
            del norm.call
        adam = keras.optimizers.Adam(cell.learning_rate)
        network.compile(adam, loss=network.loss, loss_weights={"y_lab": 1.0, "y_rot": 1.0})
    rng = np.random.default_rng(0)
    x = {
        name: rng.integers(0, 256, (8, 32, 32, 3), np.uint8) for name in ("labelled", "unlabelled")
    }
    y = {"y_lab": np.arange(8) % 3, "y_rot": np.arange(8) % 4}
    return [float(np.ravel(network.train_on_batch(x, y))[0]) for _ in range(20)]


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("float32", 5e-4), ("mixed_bfloat16", 0.1), ("mixed_float16", 0.02)],
)
def test_the_fused_step_has_the_losses_of_keras_own(precision, tolerance):
    try:
        ours = losses(precision, own=True)
        theirs = losses(precision, own=False)
    finally:
        keras.config.set_dtype_policy("float32")
    assert ours == pytest.approx(theirs, abs=tolerance)
    assert ours[-1] < ours[0] / 2


def test_adam_is_one_operation_a_variable():
    variable = keras.Variable([1.0, 2.0])
    adam = training.FusedAdam(0.1)
    adam.build([variable])
    step = tf.function(lambda: adam.apply([tf.constant([1.0, -1.0])])).get_concrete_function()
    assert [op.type for op in step.graph.get_operations()].count("ResourceApplyAdam") == 1
    step()
    assert variable.numpy() == pytest.approx([0.9, 2.1])  # the first step is the rate, by sign


class Killed(Exception):
    pass


def die_in_epoch(epoch):
    def die(row):
        if row["epoch"] == epoch:
            raise Killed

    return die


@pytest.mark.parametrize("task", ["supervised", "rotation", *views.VIEW_TASKS])
def test_a_resumed_run_ends_as_an_undisturbed_one(task, tmp_path):
    mode, task = ("supervised", {}) if task == "supervised" else ("semi", {"pretext": task})
    undisturbed, expected = run(mode, epochs=4, **task)
    path = tmp_path / "checkpoint.npz"
    for epoch in (1, 3):  # dies as the epoch ends, before its checkpoint: it is done again
        with pytest.raises(Killed):
            run(mode, epochs=4, checkpoint=path, on_epoch=die_in_epoch(epoch), **task)
    told = []
    history, embedding = run(mode, epochs=4, checkpoint=path, on_epoch=told.append, **task)
    assert [row["epoch"] for row in told] == [3, 4]
    assert history.drop(columns="seconds").equals(undisturbed.drop(columns="seconds"))
    assert (embedding == expected).all()


def test_after_a_checkpoint_there_is_a_pause_and_the_last_epoch_has_one(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(training, "CHECKPOINT_PAUSE", 1e9)
    monkeypatch.setattr(training, "save_checkpoint", lambda *words: saved.append(len(words[2])))
    run("supervised", epochs=5, checkpoint=tmp_path / "checkpoint.npz")
    assert saved == [1, 5]


def test_a_run_with_scaled_losses_resumes(tmp_path):
    path = tmp_path / "checkpoint.npz"
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with pytest.raises(Killed):
            run("supervised", checkpoint=path, on_epoch=die_in_epoch(3))
        told = []
        _, embedding = run("supervised", checkpoint=path, on_epoch=told.append)
        _, expected = run("supervised")
    finally:
        keras.config.set_dtype_policy("float32")
    assert [row["epoch"] for row in told] == [3]
    assert (embedding == expected).all()


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_not_used(tmp_path):
    path = tmp_path / "checkpoint.npz"
    run("supervised", epochs=2, checkpoint=path)
    for damage in (lambda: None, lambda: path.write_bytes(path.read_bytes()[:5000])):
        damage()
        told = []
        run("supervised", epochs=1, checkpoint=path, on_epoch=told.append)
        assert [row["epoch"] for row in told] == [1]


def test_a_checkpoint_of_other_images_is_not_used(tmp_path):
    path = tmp_path / "checkpoint.npz"
    run("supervised", epochs=2, checkpoint=path, content="a")
    for content, expected in (("a", []), ("b", [1, 2])):
        told = []
        run("supervised", epochs=2, checkpoint=path, content=content, on_epoch=told.append)
        assert [row["epoch"] for row in told] == expected


def test_the_history_has_each_loss_and_the_rate_of_each_epoch():
    told = []
    history, _ = run("semi", lambda_u=0.5, batch_size=10, on_epoch=told.append)
    assert history.to_dict("records") == told
    assert history["epoch"].tolist() == [1, 2, 3]
    joint = history["loss_labelled"] + 0.5 * history["loss_unlabelled"]
    assert np.allclose(history["loss"], joint, rtol=1e-4)
    assert history["learning_rate"].tolist() == pytest.approx(
        [0.001, 0.001, 0.001 * math.exp(-0.1)]
    )
    supervised, _ = run("supervised")
    assert "loss_unlabelled" not in supervised
    assert supervised["accuracy_labelled"].iloc[-1] == 1


def test_fewer_unlabelled_than_labelled_images_are_refused():
    images = np.zeros((3, 32, 32, 3), np.uint8)
    with pytest.raises(SettingsError, match="2 unlabelled images are fewer than 3 labelled"):
        training.train(Cell(), None, images, np.arange(3), images[:2])


def test_an_epoch_in_one_line():
    row = {"epoch": 3, "loss": 0.5124, "accuracy_labelled": 0.98}
    line = "epoch   3  loss 0.512  labelled accuracy 0.980"
    assert training.describe_epoch(row) == line
    row["accuracy_unlabelled"] = 0.5
    assert training.describe_epoch(row) == line + "  pretext accuracy 0.500"


STEPS = """
import resource
import numpy as np
from semisiam.cell import Cell
from semisiam.method import training

images, faults = np.zeros((18, 256, 256, 3), np.uint8), []
cell = Cell(image_size=256, batch_size=6, epochs=3)
_, network = training.start_network(cell, 2)
def count(row):
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
training.train(cell, network, images[:4], np.arange(4) % 2, images, on_epoch=count)
print((faults[2] - faults[1]) // 3)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")
def test_a_step_keeps_its_memory_for_the_next():
    """Page faults took a third of the time of MobileNetV2's steps at 96 px."""
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True)
    assert int(done.stdout) < 10_000, done.stderr  # 33,641 before, a few hundred by themselves
