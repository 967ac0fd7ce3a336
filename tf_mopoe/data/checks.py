"""Checks of arguments that readers, pipelines and metrics share."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import sparse

from tf_mopoe.checks import check_same_index, whole_number

#: Message for lists that NumPy cannot convert, with the name of the argument.
RAGGED = (
    "`{}` must be an array, but its rows have different lengths or dimensions. Pad "
    "them to one shape, or use NaN for missing values."
)


def checked_seed(seed: Any) -> int:
    """The seed as an int.

    Raises:
      TypeError: If it is not a whole number.
      ValueError: If it is negative or does not fit int64.
    """
    return whole_number("seed", seed, maximum=2**63 - 1)


def stateless_base(seed: int) -> tf.Tensor:
    """The seed as int32 `[2]`, for TensorFlow's stateless operations.

    Args:
      seed: Result of `checked_seed`; different seeds give different results.
    """
    # The lower 31 and the upper 32 bits.
    high = np.uint32(seed >> 31).astype(np.int32)
    return tf.constant([seed & 0x7FFFFFFF, high], tf.int32)


def plain_array(argument: str, value: Any) -> np.ndarray:
    """The value as an array; refuses values that conversion would lose or misread.

    A masked array without masked values is its data.

    Args:
      argument: Name of the argument, for messages.
      value: Value to convert.

    Raises:
      ValueError: If it has masked values, or is a list of different lengths.
      TypeError: If it is sparse or ragged, or of objects other than strings.
    """
    check_not_sparse(argument, value)
    parts = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x) for x in parts):
        hint = (
            "Call `tf_mopoe.data.mark_missing` first, which turns masked rows into "
            "`present` flags."
        )
        if "present" in argument:
            hint = "Fill them, e.g. with `.filled(False)`."
        raise ValueError(
            f"`{argument}` has masked values, whose placeholders would be read as "
            f"data. {hint}"
        )
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(RAGGED.format(argument)) from None
    if array.dtype.kind == "O" and not all(
        isinstance(item, (str, bytes)) for item in array.flat
    ):
        raise TypeError(
            f"`{argument}` must be an array of one type. Received: dtype object, which "
            "None or pandas.NA among the values causes. Convert it, e.g. with "
            "`astype('float32')`; a table, with `from_frame`."
        )
    return array


def check_not_sparse(argument: str, value: Any) -> None:
    """Raises TypeError for sparse and ragged values, which NumPy reads as objects."""
    hint = ""
    if sparse.issparse(value):
        hint = "`.toarray()`"
    elif isinstance(value, tf.SparseTensor):
        hint = "`tf.sparse.to_dense`"
    elif isinstance(value, tf.RaggedTensor):
        hint = "`.to_tensor()`"
    if hint:
        raise TypeError(
            f"`{argument}` must be a dense array. Received: {type(value).__name__}. "
            f"Convert it with {hint}."
        )


def plain_rows(argument: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a dictionary, and of dictionaries in it, as arrays.

    Raises:
      TypeError: If `data` is not a dictionary, or a value is refused by `plain_array`.
      ValueError: If a value is refused by `plain_array`, or pandas indexes differ.
    """
    if not isinstance(data, Mapping):
        raise TypeError(
            f"`{argument}` must be a dictionary of name to array. Received: "
            f"{type(data).__name__}."
        )
    flags = data.get("present")
    flags = flags if isinstance(flags, Mapping) else {}
    check_same_index({**data, **{f"present[{k!r}]": v for k, v in flags.items()}})
    return {
        name: plain_rows(f"{argument}[{name!r}]", value)
        if isinstance(value, Mapping)
        else plain_array(f"{argument}[{name!r}]", value)
        for name, value in data.items()
    }


def check_flags(argument: str, data: Mapping[str, Any]) -> None:
    """Checks the flags `present` of rows, or of their specification.

    Raises:
      TypeError: If the flags are not a mapping, or a flag is not bool.
      ValueError: If a flag has no array of the same name.
    """
    flags = data.get("present")
    if flags is None:
        return
    if not isinstance(flags, Mapping):
        raise TypeError(
            f"`{argument}['present']` must be a dictionary of modality name to bool "
            f"[N]. Received: {type(flags).__name__}."
        )
    for name, flag in flags.items():
        if name not in data:
            raise ValueError(
                f"`present` has a flag for {name!r}, but `{argument}` has only "
                f"{sorted(key for key in data if key != 'present')}."
            )
        if flag.dtype != bool:
            raise TypeError(
                f"`present[{name!r}]` must be bool. Received: "
                f"{tf.as_dtype(flag.dtype).name}."
            )


def check_modalities(argument: str, modalities: Any, values: str) -> None:
    """Checks that an argument is a dictionary by modality name.

    Args:
      argument: Name of the argument, for messages.
      modalities: Value to check.
      values: Description of the dictionary's values, for messages.

    Raises:
      TypeError: If it is not a mapping, or a name is not a string.
      ValueError: If it names no modality, or one called "present".
    """
    if not isinstance(modalities, Mapping):
        raise TypeError(
            f"`{argument}` must be a dictionary of modality name to {values}. "
            f"Received: {type(modalities).__name__}."
        )
    wrong = [name for name in modalities if not isinstance(name, str)]
    if wrong:
        raise TypeError(
            f"`{argument}` must be a dictionary by modality name, a string. "
            f"Received: {wrong[0]!r}."
        )
    if not modalities or "present" in modalities:
        raise ValueError(
            f"`{argument}` must name at least one modality, and none called 'present', "
            f"which is the key of the flags. Received: {[*modalities]}."
        )
