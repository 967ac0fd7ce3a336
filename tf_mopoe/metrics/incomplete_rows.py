"""Rows with missing modalities, as the metrics of imputation read them."""

from typing import Any

import numpy as np

from tf_mopoe.data.checks import plain_rows
from tf_mopoe.data.missing import checked_arrays


def rows_with_flags(model, data, argument: str) -> dict[str, Any]:
    """The model's modalities as arrays, and a `"present"` flag for each of them.

    Args:
      model: Model that the rows are for.
      data: Modality name to `[N, *event_shape]`, optionally with `"present"` flags.
      argument: Name of the argument, for messages.

    Raises:
      TypeError: If `data` is not a dictionary of arrays, or a flag is not bool.
      ValueError: If a modality is missing, numbers of rows differ, or a row that counts
        as present has NaN.
    """
    names = model.modality_names
    missing = [name for name in names if name not in data]
    if missing:
        raise ValueError(
            f"`{argument}` must hold all modalities {list(names)}; mark missing rows "
            f"with `present` flags. Received none of: {missing}."
        )
    rows = {**plain_rows(argument, {name: data[name] for name in names})}
    if data.get("present") is not None:
        rows["present"] = {n: x for n, x in data["present"].items() if n in names}
    arrays, flags = checked_arrays(rows)
    ones = np.ones(len(arrays[names[0]]), bool)
    present = {name: flags.get(name, ones) for name in names}
    for name, array in arrays.items():
        if array.dtype.kind == "f" and np.isnan(array[present[name]]).any():
            raise ValueError(
                f"`{argument}` has NaN in rows of {name!r} that count as present. Call "
                "`tf_mopoe.data.mark_missing` first, or drop those rows."
            )
    return {**arrays, "present": present}


def presence(model, rows) -> np.ndarray:
    """Flags of all modalities as one array, bool `[N, M]`."""
    return np.stack([rows["present"][name] for name in model.modality_names], axis=1)
