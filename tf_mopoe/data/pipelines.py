"""tf.data pipelines over arrays in memory: seeded, and resumable at any epoch."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf


def _checked_rows(arrays: Mapping[str, np.ndarray]) -> int:
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) != 1:
        raise ValueError(
            f"`arrays` must all have the same number of rows. Received: {rows}."
        )
    return next(iter(rows.values()))


def _to_unit_interval(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """uint8 images to float32 in [0, 1]; everything else stays as it is."""
    return {
        name: tf.cast(value, tf.float32) / 255.0 if value.dtype == tf.uint8 else value
        for name, value in batch.items()
    }


def shuffled_batches(
    arrays: Mapping[str, np.ndarray],
    batch_size: int,
    *,
    seed: int,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Endless shuffled batches; epoch e's order depends on (seed, e) alone.

    So training that stops after an epoch and goes on with `first_epoch` sees what it
    would have seen. Rows left over at the end of an epoch wait for the next order.

    Args:
      arrays: Name to `[N, ...]`; uint8 becomes float32 in [0, 1].
      batch_size: Rows in each batch, at most N.
      seed: Of the orders.
      first_epoch: Number of the first epoch, from 0.

    Returns:
      A dataset of dictionaries of `[batch_size, ...]`: N // batch_size batches for
      each epoch, without end.

    Raises:
      ValueError: If the arrays differ in rows or `batch_size` is not in [1, N].
    """
    rows = _checked_rows(arrays)
    if not 1 <= batch_size <= rows:
        raise ValueError(
            f"`batch_size` must be from 1 to the {rows} rows. Received: {batch_size}."
        )
    tensors = {name: tf.constant(array) for name, array in arrays.items()}

    def order_of(epoch):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(rows), seed=tf.stack([tf.constant(seed, tf.int64), epoch])
        )
        return tf.data.Dataset.from_tensor_slices(order).batch(
            batch_size, drop_remainder=True
        )

    def gather(indices):
        return {name: tf.gather(tensor, indices) for name, tensor in tensors.items()}

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
    return (
        epochs.flat_map(order_of)
        .map(gather, num_parallel_calls=tf.data.AUTOTUNE)
        .map(_to_unit_interval, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(2)
    )


def ordered_batches(
    arrays: Mapping[str, np.ndarray], batch_size: int
) -> tf.data.Dataset:
    """All rows once, in order; the last batch may be smaller.

    Args:
      arrays: Name to `[N, ...]`; uint8 becomes float32 in [0, 1].
      batch_size: Rows in each batch, at least 1.

    Returns:
      A dataset of dictionaries of `[B, ...]`.

    Raises:
      ValueError: If the arrays differ in rows.
    """
    _checked_rows(arrays)
    return (
        tf.data.Dataset.from_tensor_slices(dict(arrays))
        .batch(batch_size)
        .map(_to_unit_interval)
        .prefetch(2)
    )
