"""Checks of arguments that several readers and pipelines share."""

import numbers
from collections.abc import Mapping
from typing import Any


def checked_integer(name: str, value: Any, *, at_least: int) -> int:
    """The value, if it is a whole number and large enough.

    Raises:
      TypeError: If it is no integer.
      ValueError: If it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer. Received: {value!r}.")
    if value < at_least:
        raise ValueError(f"`{name}` must be >= {at_least}. Received: {value!r}.")
    return int(value)


def check_modalities(argument: str, modalities: Any, values: str) -> None:
    """Checks a dictionary with something for each modality.

    Args:
      argument: Its name, for messages.
      modalities: What came.
      values: What it should hold, for messages.

    Raises:
      TypeError: If it is no mapping.
      ValueError: If it names no modality, or one "present".
    """
    if not isinstance(modalities, Mapping):
        raise TypeError(
            f"`{argument}` must be a dictionary of modality name to {values}. "
            f"Received: {type(modalities).__name__}."
        )
    if not modalities or "present" in modalities:
        raise ValueError(
            f"`{argument}` must name at least one modality, and none 'present', which "
            f"is the key of the flags. Received: {[*modalities]}."
        )
