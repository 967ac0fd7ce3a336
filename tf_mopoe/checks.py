"""Checks of arguments that the whole library shares."""

import operator
from collections.abc import Mapping
from typing import Any


def whole_number(
    name: str, value: Any, *, minimum: int = 0, maximum: int | None = None
) -> int:
    """The value as an int.

    Args:
      name: Name of the argument, for the message; with backticks if more is said.
      value: What came; NumPy's integers are taken, bool and floats are not.
      minimum: Smallest value.
      maximum: Largest value; None for no limit.

    Raises:
      TypeError: If it is not a whole number.
      ValueError: If it is out of range.
    """
    expected = f"a whole number from {minimum}"
    if maximum is not None:
        expected += f" to {maximum}"
    label = name if "`" in name else f"`{name}`"
    message = f"{label} must be {expected}. Received: {value!r}."
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(message) from None
    if isinstance(value, bool) or type(value).__name__ == "bool":  # np.bool too
        raise TypeError(message)
    if number < minimum or (maximum is not None and number > maximum):
        raise ValueError(message)
    return number


def check_same_index(columns: Mapping[str, Any]) -> None:
    """Raises a ValueError if pandas objects do not have the same index in order.

    Rows are taken by place: those of another order would be paired wrongly.

    Args:
      columns: Name to anything; what has no index of pandas is passed over.
    """
    first = ""
    for name, column in columns.items():
        index: Any = getattr(column, "index", None)
        if not hasattr(index, "equals"):
            continue
        first = first or name
        if not index.equals(columns[first].index):
            raise ValueError(
                f"{first!r} and {name!r} have different pandas indexes, but rows are "
                "taken by place. Align them, e.g. with `.reindex(...)`; or, if the "
                "order is right, pass `.to_numpy()`."
            )
