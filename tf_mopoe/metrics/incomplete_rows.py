"""Rows with holes, as the evaluation of imputation reads them."""

from typing import Any

import numpy as np

from tf_mopoe.data.checks import plain_rows
from tf_mopoe.data.missing import checked_arrays


def holed_rows(model, data, argument) -> dict[str, Any]:
    """The model's modalities, as arrays, with a flag for each."""
    names = model.modality_names
    missing = [name for name in names if name not in data]
    if missing:
        raise ValueError(
            f"`{argument}` must hold all modalities {list(names)}; mark missing rows "
            f"with `present` flags. Received none of: {missing}."
        )
    given = {**plain_rows(argument, {name: data[name] for name in names})}
    if data.get("present") is not None:
        given["present"] = {n: x for n, x in data["present"].items() if n in names}
    arrays, flags = checked_arrays(given)
    ones = np.ones(len(arrays[names[0]]), bool)
    present = {name: flags.get(name, ones) for name in names}
    for name, array in arrays.items():
        if array.dtype.kind == "f" and np.isnan(array[present[name]]).any():
            raise ValueError(
                f"`{argument}` has NaN in rows of {name!r} that count as present. Call "
                "`tf_mopoe.data.mark_missing` first, or drop those rows."
            )
    return {**arrays, "present": present}


def presence(model, rows):
    """bool `[N, M]`."""
    return np.stack([rows["present"][name] for name in model.modality_names], axis=1)
