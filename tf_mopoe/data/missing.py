"""Data with holes: rows of NaN, and masked ones, become `present` flags."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mopoe.checks import check_same_index
from tf_mopoe.data.checks import (
    check_flags,
    check_not_sparse,
    plain_array,
    plain_rows,
)

#: What `partial` of `mark_missing` may be.
PARTIAL = ("error", "missing")


def mark_missing(data: Mapping[str, Any], *, partial: str = "error") -> dict[str, Any]:
    """Turns rows of NaN into `present` flags, as every model here takes them.

    Args:
      data: Modality name to `[N, ...]`, a missing row all NaN, or all masked in a
        `numpy.ma.MaskedArray` of any dtype; optionally `"present"`: modality name to
        bool `[N]`, False where a row is known to be missing already, whatever it
        holds. Is not modified. Arrays; or tensors, so that it can be mapped over the
        batches of a `tf.data.Dataset`.
      partial: What becomes of a row that is NaN or masked in part: `"error"`, or
        `"missing"`, which treats the modality as missing in that row.

    Returns:
      A new dictionary: floating and masked arrays with missing rows set to 0, all
      others as they are, and `"present"`: modality name to bool `[N]`, of the
      modalities that have missing rows or had flags. Without either there is no
      `"present"`. Of tensors all floating modalities have flags.

    Raises:
      ValueError: If a row is missing in part and `partial` is `"error"`, a row that is
        present holds infinity, arrays or flags differ in rows, a flag has no array
        beside it, or a flag is masked.
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
        for name, value in ((name, _joined(x)) for name, x in data.items())
        if name != "present" and np.ma.is_masked(value)
    }
    unmasked = {
        n: np.ma.getdata(_joined(x)) if n in masks else x for n, x in data.items()
    }
    arrays, flags = checked_arrays(unmasked)
    marked = dict(arrays)
    for name, array in arrays.items():
        missing = masks.get(name)
        if array.dtype.kind == "f":
            nan = np.isnan(array)
            missing = nan if missing is None else nan | missing
        if missing is None:
            continue  # has neither NaN nor masked values
        flag = flags.get(name, np.ones(len(array), bool))
        kind = "masked values" if name in masks else "NaN"
        here = _whole_rows(name, missing, flag, partial=partial, kind=kind)  # [N]
        _check_finite(name, array, here)
        if name in flags or not here.all():
            flags[name] = here
            row = here.reshape([-1] + [1] * (array.ndim - 1))
            marked[name] = np.where(row, array, array.dtype.type(0))
    return {**marked, "present": flags} if flags else marked


def _mark_missing_tensors(data: Mapping[str, Any], partial: str) -> dict[str, Any]:
    """As `mark_missing`, inside `tf.data.Dataset.map` on batches.

    Which rows are missing is not known there yet: every floating modality has flags.
    """
    marked = {n: _number_tensor(n, x) for n, x in data.items() if n != "present"}
    flags = dict(data.get("present") or {})
    for name, flag in flags.items():
        flags[name] = tf.convert_to_tensor(flag)
        if flags[name].shape.rank == 0:
            raise ValueError(
                f"`present[{name!r}]` must be bool [B], but came as a single one: map "
                "`mark_missing` over batches, `dataset.batch(64).map(mark_missing)`."
            )
    check_flags("data", {**marked, "present": flags})
    for name, value in marked.items():
        if not value.dtype.is_floating:
            continue  # has no NaN
        axes = list(range(1, value.shape.rank))
        nan = tf.math.is_nan(value)
        here = ~tf.reduce_any(nan, axis=axes)  # [B]
        known = flags.get(name, tf.ones_like(here))
        finite = ~tf.reduce_any(tf.math.is_inf(value), axis=axes) | ~(here & known)
        message = f"Modality {name!r} must hold finite numbers. Received: infinity."
        checks = [tf.debugging.Assert(tf.reduce_all(finite), [message])]
        if partial == "error":
            whole = here | tf.reduce_all(nan, axis=axes) | ~known
            message = (
                f"Modality {name!r} has rows that are NaN in part. Drop them, impute "
                "the column, or take `partial='missing'`."
            )
            checks.append(tf.debugging.Assert(tf.reduce_all(whole), [message]))
        with tf.control_dependencies([check for check in checks if check is not None]):
            here = tf.identity(here)
        flags[name] = here & known
        row = tf.reshape(flags[name], [-1] + [1] * len(axes))
        marked[name] = tf.where(row, value, tf.zeros([], value.dtype))
    return {**marked, "present": flags}


def _number_tensor(name: str, value: Any) -> tf.Tensor:
    """Raises TypeError or ValueError if it is no dense tensor of numbers."""
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
      ValueError, TypeError: As `mark_missing` says.
    """
    _check_mapping(data)
    given = data.get("present")
    given = {} if given is None else given
    arrays = plain_rows("data", {n: x for n, x in data.items() if n != "present"})
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise TypeError(
                f"Modality {name!r} must be an array of numbers. Received dtype: "
                f"{array.dtype}. Convert it, e.g. with `astype('float32')`."
            )
    if not isinstance(given, Mapping):
        check_flags("data", data)
    flags = {name: x.copy() for name, x in plain_rows("present", given).items()}
    check_flags("data", {**arrays, "present": flags})
    shapes = {name: array.shape for name, array in arrays.items()}
    shapes |= {f"present[{name!r}]": flag.shape for name, flag in flags.items()}
    if len({shape[:1] for shape in shapes.values()}) != 1 or () in shapes.values():
        raise ValueError(
            "`data` must be at least one array, all with the same number of rows. "
            f"Received shapes: {shapes}."
        )
    return arrays, flags


def _joined(value: Any) -> Any:
    """One masked array of a list that holds some; else the value."""
    if isinstance(value, (list, tuple)) and any(map(np.ma.isMaskedArray, value)):
        return np.ma.array(value)
    return value


def _whole_rows(
    name: str, missing: np.ndarray, flag: np.ndarray, *, partial: str, kind: str
) -> np.ndarray:
    """bool `[N]`: rows that are flagged present and of which nothing is missing.

    Args:
      name: Name of the modality.
      missing: bool `[N, ...]`: NaN or masked.
      flag: bool `[N]`.
      partial: As of `mark_missing`.
      kind: What is missing, for the message.

    Raises:
      ValueError: If a row flagged present is missing in part and that is an error.
    """
    count = missing.sum(axis=tuple(range(1, missing.ndim)))  # [N]
    size = math.prod(missing.shape[1:])
    broken = np.flatnonzero(flag & (count > 0) & (count < size))
    if partial == "error" and len(broken):
        first = broken[0]
        others = f" (and {len(broken) - 1} more rows)" if len(broken) > 1 else ""
        raise ValueError(
            f"Modality {name!r} must be missing from a row altogether or not at all. "
            f"Received: row {first} with {kind} in {count[first]} of {size} values"
            f"{others}. Drop such rows, or impute the column before; or pass "
            "partial='missing', which treats the modality as missing there."
        )
    return flag & (count == 0)


def _check_finite(name: str, array: np.ndarray, here: np.ndarray) -> None:
    """Raises ValueError for infinity in a row that is present."""
    infinite = np.isinf(array).any(axis=tuple(range(1, array.ndim))) & here
    if infinite.any():
        raise ValueError(
            f"Modality {name!r} must hold finite numbers where it is present. "
            f"Received: infinity in row {np.flatnonzero(infinite)[0]} "
            f"({infinite.sum()} rows in all). Where it stands for a missing value, "
            "write NaN instead."
        )
