"""Requests with the live model's answers, by which a version is verified.

They lie in `assets.extra/examples.npz` of the version: `inputs/<input>` `[R, ...]` and
`outputs/<signature>/<output>` `[R, ...]`, row by row.
"""

import itertools
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from export.errors import ExportError
from export.signatures.contract import BYTES_SUFFIX, FLAG_PREFIX, MAX_BATCH_SIZE, SEED
from export.signatures.model_access import draw_values, fields_of
from export.signatures.signatures import Signature
from export.verification.session_check import EXAMPLES
from tf_mopoe.data.texts import ALPHABET
from tf_mopoe.models import MultimodalVAE

#: Smallest number of rows, and largest number of modalities all of whose patterns of
#: missing modalities are tried.
MIN_ROWS, MAX_MODALITIES = 16, 10


def missing_patterns(count: int, generator: np.random.Generator) -> np.ndarray:
    """Which modalities are present, bool `[P, M]`: all 2^M patterns of up to 10.

    With more modalities: none, all, each alone, all but each, and random patterns, 1024
    together.
    """
    if count <= MAX_MODALITIES:
        return np.array(list(itertools.product([True, False], repeat=count)))
    alone = np.eye(count, dtype=bool)
    ends = np.stack([np.ones(count, bool), np.zeros(count, bool)])
    chosen = np.concatenate([ends, alone, ~alone])
    others = generator.random([2**MAX_MODALITIES - len(chosen), count]) < 0.5
    return np.concatenate([chosen, others])


def write_examples(
    model: MultimodalVAE,
    signatures: Mapping[str, Signature],
    functions: Mapping[str, Callable],
    folder: pathlib.Path,
    seed: int = 0,
) -> None:
    """Draws requests, and writes them with the model's answers into a version.

    Args:
      model: The model.
      signatures: Signatures of `make_signatures`.
      functions: Signature name to the function of the live model.
      folder: Folder of the version.
      seed: Seed of the requests.

    Raises:
      ExportError: If the model's answers are NaN, so that nothing could be checked.
    """
    generator = np.random.default_rng(seed)
    patterns = missing_patterns(len(fields_of(model)), generator)
    patterns = np.resize(patterns, [max(len(patterns), MIN_ROWS), patterns.shape[1]])
    inputs = make_inputs(model, signatures, patterns, generator)
    examples = {f"inputs/{key}": value for key, value in inputs.items()}
    for name, signature in signatures.items():
        parts = []
        for start in range(0, len(patterns), MAX_BATCH_SIZE):
            rows = slice(start, start + MAX_BATCH_SIZE)
            part = {key: tf.constant(inputs[key][rows]) for key in signature.inputs}
            parts.append(functions[name](part))
        for key in parts[0]:
            answer = np.concatenate([np.asarray(part[key]) for part in parts])
            if np.isnan(answer).any():
                raise ExportError(
                    f"the model itself returns NaN for {name!r} ({key!r}) given values "
                    "that its likelihoods allow. Did its training diverge?"
                )
            examples[f"outputs/{name}/{key}"] = answer
    path = folder / EXAMPLES
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **examples)  # type: ignore[arg-type]


def make_inputs(
    model: MultimodalVAE,
    signatures: Mapping[str, Signature],
    present: np.ndarray,
    generator: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Every input of every signature, `[R, ...]`: random where present, else zeros.

    Args:
      model: The model.
      signatures: Signatures of `make_signatures`.
      present: Flags, bool `[R, M]`.
      generator: Generator of values that each likelihood allows; files are noise.
    """
    specs = {key: spec for s in signatures.values() for key, spec in s.inputs.items()}
    rows = len(present)
    inputs: dict[str, np.ndarray] = {
        SEED: generator.integers(-(2**63), 2**63 - 1, rows, np.int64, endpoint=True)
    }
    for index, field in enumerate(fields_of(model)):
        key, flags = field.name, present[:, index]
        if key not in specs:
            key += BYTES_SUFFIX
            values = _files(field.event_shape, rows, generator)
        elif specs[key].dtype == tf.string:
            values = _texts(field.event_shape[0], rows, generator)
        else:
            values = draw_values(model, index, rows, generator)
        values = values.copy()
        values[~flags] = values.dtype.type()
        inputs[key] = values
        inputs[FLAG_PREFIX + field.name] = flags
    return inputs


def _files(shape, rows: int, generator: np.random.Generator) -> np.ndarray:
    """PNG and JPEG files in turn, every third of another size."""
    files = []
    for row in range(rows):
        height, width = (shape[0] + 3, shape[1] + 5) if row % 3 == 2 else shape[:2]
        pixels = generator.integers(0, 256, [height, width, shape[2]], np.uint8)
        encode = tf.io.encode_jpeg if row % 2 else tf.io.encode_png
        files.append(encode(pixels).numpy())
    return np.array(files)


def _texts(length: int, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Strings of the alphabet, some too short and some too long."""
    lengths = generator.integers(1, length + 4, rows)
    texts = ["".join(generator.choice(list(ALPHABET), n)) for n in lengths]
    return np.array(texts).astype(bytes)
