"""Checks of the labels of rows: classes, or flags of attributes."""

from typing import Any

import numpy as np

from tf_mopoe.data.checks import plain_array


def check_classes(
    labels: Any,
    num_classes: int | None = None,
    *,
    rows: int | None = None,
    name: str = "labels",
) -> np.ndarray:
    """Classes as an array, int `[N]`.

    Args:
      labels: Integers from 0 to C - 1, `[N]`.
      num_classes: C; None for any number of classes.
      rows: N, the number of rows that the labels belong to; None for any.
      name: Name of the argument, for messages.

    Raises:
      TypeError: If the labels are None or of several types.
      ValueError: If they are not as described.
    """
    labels = plain_array(name, labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        hint = (
            "For attributes, bool [N, A], leave out `num_classes` or use the function "
            "for attributes."
        )
        if labels.dtype.kind in "USO":
            hint = "Number them: `np.unique(labels, return_inverse=True)[1]`."
        elif labels.dtype.kind == "f":
            hint = "Drop rows whose label is NaN, then call `.astype(int)`."
        raise ValueError(
            f"`{name}` must be classes, int [N]. {_received(labels)} {hint}"
        )
    _check_rows(labels, rows, name)
    if labels.min() < 0 or (num_classes is not None and labels.max() >= num_classes):
        last = "" if num_classes is None else f" to {num_classes - 1}"
        raise ValueError(
            f"`{name}` must be classes from 0{last}. Received: from {labels.min()} to "
            f"{labels.max()}."
        )
    return labels


def check_attributes(
    flags: Any, *, rows: int | None = None, name: str = "labels"
) -> np.ndarray:
    """Flags of attributes as an array, bool `[N, A]`.

    Args:
      flags: Bools `[N, A]`, at least one attribute.
      rows: N, the number of rows that the flags belong to; None for any.
      name: Name of the argument, for messages.

    Raises:
      TypeError: If the flags are None or of several types.
      ValueError: If they are not as described.
    """
    flags = plain_array(name, flags)
    if flags.ndim != 2 or flags.dtype != bool or not flags.shape[1]:
        raise ValueError(
            f"`{name}` must be flags of attributes, bool [N, A]. {_received(flags)} "
            "Convert 0 and 1 with `.astype(bool)`. For classes, int [N], pass "
            "`num_classes` or use the function for classes."
        )
    _check_rows(flags, rows, name)
    return flags


def _received(labels: np.ndarray) -> str:
    return f"Received: {labels.dtype} of shape {labels.shape}."


def _check_rows(labels: np.ndarray, rows: int | None, name: str) -> None:
    if not len(labels):
        raise ValueError(f"`{name}` must label at least one row. Received: none.")
    if rows is not None and len(labels) != rows:
        raise ValueError(
            f"`{name}` must have one entry for each of the {rows} rows. "
            f"Received: {len(labels)}."
        )
