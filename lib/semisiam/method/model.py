"""The encoder and the two networks around it (paper, III, Algorithm 1 and Figure 2)."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from semisiam.method.pipeline import image_batches
from semisiam.method.pretext import TASKS, list_moves
from semisiam.method.views import VIEW_TASKS, draw_views

if keras.backend.backend() != "tensorflow":
    raise ImportError("Keras was imported with another backend: import semisiam before keras")
tf.get_logger().setLevel("ERROR")  # it warns of each network after the fifth in a kernel
keras.config.set_image_data_format("channels_last")  # a user's keras.json may say otherwise
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)

EMBEDDING_SIZE = 128
PIXELS = 32  # side of the images that the reference `pixels` compares (px)
PRETEXT_IMAGES = 2000  # enough for an accuracy to one percent
RECALIBRATION_IMAGES = 5000  # a mean over so many is exact enough; N_l is never more in the paper


def small_cnn(input_shape: tuple[int, int, int]) -> keras.Model:
    """Build the teaching network: three stride-2 convolutions, seconds a run on digits.

    Its batch normalisation has momentum 0.9, because a run of seconds makes few updates.
    """
    x = inputs = keras.Input(input_shape)
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    return keras.Model(inputs, x, name="small_cnn")


BACKBONES = {
    "small_cnn": small_cnn,
    "mobilenet_v2": keras.applications.MobileNetV2,
    "inception_v3": keras.applications.InceptionV3,
    "resnet50_v2": keras.applications.ResNet50V2,
}


def build_backbone(backbone: str, image_size: int, weights: str = "none") -> keras.Model:
    """Build a backbone without its top, from [-1, 1] (B, S, S, 3) to (B, H, W, D).

    `weights` are `none`, at random; `imagenet`, downloaded by Keras; or an .h5 file. Raises
    `ValueError` if there is no internet, or the file does not fit.
    """
    build, start = BACKBONES[backbone], "imagenet" if weights == "imagenet" else None
    options = {} if backbone == "small_cnn" else {"include_top": False, "weights": start}
    try:
        network = build(input_shape=(image_size, image_size, 3), **options)
        if weights not in ("none", "imagenet"):
            with warnings.catch_warnings(action="error"):  # Keras only warns of layers it leaves
                network.load_weights(weights)
    except Exception as error:  # Keras's downloader raises the bare class
        if weights == "none":
            raise
        told = f"no weights of {backbone} without its top: {error}"
        if start:
            told = f"cannot be downloaded ({error}); on a machine with internet Keras keeps them "
            told += "in ~/.keras/models: copy that folder here, or name the .h5 file"
        raise ValueError(f"weights = {weights!r}: {told}") from None
    return network


def build_encoder(
    backbone: str, image_size: int, *, bn_momentum: float | None = None, weights: str = "none"
) -> keras.Model:
    """Build the encoder: scaling, backbone, pooling, 4096 and 128 (paper, III-B).

    From uint8 (B, S, S, 3), 0-255, to the embedding, float32 (B, 128), ≥ 0. `bn_momentum` is that
    of every batch normalisation, None keeps the backbone's own. They run as TensorFlow's fused
    operation; a saved copy has Keras's own. `weights` as in `build_backbone`.
    """
    images, x = _scale(image_size)
    x = build_backbone(backbone, image_size, weights)(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(4096, activation="relu", name="hidden")(x)
    x = layers.Dense(EMBEDDING_SIZE, activation="relu", dtype="float32", name="embedding")(x)
    encoder = keras.Model(images, x, name="encoder")
    for norm in batch_norms(encoder):
        norm.momentum = norm.momentum if bn_momentum is None else bn_momentum
        norm.call = partial(_normalise, norm)
    return encoder


def build_frozen(backbone: str, image_size: int, *, weights: str = "none") -> keras.Model:
    """Build what is not trained: pixels at 32 px, flat, or a backbone's pooled features.

    From uint8 (B, S, S, 3), 0-255, to float32 (B, D); D is 3,072 for `pixels`. Without 4096 and
    128, whose random units would only blur the features.
    """
    images, x = _scale(image_size)
    if backbone == "pixels":
        x = layers.Resizing(PIXELS, PIXELS, antialias=True, dtype="float32")(x)
        x = layers.Flatten(name="embedding")(x)
    else:
        x = build_backbone(backbone, image_size, weights)(x)
        x = layers.GlobalAveragePooling2D(name="embedding", dtype="float32")(x)
    return keras.Model(images, x, name="encoder")


def _scale(image_size: int):
    images = keras.Input((image_size, image_size, 3), dtype="uint8", name="images")
    return images, layers.Rescaling(1 / 127.5, offset=-1, name="to_plus_minus_one")(images)


def _normalise(norm, images, training=None, mask=None):
    """`BatchNormalization.call` in one operation each way, which Keras 3 makes of a dozen."""
    mean, variance = norm.moving_mean.value, norm.moving_variance.value
    scale = norm.gamma.value if norm.scale else tf.ones_like(mean)
    fused = partial(tf.raw_ops.FusedBatchNormV3, x=images, scale=scale, offset=norm.beta.value)
    if not training:
        return fused(mean=mean, variance=variance, epsilon=norm.epsilon, is_training=False).y
    found = fused(mean=[], variance=[], epsilon=norm.epsilon, is_training=True)
    # the operation's variance is the unbiased one, Keras keeps the biased
    biased = found.batch_variance * (1 - mean.shape[0] / tf.cast(tf.size(images), tf.float32))
    for moving, now in ((mean, found.batch_mean), (variance, biased)):
        moving.assign(norm.momentum * moving + (1 - norm.momentum) * now)
    return found.y


def batch_norms(encoder: keras.Model) -> list[layers.BatchNormalization]:
    """List the batch normalisations of an encoder, nested ones too, from input to output."""
    found = []
    for layer in encoder.layers:
        found += batch_norms(layer) if isinstance(layer, keras.Model) else [layer]
    return [layer for layer in found if isinstance(layer, layers.BatchNormalization)]


def share_of_initial_statistics(encoder: keras.Model, mode: str, n_updates: int) -> float:
    """How much of the starting statistics is left in the moving ones, in [0, 1]: momentum^updates.

    A siamese step updates them twice, once a stream. The largest over all layers; 0 without any.
    """
    calls = n_updates * (2 if mode == "semi" else 1)
    return max((norm.momentum**calls for norm in batch_norms(encoder)), default=0.0)


def build_supervised(encoder: keras.Model, n_classes: int) -> keras.Model:
    """Put the class head on the encoder: the paper's baseline."""
    images = keras.Input(encoder.input_shape[1:], dtype="uint8", name="labelled")
    y_lab = _head(n_classes, "y_lab")(encoder(images))
    return keras.Model(images, {"y_lab": y_lab}, name="supervised")


def transform(images: tf.Tensor, labels: tf.Tensor, task: str = "rotation") -> tf.Tensor:
    """Do `pretext.transform` on the device, as part of a compiled step: one gather of pixels.

    For a task on views, both views of each image, see `views.draw_views`.
    """
    if task in VIEW_TASKS:
        return draw_views(images, labels, task)
    moves = tf.constant(list_moves(task, images.shape[1]))
    pixels = tf.reshape(images, (-1, moves.shape[1], images.shape[-1]))
    moved = tf.gather(pixels, tf.gather(moves, labels), batch_dims=1)
    return tf.reshape(moved, tf.shape(images))


class Siamese(keras.Model):
    """A network of two streams that transforms the unlabelled images as a part of each step."""

    def train_step(self, data):
        """Do one step on a batch of `pipeline.siamese_batches`."""
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        changed = transform(inputs["unlabelled"], targets["y_rot"], self.task)
        return super().train_step((inputs | {"unlabelled": changed}, targets, weights))


def build_siamese(encoder: keras.Model, n_classes: int, task: str = "rotation") -> Siamese:
    """Call the one encoder on both inputs and put a head on each (Algorithm 1).

    Two calls, so each stream is normalised by its own batch statistics. `y_rot` has one unit for
    each transform of the task, or is what `views.VIEW_TASKS` says. Called on images that are
    transformed already; the training step transforms them itself.
    """
    shape = encoder.input_shape[1:]
    labelled = keras.Input(shape, dtype="uint8", name="labelled")
    unlabelled = keras.Input(shape, dtype="uint8", name="unlabelled")
    class_head = _head(n_classes, "y_lab")
    y_lab = class_head(encoder(labelled))
    seen = encoder(unlabelled)
    if task == "none":  # its loss counts nothing, so a third of each step is spared
        seen = keras.ops.stop_gradient(seen)
    if views := VIEW_TASKS.get(task):
        y_rot = views.head(class_head)(seen)
    else:
        y_rot = _head(len(TASKS[task]), "y_rot")(seen)
    inputs = {"labelled": labelled, "unlabelled": unlabelled}
    network = Siamese(inputs, {"y_lab": y_lab, "y_rot": y_rot}, name="siamese")
    network.task = task
    return network


def _head(n_classes: int, name: str) -> layers.Dense:
    return layers.Dense(n_classes, activation="softmax", dtype="float32", name=name)


def build_classifier(network: keras.Model | None, encoder: keras.Model) -> keras.Model:
    """Build what is kept of a trained network: from images to embedding and class probabilities.

    A model from uint8 (B, S, S, 3) to `{embedding: (B, D), y_lab: (B, n_classes)}`, D 128 but for
    frozen ones, with the network's weights; it loads without this library. No network, no `y_lab`.
    """
    images = keras.Input(encoder.input_shape[1:], dtype="uint8", name="images")
    outputs = {"embedding": encoder(images)}
    if network is not None:
        outputs["y_lab"] = network.get_layer("y_lab")(outputs["embedding"])
    return keras.Model(images, outputs, name="classifier")


def score_pretext(
    network: keras.Model, encoder: keras.Model, images: np.ndarray, labels: np.ndarray, task: str
) -> dict[str, float | None]:
    """Score the pretext head on test images, uint8 (N, S, S, 3), int (N,): was the task learnt?

    `accuracy` in [0, 1], each image in all ways of the task (guessing has 0.25 for rotations); for
    a task on views its own check, see `views`. `by_batch`: batches of at most 64 in random order,
    normalised by themselves, as in training, since moving averages lag behind and mix the streams.
    2,000 images at random if there are more.
    """
    rng, views, given = np.random.default_rng(0), VIEW_TASKS.get(task), []
    chosen = rng.permutation(len(images))[:PRETEXT_IMAGES]
    n_shown = len(chosen) * (1 if views else len(TASKS[task]))
    ways, rows = np.divmod(rng.permutation(n_shown), len(chosen))
    head = keras.Sequential([encoder, network.get_layer("y_rot")])
    with _kept_weights(head):
        for part in np.array_split(np.arange(n_shown), -(-n_shown // 64)):
            shown = transform(images[chosen[rows[part]]], (rows if views else ways)[part], task)
            outputs = head(shown, training=True).numpy()
            given.append(outputs.reshape(-1, len(part), outputs.shape[-1]))  # views, images, units
    given = np.concatenate(np.concatenate(given, axis=1))
    if views:
        return views.check(given, labels[chosen[rows]]) | {"by_batch": True}
    return {"accuracy": float((given.argmax(axis=1) == ways).mean()), "by_batch": True}


def embed(encoder: keras.Model, images: np.ndarray) -> np.ndarray:
    """Embed images in inference mode: uint8 (N, S, S, 3) to float32 (N, D), D 128 if trained."""
    return encoder.predict(image_batches(images), verbose=0)


def recalibrate(encoder: keras.Model, images: np.ndarray, batch_size: int) -> None:
    """Re-estimate the statistics of every batch normalisation on `images`, in place.

    A moving average forgets its initial mean 0 and variance 1 by momentum^updates, too slowly after
    few updates. This replaces it by the exact mean and variance over the batches (pooled by the law
    of total variance), each batch normalised by its own statistics as in training (precise BN, Wu
    & Johnson, arXiv 2105.07576). No label is used and no trainable weight touched. Of `images`,
    uint8 (N, S, S, 3), what the encoder was trained on, at most 5,000 are used, in random order, as
    data sets are sorted by class and training's batches are not; `batch_size` is training's.
    """
    images = images[np.random.default_rng(0).permutation(len(images))[:RECALIBRATION_IMAGES]]
    norms = batch_norms(encoder)
    momenta = [norm.momentum for norm in norms]
    means, squares = [0.0] * len(norms), [0.0] * len(norms)
    try:
        for norm in norms:
            norm.momentum = 0.0  # so that the moving statistics are those of the last batch
        for batch in image_batches(images, batch_size):
            encoder(batch, training=True)
            share = len(batch) / len(images)
            for i, norm in enumerate(norms):
                mean = norm.moving_mean.numpy().astype(float)
                means[i] += share * mean
                squares[i] += share * (norm.moving_variance.numpy().astype(float) + mean**2)
    finally:  # also if it is interrupted
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    for norm, mean, square in zip(norms, means, squares, strict=True):
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(square - mean**2)


@contextmanager
def recalibrated(encoder: keras.Model, images: np.ndarray, batch_size: int) -> Iterator[None]:
    """`recalibrate` for the `with` block; the old statistics come back at its end."""
    with _kept_weights(encoder):
        recalibrate(encoder, images, batch_size)
        yield


@contextmanager
def _kept_weights(encoder: keras.Model) -> Iterator[None]:
    kept = encoder.get_weights()
    try:
        yield
    finally:
        encoder.set_weights(kept)


def score_modes(
    classifier: keras.Model, images: np.ndarray, labels: np.ndarray, batch_size: int
) -> dict[str, float]:
    """Accuracy of the class head on D_l as trained on, in `training` and in `inference` mode.

    In training mode each batch is normalised by its own statistics, in inference mode by the
    moving ones: far apart, they say that the moving ones are wrong, not the weights. The order is
    random, as in `recalibrate`. The classifier, from `build_classifier`, is left as it was.
    """
    order = np.random.default_rng(0).permutation(len(images))
    batches, right = image_batches(images[order], batch_size), {}
    with _kept_weights(classifier.get_layer("encoder")):
        for mode in ("inference", "training"):  # in this order: training moves the statistics
            given = [classifier(batch, training=mode == "training")["y_lab"] for batch in batches]
            right[mode] = float((np.concatenate(given).argmax(axis=1) == labels[order]).mean())
    return right
