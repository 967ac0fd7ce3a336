"""Warm-up records of TensorFlow Serving: `PredictionLog` messages in a TFRecord file.

The messages are described here by their field numbers, in tensorflow_serving/apis/
prediction_log.proto, predict.proto and model.proto, so that neither writing nor reading
them needs tensorflow-serving-api. Nothing here needs TensorFlow.
"""

import pathlib
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

WARMUP = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")
#: More the server refuses.
MOST_RECORDS = 1000

_FIELD = descriptor_pb2.FieldDescriptorProto
#: Message to fields: name, number, type, repeated. A tensor is its bytes: on the wire a
#: message and bytes are the same.
_MESSAGES = {
    "ModelSpec": [("name", 1, "string"), ("signature_name", 3, "string")],
    "InputsEntry": [("key", 1, "string"), ("value", 2, "bytes")],
    "PredictRequest": [("model_spec", 1, "ModelSpec"), ("inputs", 2, "*InputsEntry")],
    "PredictLog": [("request", 1, "PredictRequest")],
    "PredictionLog": [("predict_log", 6, "PredictLog")],
}


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="warmup.proto", package="warmup", syntax="proto3"
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            field = described.field.add(name=name, number=number)
            field.label = (
                _FIELD.LABEL_REPEATED if kind[0] == "*" else _FIELD.LABEL_OPTIONAL
            )
            kind = kind.lstrip("*")
            if kind in _MESSAGES:
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".warmup.{kind}"
            else:
                field.type = getattr(_FIELD, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"warmup.{name}")
        )
        for name in _MESSAGES
    }


_CLASSES = _message_classes()


class WarmupRequest(NamedTuple):
    """One request.

    Attributes:
      model: Its name.
      signature: Of the model.
      inputs: Input name to serialised `TensorProto`.
    """

    model: str
    signature: str
    inputs: dict[str, bytes]


def to_record(request: WarmupRequest) -> bytes:
    """A serialised `PredictionLog`."""
    log = _CLASSES["PredictionLog"]()
    predict = log.predict_log.request
    predict.model_spec.name = request.model
    predict.model_spec.signature_name = request.signature
    for key, value in request.inputs.items():
        predict.inputs.add(key=key, value=value)
    return log.SerializeToString()


def from_record(record: bytes) -> WarmupRequest:
    """The request of a serialised `PredictionLog`."""
    request = _CLASSES["PredictionLog"].FromString(record).predict_log.request
    inputs = {entry.key: entry.value for entry in request.inputs}
    spec = request.model_spec
    return WarmupRequest(spec.name, spec.signature_name, inputs)


def _crc_table() -> list[int]:
    """Of CRC-32C (Castagnoli), bit by bit from its polynomial."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC_TABLE = _crc_table()


def _masked_crc32c(content: bytes) -> int:
    """The checksum as TFRecord files have it: turned by 15 bits, a constant added."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(path: pathlib.Path) -> Iterator[bytes]:
    """The records of a TFRecord file.

    Raises:
      ValueError: If the file is truncated or damaged.
    """
    content = path.read_bytes()
    place = 0
    while place < len(content):
        # Length and its checksum, the record and its checksum.
        if len(content) < place + 16:
            raise ValueError(f"{path.name} is truncated")
        (length,) = struct.unpack_from("<Q", content, place)
        end = place + 12 + length
        if len(content) < end + 4:
            raise ValueError(f"{path.name} is truncated")
        for start, stop in ((place, place + 8), (place + 12, end)):
            (checksum,) = struct.unpack_from("<I", content, stop)
            if checksum != _masked_crc32c(content[start:stop]):
                raise ValueError(f"{path.name} is damaged")
        yield content[place + 12 : end]
        place = end + 4
