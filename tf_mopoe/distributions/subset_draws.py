"""Draws of k subsets for each row, in place of all 2^n - 1."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_mopoe.distributions.noise import (
    ReplicaSlice,
    stateless_seed,
    uniform,
    uniform_for,
)
from tf_mopoe.subsets import SubsetSampler

#: Number of modalities up to which subsets are numbered exactly.
MAX_MODALITIES = 30


class DrawnSubsets(NamedTuple):
    """Sample of the subsets of each row.

    Attributes:
      mask: Membership mask, bool `[..., B, S, M]`.
      weights: Weights `[..., B, S]` with sum 1 in each row; 0 where a subset cannot be
        formed, and all 0 in a row without any modality.
    """

    mask: tf.Tensor
    weights: tf.Tensor


def draw_subsets(
    sampler: SubsetSampler,
    present: tf.Tensor,
    seed: tf.Tensor,
    *,
    by_pattern: bool = False,
    dtype: tf.DType = tf.float32,
    replica: ReplicaSlice | None = None,
) -> DrawnSubsets:
    """Draws subsets so that sums over the uniform mixture are estimated without bias.

    A row's N = 2^n - 1 non-empty subsets are numbered by their members' bits. The a
    subsets that are always taken have weight 1 / N. The other R = N - a, in order of
    number, are divided into k' = k - a strata. One subset is taken from each by
    systematic sampling, with one integer t uniform in [0, R):

        others[floor((j R + t) / k')],   j = 0 .. k' - 1,   weight R / (N k') each.

    Args:
      sampler: Sampler with the number of subsets and those that are always taken.
      present: Modalities of each row, bool `[..., B, M]`, M up to 30.
      seed: Seed of the draws, int32 `[2]`; or `[B, 2]`, one for each row of `present`
        `[B, M]`.
      by_pattern: Whether rows with the same modalities get the same subsets.
      dtype: Dtype of the weights.
      replica: Slice of the global batch that these rows are; None if they are all. Not
        used with `by_pattern`.

    Returns:
      Subsets and weights; the subsets of `always` come first.

    Raises:
      ValueError: If M is above 30 or `always` has an index outside [0, M).
    """
    modalities = present.shape[-1]
    always = _always_mask(sampler, modalities)  # [a, M]
    num_always, num_others = len(always), sampler.num_subsets - len(always)
    rank = tf.cumsum(tf.cast(present, tf.int64), axis=-1, exclusive=True)  # [..., B, M]
    bit = tf.where(present, tf.bitwise.left_shift(tf.ones_like(rank), rank), 0)
    total = tf.reduce_sum(bit, axis=-1)[..., tf.newaxis]  # N, [..., B, 1]
    # [..., B, a]
    formed = tf.reduce_all(present[..., tf.newaxis, :] | ~always, axis=-1)
    rest = total - tf.reduce_sum(tf.cast(formed, tf.int64), axis=-1, keepdims=True)  # R

    if by_pattern or present.shape.rank != 2:
        shape = tf.ones_like(tf.shape(rest)) if by_pattern else tf.shape(rest)
        fraction = uniform(shape, seed, tf.float64)
    else:
        fraction = uniform_for(seed, tf.shape(rest)[0], 1, tf.float64, replica)
    start = tf.cast(fraction * tf.cast(rest, tf.float64), tf.int64)
    start = tf.minimum(start, tf.maximum(rest - 1, 0))
    number = 1 + (np.arange(num_others) * rest + start) // num_others  # [..., B, k']
    # Skip the subsets of `always`, starting with the smallest number.
    always_number = tf.reduce_sum(
        bit[..., tf.newaxis, :] * always.astype(np.int64), axis=-1
    )  # [..., B, a]
    always_number = tf.where(formed, always_number, tf.int64.max)
    for index in range(num_always):
        skipped = tf.sort(always_number, axis=-1)[..., index : index + 1]
        number += tf.cast(number >= skipped, tf.int64)

    members = tf.bitwise.bitwise_and(number[..., tf.newaxis], bit[..., tf.newaxis, :])
    shape = tf.concat([tf.shape(formed), [modalities]], axis=0)
    mask = tf.concat([tf.broadcast_to(always, shape), members > 0], axis=-2)
    # Division of integers in float64 is exact, and 0 where nothing is present.
    count = tf.cast(total, tf.float64)
    each = tf.math.divide_no_nan(tf.cast(formed, tf.float64), count)
    other = tf.math.divide_no_nan(tf.cast(rest, tf.float64), count * num_others)
    weights = tf.concat([each, tf.repeat(other, num_others, axis=-1)], axis=-1)
    return DrawnSubsets(mask, tf.cast(weights, dtype))


def subsets_for_inference(
    sampler: SubsetSampler, loc: tf.Tensor, present: tf.Tensor | None
) -> DrawnSubsets:
    """Draws the subsets for experts `loc` `[..., B, M, D]` with the sampler's seed."""
    if present is None:
        present = tf.ones(tf.shape(loc)[:-1], tf.bool)
        present = tf.ensure_shape(present, loc.shape[:-1])
    seed = stateless_seed(sampler.seed)
    return draw_subsets(sampler, present, seed, by_pattern=True, dtype=loc.dtype)


def _always_mask(sampler: SubsetSampler, modalities: int) -> np.ndarray:
    if modalities > MAX_MODALITIES:
        raise ValueError(
            f"A SubsetSampler is for up to {MAX_MODALITIES} modalities. "
            f"Received: {modalities}."
        )
    always = np.zeros([len(sampler.always), modalities], bool)
    for row, subset in enumerate(sampler.always):
        if not all(0 <= index < modalities for index in subset):
            raise ValueError(
                f"`always` of a SubsetSampler must hold indices from 0 to "
                f"{modalities - 1}. Received: {subset}."
            )
        always[row, list(subset)] = True
    return always
