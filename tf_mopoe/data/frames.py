"""Tables of pandas as modalities: columns to arrays, holes to flags."""

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
    """Makes a batch of a pandas `DataFrame`, each modality some of its columns.

    A column of numbers or bools becomes one column, one of dtype `category` with C
    categories C one-hot columns in pandas' order (`frame[column].cat.categories`), so
    that `["age", "weight", "colour"]` goes with
    `likelihood=[("normal", 2), ("categorical", C)]`. Frames for the same model must
    have the same categories, whether they occur or not; and numbers are taken as they
    are, not standardised.

    A modality is missing from a row where all its columns are missing (NaN, `pd.NA`,
    None).

    Args:
      frame: A pandas `DataFrame` of N rows. Is not modified; its index is not used.
      modalities: Modality name to the names of its columns, in the order wanted. A
        column may be in several modalities, and need not be in any.
      partial: What becomes of a row in which some of a modality's columns are missing:
        `"error"`, or `"missing"`, which treats the whole modality as missing there.

    Returns:
      Modality name to float32 `[N, columns]`, zeros where it is missing; and, if there
      are holes, `"present"`: modality name to bool `[N]`, of the modalities with holes.

    Raises:
      TypeError: If `frame` is not a pandas `DataFrame`, `modalities` not a mapping to
        lists of names, or a column holds neither numbers, bools nor categories.
      ValueError: If the frame has no rows, a modality no columns, a column is not in
        the frame, there more than once or named twice in a modality, has no
        categories, or a row is missing in part and `partial` is `"error"`.

    Example::

      frame = pd.DataFrame({"age": [31, 54], "weight": [80.5, np.nan]})
      from_frame(frame, {"person": ["age"], "scales": ["weight"]})
      # {"person": [[31.], [54.]], "scales": [[80.5], [0.]],
      #  "present": {"scales": [True, False]}}
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
    """Float32 `[N, columns]` of a frame, NaN where values are missing.

    Raises:
      TypeError, ValueError: As `from_frame`; `owner` says in the message whose columns
        they are.
    """
    positions: dict[Hashable, list[int]] = {}
    for position, column in enumerate(frame.columns):
        positions.setdefault(column, []).append(position)
    arrays = []
    for column in _checked_columns(columns, owner):
        found = positions.get(column, [])
        if not found:
            raise ValueError(
                f"`frame` has no column {column!r}, which {owner} lists."
                f"{did_you_mean(column, positions)}"
            )
        if len(found) > 1:
            raise ValueError(
                f"`frame` must have column {column!r} once, which {owner} lists. "
                f"Received: {len(found)} columns of that name, at {found}. Rename them."
            )
        arrays.append(_column_to_array(frame.iloc[:, found[0]], column, owner))
    return np.concatenate(arrays, axis=1)


def did_you_mean(name: Any, known: Iterable[Any]) -> str:
    """Ends an error about an unknown name: the nearest known one, or all if few.

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
            f"For a single one write [{columns!r}]."
        )
    names = list(columns)
    if not names:
        raise ValueError(f"{owner.capitalize()} must have at least one column.")
    for name in names:
        if not isinstance(name, Hashable):
            raise TypeError(
                f"The columns of {owner} must be a list of names. Received in it: "
                f"{name!r}."
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
        here = codes >= 0
        one_hot[here, codes[here]] = 1.0
        one_hot[~here] = np.nan
        return one_hot
    if getattr(series.dtype, "kind", "O") not in "fiub":
        values = series.dropna()
        example = f", such as {values.iloc[0]!r}" if len(values) else ""
        raise TypeError(
            f"Column {column!r} of {owner} must hold numbers, bools or categories. "
            f"Received dtype: {series.dtype}{example}. Make it a category with "
            "`.astype('category')`, or numbers with `pandas.to_numeric`; of dates, "
            "e.g. days since the first."
        )
    values = series.to_numpy(dtype="float64", na_value=np.nan)
    if (np.abs(values[np.isfinite(values)]) > np.finfo(np.float32).max).any():
        raise ValueError(
            f"Column {column!r} of {owner} must fit float32, up to 3.4e38. Received: "
            f"{np.nanmax(np.abs(values))}. Take another unit, or logarithms."
        )
    return values.astype(np.float32)[:, np.newaxis]
