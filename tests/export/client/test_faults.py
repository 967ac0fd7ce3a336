"""Failures of servers: what clients retry, for how long, and their errors."""

import asyncio
import concurrent.futures
import pathlib
import subprocess
import sys
import time

import grpc
import numpy as np
import pytest

from export.client import (
    AsyncGrpcClient,
    AsyncRestClient,
    GrpcClient,
    InvalidRequest,
    ModelNotFound,
    RestClient,
    ServingError,
    Timeout,
    Unavailable,
    UnexpectedAnswer,
    core,
)
from export.signatures.row_seeds import row_seeds
from tests.export.client.stub_session import StubSession
from tests.export.model_store import Fault
from tests.export.prediction_service import GrpcServer
from tests.export.rest_server import RestServer

ROOT = pathlib.Path(__file__).parents[3]
SYNC = {"rest": RestClient, "grpc": GrpcClient}
ASYNC = {"rest": AsyncRestClient, "grpc": AsyncGrpcClient}
X = {"x": np.ones([2, 2])}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(core, "FIRST_WAIT", 0.02)


@pytest.fixture(params=["rest", "grpc"])
def transport(request):
    return request.param


def connect(stub, transport, model="stub", **kwargs):
    return SYNC[transport](getattr(stub, transport).address, model, **kwargs)


def ask_async(stub, transport, inputs, **kwargs):
    async def ask():
        address = getattr(stub, transport).address
        async with ASYNC[transport](address, "stub", **kwargs) as client:
            return await client.reconstruct(inputs)

    return asyncio.run(ask())


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_overload_and_lost_connections_are_retried(stub, transport, code):
    faults = [Fault(code=code), Fault(drop=True), Fault(code=code)]
    stub.store.faults.extend(faults)  # of the metadata
    with connect(stub, transport) as client:
        client.reconstruct(X)
        stub.store.faults.extend(faults)  # of the request
        assert (client.reconstruct(X)["x"] == 2).all()
    assert stub.store.requests == ["GetModelMetadata"] * 4 + ["Predict"] * 5
    stub.store.faults.extend(faults)
    assert (ask_async(stub, transport, X)["x"] == 2).all()


def test_bad_gateway_is_retried(stub):
    with connect(stub, "rest") as client:
        client.reconstruct(X)
        stub.store.faults.append(Fault(code="BAD_GATEWAY", body=b"<html>bad</html>"))
        client.reconstruct(X)


def test_last_retry_raises_its_error(stub, transport):
    stub.store.faults.extend([Fault(code="UNAVAILABLE")] * 10)
    with (
        connect(stub, transport, retries=2) as client,
        pytest.raises(Unavailable, match="as the test.*Is the server") as caught,
    ):
        client.reconstruct(X)
    assert caught.value.status in (503, "UNAVAILABLE")
    assert str(getattr(stub, transport).address) in str(caught.value)
    assert len(stub.store.requests) == 3


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("INVALID_ARGUMENT", InvalidRequest, 400),
        ("NOT_FOUND", ModelNotFound, 404),
        ("DEADLINE_EXCEEDED", Timeout, 504),
        ("PERMISSION_DENIED", ServingError, 403),
        ("INTERNAL", ServingError, 500),
    ],
)
def test_other_errors_are_not_retried(stub, transport, code, kind, status):
    with connect(stub, transport) as client:
        client.reconstruct(X)
        stub.store.faults.append(Fault(code=code))
        with pytest.raises(kind, match=r"model 'stub' at .*as the test") as caught:
            client.reconstruct(X)
    assert type(caught.value) is kind
    assert caught.value.status == {"rest": status, "grpc": code}[transport]
    assert stub.store.requests.count("Predict") == 2


def test_retry_after_is_waited_for(stub):
    with connect(stub, "rest") as client:
        client.reconstruct(X)
        stub.store.faults.append(Fault(code="UNAVAILABLE", retry_after="0.5"))
        start = time.monotonic()
        client.reconstruct(X)
        assert time.monotonic() - start > 0.5
        date = Fault(code="UNAVAILABLE", retry_after="Wed, 21 Oct 2015 07:28:00 GMT")
        odd = Fault(code="UNAVAILABLE", retry_after="soon")
        stub.store.faults.extend([date, odd])
        client.reconstruct(X)


def test_retry_after_of_an_hour_is_an_error_immediately(stub):
    with connect(stub, "rest") as client:
        client.reconstruct(X)
        stub.store.faults.append(Fault(code="UNAVAILABLE", retry_after="3600"))
        with pytest.raises(Unavailable) as caught:
            client.reconstruct(X)
    assert caught.value.wait == 3600
    assert stub.store.requests.count("Predict") == 2


@pytest.mark.integration
def test_timeout_is_for_one_attempt_and_not_retried(stub, transport):
    with connect(stub, transport, timeout=0.8) as client:
        client.reconstruct(X)
        # Together longer than the timeout, each shorter.
        stub.store.faults.extend([Fault(delay=0.45, code="UNAVAILABLE")] * 2)
        client.reconstruct(X)
        stub.store.faults.append(Fault(delay=3.0))
        start = time.monotonic()
        with pytest.raises(Timeout, match="model 'stub' at .*fewer rows"):
            client.reconstruct(X)
        assert 0.7 < time.monotonic() - start < 2.0
    assert stub.store.requests.count("Predict") == 5


def test_server_that_is_not_there_is_unavailable_and_not_ready(transport):
    address = {"rest": "http://127.0.0.1:9", "grpc": "127.0.0.1:9"}[transport]
    with SYNC[transport](address, "stub", retries=1) as client:
        assert not client.ready()
        with pytest.raises(Unavailable, match=":9: .*Is the server running there"):
            client.sample(1)


def test_server_that_restarts_is_found_again(stub, transport):
    server = {"rest": RestServer, "grpc": GrpcServer}[transport]
    with server(stub.store) as first:
        port = int(first.address.rpartition(":")[2])
        client = SYNC[transport](first.address, "stub", retries=20)
        client.reconstruct(X)
    with concurrent.futures.ThreadPoolExecutor(1) as pool, client:
        answer = pool.submit(client.reconstruct, X)
        time.sleep(0.3)
        with server(stub.store, port):
            assert (answer.result(8)["x"] == 2).all()


def test_readiness_is_not_retried_and_refusal_is_an_error(stub, transport):
    with connect(stub, transport) as client:
        assert client.ready()
        stub.store.faults.append(Fault(code="UNAVAILABLE"))
        assert not client.ready()
        stub.store.faults.append(Fault(code="PERMISSION_DENIED"))
        with pytest.raises(ServingError, match="as the test requires"):
            client.ready()
        stub.store.versions.clear()
        assert not client.ready()
    assert stub.store.requests == ["GetModelStatus"] * 4


def test_new_version_with_other_shapes_is_noticed(stub, transport, monkeypatch):
    monkeypatch.setattr(core, "MAX_AGE", 0.0)
    wide = {"x": np.ones([1, 3])}
    with connect(stub, transport) as client:
        client.reconstruct(X)
        stub.store.versions["stub"][2] = StubSession(width=3)
        assert client.reconstruct(wide)["x"].shape == (1, 3)  # by its metadata alone
        del stub.store.versions["stub"][2]
        with pytest.raises(ValueError, match=r"shape \[B, 2\]"):
            client.reconstruct(wide)
        with pytest.raises(ValueError, match=r"shape \[B, 2\]"):
            client.reconstruct(wide)
    assert ask_async(stub, transport, X)["x"].shape == (2, 2)


def test_request_of_missing_modalities_is_rebuilt_for_a_new_version(stub, transport):
    async def ask():
        address = getattr(stub, transport).address
        async with ASYNC[transport](address, "stub") as client:
            await client.log_likelihood({"c": [1, 2]})
            stub.store.versions["stub"][2] = StubSession(width=3)
            return await client.log_likelihood({"c": [1, 2]}, seed=[4, 5])

    with connect(stub, transport) as client:
        client.log_likelihood({"c": [1, 2]})
        stub.store.versions["stub"][2] = StubSession(width=3)
        assert client.log_likelihood({"c": [1, 2]}, seed=[4, 5]).tolist() == [4, 5]
    del stub.store.versions["stub"][2]
    assert asyncio.run(ask()).tolist() == [4, 5]


def test_pixels_and_counts_are_refused_over_either_transport(stub, transport):
    pixels = {"x": np.ones([2, 2], np.uint8)}
    message = "'x' must have a floating dtype, not uint8.*`x / 255`.*astype"
    with connect(stub, transport) as client:
        for ask in (client.reconstruct, client.log_likelihood):
            with pytest.raises(TypeError, match=message):
                ask(pixels)
    with pytest.raises(TypeError, match=message):
        ask_async(stub, transport, pixels)
    assert stub.store.requests == ["GetModelMetadata"] * 2


def test_invalid_inputs_are_reported_without_a_server(transport):
    address = {"rest": "http://127.0.0.1:9", "grpc": "127.0.0.1:9"}[transport]
    with SYNC[transport](address, "stub", retries=1) as client:
        with pytest.raises(TypeError, match="'x' is None"):
            client.encode({"x": None})
        with pytest.raises(ValueError, match="same number of rows"):
            client.encode({"x": [[1.0, 2.0]], "c": [1, 2]})
        with pytest.raises(TypeError, match="`seed` must be an int"):
            client.impute(X, seed=1.0)


def test_label_and_version_choose_the_model(stub, transport):
    old, new = stub.session, StubSession()
    stub.store.versions["stub"][2] = new
    stub.store.labels["stub", "stable"] = 1
    for kwargs, asker in (({}, new), ({"version": 1}, old), ({"label": "stable"}, old)):
        before = len(asker.feeds)
        with connect(stub, transport, **kwargs) as client:
            assert client.ready()
            client.reconstruct(X)
        assert len(asker.feeds) == before + 1
    with (
        connect(stub, transport, label="canary") as client,
        pytest.raises(ModelNotFound, match="model 'stub' label 'canary' at"),
    ):
        client.reconstruct(X)


def test_rows_are_split_into_requests_without_missing_values(stub, transport):
    values = np.arange(14.0).reshape(7, 2)
    values[3] = np.nan
    flag = np.arange(7) != 3
    with connect(stub, transport, max_batch_size=3) as client:
        inputs = {"x": values, "present": {"x": flag}}
        answer = client.log_likelihood(inputs, seed=10)
    sent = stub.session.feeds
    assert [len(feed["x"]) for feed in sent] == [3, 3, 1]
    assert all(np.isfinite(feed["x"]).all() for feed in sent)
    assert np.concatenate([feed["has_x"] for feed in sent]).tolist() == flag.tolist()
    seeds = np.concatenate([feed["seed"] for feed in sent])
    assert seeds.tolist() == row_seeds(10, 7).tolist()
    expected = np.where(flag, values.sum(axis=1), 0.0) + seeds
    assert answer.tolist() == expected.tolist()


def test_asynchronous_requests_of_one_call_overlap_up_to_four(stub, transport):
    ask_async(stub, transport, X)
    stub.store.faults.extend([Fault(), *[Fault(delay=0.3)] * 8])
    start = time.monotonic()
    answer = ask_async(stub, transport, {"x": np.ones([8, 2])}, max_batch_size=1)
    assert 0.55 < time.monotonic() - start < 2.2
    assert answer["x"].shape == (8, 2)


def test_failed_asynchronous_request_stops_the_others(stub, transport):
    stub.store.faults.extend([Fault(), Fault(code="INTERNAL")])
    with pytest.raises(ServingError, match="as the test requires"):
        ask_async(stub, transport, {"x": np.ones([40, 2])}, max_batch_size=1)
    assert len(stub.session.feeds) < 10


@pytest.mark.parametrize("body", [b"{", b"<html>", b"[]", b'{"outputs": [1]}', b"{}"])
def test_broken_answers_are_errors_that_say_so(stub, body):
    with connect(stub, "rest") as client:
        client.reconstruct(X)
        stub.store.faults.append(Fault(body=body))
        with pytest.raises(UnexpectedAnswer, match="at http://.*Is it TensorFlow"):
            client.reconstruct(X)


def test_connections_are_kept_open(stub):
    with connect(stub, "rest") as client:
        for _ in range(5):
            client.reconstruct(X)
    assert stub.rest.connections == 1


def test_one_client_answers_several_threads(stub, transport):
    with (
        connect(stub, transport) as client,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        answers = pool.map(lambda n: client.reconstruct({"c": [n]})["c"][0], range(40))
        assert list(answers) == [2 * n for n in range(40)]
    assert stub.store.requests.count("GetModelMetadata") == 1


def test_credentials_secure_the_channel(stub):
    async def ask(address, credentials):
        kwargs = {"credentials": credentials, "retries": 0}
        async with AsyncGrpcClient(address, "stub", **kwargs) as client:
            return await client.ready()

    local, tls = grpc.local_channel_credentials(), grpc.ssl_channel_credentials()
    secure = GrpcServer(stub.store, credentials=grpc.local_server_credentials())
    with secure:
        # The other server speaks no TLS.
        for server, credentials in ((secure, local), (stub.grpc, tls)):
            expected = credentials is local
            with GrpcClient(server.address, "stub", credentials=credentials) as client:
                assert client.ready() == expected
            assert asyncio.run(ask(server.address, credentials)) == expected


def test_headers_are_sent(stub):
    seen = []
    handler = stub.rest.RequestHandlerClass
    original = handler.do_GET

    def do_get(self):
        seen.append(self.headers["Authorization"])
        original(self)

    handler.do_GET = do_get
    try:
        headers = {"Authorization": "Bearer x"}
        with connect(stub, "rest", headers=headers) as client:
            client.ready()
    finally:
        handler.do_GET = original
    assert seen == ["Bearer x"]


WITHOUT_TENSORFLOW = """
import asyncio, sys

class Refuse:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("tensorflow", "keras", "tf_keras", "tf_mopoe",
                                  "tensorflow_probability", "tensorflow_serving"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Refuse())
from export.client import AsyncRestClient, RestClient

with RestClient(sys.argv[1], "stub") as client:
    print(client.ready(), client.reconstruct({"c": [1, 2]})["c"].tolist())

async def ask():
    async with AsyncRestClient(sys.argv[1], "stub") as client:
        return (await client.log_likelihood({"x": [[1.0, 2.0]]}, seed=[3])).tolist()

print(asyncio.run(ask()))
try:
    from export.client import GrpcClient
except ImportError as error:
    print(error)
"""


def test_rest_needs_no_tensorflow_and_grpc_says_what_it_needs(stub):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TENSORFLOW, stub.rest.address],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    ready, likelihood, needs = result.stdout.splitlines()
    assert ready == "True [2, 4]"
    assert likelihood == "[6.0]"
    assert "pip install 'tf-mopoe[grpc]'" in needs
