"""Writes warm-up records, so that no user's request waits for a first run."""

import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from export.signatures.contract import BATCH_SIZES, BYTES_SUFFIX
from export.signatures.model_access import fields_of
from export.signatures.signatures import Signature
from export.verification.warmup_records import WARMUP, WarmupRequest, to_record
from tf_mopoe.models import MultimodalVAE


def write_warmup(
    model: MultimodalVAE, signatures: Mapping[str, Signature], folder: pathlib.Path
) -> None:
    """Writes a request of each allowed batch size for each signature into a version.

    Every modality is present; values are zeros, images black, texts empty.
    """
    fields = fields_of(model)
    image_shapes = {f.name + BYTES_SUFFIX: f.event_shape for f in fields}
    path = folder / WARMUP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for rows in BATCH_SIZES:
            for name, signature in signatures.items():
                inputs = {
                    key: _filled(spec, rows, image_shapes.get(key))
                    for key, spec in signature.inputs.items()
                }
                writer.write(to_record(WarmupRequest(model.name, name, inputs)))


def _filled(spec: tf.TensorSpec, rows: int, image_shape) -> bytes:
    """A serialised `TensorProto` of `rows` equal rows.

    Elements are written once: TensorFlow repeats the last one.
    """
    value: bytes | bool | int = 0
    if spec.dtype == tf.bool:
        value = True
    elif spec.dtype == tf.string:
        value = b""
        if image_shape is not None:
            value = tf.io.encode_png(np.zeros(image_shape, np.uint8)).numpy()
    tensor = tf.make_tensor_proto(value, spec.dtype)
    for size in (rows, *spec.shape[1:]):
        tensor.tensor_shape.dim.add(size=size)
    return tensor.SerializeToString()
