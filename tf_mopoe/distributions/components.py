"""Drawing mixture components: independently, stratified over a batch, contiguously."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp


def stateless_seed(seed: int | tf.Tensor | None) -> tf.Tensor:
    """Turns `seed` into int32 `[2]`: an int by value, None by fresh entropy."""
    if seed is None or tf.is_tensor(seed) or np.ndim(seed):
        return tfp.random.sanitize_seed(seed)
    return tf.constant([0, seed], tf.int32)


def independent_components(
    available: tf.Tensor, num_draws: int | tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """Draws each row's component uniformly from its available ones.

    Args:
      available: bool `[..., B, S]`; a row without any draws from all S.
      num_draws: Number of draws n.
      seed: int32 `[2]`.

    Returns:
      int32 `[n, ..., B]` in [0, S).
    """
    available = _all_where_none(available)
    counts = tf.reduce_sum(tf.cast(available, tf.int32), axis=-1)  # [..., B]
    shape = tf.concat([[num_draws], tf.shape(counts)], axis=0)
    uniform = tf.random.stateless_uniform(shape, seed)
    return _nth_available(available, _floor_of_product(uniform, counts))


def stratified_components(
    available: tf.Tensor, seed: tf.Tensor, present: tf.Tensor | None = None
) -> tf.Tensor:
    """Draws one component a row, shared out evenly over the batch.

    Rows with the same modalities present form a group; of its n rows every one of the
    S_g available components gets floor(n / S_g) or ceil(n / S_g), and each row gets
    each of them with probability 1 / S_g exactly. With ranks i from a random
    permutation of the group and one integer r uniform in [0, S_g) for all of it,

        component(i) = floor((i S_g + r) / n)

    which is systematic sampling in integers, so that rounding can't unbalance it.

    Args:
      available: bool `[B, S]`; a row without any draws from all S.
      seed: int32 `[2]`.
      present: bool `[B, M]` that `available` follows from; None if all rows are alike.

    Returns:
      int32 `[B]` in [0, S).
    """
    rank_seed, shift_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    available = _all_where_none(available)
    counts = tf.reduce_sum(tf.cast(available, tf.int32), axis=-1)  # [B]
    batch = tf.shape(counts)[0]
    shuffled = tf.argsort(tf.random.stateless_uniform([batch], rank_seed))  # [B]
    uniform = tf.random.stateless_uniform([batch], shift_seed)
    if present is None:
        order, rank, size = shuffled, tf.range(batch), batch
        shift = _floor_of_product(uniform[:1], counts[:1])
    else:
        bits = 2 ** np.arange(present.shape[-1], dtype=np.int64)
        pattern = tf.reduce_sum(tf.cast(present, tf.int64) * bits, axis=-1)  # [B]
        by_pattern = tf.argsort(tf.gather(pattern, shuffled), stable=True)
        order = tf.gather(shuffled, by_pattern)
        pattern = tf.gather(pattern, order)  # ascending, rows in random order within
        first = tf.searchsorted(pattern, pattern, side="left")
        rank = tf.range(batch) - first
        size = tf.searchsorted(pattern, pattern, side="right") - first
        counts = tf.gather(counts, order)
        shift = _floor_of_product(tf.gather(uniform, first), counts)
    nth = (rank * counts + shift) // size
    return _nth_available(available, tf.gather(nth, tf.argsort(order)))


def contiguous_components(batch: int | tf.Tensor, num_components: int) -> tf.Tensor:
    """Splits the batch as the published code does: not random, for parity alone.

    Component s gets the floor(B / S) rows that follow component s - 1's; the last one
    also gets the remainder.

    Returns:
      int32 `[B]`.
    """
    rows = tf.range(batch)
    size = tf.maximum(batch // num_components, 1)
    last = tf.constant(num_components - 1, tf.int32)
    # Fewer rows than components: floor(B / S) is 0 and the last one gets all of them.
    component = tf.where(batch >= num_components, rows // size, last)
    return tf.minimum(component, last)


def _all_where_none(available: tf.Tensor) -> tf.Tensor:
    return available | ~tf.reduce_any(available, axis=-1, keepdims=True)


def _floor_of_product(uniform: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    drawn = tf.cast(uniform * tf.cast(counts, uniform.dtype), tf.int32)
    return tf.minimum(drawn, counts - 1)


def _nth_available(available: tf.Tensor, nth: tf.Tensor) -> tf.Tensor:
    """Index of the nth True in the last axis, counted from 0."""
    upto = tf.cumsum(tf.cast(available, tf.int32), axis=-1)  # [..., B, S]
    passed = tf.cast(upto <= nth[..., tf.newaxis], tf.int32)
    return tf.reduce_sum(passed, axis=-1)
