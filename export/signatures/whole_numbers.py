"""The check of integer arguments, for the client and the exporter."""

import operator
from typing import Any

#: The range of int64.
INT64 = -(2**63), 2**63 - 1


def check_whole(
    name: str, value: Any, *, minimum: int = 0, maximum: int | None = None
) -> int:
    """`value` as an int of Python.

    Args:
      name: Name of the argument, for messages.
      value: An int, or an integer of NumPy; not a bool, a float or a string.
      minimum: Smallest value allowed.
      maximum: Largest value allowed; None for no limit.

    Raises:
      TypeError: If it is not an integer.
      ValueError: If it is out of range.

    Example:
      >>> check_whole("keep", 3, minimum=1)
      3
      >>> check_whole("keep", 0, minimum=1)
      Traceback (most recent call last):
      ValueError: `keep` must be 1 or more. Received: 0.
    """
    try:
        # Bools of tensors have an __index__, as those of Python do.
        if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
            raise TypeError
        whole = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an int. Received: {value!r}.") from None
    if whole < minimum or (maximum is not None and whole > maximum):
        limit = f"{minimum} or more" if whole < minimum else f"{maximum} or less"
        limit = f"be {limit}"
        if (minimum if whole < minimum else maximum) in INT64:
            limit = "fit into int64"
        raise ValueError(f"`{name}` must {limit}. Received: {value}.")
    return whole
