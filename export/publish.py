"""Writes a SavedModel, verifies it, and only then gives it its version number."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import uuid
import zipfile

import keras
import numpy as np
import tensorflow as tf

from export.errors import ExportError, UsageError
from export.session_check import EXAMPLES
from export.signatures import FLAG_PREFIX, make_signatures
from tf_mopoe.models import MultimodalVAE

SCRIPT = pathlib.Path(__file__).with_name("session_check.py")
#: Batch sizes of the examples that a version is verified with.
BATCH_SIZES = (1, 3)


def load_run(run: str | os.PathLike[str]) -> MultimodalVAE:
    """Loads the model of a run folder.

    Raises:
      UsageError: If there is none.
      ExportError: If it can't be loaded.
    """
    path = pathlib.Path(run, "model.keras")
    if not path.is_file():
        raise UsageError(f"RUN: {path} does not exist. Train with mopoe-train first.")
    try:
        return keras.saving.load_model(path)
    except (OSError, ValueError, zipfile.BadZipFile):
        raise ExportError(
            f"can't load {path}: it is damaged, or of another version of the library."
        ) from None


def publish(model: MultimodalVAE, serving_dir: str | os.PathLike[str]) -> pathlib.Path:
    """Exports to SERVING_DIR/<model name>/<version>/, verified before it appears.

    The version is one more than the highest that is there. Until it is complete and
    has passed, it lies in a folder whose name starts with a dot, which servers ignore.

    Args:
      model: The model.
      serving_dir: Where TensorFlow Serving finds its models.

    Returns:
      The version's folder.

    Raises:
      UsageError: If the folder can't be written.
      ExportError: If the verification fails; nothing is left behind.
    """
    base = pathlib.Path(serving_dir, model.name)
    temporary = base / f".{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise UsageError(
            f"SERVING_DIR: can't write {base}: {error.strerror}."
        ) from None
    try:
        write_saved_model(model, temporary)
        write_examples(model, temporary)
        verify(temporary)
        return _take_version(temporary, base)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            base.rmdir()  # only where nothing was ever published


def write_saved_model(model: MultimodalVAE, folder: pathlib.Path) -> None:
    """Writes the SavedModel with all signatures into `folder`."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, signature in make_signatures(model).items():
        archive.add_endpoint(
            name, signature.function, input_signature=[signature.inputs]
        )
    archive.write_out(folder, verbose=False)


def write_examples(model: MultimodalVAE, folder: pathlib.Path, seed: int = 0) -> None:
    """Keeps requests and the live model's answers, to verify the version with.

    One example has every modality present, then one each alone, and one has nothing;
    absent values are NaN, which must leave no trace.
    """
    generator = np.random.default_rng(seed)
    count = len(model.modality_names)
    patterns = [np.ones(count, bool), *np.eye(count, dtype=bool), np.zeros(count, bool)]
    examples: dict[str, np.ndarray] = {}
    for name, signature in make_signatures(model).items():
        for rows in BATCH_SIZES:
            for index, pattern in enumerate(patterns):
                case = f"{name}/{rows}-rows-{index:02d}"
                inputs = _request(model, pattern, rows, generator)
                outputs = signature.function(
                    {key: tf.constant(value) for key, value in inputs.items()}
                )
                for key, value in inputs.items():
                    examples[f"{case}/inputs/{key}"] = value
                for key, value in outputs.items():
                    examples[f"{case}/outputs/{key}"] = np.asarray(value)
    path = folder / EXAMPLES
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **examples)  # type: ignore[arg-type]


def _request(model, pattern, rows, generator) -> dict[str, np.ndarray]:
    inputs = {}
    for modality, likelihood, present in zip(
        model.modalities, model.likelihoods, pattern
    ):
        # Values that the modality may have: a draw of its likelihood.
        parameters = tf.zeros([rows, *likelihood.parameter_shape])
        seed = tf.constant(generator.integers(0, 2**31, 2), tf.int32)
        drawn = likelihood.distribution(parameters, 1.0).sample(seed=seed)
        values = np.asarray(drawn, np.int32 if likelihood.integer else np.float32)
        nothing = np.full_like(values, -1 if likelihood.integer else np.nan)
        inputs[modality.name] = values if present else nothing
        inputs[FLAG_PREFIX + modality.name] = np.full([rows], present)
    return inputs


def verify(folder: str | os.PathLike[str]) -> str:
    """Checks a version in a process that has imported TensorFlow alone.

    Returns:
      What was checked.

    Raises:
      ExportError: If a check fails, saying which.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONPATH", None)
    result = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", str(SCRIPT), str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    said = result.stdout.strip().splitlines()
    if result.returncode != 0:
        reason = said[-1] if said else result.stderr.strip()[-500:]
        raise ExportError(f"verification failed: {reason}")
    return said[-1]


def _take_version(temporary: pathlib.Path, base: pathlib.Path) -> pathlib.Path:
    while True:
        taken = [int(p.name) for p in base.iterdir() if p.name.isdecimal()]
        target = base / str(max(taken, default=0) + 1)
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.exists():
                raise
            continue  # another exporter took this number
        return target
