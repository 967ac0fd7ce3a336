"""Servers for the client tests: those in this folder, or the ones that are named.

TF_MOPOE_REST and TF_MOPOE_GRPC (host:port) name a server of the models of
`served_models`; `scripts/serve_check.py` starts one.
"""

import os
from typing import NamedTuple

import pytest

from tests.export.client.served_models import write_served_model
from tests.export.client.stub_session import StubSession
from tests.export.model_store import ModelStore
from tests.export.prediction_service import GrpcServer
from tests.export.rest_server import RestServer


class Servers(NamedTuple):
    """Where the models are served."""

    rest: str
    grpc: str


@pytest.fixture(scope="session")
def servers(request, served_models, tmp_path_factory):
    """Servers of the models of `served_models`."""
    named = [os.environ.get(f"TF_MOPOE_{kind}") for kind in ("REST", "GRPC")]
    if all(named):
        yield Servers(f"http://{named[0]}", named[1])
        return
    store = ModelStore()
    store.load("views", 1, request.getfixturevalue("published").version)
    for name in ("mixed", "documents"):
        folder = tmp_path_factory.mktemp(name)
        write_served_model(served_models[name], folder)
        store.load(name, 1, folder)
    with RestServer(store) as rest, GrpcServer(store) as grpc:
        yield Servers(rest.address, grpc.address)


class Stub(NamedTuple):
    """Both test servers with the stub as version 1 of model "stub"."""

    store: ModelStore
    session: StubSession
    rest: RestServer
    grpc: GrpcServer


@pytest.fixture
def stub():
    if "TF_MOPOE_REST" in os.environ:
        pytest.skip("a real server has no faults on demand")
    store, session = ModelStore(), StubSession()
    store.versions["stub"][1] = session
    with RestServer(store) as rest, GrpcServer(store) as grpc:
        yield Stub(store, session, rest, grpc)
