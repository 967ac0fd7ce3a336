"""From batches to the tensors of a request, and from answers to arrays."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from export.client.batches import Batch
from export.client.errors import UnexpectedAnswer, make_error
from export.client.served_model import Signature
from export.client.target import Target
from export.client.values import to_numbers, to_strings
from export.signatures.contract import FLAG_PREFIX, SEED

Arrays = dict[str, np.ndarray]


def make_feed(signature: Signature, batch: Batch) -> Arrays:
    """The tensors of a request of B rows; zeros, empty strings and False where missing.

    Raises:
      TypeError, ValueError: If the batch does not fit the signature.
    """
    names = signature.modality_inputs()
    for name in batch.values.keys() - names.keys():
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"Unknown modality {name!r}; the served model has {list(names)}.{hint}"
        )
    feed = {}
    for name, tensor in signature.inputs.items():
        nothing: Any = b"" if tensor.dtype == object else 0
        feed[name] = np.full([batch.rows, *tensor.event_shape], nothing, tensor.dtype)
    for name, values in batch.values.items():
        key, flag = names[name], batch.flags.get(name)
        tensor = signature.inputs[key]
        if tensor.dtype == object:
            made = to_strings(name, values, flag, files=key != name)
        else:
            made = to_numbers(name, values, flag, tensor)
        feed[key], feed[FLAG_PREFIX + name] = made
    if batch.seeds is not None:
        feed[SEED] = batch.seeds
    return feed


def split(feed: Arrays, size: int) -> Iterator[Arrays]:
    """Requests of at most `size` rows, in order."""
    rows = len(next(iter(feed.values())))
    for start in range(0, rows, size):
        yield {name: value[start : start + size] for name, value in feed.items()}


def join(signature: Signature, parts: Sequence[Arrays]) -> Arrays:
    """The answers of all requests as one; without any, empty arrays."""
    return {
        name: np.concatenate([part[name] for part in parts])
        if parts
        else np.zeros([0, *tensor.event_shape], tensor.dtype)
        for name, tensor in signature.outputs.items()
    }


def check_answer(
    signature: Signature, answer: Mapping[str, Any], rows: int, target: Target
) -> Arrays:
    """The outputs as arrays.

    Raises:
      UnexpectedAnswer: If names, shapes or dtypes are not those of the signature.
    """

    def check(condition: bool, message: str) -> None:
        if not condition:
            raise make_error(UnexpectedAnswer, target, message)

    names = sorted(signature.outputs)
    check(sorted(answer) == names, f"the answer has {sorted(answer)}, not {names}")
    arrays = {}
    for name, tensor in signature.outputs.items():
        try:
            array = np.asarray(answer[name], tensor.dtype)
        except (TypeError, ValueError):
            array = np.zeros([])
        expected = [rows, *tensor.event_shape]
        check(
            list(array.shape) == expected,
            f"output {name!r} is not an array of {tensor.dtype} {expected}",
        )
        arrays[name] = array
    return arrays
