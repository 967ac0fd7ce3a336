"""Checks of a batch's names, shapes and dtypes.

The same checks, with the same messages, apply to arrays before Keras splits them into
batches, to a dataset's element specification, and to every batch.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mopoe.checks import check_same_index
from tf_mopoe.distributions.event_likelihoods import EventLikelihood
from tf_mopoe.modality import Modality

#: Key of a batch that holds the flags of what is present.
PRESENT = "present"
#: Messages that compiled steps give, too, where values are known only when they run.
ROWS_MUST_AGREE = "All modalities of a batch must have the same number of rows."
WEIGHTS_MUST_BE = "`sample_weight` must be finite and 0 or more in every row."


def checked_inputs(
    inputs: Any, modalities: Sequence[Modality], likelihoods: Sequence[EventLikelihood]
) -> dict[str, Any]:
    """Checks names, shapes and dtypes; converts values that are not tensors to arrays.

    Args:
      inputs: Modality name to `[B, *event_shape]`: arrays, tensors, tensor
        specifications or Keras tensors; or values that NumPy converts, such as lists
        and pandas columns. Optionally `"present"`: modality name to bool `[B]`.
      modalities: Modalities of the model.
      likelihoods: Their likelihoods.

    Returns:
      The same entries, `"present"` if it has any.

    Raises:
      TypeError: If `inputs` is not a mapping or a dtype is wrong.
      ValueError: If a name or a shape is wrong, rows differ, a flag has no values
        beside it, or a masked array has masked values.
    """
    if not isinstance(inputs, Mapping):
        raise TypeError(
            "A batch must be a dictionary of modality name to array. "
            f"Received: {type(inputs).__name__}."
        )
    flags = inputs.get(PRESENT)
    flags = {} if flags is None else flags
    _check_names(inputs, flags, [modality.name for modality in modalities])
    check_same_index({**inputs, **{f"present[{k!r}]": v for k, v in flags.items()}})
    checked: dict[str, Any] = {}
    rows: dict[str, int | None] = {}
    for modality, likelihood in zip(modalities, likelihoods):
        name = modality.name
        if name not in inputs:
            continue
        checked[name] = _checked_value(inputs[name], modality, likelihood)
        rows[name] = checked[name].shape[0]
    _check_rows(rows)
    present = {
        name: _checked_flag(flag, name, checked[name].shape[0])
        for name, flag in flags.items()
    }
    return {**checked, PRESENT: present} if present else checked


def _check_names(inputs: Mapping[str, Any], flags: Any, names: list[str]) -> None:
    if not isinstance(flags, Mapping):
        raise TypeError(
            "`present` must be a dictionary of modality name to bool [B]. "
            f"Received: {type(flags).__name__}."
        )
    for name in [*inputs, *flags]:
        if name not in names and (name != PRESENT or PRESENT in flags):
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


def as_array(value: Any, what: str) -> Any:
    """The value as a NumPy array; tensors and their specifications are unchanged.

    Raises:
      TypeError: If it is no array of numbers.
      ValueError: If it is a masked array with masked values.
    """
    if isinstance(value, (tf.RaggedTensor, tf.SparseTensor)) or hasattr(
        value, "toarray"
    ):
        raise TypeError(
            f"{what} must be a dense array. Received: {type(value).__name__}. Convert "
            "it, e.g. with `.toarray()` or `tf.sparse.to_dense`."
        )
    if tf.is_tensor(value) or isinstance(getattr(value, "shape", None), tf.TensorShape):
        return value  # tensors and their specifications
    if type(value).__name__ == "KerasTensor":
        return value
    if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
        raise ValueError(
            f"{what} is a masked array with masked values, whose mask would be lost. "
            "Turn the mask into flags first: `tf_mopoe.data.mark_missing(data)`."
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = np.empty((), object)
    dtype = array.dtype
    known = dtype.kind in "biu" or dtype.name == "bfloat16"
    known |= dtype.itemsize <= {"f": 8, "c": 16}.get(dtype.kind, 0)
    if not known:
        raise TypeError(
            f"{what} must be an array of numbers. Received: {type(value).__name__} of "
            f"dtype {array.dtype}. Convert it, e.g. with `np.asarray(x, 'float32')`, "
            "with NaN where values are missing, then `tf_mopoe.data.mark_missing`."
        )
    return array


def _checked_value(value: Any, modality: Modality, likelihood: EventLikelihood) -> Any:
    what = f"Modality {modality.name!r}"
    value = as_array(value, what)
    dtype = tf.as_dtype(value.dtype)
    if not dtype.is_floating and dtype not in likelihood.other_dtypes:
        hint = "`x / 255`" if dtype == tf.uint8 else "`x.astype('float32')`"
        raise TypeError(
            f"{what} must have a floating dtype. Received: {dtype.name}. Convert it, "
            f"e.g. with {hint}."
        )
    shape = tf.TensorShape(value.shape)
    if not shape.is_compatible_with([None, *modality.event_shape]):
        hint = ""
        if shape.is_compatible_with(modality.event_shape):
            hint = " Give rows: `x[np.newaxis]`, or `dataset.batch(64)`."
        elif shape.rank == 1 and modality.event_shape == (1,):
            hint = " Add an axis: `x[:, np.newaxis]`."
        raise ValueError(
            f"{what} must have shape {('B', *modality.event_shape)}, B rows. "
            f"Received: {tuple(shape)}.{hint}"
        )
    return value


def _check_rows(rows: Mapping[str, int | None]) -> None:
    if len({count for count in rows.values() if count is not None}) > 1:
        raise ValueError(f"{ROWS_MUST_AGREE} Received: {dict(rows)}.")


def _checked_flag(flag: Any, name: str, rows: int | None) -> Any:
    what = f"`present[{name!r}]`"
    flag = as_array(flag, what)
    if tf.as_dtype(flag.dtype) != tf.bool:
        raise TypeError(f"{what} must be bool. Received: {flag.dtype!s}.")
    shape = tf.TensorShape(flag.shape)
    if not shape.is_compatible_with([rows]):
        raise ValueError(
            f"{what} must have shape {(rows,)}, one flag a row. "
            f"Received: {tuple(shape)}."
        )
    return flag


def checked_weights(weights: Any, rows: int | None = None) -> Any:
    """Weights of rows, `[B]`.

    Args:
      weights: Real numbers `[B]` or `[B, 1]`.
      rows: Number of rows, where it is known.

    Raises:
      TypeError: If they are no numbers.
      ValueError: If the shape is wrong.
    """
    if isinstance(weights, (Mapping, str)):
        raise TypeError(
            "`sample_weight` must be one number a row, an array [B]. Received: "
            f"{type(weights).__name__}. To weigh modalities, set "
            "`Modality(reconstruction_weight=...)`."
        )
    weights = as_array(weights, "`sample_weight`")
    shape = tf.TensorShape(weights.shape)
    if not any(shape.is_compatible_with([rows, *more]) for more in ((), (1,))):
        raise ValueError(
            f"`sample_weight` must have shape {(rows if rows else 'B',)}, one number a "
            f"row. Received: {tuple(shape)}."
        )
    if isinstance(weights, np.ndarray):
        if not np.all(np.isfinite(weights) & (weights >= 0)):
            raise ValueError(WEIGHTS_MUST_BE)
        weights = weights.reshape(-1).astype("float32")
    return weights
