"""Classifiers of one modality each, which score what a model generates."""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.data import ordered_batches, shuffled_batches
from tf_mopoe.data.checks import check_not_sparse, plain_array
from tf_mopoe.metrics.labels import check_attributes, check_classes
from tf_mopoe.metrics.seeds import checked_seed

#: Convolutions halve an image until no side is larger than this.
MAX_FINAL_SIDE = 4
#: Minimum number of steps an epoch, given that many rows.
MIN_STEPS_PER_EPOCH = 8


def classifier_inputs(values, *, num_symbols: int | None = None) -> tf.Tensor:
    """Inputs of a classifier, made from data and from decoded means in the same way.

    Args:
      values: uint8 images, which become float32 in [0, 1]; or other numbers, which are
        kept. With `num_symbols`: class indices of an integer dtype `[N, L]`, which
        become one-hot; or probabilities `[N, L, C]`, which become one-hot at the most
        probable symbol, the text that a person would read.
      num_symbols: C, size of a text's alphabet; None for other modalities.

    Returns:
      Floating values, `[N, *event_shape]` or one-hot `[N, L, C]`.

    Raises:
      TypeError: If the values are sparse, or of several types.
      ValueError: If probabilities are not of C symbols, or values are masked.

    Example:
      >>> classifier_inputs(np.array([[0, 255]], np.uint8)).numpy().tolist()
      [[0.0, 1.0]]
      >>> classifier_inputs(np.array([[2, 0]]), num_symbols=3).numpy().tolist()
      [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]]
    """
    check_not_sparse("values", values)
    if not tf.is_tensor(values):
        values = plain_array("values", values)
    values = tf.convert_to_tensor(values)
    if num_symbols is not None:
        if values.dtype.is_floating:
            if values.shape[-1] != num_symbols:
                raise ValueError(
                    f"Probabilities must have shape [N, L, {num_symbols}]. Received: "
                    f"{tuple(values.shape)}. Class indices must have an integer dtype."
                )
            values = tf.argmax(values, axis=-1)
        return tf.one_hot(tf.cast(values, tf.int32), num_symbols)
    if values.dtype == tf.uint8:
        return tf.cast(values, tf.float32) / 255.0
    return values if values.dtype.is_floating else tf.cast(values, tf.float32)


def default_classifier(
    event_shape: Sequence[int],
    num_outputs: int,
    *,
    num_symbols: int | None = None,
    seed: int | None = None,
    name: str | None = None,
) -> keras.Sequential:
    """A small classifier with dropout, chosen by the shape of the events.

    Images: convolutions of stride 2, three or as many as it takes to reach 4 x 4, then
    a dense layer. Text: three convolutions, then the maximum over positions, so that a
    word counts wherever it is. Vectors: two dense layers; scale columns to about 1.

    Args:
      event_shape: Event shape of the modality: (height, width, channels) of an image,
        (size,) of a vector, (L,) of a text of L symbols.
      num_outputs: O, number of classes or attributes.
      num_symbols: C, size of a text's alphabet; None for images and vectors.
      seed: Seed of weights and dropout. None: drawn from Python's generator, which
        `keras.utils.set_random_seed` seeds.
      name: Name of the network.

    Returns:
      A built network from the output of `classifier_inputs` to logits `[B, O]`.

    Raises:
      TypeError: If `num_outputs` or `seed` is not a whole number.
      ValueError: If there is no such network for the shape, or a number is out of
        range.

    Example:
      >>> default_classifier((28, 28, 3), 10, seed=0).output_shape
      (None, 10)
      >>> default_classifier((8,), 10, num_symbols=71, seed=0).input_shape
      (None, 8, 71)
    """
    shape = tuple(event_shape)
    if len(shape) not in ((1, 3) if num_symbols is None else (1,)):
        raise ValueError(
            "`event_shape` must be (height, width, channels) or (size,), and with "
            f"`num_symbols` (length,). Received: {shape}. For other shapes build a "
            "classifier of your own."
        )
    draw = random if seed is None else random.Random(checked_seed(seed))
    num_outputs = whole_number("num_outputs", num_outputs, minimum=1)
    if num_symbols is not None:
        shape = (*shape, num_symbols)

    def options():
        initializer = keras.initializers.GlorotUniform(draw.randrange(2**31))
        return {"activation": "relu", "kernel_initializer": initializer}

    return keras.Sequential(
        [
            keras.Input(shape),
            *_hidden_layers(shape, options),
            keras.layers.Dropout(0.5, seed=draw.randrange(2**31)),
            keras.layers.Dense(num_outputs, **{**options(), "activation": None}),
        ],
        name=name,
    )


def _hidden_layers(shape, options: Callable[[], dict[str, Any]]):
    layers = keras.layers
    if len(shape) == 1:
        return [layers.Dense(128, **options()) for _ in range(2)]
    if len(shape) == 2:
        convolutions = [
            layers.Conv1D(filters, 5, strides=strides, padding="same", **options())
            for filters, strides in ((64, 1), (128, 2), (128, 1))
        ]
        return [*convolutions, layers.GlobalMaxPooling1D()]
    halvings = max(3, math.ceil(math.log2(max(shape[:2]) / MAX_FINAL_SIDE)))
    convolutions = [
        layers.Conv2D(min(32 * 2**n, 128), 3, strides=2, padding="same", **options())
        for n in range(halvings)
    ]
    # 128 features: their covariance can be estimated from a few hundred rows.
    return [*convolutions, layers.Flatten(), layers.Dense(128, **options())]


def train_classifier(
    values: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int | None = None,
    num_symbols: int | None = None,
    epochs: int = 8,
    batch_size: int = 128,
    seed: int = 0,
    name: str | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> keras.Sequential:
    """Trains a `default_classifier` on the training split of one modality.

    The loss is the cross-entropy of the class, or of each attribute. The same seed
    gives the same classifier; global random generators are not used.

    Args:
      values: Complete values that `classifier_inputs` takes, `[N, ...]`.
      labels: Classes, int `[N]` from 0 to C - 1; or flags of attributes, bool `[N, A]`.
      num_classes: C; None for attributes.
      num_symbols: Size of a text's alphabet; None for images and vectors.
      epochs: Number of passes over the data; the learning rate falls to 0 along a
        cosine.
      batch_size: Number of rows a step, reduced to N // 8 for small N.
      seed: Seed of weights, dropout and the order of the data.
      name: Name of the network.
      progress: Wrapper of the iterable of batches, e.g. `tqdm.tqdm`.

    Returns:
      The trained classifier; use it with `training=False`, as `predict` does.

    Raises:
      TypeError, ValueError: If an argument is not as described.

    Example:
      >>> x, classes = np.array([[-1.0], [1.0]] * 4), np.array([0, 1] * 4)
      >>> train_classifier(x, classes, num_classes=2, epochs=1).output_shape
      (None, 2)
    """
    if num_classes is not None:
        num_classes = whole_number("num_classes", num_classes, minimum=2)
    values = _complete_values(values)
    if num_classes is None:
        labels = check_attributes(labels, rows=len(values))
    else:
        labels = check_classes(labels, num_classes, rows=len(values))
    if num_symbols is not None and not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.int32)  # uint8 would be read as an image
    count = labels.shape[1] if num_classes is None else num_classes
    classifier = default_classifier(
        values.shape[1:2] if num_symbols is not None else values.shape[1:],
        count,
        num_symbols=num_symbols,
        seed=seed,
        name=name,
    )
    epochs = whole_number("epochs", epochs, minimum=1)
    batch_size = whole_number("batch_size", batch_size, minimum=1)
    batch_size = min(batch_size, max(1, len(values) // MIN_STEPS_PER_EPOCH))
    steps = epochs * (len(values) // batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    loss: keras.losses.Loss = keras.losses.BinaryCrossentropy(from_logits=True)
    if num_classes is not None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(optimizer=keras.optimizers.Adam(schedule), loss=loss)
    batches = (
        shuffled_batches({"x": values, "y": labels}, batch_size, seed=seed)
        .take(steps)
        .apply(tf.data.experimental.assert_cardinality(steps))
    )
    for batch in progress(batches):
        inputs = classifier_inputs(batch["x"], num_symbols=num_symbols)
        classifier.train_on_batch(inputs, batch["y"])
    return classifier


def classifier_accuracy(
    classifier: keras.Model, values: np.ndarray, labels: np.ndarray
) -> float:
    """Fraction of rows whose most probable class is the label.

    Args:
      classifier: Network to logits of classes `[B, C]`.
      values: Values that `classifier_inputs` takes, `[N, ...]`.
      labels: Classes, int `[N]`.

    Returns:
      The accuracy in [0, 1].

    Raises:
      TypeError, ValueError: If an argument is not as described.

    Example:
      >>> identity = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
      >>> logits = np.array([[2.0, 1.0], [0.0, 1.0]])
      >>> classifier_accuracy(identity, logits, np.array([0, 0]))
      0.5
    """
    logits = classifier_logits(classifier, values)  # [N, C]
    labels = check_classes(labels, logits.shape[-1], rows=len(logits))
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def _complete_values(values) -> np.ndarray:
    """The values as an array.

    Raises:
      TypeError: If they are sparse, or of several types.
      ValueError: If they have no rows, are masked, or not finite.
    """
    values = plain_array("values", values)
    if values.ndim == 0:
        raise ValueError("`values` must have rows. Received: a single number.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(
            "`values` must be complete and finite. Received: NaN or infinity. Select "
            "the rows that have the modality."
        )
    return values


def classifier_logits(classifier: keras.Model, values: np.ndarray) -> np.ndarray:
    """Logits in inference mode.

    Args:
      classifier: Network to logits; if its input has one dimension more than `values`,
        they are class indices.
      values: Values that `classifier_inputs` takes, `[N, ...]`.

    Returns:
      Logits `[N, O]`.
    """
    values, symbols = _complete_values(values), None
    if len(classifier.input_shape) > values.ndim:  # class indices
        values, symbols = values.astype(np.int32), classifier.input_shape[-1]
    batches = ordered_batches({"x": values}, 512).map(
        lambda batch: classifier_inputs(batch["x"], num_symbols=symbols)
    )
    # Not `predict`, which warns of retracing after a few different classifiers.
    return np.concatenate([classifier(inputs, training=False) for inputs in batches])


def classifier_features(classifier: keras.Sequential) -> keras.Model:
    """The classifier without its last layer, and without the dropout before it.

    Args:
      classifier: Network of at least two layers, such as `default_classifier`.

    Returns:
      A network from the output of `classifier_inputs` to features `[B, F]`.

    Raises:
      ValueError: If there is no layer before the last.

    Example:
      >>> classifier_features(default_classifier((5,), 3, seed=0)).output_shape
      (None, 128)
    """
    hidden = [
        layer
        for layer in classifier.layers[:-1]
        if not isinstance(layer, (keras.layers.Dropout, keras.layers.InputLayer))
    ]
    if not hidden:
        raise ValueError(
            "`classifier` must have a layer before its last. Received layers: "
            f"{[layer.name for layer in classifier.layers]}."
        )
    return keras.Model(classifier.inputs[0], hidden[-1].output)
