"""Tiny models that tests of metrics share, and therefore must not change."""

import functools

from tests.tiny_models import tiny_model


@functools.cache
def shared_model(names: str = "ab", *, style_dim_of_b: int = 0, **kwargs):
    """A `tiny_model`, the same object for the same arguments.

    Args:
      names: Modality names, one letter each.
      style_dim_of_b: Size of the style of "b".
      **kwargs: Hashable keyword arguments of `tiny_model`.
    """
    options = {"b": {"style_dim": style_dim_of_b}} if style_dim_of_b else None
    return tiny_model(names, options=options, **kwargs)
