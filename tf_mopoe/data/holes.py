"""Modalities dropped on purpose, to study models of incomplete data; seeded."""

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.optimize import brentq
from scipy.special import expit

from tf_mopoe.data.checks import checked_seed, plain_array, stateless_base
from tf_mopoe.data.missing import checked_arrays
from tf_mopoe.data.pipelines import check_single_rows

#: Fraction of rows to drop for all modalities, or by modality name (others: 0).
Fraction = float | Mapping[str, float]


def drop_at_random(
    data: Mapping[str, Any] | tf.data.Dataset,
    fraction: Fraction,
    *,
    seed: int,
    keep_one: bool = True,
) -> Any:
    """Marks modalities as missing completely at random.

    Each modality of each row is dropped independently with probability f = `fraction`.
    With `keep_one`, a row that would lose all of its n modalities keeps one of them,
    each with the same probability, so that modalities are missing less often: with
    the same f for all,

        P(dropped) = f - f^n / n        0.3 and n = 2: 0.255; 0.3 and n = 6: 0.2999

    Args:
      data: Modality name to `[N, ...]`, optionally with `"present"` flags, bool `[N]`;
        missing rows stay missing. For rows of NaN or masked rows call `mark_missing`
        first. Or a `tf.data.Dataset` of single rows of that form: the flags of row i
        depend on (seed, i) and are the same in every pass. The data are not modified.
      fraction: f from 0 to 1; or modality name to f, 0 for those not named.
      seed: Seed of the draws, from 0 to 2^63 - 1. The same seed gives the same flags,
        whatever the order of the modalities.
      keep_one: Whether a row with at least one modality keeps at least one.

    Returns:
      A new dictionary: the same arrays (not copied), and `"present"`: modality name to
      bool `[N]`, for all modalities; or a dataset of such rows.

    Raises:
      ValueError: If `fraction` is not from 0 to 1 or names an unknown modality, arrays
        or flags differ in rows, or a flag has no array of its name.
      TypeError: If an array does not hold numbers, or a flag is not bool.

    Example:
      >>> data = {"a": np.zeros([1000, 2]), "b": np.zeros([1000, 3])}
      >>> present = drop_at_random(data, 0.5, seed=0)["present"]
      >>> bool((present["a"] | present["b"]).all())
      True
    """
    seed = checked_seed(seed)
    if isinstance(data, tf.data.Dataset):
        check_single_rows("data", data)
        names = sorted(name for name in data.element_spec if name != "present")
        return _drop_from_rows(data, names, _fractions(fraction, names), seed, keep_one)
    arrays, flags = checked_arrays(data)
    names = sorted(arrays)
    fractions = _fractions(fraction, names)
    rows = len(arrays[names[0]])
    everywhere = np.ones(rows, bool)
    had = np.stack([flags.get(name, everywhere) for name in names], axis=-1)  # [N, M]
    random = np.random.default_rng(seed)
    kept = had & (random.random(had.shape) >= fractions)  # [N, M]
    # Drawn in any case, so that `keep_one` changes no other row.
    last = np.argmax(np.where(had, random.random(had.shape), -1.0), axis=-1)  # [N]
    if keep_one:
        lost = had.any(axis=-1) & ~kept.any(axis=-1)
        kept[lost, last[lost]] = True
    present = {name: kept[:, names.index(name)] for name in arrays}
    return {**arrays, "present": present}


def _drop_from_rows(rows, names, fractions, seed, keep_one):
    base = stateless_base(seed)

    def drop(index, row):
        key = tf.random.experimental.stateless_fold_in(base, index)
        uniform = tf.random.stateless_uniform([2, len(names)], key)
        flags = row.get("present", {})
        had = tf.stack([flags.get(name, tf.constant(True)) for name in names])  # [M]
        kept = had & (uniform[0] >= tf.constant(fractions, tf.float32))
        last = tf.argmax(tf.where(had, uniform[1], -1.0))
        lost = tf.reduce_any(had) & ~tf.reduce_any(kept)
        one = tf.one_hot(last, len(names), True, False)
        kept = tf.where(lost & keep_one, one, kept)
        present = {name: kept[m] for m, name in enumerate(names)}
        return {**row, "present": present}

    return rows.enumerate().map(drop, num_parallel_calls=tf.data.AUTOTUNE)


def drop_depending_on(
    data: Mapping[str, Any],
    name: str,
    given: str,
    fraction: float,
    *,
    seed: int,
    score: Callable[[np.ndarray], np.ndarray] | None = None,
    strength: float = 2.0,
) -> dict[str, Any]:
    """Marks a modality as missing at random, depending on the values of another one.

        P(dropped in row i) = sigmoid(a + strength * s_i),    a such that the mean is f

    with s the standardised score of the other modality. Only rows in which the other
    modality is present can lose this one, so that missingness depends on observed
    values only.

    Args:
      data: Modality name to `[N, ...]`, optionally with `"present"` flags, bool `[N]`.
        The data are not modified.
      name: Name of the modality to drop.
      given: Name of the modality that it depends on.
      fraction: f, between 0 and 1, of the rows in which both are present.
      seed: Seed of the draws, from 0 to 2^63 - 1.
      score: Function from the array of `given`, `[n, ...]`, to scores `[n]`; None for
        the mean.
      strength: Change of the log-odds for one standard deviation of the score.

    Returns:
      A new dictionary: the same arrays (not copied), and `"present"`: the given flags
      and those of `name`.

    Raises:
      ValueError: If a modality is unknown, `given` is `name`, `fraction` is not between
        0 and 1, the scores are not one finite number a row or all the same, arrays or
        flags differ in rows, or a flag has no array of its name.
      TypeError: If an array does not hold numbers, or a flag is not bool.

    Example:
      >>> data = {"a": np.arange(1000.0)[:, np.newaxis], "b": np.zeros([1000, 3])}
      >>> present = drop_depending_on(data, "b", "a", 0.5, seed=0)["present"]["b"]
      >>> bool(present[:300].mean() > 0.8 and present[-300:].mean() < 0.2)
      True
    """
    seed = checked_seed(seed)
    arrays, flags = checked_arrays(data)
    for modality in (name, given):
        if modality not in arrays:
            raise ValueError(
                f"`data` has no modality {modality!r}. Received: {sorted(arrays)}."
            )
    if name == given:
        raise ValueError(f"`given` must be another modality than `name`, {name!r}.")
    if not 0.0 < _checked_number("fraction", fraction) < 1.0:
        raise ValueError(f"`fraction` must be in (0, 1). Received: {fraction!r}.")
    if not math.isfinite(_checked_number("strength", strength)):
        raise ValueError(f"`strength` must be finite. Received: {strength!r}.")
    everywhere = np.ones(len(arrays[name]), bool)
    had = flags.get(name, everywhere)
    both = had & flags.get(given, everywhere)
    values = arrays[given][both]
    scores = (
        values.reshape([len(values), -1]).mean(axis=1)
        if score is None
        else plain_array("score", score(values))
    ).astype(np.float64)
    if scores.shape != (len(values),) or not np.isfinite(scores).all():
        raise ValueError(
            f"`score` must return one finite number for each of the {len(values)} rows "
            f"in which both are present. Received: shape {scores.shape}."
        )
    spread = scores.std() if len(scores) else 0.0
    if spread == 0.0:
        raise ValueError(
            f"The score of {given!r} must vary between rows. Received: the same score "
            "in all rows. Pass another `score`, or use `drop_at_random`."
        )
    logits = strength * (scores - scores.mean()) / spread
    limit = np.abs(logits).max() + 40.0  # at which the mean is 0 or 1 up to rounding
    shift = brentq(lambda a: expit(a + logits).mean() - fraction, -limit, limit)
    dropped = np.random.default_rng(seed).random(len(everywhere))[both] < expit(
        shift + logits
    )
    kept = had.copy()
    kept[both] &= ~dropped
    return {**arrays, "present": {**flags, name: kept}}


def drop_by_table(
    data: Mapping[str, Any], table: np.ndarray | Mapping[str, Any]
) -> dict[str, Any]:
    """Marks modalities as missing where a table is False.

    Args:
      data: Modality name to `[N, ...]`, optionally with `"present"` flags, bool `[N]`.
        The data are not modified.
      table: Modalities to keep: bool `[N, M]`, columns in the order of `data`; or
        modality name to bool `[N]`, the other modalities being kept.

    Returns:
      A new dictionary: the same arrays (not copied), and `"present"`: modality name to
      bool `[N]`, False where the table or a flag of `data` is False.

    Raises:
      ValueError: If the table does not fit the data, arrays or flags differ in rows, or
        a flag has no array of its name.
      TypeError: If the table or a flag is not bool, or an array does not hold numbers.

    Example:
      >>> data = {"a": np.zeros([2, 1]), "b": np.zeros([2, 3])}
      >>> table = np.array([[True, False], [True, True]])
      >>> drop_by_table(data, table)["present"]["b"].tolist()
      [False, True]
    """
    arrays, flags = checked_arrays(data)
    rows = len(next(iter(arrays.values())))
    if not isinstance(table, Mapping):
        table = plain_array("table", table)
        if table.shape != (rows, len(arrays)):
            raise ValueError(
                f"`table` must have shape {(rows, len(arrays))}: the rows of `data`, "
                f"and a column for each of {list(arrays)}. Received: {table.shape}."
            )
        table = {name: table[:, m] for m, name in enumerate(arrays)}
    for name, column in table.items():
        column = plain_array(f"table[{name!r}]", column)
        if name not in arrays or column.shape != (rows,):
            raise ValueError(
                f"`table` must have columns of {rows} flags, named by some of "
                f"{sorted(arrays)}. Received: {name!r} of shape {column.shape}."
            )
        if column.dtype != bool:
            raise TypeError(
                f"`table` must be bool. Received: {column.dtype} for {name!r}."
            )
        flags[name] = flags.get(name, True) & column
    everywhere = np.ones(rows, bool)
    return {
        **arrays,
        "present": {name: flags.get(name, everywhere) for name in arrays},
    }


def _fractions(fraction: Fraction, names: list[str]) -> np.ndarray:
    """f of each modality, `[M]`."""
    by_name = (
        fraction if isinstance(fraction, Mapping) else dict.fromkeys(names, fraction)
    )
    unknown = sorted(set(by_name) - set(names))
    if unknown:
        raise ValueError(
            f"`fraction` must name modalities among {names}. Received: {unknown}, "
            "which are not in `data`."
        )
    for value in by_name.values():
        if not 0.0 <= _checked_number("fraction", value) <= 1.0:
            raise ValueError(f"`fraction` must be from 0 to 1. Received: {value!r}.")
    return np.array([by_name.get(name, 0.0) for name in names])


def _checked_number(name: str, value: Any) -> float:
    """The value as a float; raises TypeError if it is not a number."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a number. Received: {value!r}.")
    return float(value)
