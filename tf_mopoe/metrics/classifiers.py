"""Classifiers of one modality each, the judges of coherence."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tf_mopoe.data import ordered_batches, shuffled_batches


def image_classifier(
    event_shape: Sequence[int], num_classes: int, *, name: str | None = None
) -> keras.Sequential:
    """A small convolutional classifier with dropout.

    Args:
      event_shape: (height, width, channels).
      num_classes: C.
      name: Of the network.

    Returns:
      A built network from images in [0, 1] `[B, *event_shape]` to logits `[B, C]`.
    """
    return keras.Sequential(
        [
            keras.Input(tuple(event_shape)),
            keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Conv2D(128, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(num_classes),
        ],
        name=name,
    )


def train_classifier(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    epochs: int = 8,
    batch_size: int = 128,
    seed: int = 0,
    name: str | None = None,
) -> keras.Sequential:
    """Trains an `image_classifier` on the training split of one modality.

    Args:
      images: uint8 or float in [0, 1], `[N, height, width, channels]`.
      labels: int `[N]`, from 0 to C - 1.
      num_classes: C.
      epochs: Passes over the data; the learning rate falls to 0 along a cosine.
      batch_size: Rows of a step.
      seed: Of the order of the data.
      name: Of the network.

    Returns:
      The trained classifier; use it with `training=False`, as `predict` does.
    """
    classifier = image_classifier(images.shape[1:], num_classes, name=name)
    steps = len(images) // batch_size
    classifier.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, epochs * steps)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    batches = shuffled_batches({"x": images, "y": labels}, batch_size, seed=seed)
    classifier.fit(
        batches.map(lambda batch: (batch["x"], batch["y"])),
        epochs=epochs,
        steps_per_epoch=steps,
        shuffle=False,  # the batches are
        verbose=0,
    )
    return classifier


def classifier_accuracy(
    classifier: keras.Model, images: np.ndarray, labels: np.ndarray
) -> float:
    """Fraction of images whose most probable class is the label."""
    batches = ordered_batches({"x": images}, 512)
    logits = classifier.predict(batches.map(lambda batch: batch["x"]), verbose=0)
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def check_classifiers(
    classifiers: Mapping[str, keras.Model], modality_names: Sequence[str]
) -> None:
    """Raises ValueError unless there is a classifier for each modality, no more."""
    if set(classifiers) != set(modality_names):
        raise ValueError(
            f"`classifiers` must be one for each of {list(modality_names)}. "
            f"Received: {sorted(classifiers)}."
        )
