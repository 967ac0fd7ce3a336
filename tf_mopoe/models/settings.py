"""Settings of a model that may be changed after it was compiled."""

import math
import numbers
from collections.abc import Callable
from typing import Any

import keras


class Setting:
    """A checked attribute whose new value counts from the next step on.

    The steps that `fit` and `evaluate` have compiled hold its value, so that they are
    traced anew.
    """

    def __init__(self, check: Callable[[str, Any], Any]):
        """Takes the check, which returns the value or raises an error with the name."""
        self._check = check

    def __set_name__(self, owner: type, name: str) -> None:
        """Learns the attribute's name."""
        self._name = name

    def __get__(self, model: keras.Model | None, owner: type | None = None) -> Any:
        """The value."""
        if model is None:
            return self
        try:
            return model.__dict__[f"_setting_{self._name}"]
        except KeyError:  # not set yet
            raise AttributeError(self._name) from None

    def __set__(self, model: keras.Model, value: Any) -> None:
        """Checks and keeps the value."""
        model.__dict__[f"_setting_{self._name}"] = self._check(self._name, value)
        model.remake_functions()


def checked_weight(name: str, weight: Any) -> float:
    """The weight as a float.

    Raises:
      TypeError: If it is no number.
      ValueError: If it is negative or not finite.
    """
    expected = "a number, 0 or more" + (", or a schedule" if name == "beta" else "")
    message = f"`{name}` must be {expected}. Received: {weight!r}."
    if not isinstance(weight, numbers.Real) or isinstance(weight, bool):
        raise TypeError(message)
    number = float(weight)
    if not 0 <= number < math.inf:
        raise ValueError(message)
    return number
