"""Checks a SavedModel as a server would load and run it, in a process of its own.

Run by `export.publication.publish.verify`. The process imports neither Keras, nor
TensorFlow Probability, nor the library, nor TensorFlow's Python (`import tensorflow`
would import Keras): the SavedModel must stand alone. Prints one line; exits with 1 and
says which check failed if anything is wrong.
"""

import pathlib
import sys
import zipfile
from collections.abc import Mapping

import numpy as np
from google.protobuf.message import DecodeError

from export.signatures.contract import BATCH_SIZES, FLAG_PREFIX, MAX_BATCH_SIZE
from export.verification.c_session import (
    CSession,
    SessionError,
    use_protocol_buffers_alone,
)
from export.verification.graph_lint import (
    SIGNATURES,
    CheckFailed,
    check_form,
    check_ops,
)
from export.verification.warmup_records import (
    MOST_RECORDS,
    WARMUP,
    from_record,
    read_records,
)

EXAMPLES = pathlib.PurePath("assets.extra", "examples.npz")
FOREIGN = ("keras", "tf_keras", "tensorflow_probability", "tf_mopoe", "trainers")
# float32 sums are formed in another order, in a network's depth.
RTOL, ATOL = 1e-4, 1e-5
#: Rows of one request: alone, a few, as many as a server batches.
GROUPS = (1, 3, MAX_BATCH_SIZE)

Arrays = dict[str, np.ndarray]


def load_examples(folder: str) -> Arrays:
    """The arrays of a version's examples; strings as objects of `bytes`.

    Raises:
      CheckFailed: If they are missing or damaged.
    """
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
            f"{EXAMPLES} is damaged: it has no rows, or not as many of each"
        )
    return {
        key: value.astype(object) if value.dtype.kind == "S" else value
        for key, value in examples.items()
    }


def check_answers(session: CSession, name: str, examples: Mapping) -> int:
    """Asks one signature for every row alone and in batches; returns how many requests.

    Every row must be answered as the model did, whatever it is batched with, and
    whatever stands where a modality is absent.

    Raises:
      CheckFailed: If an answer differs.
    """
    signature = session.signatures[name]
    try:
        inputs = {key: examples[f"inputs/{key}"] for key in signature.inputs}
        expected = {key: examples[f"outputs/{name}/{key}"] for key in signature.outputs}
    except KeyError as error:
        raise CheckFailed(f"{EXAMPLES} has no {error}, signature {name!r}") from None
    rows = len(next(iter(expected.values())))
    requests = 0
    for absent, feed in (("zeros", inputs), ("NaN", _with_garbage(inputs))):
        for group in GROUPS:
            for first in range(0, rows, group):
                chosen = np.arange(first, first + group) % rows
                request = {key: value[chosen] for key, value in feed.items()}
                answer = session.run(signature, request)
                what = f"signature {name!r}, {group} rows"
                if absent == "NaN":
                    what += ", NaN where modalities are absent"
                _compare(what, answer, expected, chosen, inputs)
                requests += 1
    return requests


def _with_garbage(inputs: Arrays) -> Arrays:
    """The same requests with NaN, -1 or broken files in what is absent."""
    feed = dict(inputs)
    for key, present in inputs.items():
        name = key.removeprefix(FLAG_PREFIX)
        if name == key or present.dtype != bool:
            continue
        for value_key in inputs.keys() & {name, f"{name}_bytes"}:
            values = inputs[value_key].copy()
            kind = values.dtype.kind
            values[~present] = {"f": np.nan, "i": -1, "O": b"\xff\xd8\xff?"}[kind]
            feed[value_key] = values
    return feed


def _compare(what: str, answer: Arrays, expected: Arrays, chosen, inputs) -> None:
    for key, value in answer.items():
        wanted = expected[key][chosen]
        if (value.shape, value.dtype) != (wanted.shape, wanted.dtype):
            raise CheckFailed(
                f"{what}: output {key!r} is {value.dtype} {value.shape}, the model's "
                f"{wanted.dtype} {wanted.shape}"
            )
        close = np.isclose(value, wanted, rtol=RTOL, atol=ATOL)
        if not close.all():
            row = chosen[int(np.argmin(close.reshape(len(chosen), -1).all(axis=1)))]
            present = [
                flag.removeprefix(FLAG_PREFIX)
                for flag, values in inputs.items()
                if flag.startswith(FLAG_PREFIX) and values[row].all()
            ]
            raise CheckFailed(
                f"{what}: output {key!r} differs from the model's where {present} are "
                "present"
            )


def check_warmup(session: CSession, folder: str) -> int:
    """Replays the warm-up records; returns how many there are.

    Raises:
      CheckFailed: If one fails, or a signature lacks one of an allowed batch size.
    """
    path = pathlib.Path(folder, WARMUP)
    if not path.is_file():
        raise CheckFailed(f"{WARMUP} is missing")
    missing = {(name, rows) for name in SIGNATURES for rows in BATCH_SIZES}
    count = 0
    for count, record in enumerate(read_records(path), start=1):
        try:
            request = from_record(record)
            feed = {key: _array(value) for key, value in request.inputs.items()}
        except (DecodeError, ValueError, KeyError):
            raise CheckFailed(f"warm-up record {count} can't be read") from None
        if request.signature not in session.signatures:
            raise CheckFailed(
                f"warm-up record {count} is of an unknown signature "
                f"{request.signature!r}"
            )
        try:
            session.run(session.signatures[request.signature], feed)
        except SessionError as error:
            raise CheckFailed(f"warm-up record {count} fails: {error}") from None
        missing.discard((request.signature, len(next(iter(feed.values())))))
    if count > MOST_RECORDS:
        raise CheckFailed(f"{count} warm-up records: a server takes {MOST_RECORDS}")
    for name, rows in sorted(missing):
        raise CheckFailed(f"no warm-up record of {rows} rows for signature {name!r}")
    return count


def _array(serialized: bytes) -> np.ndarray:
    """The array of a `TensorProto` whose elements are equal and written once."""
    use_protocol_buffers_alone()
    from tensorflow.core.framework import tensor_pb2

    tensor = tensor_pb2.TensorProto.FromString(serialized)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    fields = {1: "float_val", 3: "int_val", 7: "string_val", 9: "int64_val"}
    fields[10] = "bool_val"
    dtypes = {1: np.float32, 3: np.int32, 7: object, 9: np.int64, 10: bool}
    (value,) = getattr(tensor, fields[tensor.dtype])
    return np.full(shape, value, dtypes[tensor.dtype])


def check(folder: str) -> str:
    """Checks a SavedModel's folder; returns what was done.

    Raises:
      CheckFailed, SessionError: If anything is wrong.
    """
    examples = load_examples(folder)
    session = CSession(folder)
    check_form(session.signatures)
    check_ops(session.meta_graph)
    requests = sum(check_answers(session, name, examples) for name in SIGNATURES)
    records = check_warmup(session, folder)
    loaded = sorted(sys.modules.keys() & set(FOREIGN))
    if loaded:
        raise CheckFailed(f"this process has imported {loaded}; it must not")
    return (
        f"{len(SIGNATURES)} signatures, {requests} requests answered as the model did, "
        f"{records} warm-up records"
    )


def main(arguments: list[str]) -> int:
    """Checks the folder named; returns the exit code."""
    try:
        print(check(arguments[0]))
    except SessionError as error:
        print(f"the C++ Session refuses it: {error}")
        return 1
    except (CheckFailed, OSError, ValueError) as error:
        print(f"{error}".splitlines()[0])
        return 1
    return 0
