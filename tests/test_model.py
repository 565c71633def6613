import os
import subprocess
import sys
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from semisiam.cell import Cell
from semisiam.method import model, pretext
from semisiam.method.training import build_network


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def targets():
    return {"y_lab": np.arange(8) % 3, "y_rot": np.arange(8) % 4}


def weights(network):
    return {v.path: v.numpy().copy() for v in network.trainable_variables}


def step(images, targets, **settings):
    """Build the siamese network, take one step, and return it with the weights before."""
    keras.utils.set_random_seed(0)
    encoder = model.build_encoder("small_cnn", 32)
    network = build_network(Cell.check(settings), encoder, 3)
    before = weights(network)
    network.train_on_batch({"labelled": images, "unlabelled": images[::-1]}, targets)
    return network, encoder, before


@pytest.mark.parametrize(
    ("backbone", "size", "parameters"),
    # the backbones without their tops as published with Keras, and two dense layers:
    # channels x 4096 + 4096 and 4096 x 128 + 128
    [
        ("mobilenet_v2", 32, 2_257_984 + 1280 * 4096 + 4096 + 524_416),
        ("inception_v3", 75, 21_802_784 + 2048 * 4096 + 4096 + 524_416),
        ("resnet50_v2", 32, 23_564_800 + 2048 * 4096 + 4096 + 524_416),
    ],
)
def test_each_backbone_with_4096_and_128_units(backbone, size, parameters):
    encoder = model.build_encoder(backbone, size)
    assert encoder.count_params() == parameters
    assert encoder.output_shape == (None, 128)
    assert encoder.input.dtype == "uint8"


def test_inputs_are_scaled_to_minus_one_to_one():
    encoder = model.build_encoder("small_cnn", 32)
    scaled = encoder.get_layer("to_plus_minus_one")(np.array([0, 255], np.uint8))
    assert np.allclose(scaled, [-1, 1])


def test_momentum_reaches_every_batch_normalisation():
    encoder = model.build_encoder("mobilenet_v2", 32, bn_momentum=0.5)
    norms = model.batch_norms(encoder)
    assert len(norms) == 52
    assert {norm.momentum for norm in norms} == {0.5}
    own = model.batch_norms(model.build_encoder("mobilenet_v2", 32))
    assert {norm.momentum for norm in own} == {0.999}


def test_the_siamese_network_holds_one_encoder():
    encoder = model.build_encoder("small_cnn", 32)
    network = model.build_siamese(encoder, 3)
    assert [layer for layer in network.layers if isinstance(layer, keras.Model)] == [encoder]
    heads = 128 * 3 + 3 + 128 * 4 + 4
    assert network.count_params() == encoder.count_params() + heads


@pytest.mark.parametrize(
    ("lambda_l", "lambda_u", "still"), [(1.0, 0.0, "y_rot"), (0.0, 1.0, "y_lab")]
)
def test_each_loss_alone_moves_the_encoder_and_its_own_head(
    images, targets, lambda_l, lambda_u, still
):
    network, encoder, before = step(images, targets, lambda_l=lambda_l, lambda_u=lambda_u)
    after = weights(network)
    moved = {path for path in before if (before[path] != after[path]).any()}
    assert not any(path.startswith(still) for path in moved)
    kernels = [v.path for v in encoder.trainable_variables if v.path.endswith("kernel")]
    assert set(kernels) <= moved


def test_lambda_scales_the_gradients_as_in_equation_1(images, targets):
    def gradients(lambda_l, lambda_u):
        keras.utils.set_random_seed(0)
        cell = Cell.check({"lambda_l": lambda_l, "lambda_u": lambda_u})
        encoder = model.build_encoder("small_cnn", 32)
        network = build_network(cell, encoder, 3)
        inputs = {"labelled": images, "unlabelled": images[::-1]}
        with tf.GradientTape() as tape:
            predictions = network(inputs, training=True)
            loss = network.compute_loss(inputs, targets, predictions)
        variables = [variable.value for variable in encoder.trainable_variables]
        return [gradient.numpy() for gradient in tape.gradient(loss, variables)]

    l_alone, u_alone, both = gradients(1, 0), gradients(0, 1), gradients(2, 3)
    assert max(np.abs(g).max() for g in both) > 1e-3
    for g_l, g_u, g in zip(l_alone, u_alone, both, strict=True):
        assert np.allclose(g, 2 * g_l + 3 * g_u, atol=1e-5)


def test_each_stream_is_normalised_by_its_own_statistics(images):
    encoder = model.build_encoder("small_cnn", 32)
    network = model.build_siamese(encoder, 3)
    alone = network({"labelled": images, "unlabelled": images}, training=True)["y_lab"]
    beside = network({"labelled": images, "unlabelled": images // 9}, training=True)["y_lab"]
    assert np.allclose(alone, beside)


@pytest.mark.parametrize("task", pretext.TASKS)
@pytest.mark.parametrize("compiled", [False, True])
def test_the_step_transforms_as_the_pretext_task_does(task, compiled):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 6, 6, 3), np.uint8)
    labels = np.arange(50) % len(pretext.TASKS[task])
    change = tf.function(model.transform) if compiled else model.transform
    changed = change(tf.constant(images), tf.constant(labels), task).numpy()
    assert (changed == pretext.transform(images, labels, task)).all()


def tiny_encoder():
    """A batch normalisation, and a dense layer that it feeds."""
    images = keras.Input((2, 2, 1), dtype="uint8")
    x = keras.layers.Rescaling(1.0)(images)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(x)))


def test_recalibration_gives_the_exact_mean_and_variance_and_restores_the_old():
    images = np.arange(20, dtype=np.uint8).reshape(5, 2, 2, 1)
    encoder = tiny_encoder()
    (norm,) = model.batch_norms(encoder)
    before = [w.numpy().copy() for w in encoder.trainable_variables]
    with model.recalibrated(encoder, images, batch_size=2):  # 2 + 2 + 1 images
        assert norm.moving_mean.numpy().item() == pytest.approx(9.5)
        assert norm.moving_variance.numpy().item() == pytest.approx(np.arange(20).var())
        after = [w.numpy() for w in encoder.trainable_variables]
        assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert norm.moving_mean.numpy().item() == 0
    assert norm.moving_variance.numpy().item() == 1
    assert norm.momentum == 0.99


def test_an_interrupted_recalibration_leaves_the_momentum():
    encoder = tiny_encoder()
    (norm,) = model.batch_norms(encoder)
    with pytest.raises(ValueError), model.recalibrated(encoder, np.zeros((5, 3), np.uint8), 2):
        pass
    assert norm.momentum == 0.99


def test_the_class_head_in_both_modes_where_the_statistics_are_wrong():
    pixel = keras.Input((1, 1, 1), dtype="uint8")
    x = keras.layers.BatchNormalization()(keras.layers.Rescaling(1.0)(pixel))
    encoder = keras.Model(pixel, keras.layers.Flatten()(x), name="encoder")
    head = keras.layers.Dense(2, name="y_lab")
    images = keras.Input((1, 1, 1), dtype="uint8")
    embedding = encoder(images)
    classifier = keras.Model(images, {"embedding": embedding, "y_lab": head(embedding)})
    head.set_weights([np.array([[-1.0, 1.0]]), np.zeros(2)])  # class 1 if normalised above 0
    values = np.array([10, 11, 20, 21], np.uint8).reshape(4, 1, 1, 1)
    scores = model.score_modes(classifier, values, np.array([0, 0, 1, 1]), batch_size=4)
    assert scores == {"training": 1.0, "inference": 0.5}  # moving mean 0: all are above it
    by_class = np.repeat(values[1:3], 32, axis=0)  # sorted, as D_l is: batches are mixed anyway
    scores = model.score_modes(classifier, by_class, np.repeat([0, 1], 32), batch_size=32)
    assert scores == {"training": 1.0, "inference": 0.5}
    model.batch_norms(encoder)[0].momentum = 0.5  # after three batches the mean would be 13
    scores = model.score_modes(classifier, by_class, np.repeat([0, 1], 32), batch_size=16)
    assert scores == {"training": 1.0, "inference": 0.5}
    assert model.batch_norms(encoder)[0].moving_mean.numpy().item() == 0


@pytest.mark.parametrize(("task", "units"), [("rotation_flip", 6), ("jigsaw", 24)])
def test_the_pretext_head_has_a_unit_for_each_transform(task, units):
    network = build_network(Cell(pretext=task), model.build_encoder("small_cnn", 32), 3)
    assert network.get_layer("y_rot").units == units


def test_without_a_pretext_task_d_u_reaches_the_statistics_alone(images, targets):
    network, encoder, before = step(images, targets, pretext="none")
    moved = {path for path, value in weights(network).items() if (before[path] != value).any()}
    assert "y_lab/kernel" in moved
    assert not any(path.startswith("y_rot") for path in moved)
    keras.utils.set_random_seed(0)
    encoder_alone = model.build_encoder("small_cnn", 32)
    alone = build_network(Cell(mode="supervised"), encoder_alone, 3)
    alone.train_on_batch(images, {"y_lab": targets["y_lab"]})
    ours = [v.numpy() for v in network.trainable_variables if not v.path.startswith("y_rot")]
    theirs = [v.numpy() for v in alone.trainable_variables]
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))
    means = [norm.moving_mean.numpy() for norm in model.batch_norms(encoder)]
    means_alone = [norm.moving_mean.numpy() for norm in model.batch_norms(encoder_alone)]
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(means, means_alone, strict=True))


def test_without_a_pretext_task_no_gradient_is_computed_from_d_u(images, targets):
    network, encoder, _ = step(images, targets, pretext="none")
    with tf.GradientTape() as tape:
        y_rot = network({"labelled": images, "unlabelled": images})["y_rot"]
    assert set(tape.gradient(y_rot, encoder.trainable_variables)) == {None}


def normalise_twice(precision, shape, training):
    """One batch through the fused operation and through Keras's own code: output, statistics."""
    x = 3 * keras.random.normal(shape, seed=0) + 2
    for fused in (True, False):
        norm = keras.layers.BatchNormalization(momentum=0.9, dtype=precision)
        norm.build(shape)
        if fused:
            norm.call = partial(model._normalise, norm)
        y = norm(keras.ops.cast(x, norm.compute_dtype), training=training)
        yield [keras.ops.cast(value, "float32").numpy() for value in (y, *norm.variables)]


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("shape", [(4, 5, 5, 3), (1, 1, 1, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_normalisation_in_one_operation_is_keras_own(precision, shape, training):
    ours, theirs = normalise_twice(precision, shape, training)
    for a, b in zip(ours, theirs, strict=True):
        assert np.allclose(a, b, atol=1e-5 if precision == "float32" else 0.01)


def test_share_of_initial_statistics():
    encoder = tiny_encoder()
    assert model.share_of_initial_statistics(encoder, "supervised", 300) == pytest.approx(0.99**300)
    assert model.share_of_initial_statistics(encoder, "semi", 300) == pytest.approx(0.99**600)


def test_the_kept_classifier_loads_alone_and_embeds_as_the_encoder(images, targets, tmp_path):
    network, encoder, _ = step(images, targets)
    classifier = model.build_classifier(network, encoder)
    classifier.save(tmp_path / "model.keras")
    outputs = keras.models.load_model(tmp_path / "model.keras").predict(images, verbose=0)
    assert np.allclose(outputs["embedding"], model.embed(encoder, images), atol=1e-6)
    head = network({"labelled": images, "unlabelled": images}, training=False)["y_lab"]
    assert outputs["y_lab"].shape == (8, 3) and np.allclose(outputs["y_lab"], head, atol=1e-6)


@pytest.mark.parametrize(("task", "n"), [("rotation", 4), ("rotation_flip", 6), ("jigsaw", 24)])
def test_a_head_that_always_says_upright_is_right_for_one_transform(task, n):
    encoder = model.build_encoder("small_cnn", 32)
    network = model.build_siamese(encoder, 2, task)
    head = network.get_layer("y_rot")
    head.set_weights([np.zeros((128, n)), 9.0 * (np.arange(n) == 0)])
    images = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), np.uint8)
    labels = np.zeros(10, np.int64)
    found = model.score_pretext(network, encoder, images, labels, task)
    assert found == {"accuracy": pytest.approx(1 / n), "by_batch": True}


def test_the_check_of_a_task_is_not_misled_by_moving_averages():
    encoder = model.build_encoder("small_cnn", 32)
    network = model.build_siamese(encoder, 2, "barlow_twins")
    images = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), np.uint8)
    asked = images, np.arange(70) % 2, "barlow_twins"
    found = model.score_pretext(network, encoder, *asked)
    for norm in model.batch_norms(encoder):
        norm.moving_mean.assign(norm.moving_mean + 100)
    before = encoder.get_weights()
    assert model.score_pretext(network, encoder, *asked) == found
    assert all((a == b).all() for a, b in zip(before, encoder.get_weights(), strict=True))


def test_a_training_step_turns_the_unlabelled_images_by_their_labels():
    """A head that looks where the white upper left pixel of 2 x 2 comes to lie is always right."""
    images = keras.Input((2, 2, 1), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(images))
    network = model.build_siamese(keras.Model(images, flat, name="encoder"), 2)
    kernel = np.zeros((4, 4))
    kernel[[0, 2, 3, 1], [0, 1, 2, 3]] = 1  # against the clock: lower left, lower right, up
    network.get_layer("y_rot").set_weights([kernel, np.zeros(4)])
    network.compile(
        loss="sparse_categorical_crossentropy", metrics={"y_lab": [], "y_rot": ["accuracy"]}
    )
    white = np.zeros((4, 2, 2, 1), np.uint8)
    white[:, 0, 0] = 255
    targets = {"y_lab": np.zeros(4, int), "y_rot": np.arange(4)}
    given = {"labelled": white, "unlabelled": white}
    found = network.train_on_batch(given, targets, return_dict=True)
    assert found["y_rot_accuracy"] == 1


def test_recalibration_mixes_the_classes_of_images_sorted_by_class():
    images = np.repeat(np.array([0, 200], np.uint8), 32)[:, None, None, None]
    images = np.broadcast_to(images, (64, 2, 2, 1))
    inputs = keras.Input((2, 2, 1), dtype="uint8")
    x = keras.layers.Rescaling(1.0)(inputs)
    for _ in range(2):
        x = keras.layers.BatchNormalization()(x)
    encoder = keras.Model(inputs, x)
    model.recalibrate(encoder, images, batch_size=32)
    # a batch of one class alone is constant, and the second layer would see nothing but 0
    assert encoder.layers[-1].moving_variance.numpy() == pytest.approx(1, abs=0.1)
    assert encoder.layers[-2].moving_mean.numpy() == pytest.approx(100)  # it stays


def test_a_backbone_starts_from_a_file_of_weights(tmp_path):
    kept = model.build_backbone("small_cnn", 32)
    kept.save_weights(tmp_path / "own.weights.h5")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    weights = str(tmp_path / "own.weights.h5")
    frozen = model.build_frozen("small_cnn", 32, weights=weights)
    expected = kept(images / np.float32(127.5) - 1).numpy().mean(axis=(1, 2))
    assert model.embed(frozen, images) == pytest.approx(expected, abs=1e-4)
    encoder = model.build_encoder("small_cnn", 32, weights=weights)
    found = encoder.get_layer("small_cnn").get_weights()
    assert all((a == b).all() for a, b in zip(found, kept.get_weights(), strict=True))


def test_weights_that_are_not_there_or_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"none\.h5"):
        model.build_backbone("small_cnn", 32, str(tmp_path / "none.h5"))
    model.build_backbone("small_cnn", 32).save_weights(tmp_path / "own.weights.h5")
    with pytest.raises(ValueError, match="no weights of mobilenet_v2"):
        model.build_backbone("mobilenet_v2", 32, str(tmp_path / "own.weights.h5"))


def test_imagenet_without_a_network_says_what_to_do(monkeypatch):
    def refuse(**_):
        raise Exception("URL fetch failure: no route to host")  # as Keras does

    monkeypatch.setitem(model.BACKBONES, "mobilenet_v2", refuse)
    with pytest.raises(ValueError, match="copy that folder here"):
        model.build_backbone("mobilenet_v2", 96, "imagenet")


def test_a_users_keras_json_changes_nothing(tmp_path):
    """channels_first there once gave other accuracies without a word."""
    (tmp_path / "keras.json").write_text(
        '{"image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1,'
        ' "backend": "torch"}'
    )
    code = "import semisiam.method.model, keras; print(keras.config.image_data_format(), "
    code += "keras.config.floatx(), keras.config.epsilon(), keras.backend.backend(), "
    code += "keras.config.dtype_policy().name)"
    environment = os.environ | {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax"}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["channels_last", "float32", "1e-07", "tensorflow", "float32"]
