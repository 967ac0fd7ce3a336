"""The boundary of a model: what a batch may look like, checked once."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_mopoe.distributions.event_likelihoods import EventLikelihood
from tf_mopoe.distributions.noise import ReplicaSlice
from tf_mopoe.modality import Modality
from tf_mopoe.models.inputs import PRESENT, ROWS_MUST_AGREE, checked_inputs

#: Marks the end of a message in the text that TensorFlow puts around it.
END_OF_MESSAGE = " [end]"


class Batch(NamedTuple):
    """A batch that passed the checks.

    Attributes:
      values: Modality name to `[B, *event_shape]`; in rows where it is missing, 0 or
        another value inside the likelihood's support. Modalities missing from the whole
        batch have no entry.
      present: bool `[B, M]`, or None where every modality is present in every row.
      replica: Slice of the global batch that these rows are; None where one replica has
        the whole batch.
    """

    values: dict[str, tf.Tensor]
    present: tf.Tensor | None
    replica: ReplicaSlice | None = None

    def num_rows(self) -> tf.Tensor:
        """Number of rows B, int32."""
        return tf.shape(next(iter(self.values.values())))[0]


def unpack_batch(
    inputs: Mapping[str, Any],
    modalities: Sequence[Modality],
    likelihoods: Sequence[EventLikelihood],
    dtype: str,
    *,
    check_values: bool = True,
) -> Batch:
    """Checks a batch and separates the modalities from the flags.

    Args:
      inputs: Modality name to `[B, *event_shape]` floating values (counts, classes and
        flags: also of an integer or bool dtype); optionally `"present"`:
        modality name to bool `[B]`, False in rows where the values are missing and may
        be anything, NaN included.
      modalities: Modalities of the model.
      likelihoods: Their likelihoods.
      dtype: Floating dtype of the values; class indices are int32.
      check_values: Whether NaN, infinity and values outside the likelihood's support
        are an error in rows that are present.

    Returns:
      The values, missing rows replaced, and the flags.

    Raises:
      TypeError: If `inputs` is not a mapping or a dtype is wrong.
      ValueError: If no modality of the model is in `inputs`, a name is unknown, a
        shape is wrong, a flag has no values beside it, or present values are not
        finite or outside the likelihood's support (inside a compiled function:
        `tf.errors.InvalidArgumentError`; not checked in what XLA compiles).
    """
    names = [modality.name for modality in modalities]
    inputs = checked_inputs(inputs, modalities, likelihoods)
    flags = inputs.get(PRESENT, {})
    arrays = {
        name: tf.convert_to_tensor(inputs[name]) for name in names if name in inputs
    }
    if check_values and not tf.executing_eagerly():
        with tf.control_dependencies(_shape_checks(arrays, flags, modalities)):
            arrays = {name: tf.identity(value) for name, value in arrays.items()}
    values, columns = {}, {}
    for modality, likelihood in zip(modalities, likelihoods):
        if modality.name not in inputs:
            continue
        value = _in_dtype(arrays[modality.name], modality, likelihood, dtype)
        flag = flags.get(modality.name)
        if flag is not None:
            flag = columns[modality.name] = tf.convert_to_tensor(flag)
            value = _filled(value, flag, likelihood.inside, modality.event_shape)
        if check_values:
            value = _check_values(value, flag, modality.name, likelihood)
        values[modality.name] = tf.cast(value, "int32") if likelihood.integer else value
    if len(values) == len(names) and not columns:
        return Batch(values, None)
    rows = tf.shape(next(iter(values.values())))[0]
    present = tf.stack(
        [
            columns.get(name, tf.fill([rows], tf.constant(name in values)))
            for name in names
        ],
        axis=-1,
    )
    return Batch(values, present)


@contextlib.contextmanager
def readable_errors(known: Sequence[Exception] = ()) -> Iterator[None]:
    """Turns errors of compiled steps and datasets about invalid data into ValueError.

    Args:
      known: Errors raised before, which TensorFlow has hidden.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if known:
            raise known[-1] from None
        text = error.message.replace("\\'", "'")
        match = re.search(
            r"(Modality '\w+' must h|All modalities of a batch must h|`sample_weight`)"
            r"[^\n]*",
            text,
        )
        if match:
            raise ValueError(match[0].partition(END_OF_MESSAGE)[0]) from None
        if "yielded an element" in text:
            received = text.rpartition("but yielded an element")[2] or text
            raise ValueError(
                "All batches of a dataset must have the same keys, shapes and dtypes. "
                "Where a modality is missing from some rows, give zeros and the flags "
                f"`present`. Received an element{received[:200].splitlines()[0]}"
            ) from None
        raise


def _in_dtype(
    value: tf.Tensor, modality: Modality, likelihood: EventLikelihood, dtype: str
) -> tf.Tensor:
    if not likelihood.integer:
        value = tf.cast(value, dtype)
    elif not value.dtype.is_floating:
        # Not int32 yet: the int64 that NumPy makes of NaN would become class 0.
        value = tf.cast(value, tf.int64)
    return tf.ensure_shape(value, [None, *modality.event_shape])


def _shape_checks(
    arrays: Mapping[str, tf.Tensor],
    flags: Mapping[str, Any],
    modalities: Sequence[Modality],
) -> list[tf.Operation]:
    """Checks of shapes that a compiled step knows only when it runs."""
    checks, rows = [], []
    for modality in modalities:
        value = arrays.get(modality.name)
        if value is None:
            continue
        shape = tf.shape(value)
        rows.append(shape[0])
        if modality.name in flags:
            rows.append(tf.shape(flags[modality.name])[0])
        if value.shape[1:].is_fully_defined():
            continue
        message = (
            f"Modality {modality.name!r} must have shape "
            f"{('B', *modality.event_shape)}, B rows. Received another one."
        )
        fits = tf.reduce_all(tf.equal(shape[1:], modality.event_shape))
        checks.append(tf.debugging.Assert(fits, [message + END_OF_MESSAGE]))
    agree = tf.reduce_all(tf.equal(tf.stack(rows), rows[0]))
    checks.append(tf.debugging.Assert(agree, [ROWS_MUST_AGREE + END_OF_MESSAGE]))
    return checks


def _filled(value: tf.Tensor, flag: tf.Tensor, inside, event_shape) -> tf.Tensor:
    """The values, `inside` the support in rows without the flag.

    As `[B, N]`: selecting by rows costs several times as much in more dimensions.
    """
    default = np.broadcast_to(inside, event_shape).reshape(1, -1)
    flat = tf.reshape(value, [-1, default.size])
    chosen = tf.where(flag[:, tf.newaxis], flat, tf.cast(default, value.dtype))
    return tf.reshape(chosen, [-1, *event_shape])


def _check_values(
    value: tf.Tensor, flag: tf.Tensor | None, name: str, likelihood: EventLikelihood
) -> tf.Tensor:
    """The values; those present must be finite and in the support."""
    axes = list(range(1, value.shape.rank))
    allowed = likelihood.supported(value)  # broadcast against [B, *event_shape]
    if value.dtype.is_floating:
        allowed &= tf.math.is_finite(value)
        if likelihood.integer:
            allowed &= value == tf.floor(value)
    rows = tf.reduce_all(allowed, axis=axes)  # [B]
    if flag is not None:
        rows |= ~flag
    if tf.executing_eagerly():
        if not tf.reduce_all(rows):
            row = int(tf.argmin(tf.cast(rows, tf.int32)))
            elements = tf.broadcast_to(allowed, tf.shape(value))[row]
            received = float(value[row][~elements][0])
            message = _invalid_values_message(name, likelihood, str(received))
            raise ValueError(message)
        return value
    message = _invalid_values_message(name, likelihood, "other values")
    check = tf.debugging.Assert(tf.reduce_all(rows), [message + END_OF_MESSAGE])
    # Before an embedding sees them, whose own error would come first.
    with tf.control_dependencies([check]):
        return tf.identity(value)


def _invalid_values_message(
    name: str, likelihood: EventLikelihood, received: str
) -> str:
    return (
        f"Modality '{name}' must hold {likelihood.support_description()} in rows that "
        f"are present. Received: {received}. Where values are missing, mark the row "
        f"with False in the batch's 'present' flags for '{name}'; "
        "tf_mopoe.data.mark_missing does that for rows of NaN."
    )
