"""Checks that the readers of one's own data share."""

from collections.abc import Mapping
from typing import Any


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
