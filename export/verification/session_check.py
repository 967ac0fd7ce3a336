"""Checks a SavedModel as a server would load and run it.

Run by `export.verification.verify` in a process that can import neither Keras nor the
library: the SavedModel must stand alone. Prints one line, and exits with 1 if a check
fails.
"""

import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2

from export.signatures import contract
from export.verification.graph_lint import (
    SIGNATURES,
    CheckFailed,
    check_form,
    check_ops,
)
from export.verification.session import ServingSession, SessionError
from export.verification.warmup_records import MAX_RECORDS, WARMUP, from_record

EXAMPLES = pathlib.PurePath("assets.extra", "examples.npz")
# float32 sums are formed in another order, in a network's depth.
RTOL, ATOL = 1e-4, 1e-5
#: Rows of one request: one, a few, and the largest batch of a server.
GROUPS = (1, 3, contract.MAX_BATCH_SIZE)

Arrays = dict[str, np.ndarray]


def load_examples(folder: str) -> Arrays:
    """The arrays of a version's examples; strings as objects of `bytes`."""
    path = pathlib.Path(folder, EXAMPLES)
    if not path.is_file():
        raise CheckFailed(f"{EXAMPLES} is missing")
    try:
        with np.load(path) as archive:
            examples = dict(archive)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        raise CheckFailed(f"{EXAMPLES} is damaged") from None
    rows = {len(value) if value.ndim else 0 for value in examples.values()}
    if len(rows) != 1 or 0 in rows:
        raise CheckFailed(
            f"{EXAMPLES} is damaged: it has no rows, or arrays of different lengths"
        )
    return {
        key: value.astype(object) if value.dtype.kind == "S" else value
        for key, value in examples.items()
    }


def check_answers(session: ServingSession, name: str, examples: Mapping) -> int:
    """Runs a signature for every row alone and in batches; the number of requests.

    The answer for a row must be the model's, whatever it is batched with, and whatever
    the values of absent modalities.
    """
    signature = session.signatures[name]
    try:
        inputs = {key: examples[f"inputs/{key}"] for key in signature.inputs}
        expected = {key: examples[f"outputs/{name}/{key}"] for key in signature.outputs}
    except KeyError as error:
        raise CheckFailed(f"{EXAMPLES} has no {error}, signature {name!r}") from None
    rows = len(next(iter(expected.values())))
    requests = 0
    for suffix, feed in (
        ("", inputs),
        (", NaN where modalities are absent", _with_garbage(inputs)),
    ):
        for group in GROUPS:
            for first in range(0, rows, group):
                chosen = np.arange(first, first + group) % rows
                request = {key: value[chosen] for key, value in feed.items()}
                answer = session.run(signature, request)
                label = f"signature {name!r}, {group} rows{suffix}"
                _compare(label, answer, expected, chosen, inputs)
                requests += 1
    return requests


def _with_garbage(inputs: Arrays) -> Arrays:
    """The same requests with NaN, -1 or broken files in absent modalities."""
    feed = dict(inputs)
    for key, present in inputs.items():
        name = key.removeprefix(contract.FLAG_PREFIX)
        if name == key or present.dtype != bool:
            continue
        for value_key in inputs.keys() & {name, name + contract.BYTES_SUFFIX}:
            values = inputs[value_key].copy()
            kind = values.dtype.kind
            values[~present] = {"f": np.nan, "i": -1, "O": b"\xff\xd8\xff?"}[kind]
            feed[value_key] = values
    return feed


def _compare(label: str, answer: Arrays, expected: Arrays, chosen, inputs) -> None:
    for key, value in answer.items():
        reference = expected[key][chosen]
        if (value.shape, value.dtype) != (reference.shape, reference.dtype):
            raise CheckFailed(
                f"{label}: output {key!r} is {value.dtype} {value.shape}, the model's "
                f"{reference.dtype} {reference.shape}"
            )
        close = np.isclose(value, reference, rtol=RTOL, atol=ATOL)
        if not close.all():
            row = chosen[int(np.argmin(close.reshape(len(chosen), -1).all(axis=1)))]
            present = [
                flag.removeprefix(contract.FLAG_PREFIX)
                for flag, values in inputs.items()
                if flag.startswith(contract.FLAG_PREFIX) and values[row].all()
            ]
            raise CheckFailed(
                f"{label}: output {key!r} differs from the model's where {present} are "
                "present"
            )


def check_warmup(session: ServingSession, folder: str) -> int:
    """Replays the warm-up records, of each batch size and signature; their number."""
    path = pathlib.Path(folder, WARMUP)
    if not path.is_file():
        raise CheckFailed(f"{WARMUP} is missing")
    try:
        records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    except tf.errors.DataLossError:
        raise CheckFailed(f"{WARMUP} is damaged") from None
    missing = {(name, rows) for name in SIGNATURES for rows in contract.BATCH_SIZES}
    for number, record in enumerate(records, start=1):
        label = f"warm-up record {number}"
        try:
            request = from_record(record)
            feed = {
                key: tf.make_ndarray(tensor_pb2.TensorProto.FromString(value))
                for key, value in request.inputs.items()
            }
        except (DecodeError, ValueError, TypeError):
            raise CheckFailed(f"{label} can't be read") from None
        if request.signature not in session.signatures:
            raise CheckFailed(
                f"{label} is of an unknown signature {request.signature!r}"
            )
        try:
            session.run(session.signatures[request.signature], feed)
        except SessionError as error:
            raise CheckFailed(f"{label} fails: {error}") from None
        missing.discard((request.signature, len(next(iter(feed.values())))))
    if len(records) > MAX_RECORDS:
        raise CheckFailed(
            f"{len(records)} warm-up records: a server takes {MAX_RECORDS}"
        )
    for name, rows in sorted(missing):
        raise CheckFailed(f"no warm-up record of {rows} rows for signature {name!r}")
    return len(records)


def check(folder: str) -> str:
    """Checks a SavedModel's folder; a summary of the checks.

    Raises:
      CheckFailed, SessionError: If anything is wrong.
    """
    examples = load_examples(folder)
    session = ServingSession(folder)
    check_form(session.signatures)
    check_ops(session.meta_graph)
    requests = sum(check_answers(session, name, examples) for name in SIGNATURES)
    records = check_warmup(session, folder)
    return (
        f"{len(SIGNATURES)} signatures, {requests} requests answered as by the model, "
        f"{records} warm-up records"
    )


def main(folder: str) -> int:
    """Checks a folder; the exit code."""
    try:
        print(check(folder))
    except SessionError as error:
        print(f"TensorFlow's Session refuses it: {error}")
        return 1
    except (CheckFailed, OSError, ValueError) as error:
        print(f"{error}".splitlines()[0])
        return 1
    return 0
