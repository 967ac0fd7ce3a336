"""How clients are made and closed, and the uses that they refuse."""

import asyncio

import httpx
import numpy as np
import pytest

from export.client import (
    AsyncGrpcClient,
    AsyncRestClient,
    GrpcClient,
    InvalidRequest,
    RestClient,
)

SYNC = {"rest": RestClient, "grpc": GrpcClient}
ASYNC = {"rest": AsyncRestClient, "grpc": AsyncGrpcClient}
X = {"x": np.ones([2, 2])}
CLOSED = "model 'stub' at .*: this client is closed. Make a new one"


@pytest.fixture(params=["rest", "grpc"])
def transport(request):
    return request.param


@pytest.mark.parametrize("kind", [*SYNC.values(), *ASYNC.values()])
@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"address": "localhost"}, ValueError, "`address` must"),
        ({"address": "ftp://localhost:1"}, ValueError, "`address` must"),
        ({"address": None}, TypeError, "`address` must be a str. Received: None"),
        ({"address": b"localhost:1"}, TypeError, "`address` must be a str"),
        ({"model": ""}, ValueError, "`model` must"),
        ({"model": None}, TypeError, "`model` must be a str. Received: None"),
        ({"version": 1, "label": "a"}, ValueError, "`version` or `label`"),
        ({"version": "1"}, TypeError, "`version` must be an int. Received: '1'"),
        ({"version": -1}, ValueError, "`version` must be 0 or more. Received: -1"),
        ({"version": 2**63}, ValueError, "`version` must fit into int64"),
        ({"label": ""}, ValueError, "`label` must have"),
        ({"label": 1}, TypeError, "`label` must be a str. Received: 1"),
        ({"timeout": 0}, ValueError, "`timeout` must be above 0 and.*Received: 0"),
        ({"timeout": float("nan")}, ValueError, "`timeout` must be above 0"),
        ({"timeout": float("inf")}, ValueError, "`timeout`.*at most.*Received: inf"),
        ({"timeout": 1e10}, ValueError, "`timeout`.*at most.*Received: 1000"),
        ({"timeout": None}, TypeError, "`timeout` must be a number.*Received: None"),
        ({"timeout": True}, TypeError, "`timeout` must be a number.*Received: True"),
        ({"timeout": "1"}, TypeError, "`timeout` must be a number.*Received: '1'"),
        ({"retries": -1}, ValueError, "`retries` must be 0 or more"),
        ({"retries": 1.5}, TypeError, "`retries` must be an int. Received: 1.5"),
        ({"max_batch_size": 0}, ValueError, "`max_batch_size` must be 1 or more"),
        ({"max_batch_size": 2.5}, TypeError, "`max_batch_size` must be an int"),
        ({"max_batch_size": True}, TypeError, "`max_batch_size` must be an int"),
        ({"version": True}, TypeError, "`version` must be an int. Received: True"),
    ],
)
def test_invalid_arguments_are_refused(kind, kwargs, error, message):
    rest = kind in (RestClient, AsyncRestClient)
    address = "http://localhost:1" if rest else "localhost:1"
    with pytest.raises(error, match=message):
        kind(**{"address": address, "model": "m", **kwargs})


def test_numbers_of_numpy_are_taken(stub, transport):
    numbers = {"version": np.int64(1), "retries": np.int32(0)}
    numbers |= {"timeout": np.float32(5), "max_batch_size": np.int8(1)}
    with SYNC[transport](getattr(stub, transport).address, "stub", **numbers) as client:
        assert (client.reconstruct(X)["x"] == 2).all()


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (-1, ValueError, "`n` must be 0 or more. Received: -1"),
        (2.0, TypeError, "`n` must be an int. Received: 2.0"),
        ("2", TypeError, "`n` must be an int. Received: '2'"),
        (None, TypeError, "`n` must be an int. Received: None"),
        (True, TypeError, "`n` must be an int. Received: True"),
    ],
)
def test_wrong_numbers_of_draws_are_refused(n, error, message):
    client = RestClient("http://localhost:1", "m", retries=0)
    with client, pytest.raises(error, match=message):
        client.sample(n)


def test_closed_client_says_so(stub, transport):
    client = SYNC[transport](getattr(stub, transport).address, "stub")
    client.reconstruct(X)
    client.close()
    client.close()
    for ask in (lambda: client.reconstruct(X), lambda: client.sample(1), client.ready):
        with pytest.raises(RuntimeError, match=CLOSED):
            ask()


@pytest.mark.parametrize("used", [True, False])
def test_closed_asynchronous_client_says_so(stub, transport, used):
    async def ask():
        client = ASYNC[transport](getattr(stub, transport).address, "stub")
        if used:
            await client.reconstruct(X)
        await client.close()
        await client.close()
        for question in (client.reconstruct(X), client.sample(1), client.ready()):
            with pytest.raises(RuntimeError, match=CLOSED):
                await question

    asyncio.run(ask())


def test_asynchronous_client_belongs_to_one_event_loop(stub, transport):
    client = ASYNC[transport](getattr(stub, transport).address, "stub")
    message = "model 'stub' at .*Make one client per event loop"

    async def ask():
        async with client:
            await client.reconstruct(X)

    first = asyncio.new_event_loop()
    first.run_until_complete(client.reconstruct(X))
    for question in (ask, client.ready, client.close):
        with pytest.raises(RuntimeError, match=message):
            asyncio.run(question())
    first.run_until_complete(client.close())
    first.close()


def test_too_large_batches_are_refused_with_advice(stub, transport):
    address = getattr(stub, transport).address
    with (
        SYNC[transport](address, "stub", max_batch_size=100) as client,
        pytest.raises(InvalidRequest, match="Task size 100 .*Lower `max_batch_size`"),
    ):
        client.reconstruct({"x": np.ones([100, 2])})


def test_names_in_addresses_are_not_decoded_by_the_server(stub):
    models = stub.rest.address + "/v1/models/"
    assert httpx.get(models + "stub").status_code == 200
    assert httpx.get(models + "st%75b").status_code == 404
