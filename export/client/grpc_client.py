"""The clients for TensorFlow Serving's gRPC API."""

from collections.abc import Mapping
from typing import Any

try:
    import grpc
    import tensorflow as tf
    from google.protobuf import json_format
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )
except ImportError as error:
    raise ImportError(
        f"GrpcClient needs tensorflow-serving-api ({error}). "
        "Install it: pip install 'tf-mopoe[grpc]'. RestClient does without."
    ) from error

from export.client import errors
from export.client.clients import AsyncClient, Client
from export.client.core import Transport, resolve
from export.client.feeds import Arrays
from export.client.served_model import Signature
from export.client.target import Target

#: gRPC code to error; others are `ServingError`.
MEANINGS: dict[str, type[errors.ServingError]] = {
    "INVALID_ARGUMENT": errors.InvalidRequest,
    "FAILED_PRECONDITION": errors.InvalidRequest,
    "NOT_FOUND": errors.ModelNotFound,
    "DEADLINE_EXCEEDED": errors.Timeout,
    "UNAVAILABLE": errors.Unavailable,
    "RESOURCE_EXHAUSTED": errors.Unavailable,
}
METADATA_FIELD = "signature_def"
OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that restarts is found again as soon as a retry looks for it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class GrpcClient(Client):
    """Asks over gRPC, with one channel that is kept open; see `Client`.

    Example:
      >>> with GrpcClient("localhost:1", "digits", retries=0) as client:
      ...     client.ready()  # no server there
      False
    """

    def _make_transport(self, **options: Any) -> Transport:
        return _GrpcTransport(self.target, grpc, **options)


class AsyncGrpcClient(AsyncClient):
    """`GrpcClient` with coroutines; to be used within one event loop.

    Example:
        async with AsyncGrpcClient("localhost:8500", "polydigits") as client:
            means = await client.reconstruct({"m0": images})
    """

    def _make_transport(self, **options: Any) -> Transport:
        return _GrpcTransport(self.target, grpc.aio, **options)


class _GrpcTransport(Transport):
    """The requests of the gRPC API, over a channel of `grpc` or `grpc.aio`."""

    def __init__(
        self,
        target: Target,
        package: Any,
        credentials: grpc.ChannelCredentials | None = None,
    ):
        if "://" in target.address or ":" not in target.address:
            raise ValueError(
                "`address` must be host:port, such as localhost:8500. "
                f"Received: {target.address!r}."
            )
        self._target = target
        self._grpc, self._credentials = package, credentials
        self._channel: Any = None
        if package is grpc:
            self._connect()

    def _connect(self) -> Any:
        """The channel; with `grpc.aio` it belongs to the event loop that makes it."""
        if self._channel is None:
            address = self._target.address
            if self._credentials is None:
                self._channel = self._grpc.insecure_channel(address, OPTIONS)
            else:
                self._channel = self._grpc.secure_channel(
                    address, self._credentials, OPTIONS
                )
        return self._channel

    async def metadata(self) -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=[METADATA_FIELD]
        )
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self._connect())
        response = await self._call(stub.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        if not response.metadata[METADATA_FIELD].Unpack(signatures):
            message = f"the metadata have no {METADATA_FIELD}"
            raise errors.make_error(errors.UnexpectedAnswer, self._target, message)
        content = json_format.MessageToDict(
            signatures, preserving_proto_field_name=True
        )
        return {"metadata": {METADATA_FIELD: content}}

    async def predict(
        self, name: str, signature: Signature, feed: Arrays
    ) -> Mapping[str, Any]:
        inputs = {key: tf.make_tensor_proto(value) for key, value in feed.items()}
        request = predict_pb2.PredictRequest(model_spec=self._spec(name), inputs=inputs)
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self._connect())
        response = await self._call(stub.Predict, request)
        return {key: tf.make_ndarray(value) for key, value in response.outputs.items()}

    async def is_available(self) -> bool:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec())
        stub = model_service_pb2_grpc.ModelServiceStub(self._connect())
        response = await self._call(stub.GetModelStatus, request)
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        return any(one.state == available for one in response.model_version_status)

    async def close(self) -> None:
        if self._channel is not None:
            await resolve(self._channel.close())

    async def _call(self, method: Any, request: Any) -> Any:
        try:
            return await resolve(method(request, timeout=self._target.timeout))
        except grpc.RpcError as error:
            status = error.code().name
            kind = MEANINGS.get(status, errors.ServingError)
            raise errors.make_error(
                kind, self._target, error.details(), status
            ) from None

    def _spec(self, signature: str = "") -> Any:
        spec = model_pb2.ModelSpec(name=self._target.model, signature_name=signature)
        if self._target.version is not None:
            spec.version.value = self._target.version
        if self._target.label is not None:
            spec.version_label = self._target.label
        return spec
