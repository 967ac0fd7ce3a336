"""Warm-up records of TensorFlow Serving: `PredictionLog` messages in a TFRecord file.

The schema is the part of tensorflow_serving/apis/prediction_log.proto, predict.proto
and model.proto that the records use, so that tensorflow-serving-api is not needed. A
tensor is declared as its bytes, which have the same form on the wire.
"""

import pathlib
from typing import NamedTuple

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)

WARMUP = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")
#: Largest number of records that the server takes.
MAX_RECORDS = 1000

_SCHEMA = """
name: "warmup.proto" package: "warmup" syntax: "proto3"
message_type { name: "ModelSpec"
  field { name: "name" number: 1 type: TYPE_STRING }
  field { name: "signature_name" number: 3 type: TYPE_STRING } }
message_type { name: "InputsEntry"
  field { name: "key" number: 1 type: TYPE_STRING }
  field { name: "value" number: 2 type: TYPE_BYTES } }
message_type { name: "PredictRequest"
  field { name: "model_spec" number: 1 type_name: "ModelSpec" }
  field { name: "inputs" number: 2 type_name: "InputsEntry" label: LABEL_REPEATED } }
message_type { name: "PredictLog"
  field { name: "request" number: 1 type_name: "PredictRequest" } }
message_type { name: "PredictionLog"
  field { name: "predict_log" number: 6 type_name: "PredictLog" } }
"""
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()))
PredictionLog = message_factory.GetMessageClass(
    _POOL.FindMessageTypeByName("warmup.PredictionLog")
)


class WarmupRequest(NamedTuple):
    """One request; `inputs` maps names to serialised `TensorProto`s."""

    model: str
    signature: str
    inputs: dict[str, bytes]


def to_record(request: WarmupRequest) -> bytes:
    """A serialised `PredictionLog`."""
    log = PredictionLog()
    predict = log.predict_log.request
    predict.model_spec.name = request.model
    predict.model_spec.signature_name = request.signature
    for key, value in request.inputs.items():
        predict.inputs.add(key=key, value=value)
    return log.SerializeToString()


def from_record(record: bytes) -> WarmupRequest:
    """The request of a serialised `PredictionLog`."""
    request = PredictionLog.FromString(record).predict_log.request
    inputs = {entry.key: entry.value for entry in request.inputs}
    spec = request.model_spec
    return WarmupRequest(spec.name, spec.signature_name, inputs)
