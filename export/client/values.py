"""The values and flags of one modality, checked before they are sent.

`read_values` and `read_flag` check what needs no server; `to_numbers` and `to_strings`
check against the server's description of the model.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.client.served_model import Tensor

#: Numbers `[B, ...]`, or a list of B bytes, str or missing values.
Values = np.ndarray | list[Any]

STRINGS = (bytes, bytearray, str)


def read_values(name: str, values: Any) -> Values:
    """The values of one modality, from any container: numbers, or files and texts.

    Raises:
      TypeError: If it is none of these, or a masked array that hides values.
      ValueError: If nested lists differ in length.
    """
    if _hides_values(values):
        raise TypeError(
            f"Modality {name!r} is a masked array, whose mask would be ignored. Give "
            '`x.filled(0)`, and False in the "present" flags for the rows that are '
            "missing; `tf_mopoe.data.mark_missing` makes flags of rows of NaN."
        )
    is_array = hasattr(values, "__array__")
    if isinstance(values, STRINGS) or not (is_array or isinstance(values, Sequence)):
        raise TypeError(_not_rows(name, type(values).__name__))
    if not is_array and any(isinstance(v, (*STRINGS, type(None))) for v in values):
        return list(values)  # NumPy would make "1" of a 1 beside a str
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Modality {name!r} must be an array: {error}") from None
    if array.ndim == 0:
        raise TypeError(_not_rows(name, f"a single {array.dtype}"))
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind in "OSTU" and array.ndim == 1:
        return np.asarray(values, object).tolist()
    raise TypeError(
        f"Modality {name!r} must hold numbers. Received dtype: {array.dtype}."
    )


def read_flag(name: str, flag: Any, rows: int) -> np.ndarray:
    """The flags of one modality, bool `[B]`, from any container.

    Raises:
      TypeError: If they are not bools, or a masked array that hides some.
      ValueError: If they do not have shape `[B]`.
    """
    if _hides_values(flag):
        raise TypeError(
            f"`present` is a masked array for modality {name!r}, whose mask would be "
            "ignored. Give bool for every row, e.g. `flag.filled(False)`."
        )
    try:
        array = np.asarray(flag)
    except (TypeError, ValueError):
        array = np.asarray(None)
    is_column = array.dtype.kind == "O" and array.ndim == 1
    if (is_column and all(isinstance(value, (bool, np.bool_)) for value in array)) or (
        array.size == 0 and isinstance(flag, Sequence)  # NumPy makes floats of []
    ):
        array = array.astype(bool)
    if array.dtype != bool:
        raise TypeError(
            f"`present` must be bool for modality {name!r}. Received: {array.dtype}."
        )
    if array.shape != (rows,):
        raise ValueError(
            f"`present` must have shape [{rows}] for modality {name!r}, one flag a "
            f"row. Received: {list(array.shape)}."
        )
    return array


def check_items(name: str, items: Sequence[Any], flag: np.ndarray | None) -> None:
    """Raises TypeError if a present row of a list holds neither bytes nor str."""
    for row, value in enumerate(items):
        is_missing = _is_missing(value) if flag is None else not flag[row]
        if not is_missing and not isinstance(value, STRINGS):
            raise TypeError(
                f"Modality {name!r} must be an array of numbers, or bytes or str, None "
                f"where missing. Received {type(value).__name__} in row {row} of a "
                "sequence of objects. Convert numbers with `x.astype('float32')`, and "
                'mark missing rows in the "present" flags.'
            )


def to_numbers(
    name: str, values: Values, flag: np.ndarray | None, tensor: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers in the served dtype, 0 where missing, and which rows are present.

    Raises:
      TypeError: If a dtype is wrong.
      ValueError: If a shape is wrong, or a present value is not finite or can't be
        represented in the served dtype.
    """
    if isinstance(values, list):
        kinds = ", ".join(sorted({type(item).__name__ for item in values}))
        raise TypeError(
            f"Modality {name!r} must hold numbers; the model is served with neither "
            f"files nor texts for it. Received: {kinds}."
        )
    is_float = tensor.dtype.kind == "f"
    if is_float and values.dtype.kind != "f":
        raise TypeError(
            f"Modality {name!r} must have a floating dtype, not {values.dtype.name}: "
            "convert pixels of 0 to 255 with `x / 255`, and counts and other numbers "
            "with `x.astype('float32')`."
        )
    if values.shape[1:] != tensor.event_shape:
        expected = ", ".join(["B", *map(str, tensor.event_shape)])
        raise ValueError(
            f"Modality {name!r} must have shape [{expected}]. "
            f"Received: {list(values.shape)}."
        )
    present = np.ones([len(values)], bool) if flag is None else flag
    rows = present.reshape([-1] + [1] * len(tensor.event_shape))
    values = np.where(rows, values, np.zeros([], values.dtype))
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(tensor.dtype)
    wrong = ~np.isfinite(cast) if is_float else cast != values
    if wrong.any():
        expected = (
            f"finite {tensor.dtype} values"
            if is_float
            else f"whole numbers that fit into {tensor.dtype}"
        )
        index = tuple(int(axis) for axis in np.argwhere(wrong)[0])
        raise ValueError(
            f"Modality {name!r} must hold {expected} in rows where it is present. "
            f"Received {values[index]} in row {index[0]}. If it is missing there, mark "
            f'the row: "present": {{{name!r}: ...}}.'
        )
    return cast, present


def to_strings(
    name: str, values: Values, flag: np.ndarray | None, *, files: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Files or texts as bytes, empty where missing, and which rows are present.

    Raises:
      TypeError: If a present row holds neither bytes nor str.
      ValueError: If a present row holds an empty file, or text that is not UTF-8.
    """
    kinds = (bytes, bytearray) if files else STRINGS
    expected = "bytes, each a JPEG or PNG file" if files else "str"
    if isinstance(values, np.ndarray) and values.ndim > 1:
        raise TypeError(
            f"Modality {name!r} must be a sequence of {expected}, None where missing. "
            f"Received: an array of {values.dtype} of shape {list(values.shape)}."
        )
    items = values if isinstance(values, list) else values.tolist()
    present = flag
    if present is None:
        present = np.array([not _is_missing(value) for value in items], bool)
    encoded = np.full([len(items)], b"", object)
    for row in np.flatnonzero(present):
        value = items[row]
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
            if not files:
                encoded[row].decode()
        except UnicodeError:
            raise ValueError(
                f"Modality {name!r} must hold text in UTF-8. "
                f"Received {value[:40]!r} in row {row}."
            ) from None
    return encoded, present


def _hides_values(values: Any) -> bool:
    """Whether it is, or a list contains, a masked array with a masked value."""
    if isinstance(values, np.ma.MaskedArray):
        return bool(np.ma.is_masked(values))
    return isinstance(values, (list, tuple)) and any(map(_hides_values, values))


def _is_missing(value: Any) -> bool:
    """Whether it is None, or NaN as in pandas columns."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _not_rows(name: str, received: str) -> str:
    return (
        f"Modality {name!r} must be an array of numbers [B, ...], or a sequence of B "
        f"files (bytes) or texts (str), None where missing. Received: {received}."
    )
