"""tf.data pipelines over rows: seeded, deterministic, and resumable at any step."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.data.checks import (
    check_flags,
    checked_seed,
    plain_rows,
    stateless_base,
)

_LARGE = 2**24  # bytes

#: Arrays `[N, ...]` by name, with optional `"present"` flags by name; or a dataset of
#: rows of that form.
Rows: TypeAlias = Mapping[str, Any] | tf.data.Dataset
#: From a batch and a seed, int32 `[2]`, to a batch.
Augment = Callable[[dict[str, Any], tf.Tensor], dict[str, Any]]


def shuffled_batches(
    rows: Rows,
    batch_size: int,
    *,
    seed: int,
    first_epoch: int = 0,
    first_step: int = 0,
    augment: Augment | None = None,
    shuffle_buffer: int = 10_000,
) -> tf.data.Dataset:
    """Endless shuffled batches; epoch e's order depends on (seed, e) alone.

    So training that stops and goes on with `first_epoch` and `first_step` sees what it
    would have seen. Rows left over at the end of an epoch wait for the next order.

    Arrays are kept in memory and shuffled as a whole. A dataset is read anew in each
    epoch and shuffled within a buffer: let it be mixed already, and give it a
    `.cache()` where reading is costly. With several workers each takes its share of
    every batch.

    Args:
      rows: Name to `[N, ...]`, optionally with `"present"`: name to bool `[N]`; or a
        `tf.data.Dataset` of single rows of that form. uint8 becomes float32 in [0, 1].
      batch_size: Rows in each batch, at most N; with several replicas of them all.
      seed: Seed of the orders and of `augment`, from 0 to 2^63 - 1.
      first_epoch: Number of the first epoch, from 0.
      first_step: Number of the first batch within that epoch, from 0. Those before it
        are skipped: of arrays they are never gathered, of a dataset its rows are read.
      augment: A function from a batch, converted, and a seed, int32 `[2]`, to a batch;
        for stateless random operations. The seed depends on `seed`, the epoch and the
        batch's place in it.
      shuffle_buffer: Rows of a dataset to choose from.

    Returns:
      A dataset of dictionaries of `[batch_size, ...]`: N // batch_size batches for
      each epoch, without end. Give `fit` that number as `steps_per_epoch`.

    Raises:
      ValueError: If the arrays differ in rows, have masked values, `batch_size` is not
        in [1, N], a number is out of range, or a flag has no array beside it.
      TypeError: If a number is not an integer, a flag not bool, or an array sparse.
    """
    batch_size = whole_number("batch_size", batch_size, minimum=1)
    seed = checked_seed(seed)
    first_epoch = whole_number("first_epoch", first_epoch)
    first_step = whole_number("first_step", first_step)
    shuffle_buffer = whole_number("shuffle_buffer", shuffle_buffer, minimum=1)
    rows = _checked_rows(rows)
    count = _count(rows)
    if count is None and isinstance(rows, tf.data.Dataset):
        # It has to be asked: without a single batch it would be read for ever.
        enough = any(True for _ in rows.skip(batch_size - 1).take(1))
        count = batch_size if enough else batch_size - 1
    if count is not None and batch_size > count:
        raise ValueError(
            f"`batch_size` must be from 1 to the {count} rows. Received: {batch_size}."
        )
    steps = (count or 0) // batch_size
    if not isinstance(rows, tf.data.Dataset) and first_step > steps:
        raise ValueError(
            f"`first_step` must be within the {steps} batches of an epoch; whole "
            f"epochs go to `first_epoch`. Received: {first_step}."
        )
    base = stateless_base(seed)
    if isinstance(rows, tf.data.Dataset):
        batches = _shuffled_within_buffer(rows, batch_size, base, shuffle_buffer)
    else:
        batches = _shuffled_in_memory(rows, count, batch_size, seed)

    def number(epoch):
        first = tf.where(epoch == first_epoch, tf.constant(first_step, tf.int64), 0)
        return tf.data.Dataset.zip(
            tf.data.Dataset.range(first, np.iinfo(np.int64).max), batches(epoch, first)
        ).map(lambda step, batch: (epoch, step, batch))

    def finish(epoch, step, batch):
        batch = _to_unit_interval(batch)
        if augment is None:
            return batch
        fold = tf.random.experimental.stateless_fold_in
        augmented = augment(batch, fold(fold(base, epoch), step))
        _check_augmented(batch, augmented)
        return augmented

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
    return (
        epochs.flat_map(number)
        .map(finish, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(2)
        .with_options(_options())
    )


def ordered_batches(rows: Rows, batch_size: int) -> tf.data.Dataset:
    """All rows once, in order; the last batch may be smaller.

    Args:
      rows: Name to `[N, ...]`, optionally with `"present"`: name to bool `[N]`; or a
        `tf.data.Dataset` of single rows of that form. uint8 becomes float32 in [0, 1].
      batch_size: Rows in each batch, at least 1.

    Returns:
      A dataset of dictionaries of `[B, ...]`.

    Raises:
      ValueError: If the arrays differ in rows, have masked values, `batch_size` is less
        than 1, or a flag has no array beside it.
      TypeError: If `batch_size` is not an integer, a flag not bool, or an array sparse.
    """
    batch_size = whole_number("batch_size", batch_size, minimum=1)
    rows = _checked_rows(rows)
    _count(rows)
    if not isinstance(rows, tf.data.Dataset):
        rows = tf.data.Dataset.from_tensor_slices(rows)
    return (
        rows.batch(batch_size)
        .map(_to_unit_interval)
        .prefetch(2)
        .with_options(_options())
    )


def num_rows(rows: Rows) -> int:
    """N.

    Args:
      rows: As of `shuffled_batches`.

    Raises:
      ValueError: If arrays differ in rows, have masked values or there are none, or a
        dataset does not know its number of rows.
      TypeError: If a flag is not bool, or an array sparse.
    """
    count = _count(_checked_rows(rows))
    if count is None:
        raise ValueError(
            "This dataset does not know its number of rows. Count them, and say so: "
            "`rows.apply(tf.data.experimental.assert_cardinality(N))`."
        )
    return count


def _checked_rows(rows: Any) -> Any:
    """Arrays as `plain_rows`; or the dataset, of single rows.

    Raises:
      TypeError, ValueError: As `shuffled_batches`.
    """
    if isinstance(rows, tf.data.Dataset):
        check_single_rows("rows", rows)
        return rows
    if not isinstance(rows, Mapping):
        raise TypeError(
            "`rows` must be a dictionary of name to array, or a tf.data.Dataset of "
            f"such rows. Received: {type(rows).__name__}."
        )
    given = {name: x for name, x in rows.items() if name != "present" or x is not None}
    arrays = plain_rows("rows", given)
    check_flags("rows", arrays)
    for name, array in arrays.items():
        is_bytes = isinstance(array, np.ndarray) and array.dtype == np.uint8
        if is_bytes and array.max(initial=0) == 1:
            raise ValueError(
                f"`rows[{name!r}]` is uint8 and holds 0 and 1 only, of which batches "
                "would make 0 and 1/255. Convert it with `astype('float32')`."
            )
    return arrays


def check_single_rows(argument: str, rows: tf.data.Dataset) -> None:
    """Raises TypeError or ValueError if a dataset's elements are no single rows."""
    spec = rows.element_spec
    if not isinstance(spec, Mapping):
        raise TypeError(
            f"`{argument}` must be a dataset of dictionaries of name to value. "
            f"Received: {spec}."
        )
    check_flags(argument, spec)
    flags = spec.get("present") or {}
    shapes = [getattr(part, "shape", None) for part in tf.nest.flatten(spec)]
    if any(flag.shape.rank for flag in flags.values()) or all(
        shape is not None and shape.rank and shape[0] is None for shape in shapes
    ):
        raise ValueError(
            f"`{argument}` must be a dataset of single rows. Received: batches, "
            f"{spec}. Leave out `.batch(...)`, or call `.unbatch()`."
        )


def _count(rows: Rows) -> int | None:
    """N; None for a dataset that does not know."""
    if isinstance(rows, tf.data.Dataset):
        count = int(rows.cardinality())
        return count if count >= 0 else None
    counts: dict[str, Any] = {}
    for name, value in rows.items():
        parts = value if isinstance(value, Mapping) else {None: value}
        for part, array in parts.items():
            key = name if part is None else f"{name}[{part!r}]"
            counts[key] = len(array) if array.ndim else "none"
    if len(set(counts.values())) != 1 or "none" in counts.values():
        raise ValueError(
            "`rows` must be at least one array, all with the same number of rows. "
            f"Received: {counts}."
        )
    return next(iter(counts.values()))


def _shuffled_in_memory(rows, count, batch_size, seed):
    tensors = tf.nest.map_structure(_tensor, rows)

    def batches(epoch, first):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(count),
            seed=tf.stack([tf.constant(seed, tf.int64), epoch]),
        )
        return (
            tf.data.Dataset.from_tensor_slices(order)
            .batch(batch_size, drop_remainder=True)
            .skip(first)
            .map(gather, num_parallel_calls=tf.data.AUTOTUNE)
        )

    def gather(indices):
        return tf.nest.map_structure(lambda tensor: tf.gather(tensor, indices), tensors)

    return batches


def _tensor(array: np.ndarray) -> tf.Tensor:
    """The array as a tensor; `tf.constant` on the whole would hold large ones twice."""
    if array.nbytes < _LARGE:
        return tf.constant(array)
    rows = max(1, _LARGE * len(array) // array.nbytes)
    parts = [array[start : start + rows] for start in range(0, len(array), rows)]
    return tf.concat([tf.constant(part) for part in parts], axis=0)


def _shuffled_within_buffer(rows, batch_size, base, shuffle_buffer):
    def batches(epoch, first):
        # `shuffle` mixes in the global seed, which is none of ours. This function's
        # graph has its own, but not 0, with which it can't compare a tensor.
        tf.compat.v1.get_default_graph().seed = 1
        seed = tf.random.stateless_uniform(
            [],
            tf.random.experimental.stateless_fold_in(base, epoch),
            minval=None,
            maxval=None,
            dtype=tf.int64,
        )
        return (
            rows.shuffle(shuffle_buffer, seed=seed, reshuffle_each_iteration=False)
            .skip(first * batch_size)
            .batch(batch_size, drop_remainder=True)
        )

    return batches


def _check_augmented(batch: Mapping[str, Any], augmented: Any) -> None:
    """Raises an error if an `augment` function lost something of its batch."""
    if not isinstance(augmented, Mapping):
        raise TypeError(
            "`augment` must return the batch, a dictionary. Received: "
            f"{type(augmented).__name__}."
        )
    lost = sorted(set(batch) - set(augmented))
    flags = set(batch.get("present", ())) - set(augmented.get("present", ()))
    lost += [f"present[{name!r}]" for name in sorted(flags)]
    if lost:
        raise ValueError(
            f"`augment` must return all entries of the batch. Missing: {lost}. Without "
            "its flags a missing modality would count as present."
        )


def _to_unit_interval(batch: dict[str, Any]) -> dict[str, Any]:
    """uint8 images to float32 in [0, 1]; everything else stays as it is."""
    return tf.nest.map_structure(
        lambda x: tf.cast(x, tf.float32) / 255.0 if x.dtype == tf.uint8 else x, batch
    )


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # Several workers that read by themselves: each takes its share of the rows. Left
    # to chance, sharding by file would find no files, and none would give all rows to
    # every worker.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return options
