"""Missing modalities: rows of NaN, and masked rows, become `present` flags."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mopoe.checks import check_same_index
from tf_mopoe.data.checks import (
    RAGGED,
    check_flags,
    check_not_sparse,
    plain_array,
    plain_rows,
)

#: Values of `partial` of `mark_missing`.
PARTIAL = ("error", "missing")


def mark_missing(data: Mapping[str, Any], *, partial: str = "error") -> dict[str, Any]:
    """Turns rows of NaN into `present` flags, which all models here accept.

    Args:
      data: Modality name to `[N, ...]`. A missing row is all NaN, or all masked in a
        `numpy.ma.MaskedArray` of any dtype. Optionally `"present"`: modality name to
        bool `[N]`, False where a row is already known to be missing, whatever its
        values. The values are arrays, or tensors, so that the function can be mapped
        over the batches of a `tf.data.Dataset`. They are not modified.
      partial: Treatment of a row that is NaN or masked in part: `"error"`, or
        `"missing"`, which treats the modality as missing in that row.

    Returns:
      A new dictionary: floating and masked arrays with missing rows set to 0, all
      others unchanged, and `"present"`: modality name to bool `[N]`, for the modalities
      with missing rows or given flags; there is no `"present"` without either. For
      tensors all floating modalities have flags.

    Raises:
      ValueError: If a row is missing in part and `partial` is `"error"`, a present row
        holds infinity, arrays or flags differ in rows, a list has rows of different
        lengths, a flag has no array of its name, or a flag is masked.
      TypeError: If an array does not hold numbers or is sparse, or a flag is not bool.

    Example:
      >>> table = np.array([[1.0, 2.0], [np.nan, np.nan]])
      >>> marked = mark_missing({"table": table, "count": np.array([[3], [4]])})
      >>> marked["table"].tolist(), marked["present"]["table"].tolist()
      ([[1.0, 2.0], [0.0, 0.0]], [True, False])
    """
    if partial not in PARTIAL:
        raise ValueError(
            f"`partial` must be one of {[*PARTIAL]}. Received: {partial!r}."
        )
    _check_mapping(data)
    if any(tf.is_tensor(value) for value in data.values()):
        return _mark_missing_tensors(data, partial)
    known = data.get("present")
    flags = known if isinstance(known, Mapping) else {}
    check_same_index({**data, **{f"present[{k!r}]": v for k, v in flags.items()}})
    masks = {
        name: np.ma.getmaskarray(value)
        for name, value in ((name, _joined(name, x)) for name, x in data.items())
        if name != "present" and np.ma.is_masked(value)
    }
    unmasked = {
        n: np.ma.getdata(_joined(n, x)) if n in masks else x for n, x in data.items()
    }
    arrays, flags = checked_arrays(unmasked)
    marked = dict(arrays)
    for name, array in arrays.items():
        missing = masks.get(name)  # [N, ...]
        if array.dtype.kind == "f":
            nan = np.isnan(array)
            missing = nan if missing is None else nan | missing
        if missing is None:
            continue  # has neither NaN nor masked values
        flag = flags.get(name, np.ones(len(array), bool))
        kind = "masked values" if name in masks else "NaN"
        present = _complete_rows(name, missing, flag, partial=partial, kind=kind)
        _check_finite(name, array, present)
        if name in flags or not present.all():
            flags[name] = present
            row = present.reshape([-1] + [1] * (array.ndim - 1))
            marked[name] = np.where(row, array, array.dtype.type(0))
    return {**marked, "present": flags} if flags else marked


def _mark_missing_tensors(data: Mapping[str, Any], partial: str) -> dict[str, Any]:
    """`mark_missing` of tensors, such as batches in `tf.data.Dataset.map`.

    The missing rows are not known when the graph is built, so every floating modality
    has flags.
    """
    marked = {n: _number_tensor(n, x) for n, x in data.items() if n != "present"}
    flags = dict(data.get("present") or {})
    for name, flag in flags.items():
        flags[name] = tf.convert_to_tensor(flag)
        if flags[name].shape.rank == 0:
            raise ValueError(
                f"`present[{name!r}]` must be bool [B]. Received: a single value. Map "
                "`mark_missing` over batches: `dataset.batch(64).map(mark_missing)`."
            )
    check_flags("data", {**marked, "present": flags})
    for name, value in marked.items():
        if not value.dtype.is_floating:
            continue  # has no NaN
        axes = list(range(1, value.shape.rank))
        nan = tf.math.is_nan(value)
        complete = ~tf.reduce_any(nan, axis=axes)  # [B]
        known = flags.get(name, tf.ones_like(complete))
        finite = ~tf.reduce_any(tf.math.is_inf(value), axis=axes) | ~(complete & known)
        message = f"Modality {name!r} must hold finite numbers. Received: infinity."
        checks = [tf.debugging.Assert(tf.reduce_all(finite), [message])]
        if partial == "error":
            consistent = complete | tf.reduce_all(nan, axis=axes) | ~known
            message = (
                f"Modality {name!r} has rows that are NaN in part. Drop them, impute "
                "the column, or pass `partial='missing'`."
            )
            checks.append(tf.debugging.Assert(tf.reduce_all(consistent), [message]))
        with tf.control_dependencies([check for check in checks if check is not None]):
            flags[name] = tf.identity(complete) & known
        row = tf.reshape(flags[name], [-1] + [1] * len(axes))
        marked[name] = tf.where(row, value, tf.zeros([], value.dtype))
    return {**marked, "present": flags}


def _number_tensor(name: str, value: Any) -> tf.Tensor:
    """The value as a tensor; raises an error if it is not a dense tensor of numbers."""
    check_not_sparse(f"data[{name!r}]", value)
    if not tf.is_tensor(value):
        value = plain_array(f"data[{name!r}]", value)
    value = tf.convert_to_tensor(value)
    if not (value.dtype.is_floating or value.dtype.is_integer or value.dtype.is_bool):
        raise TypeError(
            f"Modality {name!r} must be an array of numbers. Received dtype: "
            f"{value.dtype.name}."
        )
    if value.shape.rank is None:
        raise ValueError(
            f"Modality {name!r} must have a known number of dimensions. Call "
            "`tf.ensure_shape` on it before."
        )
    return value


def _check_mapping(data: Any) -> None:
    if not isinstance(data, Mapping):
        raise TypeError(
            "`data` must be a dictionary of modality name to array. Received: "
            f"{type(data).__name__}. Map the function over the batches of a dataset."
        )


def checked_arrays(
    data: Mapping[str, Any],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Arrays `[N, ...]` and copies of the flags, bool `[N]`, by modality.

    Raises:
      ValueError, TypeError: If arrays or flags are refused; see `mark_missing`.
    """
    _check_mapping(data)
    present = data.get("present")
    present = {} if present is None else present
    arrays = plain_rows("data", {n: x for n, x in data.items() if n != "present"})
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise TypeError(
                f"Modality {name!r} must be an array of numbers. Received dtype: "
                f"{array.dtype}. Convert it, e.g. with `astype('float32')`."
            )
    if not isinstance(present, Mapping):
        check_flags("data", data)
    flags = {name: x.copy() for name, x in plain_rows("present", present).items()}
    check_flags("data", {**arrays, "present": flags})
    shapes = {name: array.shape for name, array in arrays.items()}
    shapes |= {f"present[{name!r}]": flag.shape for name, flag in flags.items()}
    if len({shape[:1] for shape in shapes.values()}) != 1 or () in shapes.values():
        raise ValueError(
            "`data` must be at least one array, all with the same number of rows. "
            f"Received shapes: {shapes}."
        )
    return arrays, flags


def _joined(name: str, value: Any) -> Any:
    """A list with masked arrays as one masked array; other values unchanged."""
    if isinstance(value, (list, tuple)) and any(map(np.ma.isMaskedArray, value)):
        if len({np.shape(row) for row in value}) > 1:
            raise ValueError(RAGGED.format(f"data[{name!r}]"))
        return np.ma.array(value)
    return value


def _complete_rows(
    name: str, missing: np.ndarray, flag: np.ndarray, *, partial: str, kind: str
) -> np.ndarray:
    """bool `[N]`: rows that are flagged present and have no missing value.

    Args:
      name: Name of the modality.
      missing: Values that are NaN or masked, bool `[N, ...]`.
      flag: Rows flagged present, bool `[N]`.
      partial: Treatment of rows that are missing in part; see `mark_missing`.
      kind: Kind of missing value, for the message.

    Raises:
      ValueError: If a row flagged present is missing in part and `partial` is
        `"error"`.
    """
    count = missing.sum(axis=tuple(range(1, missing.ndim)))  # [N]
    size = math.prod(missing.shape[1:])
    broken = np.flatnonzero(flag & (count > 0) & (count < size))
    if partial == "error" and len(broken):
        first = broken[0]
        others = f" (and {len(broken) - 1} more rows)" if len(broken) > 1 else ""
        raise ValueError(
            f"Modality {name!r} must be either complete or missing in each row. "
            f"Received: row {first} with {kind} in {count[first]} of {size} values"
            f"{others}. Drop such rows, or impute the column; or pass "
            "partial='missing', which treats the modality as missing in them."
        )
    return flag & (count == 0)


def _check_finite(name: str, array: np.ndarray, present: np.ndarray) -> None:
    """Raises ValueError for infinity in a row that is present, bool `[N]`."""
    infinite = np.isinf(array).any(axis=tuple(range(1, array.ndim))) & present
    if infinite.any():
        raise ValueError(
            f"Modality {name!r} must hold finite numbers where it is present. "
            f"Received: infinity in row {np.flatnonzero(infinite)[0]} "
            f"({infinite.sum()} rows in all). If it marks a missing value, use NaN "
            "instead."
        )
