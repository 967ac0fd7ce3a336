"""Sampled subsets: k for each row in place of all 2^n - 1."""

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

#: Largest number of modalities whose subsets are counted exactly.
MOST_MODALITIES = 30


class DrawnSubsets(NamedTuple):
    """The subsets that stand for all of a row's.

    Attributes:
      mask: bool `[..., B, S, M]`.
      weights: `[..., B, S]`, rows of sum 1; 0 where a subset can't be formed, and all
        0 in a row with nothing present.
    """

    mask: tf.Tensor
    weights: tf.Tensor


def draw_subsets(
    sampler: SubsetSampler,
    present: tf.Tensor,
    seed: tf.Tensor,
    *,
    alike: bool = False,
    dtype: tf.DType = tf.float32,
    replica: ReplicaSlice | None = None,
) -> DrawnSubsets:
    """Draws subsets so that sums over the uniform mixture are estimated without bias.

    A row's N = 2^n - 1 non-empty subsets are numbered by their members' bits. The a
    that are always taken have weight 1 / N; the R = N - a others, in order of number,
    are cut into k' = k - a stretches, and one is taken from each by systematic
    sampling with one integer t uniform in [0, R):

        others[floor((j R + t) / k')],   j = 0 .. k' - 1,   weight R / (N k') each.

    Args:
      sampler: Says how many, and which always.
      present: bool `[..., B, M]`, M up to 30.
      seed: int32 `[2]`; or `[B, 2]`, one for each row of `present` `[B, M]`.
      alike: Whether rows with the same modalities present get the same subsets.
      dtype: Of the weights.
      replica: Slice of the global batch that the rows are, if they are one; not with
        `alike`.

    Returns:
      Subsets and weights, the subsets of `always` first.

    Raises:
      ValueError: If M is above 30 or `always` has an index outside [0, M).
    """
    modalities = present.shape[-1]
    marked = _marked(sampler, modalities)  # [a, M]
    num_marked, num_others = len(marked), sampler.num_subsets - len(marked)
    rank = tf.cumsum(tf.cast(present, tf.int64), axis=-1, exclusive=True)  # [..., B, M]
    bit = tf.where(present, tf.bitwise.left_shift(tf.ones_like(rank), rank), 0)
    total = tf.reduce_sum(bit, axis=-1)[..., tf.newaxis]  # N, [..., B, 1]
    here = tf.reduce_all(present[..., tf.newaxis, :] | ~marked, axis=-1)  # [..., B, a]
    rest = total - tf.reduce_sum(tf.cast(here, tf.int64), axis=-1, keepdims=True)  # R

    if alike or present.shape.rank != 2:
        shape = tf.ones_like(tf.shape(rest)) if alike else tf.shape(rest)
        fraction = uniform(shape, seed, tf.float64)
    else:
        fraction = uniform_for(seed, tf.shape(rest)[0], 1, tf.float64, replica)
    start = tf.cast(fraction * tf.cast(rest, tf.float64), tf.int64)
    start = tf.minimum(start, tf.maximum(rest - 1, 0))
    number = 1 + (np.arange(num_others) * rest + start) // num_others  # [..., B, k']
    # Skip the marked ones, from the smallest number on.
    marked_number = tf.reduce_sum(
        bit[..., tf.newaxis, :] * marked.astype(np.int64), axis=-1
    )  # [..., B, a]
    marked_number = tf.where(here, marked_number, tf.int64.max)
    for index in range(num_marked):
        skipped = tf.sort(marked_number, axis=-1)[..., index : index + 1]
        number += tf.cast(number >= skipped, tf.int64)

    members = tf.bitwise.bitwise_and(number[..., tf.newaxis], bit[..., tf.newaxis, :])
    shape = tf.concat([tf.shape(here), [modalities]], axis=0)
    mask = tf.concat([tf.broadcast_to(marked, shape), members > 0], axis=-2)
    # Divided as integers' doubles: exact, and 0 where nothing is present.
    count = tf.cast(total, tf.float64)
    each = tf.math.divide_no_nan(tf.cast(here, tf.float64), count)
    other = tf.math.divide_no_nan(tf.cast(rest, tf.float64), count * num_others)
    weights = tf.concat([each, tf.repeat(other, num_others, axis=-1)], axis=-1)
    return DrawnSubsets(mask, tf.cast(weights, dtype))


def subsets_for_inference(
    sampler: SubsetSampler, loc: tf.Tensor, present: tf.Tensor | None
) -> DrawnSubsets:
    """The sampler's subsets for experts `loc` `[..., B, M, D]`, by its own seed."""
    if present is None:
        present = tf.ones(tf.shape(loc)[:-1], tf.bool)
        present = tf.ensure_shape(present, loc.shape[:-1])
    seed = stateless_seed(sampler.seed)
    return draw_subsets(sampler, present, seed, alike=True, dtype=loc.dtype)


def _marked(sampler: SubsetSampler, modalities: int) -> np.ndarray:
    if modalities > MOST_MODALITIES:
        raise ValueError(
            f"Sampled subsets are for up to {MOST_MODALITIES} modalities. "
            f"Received: {modalities}."
        )
    marked = np.zeros([len(sampler.always), modalities], bool)
    for row, subset in enumerate(sampler.always):
        if not all(0 <= index < modalities for index in subset):
            raise ValueError(
                f"`always` of a SubsetSampler must hold indices from 0 to "
                f"{modalities - 1}. Received: {subset}."
            )
        marked[row, list(subset)] = True
    return marked
