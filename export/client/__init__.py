"""Clients of a served model: REST without TensorFlow, and gRPC; each also asynchronous.

    from export.client import RestClient

    with RestClient("http://localhost:8501", "polydigits") as client:
        answer = client.reconstruct({"m0": images})  # the other modalities are missing

`GrpcClient` and `AsyncGrpcClient` need the extra `grpc`, and import TensorFlow.
"""

from typing import TYPE_CHECKING

from export.client.errors import (
    InvalidRequest,
    ModelNotFound,
    ServingError,
    Timeout,
    Unavailable,
    UnexpectedAnswer,
)
from export.client.rest_client import AsyncRestClient, RestClient

if TYPE_CHECKING:
    from export.client.grpc_client import AsyncGrpcClient, GrpcClient

__all__ = [
    "AsyncGrpcClient",
    "AsyncRestClient",
    "GrpcClient",
    "InvalidRequest",
    "ModelNotFound",
    "RestClient",
    "ServingError",
    "Timeout",
    "Unavailable",
    "UnexpectedAnswer",
]


def __getattr__(name: str):
    if name in ("AsyncGrpcClient", "GrpcClient"):
        from export.client import grpc_client

        return getattr(grpc_client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
