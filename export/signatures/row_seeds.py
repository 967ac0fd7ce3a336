"""One seed a row from one seed of a call; needs only NumPy.

    row_seed(s, i) = mix(mix(s) + GOLDEN * (i + 1))        in wrapping 64-bit arithmetic

`mix` is the finaliser of SplitMix64 (Steele, Lea and Flood, Fast Splittable
Pseudorandom Number Generators, OOPSLA 2014; constants of its variant 13 by Stafford),
a bijection of 64 bits. Rows of one call therefore never share a seed, and calls with
neighbouring seeds do not share rows, as they would with s + i.
"""

import numpy as np

from export.signatures.whole_numbers import INT64, check_whole

#: 2^64 divided by the golden ratio, odd.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def row_seeds(seed: int, rows: int, first_row: int = 0) -> np.ndarray:
    """The seeds of consecutive rows, int64 `[rows]`.

    A row's seed depends only on `seed` and the row's number, so that a batch may be
    split.

    Args:
      seed: Seed of the call, in int64's range.
      rows: Number of rows.
      first_row: Number of the first row.

    Raises:
      TypeError: If an argument is not an integer.
      ValueError: If `seed` does not fit into int64, or another one is negative.

    Example:
      >>> row_seeds(0, 2).tolist()
      [-2152535657050944081, 7960286522194355700]
      >>> row_seeds(0, 1, first_row=1).tolist()
      [7960286522194355700]
    """
    seed = check_whole("seed", seed, minimum=INT64[0], maximum=INT64[1])
    rows = check_whole("rows", rows)
    first_row = check_whole("first_row", first_row)
    start = _mix(np.array([seed], np.int64).view(np.uint64))  # [1]
    number = np.arange(first_row + 1, first_row + rows + 1, dtype=np.uint64)  # [rows]
    return _mix(start + GOLDEN * number).view(np.int64)


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser of uint64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
