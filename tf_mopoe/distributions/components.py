"""Draws of mixture components: independent, stratified over a batch, contiguous."""

import numpy as np
import tensorflow as tf

from tf_mopoe.distributions.noise import (
    ReplicaSlice,
    global_batch_size,
    split_seed,
    take_local_rows,
    uniform,
)


def independent_components(
    available: tf.Tensor, num_draws: int | tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """Draws each row's component uniformly from its available ones.

    Args:
      available: Components of each row, bool `[..., B, S]`; a row with none draws from
        all S.
      num_draws: Number of draws n.
      seed: Seed of the draws, int32 `[2]`.

    Returns:
      int32 `[n, ..., B]` in [0, S).
    """
    available = _fill_empty_rows(available)
    counts = tf.reduce_sum(tf.cast(available, tf.int32), axis=-1)  # [..., B]
    shape = tf.concat([[num_draws], tf.shape(counts)], axis=0)
    return _nth_available(available, _floor_of_product(uniform(shape, seed), counts))


def stratified_components(
    available: tf.Tensor,
    seed: tf.Tensor,
    present: tf.Tensor | None = None,
    *,
    num_draws: int = 1,
) -> tf.Tensor:
    """Draws components for every row, each draw stratified over the batch.

    Rows with the same modalities present form a group; of its n rows every one of the
    S_g available components gets floor(n / S_g) or ceil(n / S_g), and each row gets
    each of them with probability 1 / S_g exactly. With ranks i from a random
    permutation of the group and one integer r uniform in [0, S_g) for all of it,

        component(i) = floor((i S_g + r) / n)

    which is systematic sampling in integers, so that rounding cannot unbalance it. The
    draws of one row are independent, as importance weighting requires.

    Args:
      available: Components of each row, bool `[B, S]`; a row with none draws from all.
      seed: Seed of the draws, int32 `[2]`.
      present: Modalities of each row, bool `[B, M]`, which determine `available`; None
        if all rows have the same.
      num_draws: Number of draws K of each row.

    Returns:
      int32 `[K, B]` in [0, S).
    """
    rank_seed, shift_seed = split_seed(seed)
    available = _fill_empty_rows(available)
    counts = tf.reduce_sum(tf.cast(available, tf.int32), axis=-1)  # [B]
    batch = tf.shape(counts)[0]
    draws = [num_draws, batch]
    shuffled = tf.argsort(uniform(draws, rank_seed))  # [K, B]
    fraction = uniform(draws, shift_seed)
    if present is None:
        order, rank, size = shuffled, tf.range(batch), batch
        shift = _floor_of_product(fraction[:, :1], counts[:1])
        counts = counts[tf.newaxis]
    else:
        bits = 2 ** np.arange(present.shape[-1], dtype=np.int64)
        pattern = tf.reduce_sum(tf.cast(present, tf.int64) * bits, axis=-1)  # [B]
        by_pattern = tf.argsort(tf.gather(pattern, shuffled), stable=True)
        order = tf.gather(shuffled, by_pattern, batch_dims=1)
        pattern = tf.gather(pattern, order)  # ascending, rows in random order within
        first = tf.searchsorted(pattern, pattern, side="left")
        rank = tf.range(batch) - first
        size = tf.searchsorted(pattern, pattern, side="right") - first
        counts = tf.gather(counts, order)
        shift = _floor_of_product(tf.gather(fraction, first, batch_dims=1), counts)
    nth = (rank * counts + shift) // size
    nth = tf.gather(nth, tf.argsort(order), batch_dims=1)
    return _nth_available(available, nth)


def weighted_components(
    weights: tf.Tensor,
    seed: tf.Tensor,
    *,
    num_draws: int = 1,
    replica: ReplicaSlice | None = None,
) -> tf.Tensor:
    """Draws components by their weights, each draw stratified over the batch.

    The components divide [0, 1) into intervals of the size of their weights. The i-th
    row of a random order takes the component whose interval contains (i + v) / B, where
    v is uniform; this number is uniform for each row.

    Args:
      weights: Weights `[B, S]` with sum 1 in each row; a row of zeros draws uniformly.
      seed: Seed of the draws, int32 `[2]`.
      num_draws: Number of draws K of each row, independent of each other.
      replica: Slice of the global batch that these rows are; None if they are all.

    Returns:
      int32 `[K, B]` in [0, S).
    """
    rank_seed, shift_seed = split_seed(seed)
    batch = global_batch_size(replica, tf.shape(weights)[0])
    rank = tf.argsort(uniform([num_draws, batch], rank_seed))
    shift = uniform([num_draws, 1], shift_seed, tf.float64)
    point = (tf.cast(rank, tf.float64) + shift) / tf.cast(batch, tf.float64)  # [K, B]
    return component_at(weights, take_local_rows(replica, point, axis=1))


def component_at(weights: tf.Tensor, point: tf.Tensor) -> tf.Tensor:
    """Returns the component whose interval of [0, 1) contains a point.

    Args:
      weights: Sizes of the intervals, `[..., S]`, with sum 1 in each row; a row of
        zeros means equal weights.
      point: Points `[n..., ...]` in [0, 1).

    Returns:
      int32 `[n..., ...]` in [0, S); never one of weight 0.
    """
    count = weights.shape[-1]
    weights = tf.cast(weights, tf.float64)
    total = tf.reduce_sum(weights, axis=-1, keepdims=True)
    weights = tf.where(total > 0.0, weights / total, 1.0 / count)
    upper = tf.cumsum(weights, axis=-1)  # [..., S]
    passed = tf.cast(upper <= point[..., tf.newaxis], tf.int32)  # [n..., ..., S]
    # Rounding may leave the sum below 1: then take the last one that has any weight.
    last = count - 1 - tf.argmax(tf.reverse(weights > 0.0, [-1]), -1, tf.int32)
    return tf.minimum(tf.reduce_sum(passed, axis=-1), last)


def contiguous_components(batch: int | tf.Tensor, num_components: int) -> tf.Tensor:
    """Splits the batch into S contiguous parts, as the published code does.

    Each component gets floor(B / S) rows, the last one also the remainder. The split is
    not random; it serves comparisons with the published code.

    Returns:
      int32 `[B]`.
    """
    rows = tf.range(batch)
    size = tf.maximum(batch // num_components, 1)
    last = tf.constant(num_components - 1, tf.int32)
    # Fewer rows than components: floor(B / S) is 0 and the last one gets all of them.
    component = tf.where(batch >= num_components, rows // size, last)
    return tf.minimum(component, last)


def _fill_empty_rows(available: tf.Tensor) -> tf.Tensor:
    """Makes all components available in rows that have none."""
    return available | ~tf.reduce_any(available, axis=-1, keepdims=True)


def _floor_of_product(fraction: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    drawn = tf.cast(fraction * tf.cast(counts, fraction.dtype), tf.int32)
    return tf.minimum(drawn, counts - 1)


def _nth_available(available: tf.Tensor, nth: tf.Tensor) -> tf.Tensor:
    """Returns the index of the nth True in the last axis, counted from 0."""
    count = tf.cumsum(tf.cast(available, tf.int32), axis=-1)  # [..., B, S]
    passed = tf.cast(count <= nth[..., tf.newaxis], tf.int32)
    return tf.reduce_sum(passed, axis=-1)
