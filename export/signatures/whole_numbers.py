"""Whole numbers as arguments: one rule for the client and the exporter."""

import operator
from typing import Any

#: The range of int64.
INT64 = -(2**63), 2**63 - 1


def check_whole(
    name: str, value: Any, *, least: int | None = None, most: int | None = None
) -> int:
    """`value` as an int.

    Args:
      name: Name of the argument, for messages.
      value: An int, or an integer of NumPy; not a bool, a float or a string.
      least: Smallest value that is taken; None for no limit.
      most: Largest value that is taken; None for no limit.

    Raises:
      TypeError: If it is no whole number.
      ValueError: If it is below `least` or above `most`.
    """
    try:
        # Bools of tensors have an __index__, as those of Python do.
        if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
            raise TypeError
        whole = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an int. Received: {value!r}.") from None
    if least is not None and whole < least:
        limit = "fit into int64" if least == INT64[0] else f"be {least} or more"
        raise ValueError(f"`{name}` must {limit}. Received: {value}.")
    if most is not None and whole > most:
        limit = "fit into int64" if most == INT64[1] else f"be {most} or less"
        raise ValueError(f"`{name}` must {limit}. Received: {value}.")
    return whole
