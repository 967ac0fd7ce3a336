"""The clients for TensorFlow Serving's gRPC API."""

import contextlib
from collections.abc import Iterator, Mapping
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

from export.client.async_base import AsyncClient
from export.client.base import Client
from export.client.errors import (
    InvalidRequest,
    ModelNotFound,
    ServingError,
    Timeout,
    Unavailable,
    UnexpectedAnswer,
    make_error,
)
from export.client.feeds import Arrays
from export.client.served_model import Signature
from export.client.target import Target
from export.signatures.contract import MAX_BATCH_SIZE

#: gRPC code to what it means; the rest are `ServingError`.
MEANINGS: dict[str, type[ServingError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "FAILED_PRECONDITION": InvalidRequest,
    "NOT_FOUND": ModelNotFound,
    "DEADLINE_EXCEEDED": Timeout,
    "UNAVAILABLE": Unavailable,
    "RESOURCE_EXHAUSTED": Unavailable,
}
METADATA_FIELD = "signature_def"
OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that restarts is found again as soon as the retries look for it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class GrpcClient(Client):
    """Asks over gRPC, with one channel that is kept open."""

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 10.0,
        retries: int = 3,
        max_batch_size: int = MAX_BATCH_SIZE,
        credentials: grpc.ChannelCredentials | None = None,
    ):
        """No connection is opened until the first call.

        Args:
          address: Address of the server, such as "localhost:8500".
          model: Name of the model.
          version: Number of the version; None for the newest (or `label`).
          label: Version label; None for none.
          timeout: Seconds after which one attempt fails: its deadline.
          retries: Attempts after the first, where the code is UNAVAILABLE or
            RESOURCE_EXHAUSTED.
          max_batch_size: Largest number of rows of one request; the server's limit.
          credentials: Credentials for TLS, of `grpc.ssl_channel_credentials`.

        Raises:
          TypeError: If an argument has the wrong type.
          ValueError: If an argument is invalid.
        """
        super().__init__(
            Target(address, model, version, label, timeout, retries, max_batch_size)
        )
        _check_address(address)
        if credentials is None:
            self._channel = grpc.insecure_channel(address, OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, OPTIONS)
        self._api = _Api(self.target, self._channel)

    def _disconnect(self) -> None:
        self._channel.close()

    def _metadata(self) -> Any:
        with self._api.readable_errors():
            return self._api.read_metadata(self._api.get_metadata())

    def _is_available(self) -> bool:
        with self._api.readable_errors():
            return _is_available(self._api.get_status())

    def _predict(
        self, name: str, signature: Signature, feed: Arrays
    ) -> Mapping[str, Any]:
        with self._api.readable_errors():
            return _arrays(self._api.predict(name, feed))


class AsyncGrpcClient(AsyncClient):
    """As `GrpcClient`, with coroutines; to be used within one event loop."""

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 10.0,
        retries: int = 3,
        max_batch_size: int = MAX_BATCH_SIZE,
        credentials: grpc.ChannelCredentials | None = None,
    ):
        """No connection is opened until the first call; see `GrpcClient`."""
        super().__init__(
            Target(address, model, version, label, timeout, retries, max_batch_size)
        )
        _check_address(address)
        self._credentials = credentials
        self._channel: grpc.aio.Channel | None = None

    async def _disconnect(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    def _api(self) -> "_Api":
        # Not earlier: a channel belongs to the event loop in which it was made.
        address, credentials = self.target.address, self._credentials
        if self._channel is None and credentials is None:
            self._channel = grpc.aio.insecure_channel(address, OPTIONS)
        elif self._channel is None:
            self._channel = grpc.aio.secure_channel(address, credentials, OPTIONS)
        return _Api(self.target, self._channel)

    async def _metadata(self) -> Any:
        api = self._api()
        with api.readable_errors():
            return api.read_metadata(await api.get_metadata())

    async def _is_available(self) -> bool:
        api = self._api()
        with api.readable_errors():
            return _is_available(await api.get_status())

    async def _predict(
        self, name: str, signature: Signature, feed: Arrays
    ) -> Mapping[str, Any]:
        api = self._api()
        with api.readable_errors():
            return _arrays(await api.predict(name, feed))


class _Api:
    """Requests and errors of the gRPC API; with an asynchronous channel, awaitables."""

    def __init__(self, target: Target, channel: Any):
        self._target = target
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)

    def get_metadata(self) -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=[METADATA_FIELD]
        )
        return self._prediction.GetModelMetadata(request, timeout=self._target.timeout)

    def get_status(self) -> Any:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec())
        return self._models.GetModelStatus(request, timeout=self._target.timeout)

    def predict(self, name: str, feed: Arrays) -> Any:
        inputs = {key: tf.make_tensor_proto(value) for key, value in feed.items()}
        request = predict_pb2.PredictRequest(model_spec=self._spec(name), inputs=inputs)
        return self._prediction.Predict(request, timeout=self._target.timeout)

    def read_metadata(self, response: Any) -> Any:
        signatures = get_model_metadata_pb2.SignatureDefMap()
        if not response.metadata[METADATA_FIELD].Unpack(signatures):
            said = f"the metadata have no {METADATA_FIELD}"
            raise make_error(UnexpectedAnswer, self._target, said, None)
        content = json_format.MessageToDict(
            signatures, preserving_proto_field_name=True
        )
        return {"metadata": {METADATA_FIELD: content}}

    @contextlib.contextmanager
    def readable_errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            status = error.code().name
            kind = MEANINGS.get(status, ServingError)
            raise make_error(kind, self._target, error.details(), status) from None

    def _spec(self, signature: str = "") -> Any:
        spec = model_pb2.ModelSpec(name=self._target.model, signature_name=signature)
        if self._target.version is not None:
            spec.version.value = self._target.version
        if self._target.label is not None:
            spec.version_label = self._target.label
        return spec


def _check_address(address: str) -> None:
    if "://" in address or ":" not in address:
        raise ValueError(
            "`address` must be host:port, such as localhost:8500. "
            f"Received: {address!r}."
        )


def _is_available(response: Any) -> bool:
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    return any(one.state == available for one in response.model_version_status)


def _arrays(response: Any) -> dict[str, Any]:
    return {key: tf.make_ndarray(value) for key, value in response.outputs.items()}
