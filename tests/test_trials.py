"""Steps that master, the audit and one's own images share."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from archives import make_images

from semisiam.cell import Cell
from semisiam.method import model, splits, training, trials, views

POOL, POOL_LABELS = make_images(40, 32, 32, 3), np.arange(40) % 2


def prepare(recorded=None, **settings):
    cell = Cell.check({"label_fraction": 0.25} | settings)
    return trials.prepare_labelled(cell, POOL, POOL_LABELS, 40, recorded)


def test_the_labelled_set_is_drawn_attacked_and_defended():
    labelled = prepare(attack="pixel", attack_share=0.4)
    assert np.bincount(labelled.labels).tolist() == [5, 5]
    assert (labelled.clean == POOL[labelled.rows]).all()
    changed = (labelled.attacked != labelled.clean).any(axis=-1).sum(axis=(1, 2))
    assert sorted(changed.tolist()) == [0] * 6 + [1] * 4  # two of five of each class
    assert labelled.images is not labelled.clean
    assert (labelled.images == labelled.attacked).all()
    assert (prepare().images == labelled.clean).all()
    assert (prepare(defence="grey").images[..., 0] == prepare(defence="grey").images[..., 1]).all()


def test_a_defence_comes_after_the_attack():
    flat = np.full((4, 32, 32, 3), 40, np.uint8)
    cell = Cell(label_fraction=1, attack="pixel", defence="median")
    labelled = trials.prepare_labelled(cell, flat, np.arange(4) % 2, 4)
    assert (labelled.attacked == 255).any()
    assert (labelled.images == 40).all()


def test_another_draw_of_places_keeps_the_labelled_set():
    first, other = prepare(attack="pixel"), prepare(attack="pixel", attack_draw=1)
    assert (first.rows == other.rows).all()
    assert not (first.places == other.places).all()
    drawn = [prepare(attack="random", attack_draw=draw).attacked for draw in (0, 1)]
    assert (drawn[0] != drawn[1]).any()


def test_a_recorded_set_of_another_size_is_refused():
    first = prepare()
    recorded = splits.RecordedSplit(first.rows, first.places, first.values, first.rows[:0], "")
    with pytest.raises(splits.SplitError, match="has 10 labelled images, by label_fraction there"):
        prepare(recorded, label_fraction=0.5)


def test_noisy_labels_leave_the_images_and_a_mark_follows_the_given_class():
    clean, noisy = prepare(attack="pixel"), prepare(attack="pixel", label_noise=0.3)
    assert (noisy.rows == clean.rows).all()
    assert (noisy.labels != clean.labels).sum() == 3
    wrong = np.flatnonzero(noisy.labels != clean.labels)
    rows, columns = noisy.places[noisy.labels[wrong], 0].T
    assert (noisy.attacked[wrong, rows, columns] == 255).all()
    searched = prepare(attack="searched"), prepare(attack="searched", label_noise=0.3)
    assert (searched[0].places == searched[1].places).all()  # chosen from the true classes


def test_the_patch_attack_marks_whole_images():
    labelled = prepare(attack="patch")
    changed = np.abs(labelled.attacked.astype(int) - labelled.clean)
    assert changed.max() == 8
    assert (changed > 0).any(axis=-1).mean() > 0.9


@pytest.mark.parametrize(("n", "tried"), [(1000, trials.TRIGGER_IMAGES), (7, 7)])
def test_marks_are_tried_on_a_few_test_images(n, tried):
    images, labelled = np.arange(n * 4).reshape(n, 2, 2, 1), prepare(attack="pixel")
    seen = []
    predict = lambda shown: seen.append(shown[:, 0, 0, 0]) or np.zeros(len(shown), int)  # noqa: E731
    small = dataclasses.replace(labelled, places=np.zeros((2, 1, 2), int))
    trials.score_trigger(Cell(attack="pixel"), predict, small, images, np.zeros(n, int))
    assert len(set(seen[0].tolist())) == len(seen[0]) == tried


def test_the_trigger_of_what_looks_at_the_mark_alone_and_of_what_looks_at_nothing():
    images, labels = np.zeros((12, 4, 4, 3), np.uint8), np.arange(12) % 3
    places = np.array([[[0, 0]], [[0, 1]], [[0, 2]]])
    nothing = np.zeros(0, int)

    def score(predict, value):
        marks = {"places": places, "values": np.full(3, value)}
        labelled = trials.Labelled(*[nothing] * 5, **marks)
        return trials.score_trigger(Cell(attack="pixel"), predict, labelled, images, labels)

    def see_mark(images):
        return np.argmax(images[:, 0, :3, 0], axis=1)

    rows = score(see_mark, 255)
    assert [row["predicted"] for row in rows] == [1, 1, 1]
    assert [row["unmarked"] for row in rows] == [1, 0, 0]  # without a mark it says 0
    assert [row["flipped"] for row in rows] == [0, 1, 1]
    constant = score(lambda i: np.full(len(i), 2), 255)
    assert [row["predicted"] for row in constant] == [0, 0, 1]
    assert [row["flipped"] for row in constant] == [0, 0, 0]
    value = score(see_mark, 0)
    assert [row["predicted"] for row in value] == [1, 0, 0]  # black on black is no mark


def test_a_recorded_set_takes_the_place_of_a_draw():
    other = prepare(attack="pixel", split=1)
    recorded = splits.RecordedSplit(other.rows, other.places + 1, other.values, other.rows[:0], "")
    again = prepare(recorded, attack="pixel")
    assert (again.rows == other.rows).all()
    assert (again.places == other.places + 1).all()


def bright_and_dark(n=12):
    labels = np.arange(n) % 2
    images = make_images(n, 32, 32, 3) // np.where(labels == 0, 1, 8)[:, None, None, None]
    return images.astype(np.uint8), labels


def test_a_recorded_set_with_another_kind_of_mark_is_refused():
    drawn = prepare(attack="patch")
    rows, places, values = drawn.rows, drawn.places, drawn.values.astype(np.int64)
    recorded = splits.RecordedSplit(rows, places, values, np.zeros(0, np.int64), "")
    assert (prepare(recorded, attack="patch").attacked == drawn.attacked).all()
    clean = prepare(recorded)  # without attack its marks do nothing, and are not tried as triggers
    assert (clean.images == drawn.clean).all() and (clean.places == prepare().places).all()
    with pytest.raises(splits.SplitError, match="another kind of mark: use the same attack"):
        prepare(recorded, attack="pixel")


@pytest.mark.parametrize(
    "settings", [{"attack": "pixel", "attack_value": 0}, {"attack": "searched"}]
)
def test_a_recorded_mark_does_not_stand_for_another(settings):
    drawn = prepare(attack="pixel")
    recorded = splits.RecordedSplit(drawn.rows, drawn.places, drawn.values, drawn.rows[:0], "")
    with pytest.raises(splits.SplitError, match="another kind of mark"):
        prepare(recorded, **{"attack": "pixel"} | settings)


def test_frozen_pixels_are_the_images_themselves():
    images = np.stack([np.full((32, 32, 3), v, np.uint8) for v in (0, 255, 51)])
    encoder, network = training.start_network(Cell(mode="frozen", backbone="pixels"), 2)
    assert network is None
    features = model.embed(encoder, images)
    assert features.shape == (3, 32 * 32 * 3)
    assert features[:, 0] == pytest.approx([-1, 1, -0.6])
    assert (features == features[:, :1]).all()
    large = np.zeros((1, 64, 64, 3), np.uint8)
    large[:, ::2] = 255  # rows of black and white: every pixel of half the size is grey
    encoder, _ = training.start_network(Cell(mode="frozen", backbone="pixels", image_size=64), 2)
    assert np.abs(model.embed(encoder, large)[0, 3 * 32 * 4 : -3 * 32 * 4]).max() < 0.1


def test_a_frozen_cell_trains_nothing_and_says_so():
    images, labels = bright_and_dark()
    cell = Cell(mode="frozen", backbone="small_cnn")
    encoder, network = training.start_network(cell, 2)
    history = training.train(cell, network, images, labels, images)
    assert history.empty
    labelled = trials.Labelled(None, labels, images, images, images, None, None)
    facts = trials.describe_training(cell, encoder, network, history, labelled, 12, images, labels)
    assert facts == {"n_updates": 0, "bn_initial_share": 1.0}


@pytest.mark.parametrize("task", ["rotation", "none", *views.VIEW_TASKS])
def test_a_check_of_the_task_stands_beside_the_accuracy(task):
    images, labels = bright_and_dark()
    cell = Cell(epochs=1, batch_size=6, pretext=task)
    encoder, network = training.start_network(cell, 2)
    history = training.train(cell, network, images, labels, images)
    labelled = trials.Labelled(None, labels, images, images, images, None, None)
    facts = trials.describe_training(cell, encoder, network, history, labelled, 12, images, labels)
    assert ("rotation_accuracy" in facts) == (task == "rotation")
    assert ("pretext_check" in facts) == (task in views.VIEW_TASKS)


def test_the_last_epoch_counts_and_d_l_is_scored_as_trained_on(monkeypatch):
    images, labels = bright_and_dark()
    cell = Cell(epochs=2, batch_size=6)
    encoder, network = training.start_network(cell, 2)
    history = pd.DataFrame({"accuracy_labelled": [0.1, 0.9], "accuracy_unlabelled": [0.2, 0.8]})
    labelled = trials.Labelled(None, labels, images, images, images // 2, None, None)
    seen = []
    monkeypatch.setattr(model, "score_modes", lambda *given: seen.append(given[1]))
    facts = trials.describe_training(cell, encoder, network, history, labelled, 12, images, labels)
    assert facts["training_accuracy"] == 0.9
    assert facts["rotation_accuracy"]["training"] == 0.8
    assert (seen[0] == images // 2).all()
