"""Data with holes: rows of NaN become `present` flags."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

#: What `partial` of `mark_missing` may be.
PARTIAL = ("error", "missing")


def mark_missing(data: Mapping[str, Any], *, partial: str = "error") -> dict[str, Any]:
    """Turns rows of NaN into `present` flags, as every model here takes them.

    Args:
      data: Modality name to `[N, ...]`, a missing row all NaN; optionally `"present"`:
        modality name to bool `[N]`, False where a row is known to be missing already,
        whatever it holds. Is not modified. Arrays; or tensors, so that it can be
        mapped over the batches of a `tf.data.Dataset`.
      partial: What becomes of a row that is NaN in part: `"error"`, or `"missing"`,
        which treats the modality as missing in that row.

    Returns:
      A new dictionary: floating arrays with missing rows set to 0, all others as they
      are, and `"present"`: modality name to bool `[N]`, of the modalities that have
      missing rows or had flags. Without either there is no `"present"`. Of tensors all
      floating modalities have flags.

    Raises:
      ValueError: If a row is NaN in part and `partial` is `"error"`, arrays or flags
        differ in rows, or a flag has no array beside it.
      TypeError: If an array does not hold numbers, or a flag is not bool.

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
    arrays, flags = checked_arrays(data)
    marked = dict(arrays)
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating):
            continue  # has no NaN
        flag = flags.get(name, np.ones(len(array), bool))
        here = _rows_without_nan(name, array, flag, partial)  # [N]
        if name in flags or not here.all():
            flags[name] = here
            row = here.reshape([-1] + [1] * (array.ndim - 1))
            marked[name] = np.where(row, array, array.dtype.type(0))
    return {**marked, "present": flags} if flags else marked


def _mark_missing_tensors(data: Mapping[str, Any], partial: str) -> dict[str, Any]:
    """As `mark_missing`, inside `tf.data.Dataset.map` on batches.

    Which rows are missing is not known there yet: every floating modality has flags.
    """
    flags = dict(data.get("present") or {})
    for name, flag in flags.items():
        if flag.shape.rank == 0:
            raise ValueError(
                f"`present[{name!r}]` must be bool [B], but came as a single one: map "
                "`mark_missing` over batches, `dataset.batch(64).map(mark_missing)`."
            )
    marked = {name: value for name, value in data.items() if name != "present"}
    for name, value in marked.items():
        if not value.dtype.is_floating:
            continue  # has no NaN
        axes = list(range(1, value.shape.rank))
        nan = tf.math.is_nan(value)
        here = ~tf.reduce_any(nan, axis=axes)  # [B]
        known = flags.get(name, tf.ones_like(here))
        if partial == "error":
            whole = here | tf.reduce_all(nan, axis=axes) | ~known
            message = (
                f"Modality {name!r} has rows that are NaN in part. Drop them, impute "
                "the column, or take `partial='missing'`."
            )
            check = tf.debugging.Assert(tf.reduce_all(whole), [message])
            with tf.control_dependencies([check]):
                here = tf.identity(here)
        flags[name] = here & known
        row = tf.reshape(flags[name], [-1] + [1] * len(axes))
        marked[name] = tf.where(row, value, tf.zeros([], value.dtype))
    return {**marked, "present": flags}


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
      ValueError, TypeError: As `mark_missing` says.
    """
    _check_mapping(data)
    arrays = {name: np.asarray(x) for name, x in data.items() if name != "present"}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise TypeError(
                f"Modality {name!r} must be an array of numbers. Received dtype: "
                f"{array.dtype}. Convert it, e.g. with `astype('float32')`."
            )
    flags = {name: np.array(x) for name, x in (data.get("present") or {}).items()}
    for name, flag in flags.items():
        if name not in arrays:
            raise ValueError(
                f"`present` has a flag for {name!r}, but `data` has only "
                f"{sorted(arrays)}."
            )
        if flag.dtype != bool:
            raise TypeError(
                f"`present[{name!r}]` must be bool. Received: {flag.dtype}."
            )
    shapes = {name: array.shape for name, array in arrays.items()}
    shapes |= {f"present[{name!r}]": flag.shape for name, flag in flags.items()}
    if len({shape[:1] for shape in shapes.values()}) != 1 or () in shapes.values():
        raise ValueError(
            "`data` must be at least one array, all with the same number of rows. "
            f"Received shapes: {shapes}."
        )
    return arrays, flags


def _rows_without_nan(
    name: str, array: np.ndarray, flag: np.ndarray, partial: str
) -> np.ndarray:
    """bool `[N]`: rows that are flagged present and hold no NaN.

    Raises:
      ValueError: If a row flagged present is NaN in part and that is an error.
    """
    count = np.isnan(array).sum(axis=tuple(range(1, array.ndim)))  # [N]
    size = math.prod(array.shape[1:])
    broken = np.flatnonzero(flag & (count > 0) & (count < size))
    if partial == "error" and len(broken):
        first = broken[0]
        others = f" (and {len(broken) - 1} more rows)" if len(broken) > 1 else ""
        raise ValueError(
            f"Modality {name!r} must be missing from a row altogether or not at all. "
            f"Received: row {first} with NaN in {count[first]} of {size} values"
            f"{others}. Drop such rows, or impute the column before; or pass "
            "partial='missing', which treats the modality as missing there."
        )
    return flag & (count == 0)
