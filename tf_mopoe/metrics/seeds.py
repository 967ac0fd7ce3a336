"""Seeds of the metrics."""

from typing import Any

from tf_mopoe.checks import whole_number


def checked_seed(seed: Any) -> int:
    """The seed as an int from 0 to 2^31 - 1, the range of scikit-learn and Keras.

    Raises:
      TypeError: If it is not a whole number.
      ValueError: If it is out of range.
    """
    return whole_number("seed", seed, maximum=2**31 - 1)
