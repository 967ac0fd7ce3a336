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
    """Endless shuffled batches; the order of epoch e depends on (seed, e) only.

    Training that is resumed with `first_epoch` and `first_step` therefore gets the
    batches it would have got without the interruption. Rows that do not fill a batch at
    the end of an epoch are left out of it; each epoch has another order.

    Arrays are kept in memory and shuffled as a whole. A dataset is read again in each
    epoch and shuffled within a buffer: its rows should be mixed already, and it needs a
    `.cache()` if reading is slow. With several workers each takes a part of every
    batch.

    Args:
      rows: Name to `[N, ...]`, optionally with `"present"`: name to bool `[N]`; or a
        `tf.data.Dataset` of single rows of that form. uint8 becomes float32 in [0, 1].
      batch_size: Number of rows in each batch, over all replicas, at most N.
      seed: Seed of the orders and of `augment`, from 0 to 2^63 - 1.
      first_epoch: Number of the first epoch, from 0.
      first_step: Number of the first batch within that epoch, from 0. Earlier batches
        are skipped: those of arrays are never gathered, those of a dataset are read.
      augment: Function from a converted batch and a seed, int32 `[2]`, to a batch, for
        stateless random operations. The seed depends on `seed`, the epoch and the
        number of the batch within it.
      shuffle_buffer: Number of rows of a dataset to choose the next row from.

    Returns:
      A dataset of dictionaries of `[batch_size, ...]`, without end: N // batch_size
      batches for each epoch. Pass that number to `fit` as `steps_per_epoch`.

    Raises:
      ValueError: If the arrays differ in rows or have masked values, `batch_size` is
        not in [1, N], a number is out of range, or a flag has no array of its name.
      TypeError: If a number is not an integer, a flag not bool, or an array sparse.

    Example:
      >>> batches = shuffled_batches({"x": np.arange(6)}, 2, seed=0)
      >>> epoch = [x for batch in batches.take(3) for x in batch["x"].numpy().tolist()]
      >>> sorted(epoch)
      [0, 1, 2, 3, 4, 5]
    """
    batch_size = whole_number("batch_size", batch_size, minimum=1)
    seed = checked_seed(seed)
    first_epoch = whole_number("first_epoch", first_epoch)
    first_step = whole_number("first_step", first_step)
    shuffle_buffer = whole_number("shuffle_buffer", shuffle_buffer, minimum=1)
    rows = _checked_rows(rows)
    count = _count(rows)
    if count is None and isinstance(rows, tf.data.Dataset):
        # Read to find out: without a single full batch, epochs would never end.
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
    """Batches of all rows once, in order; the last batch may be smaller.

    Args:
      rows: Name to `[N, ...]`, optionally with `"present"`: name to bool `[N]`; or a
        `tf.data.Dataset` of single rows of that form. uint8 becomes float32 in [0, 1].
      batch_size: Number of rows in each batch, at least 1.

    Returns:
      A dataset of dictionaries of `[B, ...]`.

    Raises:
      ValueError: If the arrays differ in rows or have masked values, `batch_size` is
        less than 1, or a flag has no array of its name.
      TypeError: If `batch_size` is not an integer, a flag not bool, or an array sparse.

    Example:
      >>> batches = ordered_batches({"x": [5, 6, 7]}, 2)
      >>> [batch["x"].numpy().tolist() for batch in batches]
      [[5, 6], [7]]
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
    """Number of rows N.

    Args:
      rows: Rows that `shuffled_batches` takes.

    Raises:
      ValueError: If there are no arrays, they differ in rows or have masked values, or
        the number of rows of a dataset is unknown.
      TypeError: If a flag is not bool, or an array sparse.

    Example:
      >>> num_rows({"a": np.zeros([5, 3]), "present": {"a": np.ones(5, bool)}})
      5
    """
    count = _count(_checked_rows(rows))
    if count is None:
        raise ValueError(
            "The number of rows of this dataset is unknown. Count them, and declare "
            "it: `rows.apply(tf.data.experimental.assert_cardinality(N))`."
        )
    return count


def _checked_rows(rows: Any) -> Any:
    """The rows as arrays, or the dataset unchanged.

    Raises:
      TypeError, ValueError: If they are refused; see `shuffled_batches`.
    """
    if isinstance(rows, tf.data.Dataset):
        check_single_rows("rows", rows)
        return rows
    if not isinstance(rows, Mapping):
        raise TypeError(
            "`rows` must be a dictionary of name to array, or a tf.data.Dataset of "
            f"such rows. Received: {type(rows).__name__}."
        )
    if rows.get("present", ()) is None:
        rows = {name: x for name, x in rows.items() if name != "present"}
    arrays = plain_rows("rows", rows)
    check_flags("rows", arrays)
    for name, array in arrays.items():
        is_bytes = isinstance(array, np.ndarray) and array.dtype == np.uint8
        if is_bytes and array.max(initial=0) == 1:
            raise ValueError(
                f"`rows[{name!r}]` is uint8 and holds 0 and 1 only, which batches "
                "would scale to 0 and 1/255. Convert it with `astype('float32')`."
            )
    return arrays


def check_single_rows(argument: str, rows: tf.data.Dataset) -> None:
    """Raises TypeError or ValueError if a dataset's elements are not single rows."""
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
    """N; None for a dataset of unknown cardinality."""
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
    """The array as a tensor, in parts: `tf.constant` of a large one needs it twice."""
    if array.nbytes < _LARGE:
        return tf.constant(array)
    rows = max(1, _LARGE * len(array) // array.nbytes)
    parts = [array[start : start + rows] for start in range(0, len(array), rows)]
    return tf.concat([tf.constant(part) for part in parts], axis=0)


def _shuffled_within_buffer(rows, batch_size, base, shuffle_buffer):
    def batches(epoch, first):
        # `shuffle` mixes in the global seed, which this library does not control. The
        # graph of this function has its own seed; not 0, which TensorFlow would compare
        # with a tensor.
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
    """Raises an error if an `augment` function left out entries of its batch."""
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
    """Converts uint8 images to float32 in [0, 1]; leaves everything else unchanged."""
    return tf.nest.map_structure(
        lambda x: tf.cast(x, tf.float32) / 255.0 if x.dtype == tf.uint8 else x, batch
    )


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # With several workers each takes a part of the rows. The default, sharding by
    # file, would find no files; without sharding every worker would get all rows.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return options
