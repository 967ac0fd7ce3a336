"""The boundary of a model: what a batch may look like, checked once."""

import contextlib
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_mopoe.distributions.event_likelihoods import EventLikelihood
from tf_mopoe.distributions.noise import Share
from tf_mopoe.modality import Modality

#: Tells where a message ends among TensorFlow's own words.
END_OF_MESSAGE = " [end]"


class Batch(NamedTuple):
    """A batch that passed the checks.

    Attributes:
      values: Modality name to `[B, *event_shape]`, in rows where it is missing 0 or
        another value inside the likelihood's support;
        modalities missing from the whole batch have no entry.
      present: bool `[B, M]`, or None where every modality is present in every row.
      share: Which rows of a larger batch these are, where several replicas share one.
    """

    values: dict[str, tf.Tensor]
    present: tf.Tensor | None
    share: Share | None = None


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
      modalities: Those of the model.
      likelihoods: Theirs.
      dtype: Floating dtype to hand on; class indices are int32.
      check_values: Whether NaN, infinity and values outside the likelihood's support
        are an error in rows that are present.

    Returns:
      The values, missing rows replaced, and the flags.

    Raises:
      TypeError: If `inputs` is not a mapping or a dtype is wrong.
      ValueError: If no modality of the model is in `inputs`, a name is unknown, a
        shape is wrong, a flag has no values beside it, or present values are not
        finite or outside the likelihood's support (inside a compiled function:
        `tf.errors.InvalidArgumentError`; under XLA not checked).
    """
    if not isinstance(inputs, Mapping):
        raise TypeError(
            "A batch must be a dictionary of modality name to array. "
            f"Received: {type(inputs).__name__}."
        )
    names = [modality.name for modality in modalities]
    flags = inputs.get("present")
    flags = {} if flags is None else flags
    _check_names(inputs, flags, names)
    values, columns = {}, {}
    for modality, likelihood in zip(modalities, likelihoods):
        if modality.name not in inputs:
            continue
        value = _checked_value(inputs[modality.name], modality, likelihood, dtype)
        flag = flags.get(modality.name)
        if flag is not None:
            flag = _checked_flag(flag, modality.name, value)
            columns[modality.name] = flag
            value = _filled(value, flag, likelihood.inside, modality.event_shape)
        if check_values:
            value = _check_values(value, flag, modality.name, likelihood)
        values[modality.name] = tf.cast(value, "int32") if likelihood.integer else value
    _check_rows(values)
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
def readable_errors() -> Iterator[None]:
    """Turns a failed check of values inside a compiled step into a ValueError."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = re.search(r"Modality \\?'[\w.-]+\\?' must hold [^\n]*", error.message)
        if found is None:
            raise
        message = found[0].replace("\\'", "'").partition(END_OF_MESSAGE)[0]
        raise ValueError(message) from None


def _check_names(
    inputs: Mapping[str, Any], flags: Mapping[str, Any], names: list[str]
) -> None:
    if not isinstance(flags, Mapping):
        raise TypeError(
            "`present` must be a dictionary of modality name to bool [B]. "
            f"Received: {type(flags).__name__}."
        )
    for name in [*inputs, *flags]:
        if name not in names and name != "present":
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"Unknown modality {name!r} in the batch; this model has {names}.{hint}"
            )
    for name in flags:
        if name not in inputs:
            raise ValueError(
                f"`present` has a flag for modality {name!r}, but the batch has no "
                "values for it. Leave out both, or give values and a flag."
            )
    if not any(name in inputs for name in names):
        raise ValueError(
            f"The batch holds none of this model's modalities {names}. "
            f"Received: {sorted(map(str, inputs))}."
        )


def _checked_value(
    value: Any, modality: Modality, likelihood: EventLikelihood, dtype: str
) -> tf.Tensor:
    try:
        value = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Modality {modality.name!r} must be an array. Received: {value!r}."
        ) from error
    if not value.dtype.is_floating and value.dtype not in likelihood.other_dtypes:
        hint = "`x / 255`" if value.dtype == tf.uint8 else "`x.astype('float32')`"
        raise TypeError(
            f"Modality {modality.name!r} must have a floating dtype. Received: "
            f"{value.dtype.name}. Convert it, e.g. with {hint}."
        )
    expected = tf.TensorShape([None, *modality.event_shape])
    if not value.shape.is_compatible_with(expected):
        raise ValueError(
            f"Modality {modality.name!r} must have shape {('B', *modality.event_shape)}"
            f", B rows. Received: {tuple(value.shape)}."
        )
    if not likelihood.integer:
        value = tf.cast(value, dtype)
    elif not value.dtype.is_floating:
        # Not int32 yet: the int64 that NumPy makes of NaN would become class 0.
        value = tf.cast(value, tf.int64)
    return tf.ensure_shape(value, expected)


def _checked_flag(flag: Any, name: str, value: tf.Tensor) -> tf.Tensor:
    flag = tf.convert_to_tensor(flag)
    if flag.dtype != tf.bool:
        raise TypeError(
            f"`present[{name!r}]` must be bool. Received: {flag.dtype.name}."
        )
    if not flag.shape.is_compatible_with(value.shape[:1]):
        raise ValueError(
            f"`present[{name!r}]` must have shape {tuple(value.shape[:1])}, one flag a "
            f"row. Received: {tuple(flag.shape)}."
        )
    return flag


def _filled(value: tf.Tensor, flag: tf.Tensor, inside, event_shape) -> tf.Tensor:
    """The values, `inside` the support in rows without the flag.

    As `[B, N]`: selecting by rows costs several times as much in more dimensions.
    """
    default = np.broadcast_to(inside, event_shape).reshape(1, -1)
    flat = tf.reshape(value, [-1, default.size])
    chosen = tf.where(flag[:, tf.newaxis], flat, tf.cast(default, value.dtype))
    return tf.reshape(chosen, [-1, *event_shape])


def _check_rows(values: Mapping[str, tf.Tensor]) -> None:
    rows = {name: value.shape[0] for name, value in values.items()}
    if len({count for count in rows.values() if count is not None}) > 1:
        raise ValueError(
            f"All modalities of a batch must have as many rows. Received: {rows}."
        )


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
