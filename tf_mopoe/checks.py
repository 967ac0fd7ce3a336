"""Checks of arguments, for the whole library."""

import operator
from collections.abc import Mapping
from typing import Any


def whole_number(
    name: str, value: Any, *, minimum: int = 0, maximum: int | None = None
) -> int:
    """Returns `value` as an int.

    Example:
      >>> whole_number("batch_size", 32, minimum=1)
      32

    Args:
      name: Name of the argument, for the message. It is set in backticks unless it
        contains some itself.
      value: Value to check. NumPy's integers are accepted, bool and floats are not.
      minimum: Smallest value allowed.
      maximum: Largest value allowed; None for no limit.

    Raises:
      TypeError: If the value is not a whole number.
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
    """Checks that all pandas objects have the same index in the same order.

    Rows are paired by position, so different indexes would pair them wrongly.

    Args:
      columns: Name to object. Objects without a pandas index are ignored.

    Raises:
      ValueError: If two indexes differ.
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
