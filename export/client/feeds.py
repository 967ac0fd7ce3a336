"""From batches to the tensors that a signature takes, and back."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from export.client.batches import Batch
from export.client.errors import UnexpectedAnswer, make_error
from export.client.served_model import Signature, Tensor
from export.client.target import Target
from export.client.values import to_numbers, to_strings
from export.signatures.contract import FLAG_PREFIX, SEED

Arrays = dict[str, np.ndarray]


def make_feed(signature: Signature, batch: Batch) -> Arrays:
    """The tensors of a request: every input but the seeds, all with B rows.

    Args:
      signature: What is asked.
      batch: Values and flags.

    Returns:
      Input name to array; zeros, empty strings and False where something is missing.

    Raises:
      TypeError: If something has the wrong type or dtype.
      ValueError: If something has an unknown name or a wrong shape, or a value that is
        present can't be sent.
    """
    names = signature.modality_inputs()
    _check_names(batch, list(names))
    feed = {
        name: np.full([batch.rows, *tensor.event_shape], _nothing(tensor), tensor.dtype)
        for name, tensor in signature.inputs.items()
        if name != SEED
    }
    for name, values in batch.values.items():
        key, flag = names[name], batch.flags.get(name)
        tensor = signature.inputs[key]
        if _is_string(tensor):
            made = to_strings(name, values, flag, files=key != name)
        else:
            made = to_numbers(name, values, flag, tensor)
        feed[key], feed[FLAG_PREFIX + name] = made
    return feed


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


def _check_names(batch: Batch, names: list[str]) -> None:
    for name in batch.values:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"Unknown modality {name!r}; the served model has {names}.{hint}"
            )


def _is_string(tensor: Tensor) -> bool:
    return tensor.dtype == object


def _nothing(tensor: Tensor) -> Any:
    return b"" if _is_string(tensor) else 0
