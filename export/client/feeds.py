"""From the library's batches to the tensors that a signature takes, and back."""

import difflib
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from export.client.errors import UnexpectedAnswer, make_error
from export.client.served_model import Signature, Tensor
from export.client.target import Target
from export.client.values import checked_numbers, checked_strings
from export.contract import FLAG_PREFIX, SEED

#: Beside the modalities of a batch: modality name to bool `[B]`.
PRESENT = "present"

Arrays = dict[str, np.ndarray]


def make_feed(
    signature: Signature, inputs: Mapping[str, Any], seed: Any = None
) -> Arrays:
    """The tensors of a request: every input of the signature, all with B rows.

    Args:
      signature: What is asked.
      inputs: Modality name to values `[B, *event_shape]`, of one modality or more;
        optionally `"present"`: modality name to bool `[B]`, False in rows where the
        values are missing and may be anything. Files (bytes) and texts (str) come as
        sequences of B, None where missing.
      seed: None where the signature takes none, else an int s, for s + i in row i, or
        integers `[B]`.

    Returns:
      Input name to array; zeros, empty strings and False where something is missing.

    Raises:
      TypeError: If something has the wrong type or dtype.
      ValueError: If something has an unknown name or a wrong shape, or a value that is
        present can't be sent.
    """
    names = signature.modality_inputs()
    present = _checked_names(inputs, list(names))
    values: Arrays = {}
    flags: Arrays = {}
    for name, key in names.items():
        if inputs.get(name) is None:
            continue
        given, tensor = (name, inputs[name], present.get(name)), signature.inputs[key]
        if _is_string(tensor):
            values[key], flag = checked_strings(*given, files=key != name)
        else:
            values[key], flag = checked_numbers(*given, tensor)
        flags[FLAG_PREFIX + name] = flag
    rows = _checked_rows(names, values)
    feed = {
        name: np.full([rows, *tensor.event_shape], _nothing(tensor), tensor.dtype)
        for name, tensor in signature.inputs.items()
    }
    feed |= values | flags
    if SEED in signature.inputs:
        feed[SEED] = checked_seed(seed, rows)
    return feed


def checked_seed(seed: Any, rows: int) -> np.ndarray:
    """int64 `[B]` of an int, for seed + i in row i, or of integers `[B]`.

    Raises:
      TypeError: If it is neither.
      ValueError: If it has another shape or does not fit.
    """
    if np.ndim(seed) > 0:
        seeds = np.asarray(seed)
        if seeds.dtype.kind not in "iu" or seeds.shape != (rows,):
            raise ValueError(
                f"`seed` must be an int or integers of shape [{rows}], one a row. "
                f"Received: {seeds.dtype} of shape {list(seeds.shape)}."
            )
    else:
        try:
            first = operator.index(seed)
        except TypeError:
            raise TypeError(
                "`seed` must be an int or an array of integers. "
                f"Received: {type(seed).__name__}."
            ) from None
        seeds = np.array([first + row for row in range(rows)], object)
    limits = np.iinfo(np.int64)
    if rows and not (limits.min <= seeds.min() and seeds.max() <= limits.max):
        raise ValueError(f"`seed` must fit into int64 in every row. Received: {seed}.")
    return seeds.astype(np.int64)


def split(feed: Arrays, size: int) -> Iterator[Arrays]:
    """Requests of at most `size` rows, in order."""
    rows = len(next(iter(feed.values())))
    for start in range(0, rows, size):
        yield {name: value[start : start + size] for name, value in feed.items()}


def join(signature: Signature, parts: Sequence[Arrays]) -> Arrays:
    """The answers of all requests as one; of none, empty arrays of the right shape."""
    if not parts:
        return {
            name: np.zeros([0, *tensor.event_shape], tensor.dtype)
            for name, tensor in signature.outputs.items()
        }
    return {
        name: np.concatenate([part[name] for part in parts])
        for name in signature.outputs
    }


def check_answer(
    signature: Signature, answer: Mapping[str, Any], rows: int, target: Target
) -> Arrays:
    """The outputs as arrays.

    Raises:
      UnexpectedAnswer: If they are not those of the signature, for so many rows.
    """

    def check(fits: bool, said: str) -> None:
        if not fits:
            raise make_error(UnexpectedAnswer, target, said, None)

    wanted = sorted(signature.outputs)
    check(sorted(answer) == wanted, f"the answer has {sorted(answer)}, not {wanted}")
    arrays = {}
    for name, tensor in signature.outputs.items():
        try:
            array = np.asarray(answer[name], tensor.dtype)
        except (TypeError, ValueError):
            array = np.zeros([])
        expected = [rows, *tensor.event_shape]
        check(
            list(array.shape) == expected,
            f"output {name!r} is no array of {tensor.dtype} {expected}",
        )
        arrays[name] = array
    return arrays


def _checked_names(inputs: Mapping[str, Any], names: list[str]) -> Mapping[str, Any]:
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
    for name in [*inputs, *present]:
        if name not in names and name != PRESENT:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"Unknown modality {name!r}; the served model has {names}.{hint}"
            )
    for name in present:
        if inputs.get(name) is None:
            raise ValueError(
                f"`present` has a flag for modality {name!r}, but there are no values "
                "for it. Leave out both, or give values and a flag."
            )
    return present


def _checked_rows(names: Mapping[str, str], values: Arrays) -> int:
    rows = {name: len(values[key]) for name, key in names.items() if key in values}
    if not rows:
        raise ValueError(
            f"`inputs` must hold at least one of {list(names)}, or the number of rows "
            "is unknown. To draw without any, use `sample`."
        )
    if len(set(rows.values())) > 1:
        raise ValueError(
            f"All modalities must have the same number of rows. Received: {rows}."
        )
    return next(iter(rows.values()))


def _is_string(tensor: Tensor) -> bool:
    return tensor.dtype == object


def _nothing(tensor: Tensor) -> Any:
    return b"" if _is_string(tensor) else 0
