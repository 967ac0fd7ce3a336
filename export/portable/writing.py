"""Writes a model's networks for another runtime, after running them there."""

import importlib
import os
import pathlib
import types

import numpy as np
import tensorflow as tf

from export.errors import ExportError, UsageError
from export.portable.networks import Network, networks_of
from export.publication.versions import flush, staged
from export.signatures.serving_model import serving_model
from tf_mopoe.models import MultimodalVAE

#: Format to its module, which has EXTENSION, `convert`, `load` and `reason`.
FORMATS = {
    "litert": "export.portable.litert_format",
    "onnx": "export.portable.onnx_format",
}
# float32 sums are formed in another order, in a network's depth; the second is relative
# to the answer's largest element.
RTOL, ATOL = 1e-4, 1e-5


def write_portable(
    model: MultimodalVAE, folder: str | os.PathLike[str], format: str
) -> pathlib.Path:
    """Writes `encode` and each `decode_<modality>` as files; see `networks_of`.

    Batches may have any size. The folder appears only after every file has returned the
    model's answers in its own runtime.

    Args:
      model: The model; call this outside of a strategy's scope.
      folder: Folder to make; must not exist.
      format: `"litert"` for `.tflite` files, `"onnx"` for `.onnx`.

    Returns:
      The folder.

    Raises:
      UsageError: If the folder exists or the format is unknown.
      ExportError: If the format's packages are not installed, a network can't be
        converted, or its answers differ; nothing is left behind.
      OSError: If the folder can't be written.

    Example:
        write_portable(model, "networks", "onnx")  # encode.onnx, decode_image.onnx, ...
    """
    runtime = _runtime(format)
    target = pathlib.Path(folder).absolute()
    if target.exists():
        raise UsageError(f"OUT: {target} exists; name a folder that does not.")
    model = serving_model(model)
    with staged(target.parent) as temporary:
        for network in networks_of(model):
            content = _checked_content(network, model, format, runtime)
            path = temporary / f"{network.name}.{runtime.EXTENSION}"
            path.write_bytes(content)
            flush(path)
        flush(temporary)
        try:
            os.rename(temporary, target)
        except OSError as error:
            if not target.exists():
                raise
            raise UsageError(f"OUT: {target} was made by another process.") from error
    return target


def _runtime(format: str) -> types.ModuleType:
    if format not in FORMATS:
        raise UsageError(
            f"format must be one of {sorted(FORMATS)}. Received: {format!r}."
        )
    try:
        return importlib.import_module(FORMATS[format])
    except ImportError as error:
        raise ExportError(
            f"format {format!r} needs {error.name}, which is not installed: "
            f"pip install 'tf-mopoe[{format}]'."
        ) from error


def _checked_content(
    network: Network, model: MultimodalVAE, format: str, runtime: types.ModuleType
) -> bytes:
    try:
        content = runtime.convert(network, model)
        run = runtime.load(content)
        answers = [run(request) for request in network.requests]
    except ExportError:
        raise
    except Exception as error:  # converters' and runtimes' errors have no common base
        raise ExportError(
            f"{format} can't hold {network.name}: {runtime.reason(error)}"
        ) from error
    for request, answer in zip(network.requests, answers):
        inputs = {key: tf.constant(value) for key, value in request.items()}
        for key, tensor in network.function(inputs).items():
            if not _close(answer[key], tensor.numpy()):
                raise ExportError(
                    f"{format} gives other answers for {network.name} than the model: "
                    f"output {key!r}, {len(tensor)} rows. Use another format."
                )
    return content


def _close(value: np.ndarray, expected: np.ndarray) -> bool:
    if (value.shape, value.dtype) != (expected.shape, expected.dtype):
        return False
    atol = ATOL * max(1.0, float(np.abs(expected).max()))
    return bool(np.allclose(value, expected, rtol=RTOL, atol=atol))
