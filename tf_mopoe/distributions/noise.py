"""Random numbers that are the same with and without XLA, and on every device.

TensorFlow's stateless integers are; its floating-point uniforms and normals are not,
since XLA makes them from the same bits in another way. So these are made here.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp


class Share(NamedTuple):
    """The rows of a batch that one of several replicas has.

    Numbers are drawn for the whole batch and cut to these rows, so that a row gets the
    same ones on however many replicas.

    Attributes:
      start: Place of the first of them in the whole batch, int32.
      rows: How many there are, int32; may be 0.
      total: Rows of the whole batch, int32.
      present: bool `[total, M]`: which modalities the rows of the whole batch have;
        None for all.
    """

    start: tf.Tensor
    rows: tf.Tensor
    total: tf.Tensor
    present: tf.Tensor | None = None


def whole_rows(share: Share | None, rows: int | tf.Tensor) -> int | tf.Tensor:
    """How many rows to draw for, where `rows` are here."""
    return rows if share is None else share.total


def cut(share: Share | None, drawn: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """What was drawn for the whole batch, of the rows that are here."""
    if share is None:
        return drawn
    here = share.start + tf.range(share.rows)
    return tf.gather(drawn, here, axis=axis)


def stateless_seed(seed: int | tf.Tensor | None) -> tf.Tensor:
    """Turns `seed` into int32 `[2]`: an int by value, None by fresh entropy."""
    if seed is None or tf.is_tensor(seed) or np.ndim(seed):
        return tfp.random.sanitize_seed(seed)
    return tf.constant([0, seed], tf.int32)


def split_seed(seed: tf.Tensor, count: int = 2) -> list[tf.Tensor]:
    """Makes `count` seeds of one."""
    return tf.unstack(tf.random.experimental.stateless_split(seed, count, alg="philox"))


def fold_in(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """Makes a seed of a seed and a number."""
    number = tf.cast(number, tf.int32)
    return tf.random.experimental.stateless_fold_in(seed, number, alg="philox")


def uniform(shape, seed: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Uniform over the open interval (0, 1): the middles of 2^23 (2^52) cells.

    Args:
      shape: Of the result.
      seed: int32 `[2]`.
      dtype: float32 or float64.
    """
    bits = 52 if dtype == tf.float64 else 23
    word = tf.uint64 if dtype == tf.float64 else tf.uint32
    cells = tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=word, alg="philox"
    )
    cells = tf.bitwise.right_shift(cells, tf.constant(word.size * 8 - bits, word))
    # Fewer than 2^52 cells: exact as int64, and in the float.
    return (tf.cast(tf.cast(cells, tf.int64), dtype) + 0.5) * 2.0**-bits


def standard_normal(shape, seed: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Standard normal, by the inverse of its distribution function.

    Args:
      shape: Of the result.
      seed: int32 `[2]`.
      dtype: float32 (no value beyond 5.3) or float64 (8.1).
    """
    return math.sqrt(2.0) * tf.math.erfinv(2.0 * uniform(shape, seed, dtype) - 1.0)


def draws_by_row(seeds: tf.Tensor, count: int, sizes: Mapping[str, int], dtype):
    """Of each row from its own seed: points in (0, 1) and normals by name.

    Args:
      seeds: int32 `[B, 2]`.
      count: Of draws K.
      sizes: Name to size D.
      dtype: Of the normals.

    Returns:
      float64 `[K, B]` and name to `[K, B, D]`; the first k are the same for any K.
    """

    def of_row(seed):
        point_seed, normal_seed = split_seed(seed)
        return uniform([count], point_seed, tf.float64), {
            name: standard_normal([count, size], fold_in(normal_seed, index), dtype)
            for index, (name, size) in enumerate(sizes.items())
        }

    signature = (
        tf.TensorSpec([count], tf.float64),
        {name: tf.TensorSpec([count, size], dtype) for name, size in sizes.items()},
    )
    points, normals = tf.map_fn(of_row, seeds, fn_output_signature=signature)
    return tf.transpose(points), {
        name: tf.transpose(x, [1, 0, 2]) for name, x in normals.items()
    }
