"""Random numbers that are the same with and without XLA, and on every device.

TensorFlow's stateless integers have this property. Its floating-point numbers do not,
because XLA computes them from the same bits in another way, so they are computed here.

There are two forms of seeds:

- int32 `[2]`, one for a batch: the numbers of a row depend on its place in the batch.
- int32 `[B, 2]`, one for each row (`row_seeds`): the numbers of a row depend on its own
  seed only, however the rows are batched. Every method of the models with an argument
  `seed` draws this way, and so do the served signatures.

`split_seed`, `fold_in`, `uniform_for` and `normal_for` accept both.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tf_mopoe.checks import whole_number
from tf_mopoe.distributions.threefry import threefry

#: Range of seeds: int64.
MIN_SEED, MAX_SEED = -(2**63), 2**63 - 1
#: Constants of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
_GOLDEN, _MIX = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


class ReplicaSlice(NamedTuple):
    """Rows of a global batch that one of several replicas holds.

    Numbers are drawn for the global batch and sliced, so that a row gets the same ones
    whatever the number of replicas.

    Attributes:
      start: Index of the first row in the global batch, int32.
      num_rows: Number of rows, int32; may be 0.
      global_batch_size: Number of rows of the global batch, int32.
      present: bool `[global_batch_size, M]`: which modalities the rows of the global
        batch have; None if all modalities are present.
    """

    start: tf.Tensor
    num_rows: tf.Tensor
    global_batch_size: tf.Tensor
    present: tf.Tensor | None = None


def global_batch_size(
    replica: ReplicaSlice | None, rows: int | tf.Tensor
) -> int | tf.Tensor:
    """Number of rows of the global batch; `rows` where `replica` is None."""
    return rows if replica is None else replica.global_batch_size


def take_local_rows(
    replica: ReplicaSlice | None, values: tf.Tensor, axis: int = 0
) -> tf.Tensor:
    """Slices values of the global batch to the rows of this replica.

    Args:
      replica: Rows of this replica; None returns `values` unchanged.
      values: Values with the rows of the global batch along `axis`.
      axis: Axis of the rows.
    """
    if replica is None:
        return values
    indices = replica.start + tf.range(replica.num_rows)
    return tf.gather(values, indices, axis=axis)


def checked_seed(seed: int | None) -> int | None:
    """Returns the seed as an int, or None.

    Raises:
      TypeError: If the seed is not a whole number.
      ValueError: If it does not fit into int64.
    """
    if seed is None:
        return None
    return whole_number("seed", seed, minimum=MIN_SEED, maximum=MAX_SEED)


def stateless_seed(seed: int | tf.Tensor | None) -> tf.Tensor:
    """Converts a seed to int32 `[2]`; None is fresh entropy. All 64 bits count."""
    if seed is None or tf.is_tensor(seed) or np.ndim(seed):
        return tfp.random.sanitize_seed(seed)
    low, high = np.array([checked_seed(seed)], np.int64).view(np.int32)
    return tf.constant([high, low], tf.int32)


def row_seeds(
    seed: int | None, rows: int | tf.Tensor, first_row: int | tf.Tensor = 0
) -> tf.Tensor:
    """Derives one seed for each row from one seed.

        row_seed(s, i) = mix(mix(s) + golden * (i + 1))    modulo 2^64

    where mix is the finaliser and golden the increment of SplitMix64 (Steele, Lea and
    Flood, OOPSLA 2014), so that neighbouring seeds and rows have unrelated streams.
    Clients compute the same numbers in NumPy (`export.signatures.row_seeds`), so that a
    served result equals a local one.

    Args:
      seed: Seed of all rows, in the range of int64; None for fresh entropy.
      rows: Number of rows B.
      first_row: Index of the first row.

    Returns:
      Seeds, int64 `[B]`.
    """
    if seed is None:
        base = tf.bitcast(tfp.random.sanitize_seed(None), tf.int64)
    else:
        base = tf.constant(checked_seed(seed), tf.int64)
    place = tf.cast(first_row, tf.int64) + tf.range(rows, dtype=tf.int64) + 1
    golden = tf.constant(_GOLDEN, tf.uint64)
    mixed = _mix(tf.bitcast(base, tf.uint64)) + golden * tf.cast(place, tf.uint64)
    return tf.bitcast(_mix(mixed), tf.int64)


def _mix(word: tf.Tensor) -> tf.Tensor:
    """Applies the finaliser of SplitMix64 to uint64."""

    def xor_shifted(word, distance):
        shifted = tf.bitwise.right_shift(word, tf.constant(distance, tf.uint64))
        return tf.bitwise.bitwise_xor(word, shifted)

    for distance, factor in zip((30, 27), _MIX):
        word = xor_shifted(word, distance) * tf.constant(factor, tf.uint64)
    return xor_shifted(word, 31)


def seed_pairs(seeds: tf.Tensor) -> tf.Tensor:
    """Converts seeds int64 `[B]` to int32 `[B, 2]` without losing a bit."""
    return tf.bitcast(tf.ensure_shape(seeds, [None]), tf.int32)


def split_seed(seed: tf.Tensor, count: int = 2) -> list[tf.Tensor]:
    """Splits one seed into `count` seeds; `[B, 2]` into `count` seeds of each row."""
    if seed.shape.rank == 2:
        return [fold_in(seed, index) for index in range(count)]
    return tf.unstack(tf.random.experimental.stateless_split(seed, count, alg="philox"))


def fold_in(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """Derives a seed from a seed and a number; from `[B, 2]` one for each row."""
    number = tf.cast(number, tf.int32)
    if seed.shape.rank == 2:
        # The second word of the counter is 0 in `uniform_by_row`.
        counters = (tf.cast(number, tf.uint32), tf.constant(1, tf.uint32))
        words = tf.stack(threefry(tf.bitcast(seed, tf.uint32), counters), axis=-1)
        return tf.bitcast(words, tf.int32)
    return tf.random.experimental.stateless_fold_in(seed, number, alg="philox")


def uniform(shape, seed: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Draws from the open interval (0, 1): the middles of 2^23 (2^52) cells.

    Args:
      shape: Shape of the result.
      seed: Seed, int32 `[2]`.
      dtype: float32 or float64.
    """
    word = tf.uint64 if dtype == tf.float64 else tf.uint32
    words = tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=word, alg="philox"
    )
    return _in_unit_interval(words, dtype)


def uniform_by_row(
    seeds: tf.Tensor, count: int | tf.Tensor, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Draws from (0, 1) as `uniform` does, each row from its own seed.

    Args:
      seeds: Seeds of the rows, int32 `[B, 2]`.
      count: Number of draws n of each row.
      dtype: float32 or float64.

    Returns:
      Draws `[B, n]`; the first ones are the same for any n.
    """
    wide = dtype == tf.float64
    blocks = count if wide else (count + 1) // 2
    counters = (tf.cast(tf.range(blocks), tf.uint32), tf.constant(0, tf.uint32))
    keys = tf.bitcast(seeds, tf.uint32)[:, tf.newaxis]
    x, y = threefry(keys, counters)  # [B, blocks]
    if wide:
        high = tf.bitwise.left_shift(tf.cast(x, tf.uint64), tf.constant(32, tf.uint64))
        return _in_unit_interval(
            tf.bitwise.bitwise_or(high, tf.cast(y, tf.uint64)), dtype
        )
    words = tf.reshape(tf.stack([x, y], axis=-1), [tf.shape(seeds)[0], 2 * blocks])
    return _in_unit_interval(words[:, :count], dtype)


def _in_unit_interval(words: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    bits = 52 if dtype == tf.float64 else 23
    distance = tf.constant(words.dtype.size * 8 - bits, words.dtype)
    cells = tf.bitwise.right_shift(words, distance)
    # At most 2^52 cells, which int64 and the floating dtype represent exactly.
    return (tf.cast(tf.cast(cells, tf.int64), dtype) + 0.5) * 2.0**-bits


def uniform_for(
    seed: tf.Tensor,
    rows: int | tf.Tensor,
    count: int,
    dtype: tf.DType = tf.float32,
    replica: ReplicaSlice | None = None,
) -> tf.Tensor:
    """Draws from (0, 1) as `uniform` does, for the rows of a batch: `[B, count]`.

    Args:
      seed: Seed of the batch, int32 `[2]`, or seeds of the rows, int32 `[B, 2]`.
      rows: Number of rows B.
      count: Number of draws of each row.
      dtype: float32 or float64.
      replica: Slice of the global batch that these rows are; None if they are all.
        Not used if each row has its own seed.
    """
    if seed.shape.rank == 2:
        return uniform_by_row(seed, count, dtype)
    shape = [global_batch_size(replica, rows), count]
    return take_local_rows(replica, uniform(shape, seed, dtype))


def standard_normal(shape, seed: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Draws standard normals by inverting their distribution function.

    Args:
      shape: Shape of the result.
      seed: Seed, int32 `[2]`.
      dtype: float32 (no value beyond 5.3) or float64 (8.1).
    """
    return _normal_quantile(uniform(shape, seed, dtype))


def normal_for(
    seed: tf.Tensor, draws: int, like: tf.Tensor, replica: ReplicaSlice | None = None
) -> tf.Tensor:
    """Draws standard normals for the rows of a batch.

    Args:
      seed: Seed of the batch, int32 `[2]`, or seeds of the rows, int32 `[B, 2]`.
      draws: Number of draws K.
      like: Tensor `[B, D]` whose shape and dtype the draws have.
      replica: Slice of the global batch that these rows are; None if they are all.
        Not used if each row has its own seed.

    Returns:
      Draws `[K, B, D]`.
    """
    rows, size = tf.unstack(tf.shape(like))
    if seed.shape.rank == 2:
        return normal_by_row(seed, draws, int(like.shape[-1]), like.dtype)
    shape = [draws, global_batch_size(replica, rows), size]
    return take_local_rows(replica, standard_normal(shape, seed, like.dtype), axis=1)


def normal_by_row(
    seeds: tf.Tensor, draws: int, size: int, dtype: tf.DType
) -> tf.Tensor:
    """Draws standard normals `[K, B, D]`, each row from its own seed `[B, 2]`.

    The first draws are the same for any K.
    """
    flat = _normal_quantile(uniform_by_row(seeds, draws * size, dtype))
    shape = [tf.shape(seeds)[0], draws, size]
    by_draw = tf.transpose(tf.reshape(flat, shape), [1, 0, 2])
    return tf.ensure_shape(by_draw, [draws, seeds.shape[0], size])


def _normal_quantile(probability: tf.Tensor) -> tf.Tensor:
    return math.sqrt(2.0) * tf.math.erfinv(2.0 * probability - 1.0)


def draws_by_row(
    seeds: tf.Tensor, count: int, sizes: Mapping[str, int], dtype: tf.DType
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Draws points in (0, 1) and normals by name, each row from its own seed.

    Args:
      seeds: Seeds of the rows, int32 `[B, 2]`.
      count: Number of draws K.
      sizes: Name to size D.
      dtype: Dtype of the normals.

    Returns:
      Points, float64 `[K, B]`, and name to normals `[K, B, D]`. The first k draws are
      the same for any K.
    """
    point_seeds, normal_seeds = split_seed(seeds)
    points = tf.transpose(uniform_by_row(point_seeds, count, tf.float64))
    return tf.ensure_shape(points, [count, seeds.shape[0]]), {
        name: normal_by_row(fold_in(normal_seeds, index), count, size, dtype)
        for index, (name, size) in enumerate(sizes.items())
    }
