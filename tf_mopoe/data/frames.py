"""Reader of pandas tables: columns to arrays, missing values to flags."""

import difflib
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from tf_mopoe.data.checks import check_modalities
from tf_mopoe.data.missing import mark_missing


def from_frame(
    frame: Any,
    modalities: Mapping[str, Iterable[Hashable]],
    *,
    partial: str = "error",
) -> dict[str, Any]:
    """Converts a pandas `DataFrame` to a batch; each modality is some of its columns.

    A column of numbers or bools becomes one column; a column of dtype `category` with C
    categories becomes C one-hot columns in the order of pandas
    (`frame[column].cat.categories`). So `["age", "weight", "colour"]` goes with
    `likelihood=[("normal", 2), ("categorical", C)]`. Frames for the same model must
    have the same categories, whether they occur or not. Numbers are not standardised.

    A modality is missing in a row if all its columns are missing (NaN, `pd.NA`, None).

    Args:
      frame: pandas `DataFrame` of N rows. It is not modified; its index is not used.
      modalities: Modality name to the names of its columns, in the desired order. A
        column may be used by several modalities, or by none.
      partial: Treatment of a row in which some of a modality's columns are missing:
        `"error"`, or `"missing"`, which treats the whole modality as missing in it.

    Returns:
      Modality name to float32 `[N, columns]`, zeros where it is missing; and, if any is
      missing, `"present"`: modality name to bool `[N]`, for the modalities with missing
      rows.

    Raises:
      TypeError: If `frame` is not a pandas `DataFrame`, `modalities` is not a mapping
        to lists of names, or a column holds neither numbers, bools nor categories.
      ValueError: If the frame has no rows, a modality has no columns, a column is
        missing or repeated in the frame, repeated in a modality or without categories,
        or a row is missing in part and `partial` is `"error"`.

    Example:
      >>> import pandas as pd
      >>> frame = pd.DataFrame({"age": [31, 54], "weight": [80.5, np.nan]})
      >>> data = from_frame(frame, {"person": ["age"], "scales": ["weight"]})
      >>> data["scales"].tolist(), data["present"]["scales"].tolist()
      ([[80.5], [0.0]], [True, False])
    """
    if not hasattr(frame, "iloc") or not hasattr(frame, "columns"):
        raise TypeError(
            "`frame` must be a pandas DataFrame. Received: "
            f"{type(frame).__module__}.{type(frame).__name__}. Convert it, e.g. with "
            "`pandas.DataFrame(...)` or its method `to_pandas()`."
        )
    if len(frame) == 0:
        raise ValueError("`frame` must have at least one row. Received: none.")
    check_modalities("modalities", modalities, "column names")
    return mark_missing(
        {
            name: columns_to_array(frame, columns, f"modality {name!r}")
            for name, columns in modalities.items()
        },
        partial=partial,
    )


def columns_to_array(frame: Any, columns: Iterable[Hashable], owner: str) -> np.ndarray:
    """Columns of a frame as float32 `[N, columns]`, NaN where values are missing.

    Args:
      frame: pandas `DataFrame` of N rows.
      columns: Names of the columns.
      owner: Owner of the columns, for messages, such as "modality 'a'".

    Raises:
      TypeError, ValueError: If a column is refused; see `from_frame`.
    """
    positions: dict[Hashable, list[int]] = {}
    for position, column in enumerate(frame.columns):
        positions.setdefault(column, []).append(position)
    arrays = []
    for column in _checked_columns(columns, owner):
        places = positions.get(column, [])
        if not places:
            raise ValueError(
                f"`frame` has no column {column!r}, which {owner} lists."
                f"{did_you_mean(column, positions)}"
            )
        if len(places) > 1:
            raise ValueError(
                f"`frame` must have column {column!r}, which {owner} lists, only once. "
                f"Received: {len(places)} columns of that name, at {places}. Rename "
                "them."
            )
        arrays.append(_column_to_array(frame.iloc[:, places[0]], column, owner))
    return np.concatenate(arrays, axis=1)


def did_you_mean(name: Any, known: Iterable[Any]) -> str:
    """End of a message about an unknown name: the nearest known name, or the first ten.

    Example:
      >>> did_you_mean("wieght", ["age", "weight"])
      " Did you mean 'weight'?"
    """
    spelled = {str(other): other for other in known}
    close = difflib.get_close_matches(str(name), spelled, n=1)
    if close:
        return f" Did you mean {spelled[close[0]]!r}?"
    first = [*spelled.values()][:10]
    more = f" and {len(spelled) - 10} more" if len(spelled) > 10 else ""
    return f" It has {first}{more}."


def _checked_columns(columns: Any, owner: str) -> list[Hashable]:
    if isinstance(columns, (str, bytes)) or not isinstance(columns, Iterable):
        raise TypeError(
            f"The columns of {owner} must be a list of names. Received: {columns!r}. "
            f"For a single column write [{columns!r}]."
        )
    names = list(columns)
    if not names:
        raise ValueError(f"{owner.capitalize()} must have at least one column.")
    for name in names:
        if not isinstance(name, Hashable):
            raise TypeError(
                f"The columns of {owner} must be a list of names. Received as one of "
                f"them: {name!r}."
            )
    twice = sorted({repr(name) for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{owner.capitalize()} lists columns twice: {twice}.")
    return names


def _column_to_array(series: Any, column: Hashable, owner: str) -> np.ndarray:
    """Float32 `[N, 1]` of numbers, `[N, C]` of categories; NaN where missing."""
    if hasattr(series.dtype, "categories"):
        codes = series.cat.codes.to_numpy()  # [N], -1 where missing
        classes = len(series.dtype.categories)
        if not classes:
            raise ValueError(
                f"Column {column!r} of {owner} has no categories. Leave it out, or "
                "name them with `.cat.set_categories`."
            )
        one_hot = np.zeros([len(codes), classes], np.float32)
        present = codes >= 0
        one_hot[present, codes[present]] = 1.0
        one_hot[~present] = np.nan
        return one_hot
    if getattr(series.dtype, "kind", "O") not in "fiub":
        values = series.dropna()
        example = f", such as {values.iloc[0]!r}" if len(values) else ""
        raise TypeError(
            f"Column {column!r} of {owner} must hold numbers, bools or categories. "
            f"Received dtype: {series.dtype}{example}. Convert it to a category with "
            "`.astype('category')`, or to numbers with `pandas.to_numeric`; dates e.g. "
            "to days since the first."
        )
    values = series.to_numpy(dtype="float64", na_value=np.nan)
    if (np.abs(values[np.isfinite(values)]) > np.finfo(np.float32).max).any():
        raise ValueError(
            f"Column {column!r} of {owner} must fit float32, up to 3.4e38. Received: "
            f"{np.nanmax(np.abs(values))}. Use another unit, or logarithms."
        )
    return values.astype(np.float32)[:, np.newaxis]
