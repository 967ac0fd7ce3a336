"""Requests with the live model's answers, which a version is verified by.

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
from export.signatures.signatures import Signature
from export.verification.session_check import EXAMPLES
from tf_mopoe.data.texts import ALPHABET
from tf_mopoe.models import MultimodalVAE

#: So many rows at least; and with all their patterns of missing modalities up to so
#: many modalities.
FEWEST_ROWS, MOST_MODALITIES = 16, 10


def missing_patterns(count: int, generator: np.random.Generator) -> np.ndarray:
    """Which modalities are present: all 2^M patterns of up to 10 modalities.

    Of more: nothing, all, each alone, all but each, and random ones, 1024 together.

    Returns:
      bool `[P, M]`.
    """
    if count <= MOST_MODALITIES:
        return np.array(list(itertools.product([True, False], repeat=count)))
    alone = np.eye(count, dtype=bool)
    ends = np.stack([np.ones(count, bool), np.zeros(count, bool)])
    chosen = np.concatenate([ends, alone, ~alone])
    others = generator.random([2**MOST_MODALITIES - len(chosen), count]) < 0.5
    return np.concatenate([chosen, others])


def write_examples(
    model: MultimodalVAE,
    signatures: Mapping[str, Signature],
    functions: Mapping[str, Callable],
    folder: pathlib.Path,
    seed: int = 0,
) -> None:
    """Draws requests, asks the model, and keeps both in the version's folder.

    Args:
      model: The model.
      signatures: Of `make_signatures`.
      functions: Signature name to what answers it: the live model.
      folder: Of the version.
      seed: Of the requests.

    Raises:
      ExportError: If the model's answers are NaN, of which nothing could be checked.
    """
    generator = np.random.default_rng(seed)
    patterns = missing_patterns(len(model.modalities), generator)
    patterns = np.resize(patterns, [max(len(patterns), FEWEST_ROWS), patterns.shape[1]])
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
                    f"the model itself answers {name!r} with NaN ({key!r}) for values "
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
    """Every input of every signature, `[R, ...]`: values drawn where present, else 0.

    Args:
      model: The model.
      signatures: Of `make_signatures`.
      present: bool `[R, M]`.
      generator: Draws values that each likelihood allows; files are noise.
    """
    specs = {key: spec for s in signatures.values() for key, spec in s.inputs.items()}
    rows = len(present)
    inputs: dict[str, np.ndarray] = {
        SEED: generator.integers(-(2**63), 2**63 - 1, rows, np.int64, endpoint=True)
    }
    for modality, likelihood, flags in zip(
        model.modalities, model.likelihoods, present.T
    ):
        name = modality.name
        if name not in specs:
            key, drawn = (
                name + BYTES_SUFFIX,
                _files(modality.event_shape, rows, generator),
            )
        elif specs[name].dtype == tf.string:
            key, drawn = name, _texts(modality.event_shape[0], rows, generator)
        else:
            key = name
            parameters = tf.zeros([rows, *likelihood.parameter_shape])
            seed = tf.constant(generator.integers(0, 2**31, 2), tf.int32)
            drawn = likelihood.distribution(parameters, 1.0).sample(seed=seed)
            drawn = np.asarray(drawn, specs[name].dtype.as_numpy_dtype)
        inputs[key] = blanked(drawn, flags)
        inputs[FLAG_PREFIX + name] = flags
    return inputs


def blanked(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The values, with zeros or empty strings in rows that are not present."""
    values = values.copy()
    values[~present] = values.dtype.type()
    return values


def _files(shape, rows: int, generator: np.random.Generator) -> np.ndarray:
    """PNG and JPEG files by turns, every third of another size."""
    files = []
    for row in range(rows):
        height, width = (shape[0] + 3, shape[1] + 5) if row % 3 == 2 else shape[:2]
        pixels = generator.integers(0, 256, [height, width, shape[2]], np.uint8)
        encode = tf.io.encode_jpeg if row % 2 else tf.io.encode_png
        files.append(encode(pixels).numpy())
    return np.array(files)


def _texts(length: int, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Strings of the alphabet, some too short and some too long."""
    return np.array(
        [
            "".join(generator.choice(list(ALPHABET), generator.integers(1, length + 4)))
            for _ in range(rows)
        ]
    ).astype(bytes)
