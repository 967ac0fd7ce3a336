"""One modality's values, checked before they travel."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.client.served_model import Tensor


def checked_numbers(
    name: str, values: Any, flag: Any, tensor: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers in the served dtype, and which rows are present.

    Args:
      name: Of the modality.
      values: `[B, *event_shape]`.
      flag: bool `[B]`, or None where all rows are present.
      tensor: What is served.

    Returns:
      Values, 0 where missing, and bool `[B]`.

    Raises:
      TypeError: If a dtype is wrong.
      ValueError: If a shape is wrong, or a value that is present is not finite or has
        no equal in the served dtype.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"Modality {name!r} must be an array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"Modality {name!r} must hold numbers. Received dtype: {array.dtype}."
        )
    if array.ndim < 1 or array.shape[1:] != tensor.event_shape:
        expected = ", ".join(["B", *map(str, tensor.event_shape)])
        raise ValueError(
            f"Modality {name!r} must have shape [{expected}]. "
            f"Received: {list(array.shape)}."
        )
    present = _checked_flag(name, flag, len(array))
    rows = present.reshape([-1] + [1] * len(tensor.event_shape))
    array = np.where(rows, array, np.zeros([], array.dtype))
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(tensor.dtype)
    if tensor.dtype.kind == "f":
        wrong = ~np.isfinite(cast)
        expected = f"finite {tensor.dtype} values"
    else:
        wrong = cast != array
        expected = f"whole numbers that fit into {tensor.dtype}"
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise ValueError(
            f"Modality {name!r} must hold {expected} in rows where it is present. "
            f"Received {array[place]} in row {place[0]}. If it is missing there, say "
            f'so: "present": {{{name!r}: ...}}.'
        )
    return cast, present


def checked_strings(
    name: str, values: Any, flag: Any, *, files: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Files or texts as bytes, and which rows are present.

    Args:
      name: Of the modality.
      values: B times bytes or str, None or NaN where missing: a sequence, or what
        NumPy can make an array of, such as a pandas column.
      flag: bool `[B]`, or None where all rows are present that have a value.
      files: Whether only bytes are taken, and none that are empty.

    Returns:
      Objects of bytes `[B]`, empty where missing, and bool `[B]`.

    Raises:
      TypeError: If `values` is not such a sequence, or a present row has no value.
      ValueError: If a present row has an empty file, or text that can't be encoded.
    """
    kinds = (bytes, bytearray) if files else (bytes, bytearray, str)
    expected = "bytes, each a JPEG or PNG file" if files else "str"
    if hasattr(values, "__array__"):
        values = np.asarray(values, object).tolist()
    if isinstance(values, kinds + (str,)) or not isinstance(values, Sequence):
        raise TypeError(
            f"Modality {name!r} must be a sequence of {expected}, None where missing. "
            f"Received: {type(values).__name__}."
        )
    present = _checked_flag(name, flag, len(values))
    if flag is None:
        present = np.array([not _is_nothing(value) for value in values], bool)
    encoded = np.full([len(values)], b"", object)
    for row, value in enumerate(values):
        if not present[row]:
            continue
        if not isinstance(value, kinds):
            raise TypeError(
                f"Modality {name!r} must be a sequence of {expected}, None where "
                f"missing. Received {type(value).__name__} in row {row}, which is "
                "present."
            )
        if files and not value:
            raise ValueError(
                f"Modality {name!r} has an empty file in row {row}. If it is missing "
                "there, give None."
            )
        try:
            encoded[row] = value.encode() if isinstance(value, str) else bytes(value)
        except UnicodeEncodeError:
            raise ValueError(
                f"Modality {name!r} must hold text that UTF-8 can encode. "
                f"Received {value!r} in row {row}."
            ) from None
    return encoded, present


def _is_nothing(value: Any) -> bool:
    """Whether it stands for a missing value: None, or NaN as in pandas' columns."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _checked_flag(name: str, flag: Any, rows: int) -> np.ndarray:
    if flag is None:
        return np.ones([rows], bool)
    flag = np.asarray(flag)
    if flag.dtype != bool:
        raise TypeError(
            f"`present` must be bool for modality {name!r}. Received: {flag.dtype}."
        )
    if flag.shape != (rows,):
        raise ValueError(
            f"`present` must have shape [{rows}] for modality {name!r}, one flag a "
            f"row. Received: {list(flag.shape)}."
        )
    return flag
