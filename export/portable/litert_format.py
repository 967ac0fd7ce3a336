"""LiteRT, formerly TensorFlow Lite: conversion, and the interpreter."""

import re
import tempfile
from collections.abc import Callable

import keras
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from export.portable.networks import Arrays, Network
from tf_mopoe.models import MultimodalVAE

EXTENSION = "tflite"


def convert(network: Network, model: MultimodalVAE) -> bytes:
    """The network as a flat buffer of LiteRT's own operators."""
    # By way of a SavedModel: from a concrete function, the variables would stay
    # variables, and nothing would set them.
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve", network.function, input_signature=[dict(network.inputs)]
    )
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def load(content: bytes) -> Callable[[Arrays], Arrays]:
    """The interpreter's function; inputs may have any number of rows."""
    interpreter = Interpreter(model_content=content)
    return lambda request: interpreter.get_signature_runner()(**request)


def reason(error: Exception) -> str:
    """One line: the operators that LiteRT lacks, or the first line of its message."""
    operators = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
    if operators:
        return f"LiteRT lacks operators, or their dtypes: {', '.join(operators)}."
    return (str(error).splitlines() or [type(error).__name__])[0]
