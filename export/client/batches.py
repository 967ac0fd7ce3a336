"""The batches that callers give, checked as far as possible without the server."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from export.client.values import Values, check_items, read_flag, read_values
from export.signatures.row_seeds import row_seeds
from export.signatures.whole_numbers import INT64, check_whole

#: Key beside the modalities of a batch: modality name to bool `[B]`.
PRESENT = "present"

Inputs = Mapping[str, Any]


class Batch(NamedTuple):
    """The content of a request of B rows.

    Attributes:
      values: Modality name to numbers, files or texts; others are missing.
      flags: Modality name to bool `[B]`, where flags were given.
      rows: Number of rows B.
      seeds: int64 `[B]`; None for signatures that draw nothing.
    """

    values: dict[str, Values]
    flags: dict[str, np.ndarray]
    rows: int
    seeds: np.ndarray | None = None


def read_batch(inputs: Inputs) -> Batch:
    """Checks containers, flags and numbers of rows; see `Client` for `inputs`.

    Raises:
      TypeError: If something has a type or dtype that no modality takes.
      ValueError: If numbers of rows differ, or a flag has no values.
    """
    if not isinstance(inputs, Mapping):
        raise TypeError(
            "`inputs` must be a dictionary of modality name to array. "
            f"Received: {type(inputs).__name__}."
        )
    present = inputs.get(PRESENT)
    present = {} if present is None else present
    if not isinstance(present, Mapping):
        raise TypeError(
            "`present` must be a dictionary of modality name to bool [B]. "
            f"Received: {type(present).__name__}."
        )
    given = {name: value for name, value in inputs.items() if name != PRESENT}
    for name in present.keys() - given.keys():
        raise ValueError(
            f"`present` has a flag for modality {name!r}, but there are no values "
            "for it. Leave out both, or give values and a flag."
        )
    for name, value in given.items():
        if isinstance(value, Mapping):
            raise TypeError(
                f"Modality {name!r} must be an array. Received: "
                f"{type(value).__name__}. Flags go under the key {PRESENT!r}."
            )
        if value is None:
            raise TypeError(
                f"Modality {name!r} is None. Leave it out if it is missing in all rows."
            )
    _check_same_index(given, present)
    values = {name: read_values(name, value) for name, value in given.items()}
    counts = {name: len(value) for name, value in values.items()}
    if not counts:
        raise ValueError(
            "`inputs` must hold at least one modality, or the number of rows is "
            "unknown. To draw without any, use `sample`."
        )
    rows = next(iter(counts.values()))
    if set(counts.values()) != {rows}:
        raise ValueError(
            f"All modalities must have the same number of rows. Received: {counts}."
        )
    flags = {name: read_flag(name, flag, rows) for name, flag in present.items()}
    for name, items in values.items():
        if isinstance(items, list):
            check_items(name, items, flags.get(name))
    return Batch(values, flags, rows)


def read_seeded_batch(inputs: Inputs, seed: Any) -> Batch:
    """As `read_batch`, with seeds; see `read_seeds`."""
    batch = read_batch(inputs)
    return batch._replace(seeds=read_seeds(seed, batch.rows))


def read_draws(n: int, seed: Any) -> Batch:
    """A batch of `n` rows in which everything is missing, with seeds."""
    rows = check_whole("n", n)
    return Batch({}, {}, rows, read_seeds(seed, rows))


def read_seeds(seed: Any, rows: int) -> np.ndarray:
    """int64 `[B]`: the `row_seeds` of an int, or integers `[B]` as they are.

    Raises:
      TypeError: If it is neither.
      ValueError: If it has another shape or does not fit into int64.
    """
    limits = {"minimum": INT64[0], "maximum": INT64[1]}
    if isinstance(seed, Sequence) and not isinstance(seed, (str, bytes, bytearray)):
        # One by one: NumPy would make an int of a bool among ints.
        checked = [check_whole("seed", one, **limits) for one in seed]
        seeds = np.array(checked, np.int64)
    elif getattr(seed, "ndim", 0) == 0:
        return row_seeds(seed, rows)
    else:
        seeds = np.asarray(seed)
    if seeds.dtype.kind not in "iu" or np.ma.is_masked(seed):
        kind = "masked values" if np.ma.is_masked(seed) else f"dtype {seeds.dtype}"
        raise TypeError(
            f"`seed` must be an int or integers [B], one a row. Received: {kind}."
        )
    if seeds.shape != (rows,):
        raise ValueError(
            f"`seed` must be an int or integers of shape [{rows}], one a row. "
            f"Received shape: {list(seeds.shape)}."
        )
    if rows:
        check_whole("seed", seeds.max(), **limits)  # uint64 reaches further
    return seeds.astype(np.int64)


def _check_same_index(given: Inputs, present: Inputs) -> None:
    """Raises ValueError if pandas columns have different indexes."""
    columns = {repr(name): value for name, value in given.items()}
    columns |= {f"`present` of {name!r}": flag for name, flag in present.items()}
    indexes = [(key, x.index) for key, x in columns.items() if hasattr(x, "iloc")]
    for label, index in indexes[1:]:
        if not index.equals(indexes[0][1]):
            raise ValueError(
                f"{indexes[0][0]} and {label} are pandas columns with different "
                "indexes, but rows are taken in the order in which they stand. Align "
                "them, or give `column.to_numpy()`."
            )
