"""PredictionService and ModelService of tensorflow-serving-api, over a Session."""

from concurrent import futures

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.export.model_store import Fault, ModelStore, RefusalError


class GrpcServer:
    """Serves a store on a free port.

    Attributes:
      address: Such as 127.0.0.1:8500.
    """

    def __init__(self, store: ModelStore, port: int = 0, credentials=None):
        pool = futures.ThreadPoolExecutor(8)
        options = (("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0))
        self._server = grpc.server(pool, options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(store), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(store), self._server
        )
        address = f"127.0.0.1:{port}"
        if credentials is None:
            bound = self._server.add_insecure_port(address)
        else:
            bound = self._server.add_secure_port(address, credentials)
        self.address = f"127.0.0.1:{bound}"

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(None).wait()


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata by TensorFlow Serving's rules."""

    def __init__(self, store: ModelStore):
        self._store = store

    def Predict(self, request, context):
        fault = self._store.note("Predict")
        try:
            refuse_if(fault)
            return self._predict(request)
        except RefusalError as error:
            context.abort(grpc.StatusCode[error.code], error.message)

    def GetModelMetadata(self, request, context):
        fault = self._store.note("GetModelMetadata")
        try:
            refuse_if(fault)
            if list(request.metadata_field) != ["signature_def"]:
                raise RefusalError(
                    "INVALID_ARGUMENT",
                    f"Metadata field {list(request.metadata_field)} is not supported",
                )
            version, session = self._store.find(*spec_of(request))
        except RefusalError as error:
            context.abort(grpc.StatusCode[error.code], error.message)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        definitions = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in session.signatures.items():
            definitions.signature_def[name].CopyFrom(signature)
        response.metadata["signature_def"].Pack(definitions)
        return response

    def _predict(self, request):
        name = request.model_spec.signature_name or "serving_default"
        version, session = self._store.find(*spec_of(request))
        if name not in session.signatures:
            raise RefusalError(
                "FAILED_PRECONDITION", f'Serving signature key "{name}" not found.'
            )
        signature = session.signatures[name]
        sent, expected = request.inputs.keys(), signature.inputs.keys()
        if sent != expected:
            raise RefusalError(
                "INVALID_ARGUMENT",
                f"input size does not match signature. Sent extra: {sent - expected}. "
                f"Missing but required: {expected - sent}.",
            )
        feed = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        outputs = self._store.run(session, signature, feed)
        response = predict_pb2.PredictResponse(
            outputs={key: tf.make_tensor_proto(value) for key, value in outputs.items()}
        )
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        response.model_spec.signature_name = name
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus."""

    def __init__(self, store: ModelStore):
        self._store = store

    def GetModelStatus(self, request, context):
        fault = self._store.note("GetModelStatus")
        try:
            refuse_if(fault)
            versions = self._store.status(*spec_of(request))
        except RefusalError as error:
            context.abort(grpc.StatusCode[error.code], error.message)
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        return get_model_status_pb2.GetModelStatusResponse(
            model_version_status=[
                get_model_status_pb2.ModelVersionStatus(version=one, state=available)
                for one in versions
            ]
        )


def refuse_if(fault: Fault) -> None:
    if fault.code is not None:
        raise RefusalError(fault.code, "as the test requires")
    if fault.drop:
        raise RefusalError("UNAVAILABLE", "Socket closed")


def spec_of(request) -> tuple[str, int | None, str | None]:
    spec = request.model_spec
    version = spec.version.value if spec.HasField("version") else None
    return spec.name, version, spec.version_label or None
