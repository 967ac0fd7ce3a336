"""Clients get the answers of the live Keras model, from any server."""

import asyncio
import json

import httpx
import numpy as np
import pytest
import tensorflow as tf

from export.client import AsyncGrpcClient, AsyncRestClient, GrpcClient, RestClient
from export.signatures.model_access import fields_of
from export.signatures.row_seeds import row_seeds
from tests.export.client.served_models import IMAGE, NUM_SAMPLES, example_batch

pytestmark = pytest.mark.integration

MODELS = ("views", "mixed", "documents")
#: float32 sums are formed in another order, and batches padded, by a server.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
LIMIT = 64


@pytest.fixture(params=["rest", "grpc"])
def connect(request, servers):
    """Makes a client of a model, over either transport."""
    kind = {"rest": RestClient, "grpc": GrpcClient}[request.param]
    made = []

    def make(name, **kwargs):
        made.append(kind(getattr(servers, request.param), name, **kwargs))
        return made[-1]

    yield make
    for client in made:
        client.close()


def flat_request(served, inputs, rows, seed=None):
    """The tensors of a request, made from the contract and not by the client."""
    flags = inputs.get("present", {})
    flat = {}
    for field in fields_of(served.model):
        name, given = field.name, field.name in inputs
        flag = flags.get(name, np.full(rows, given))
        flat[f"has_{name}"] = tf.constant(flag)
        values = inputs.get(name)
        if name in served.options.get("image_bytes", ()):
            files = [v if f else b"" for v, f in zip(values or [b""] * rows, flag)]
            flat[f"{name}_bytes"] = tf.constant(files)
        elif name in served.options.get("text_strings", ()):
            texts = [v if f else "" for v, f in zip(values or [""] * rows, flag)]
            flat[name] = tf.constant(texts)
        else:
            dtype = np.int32 if field.is_integer else np.float32
            zeros = np.zeros((rows, *field.event_shape), dtype)
            flat[name] = tf.constant(values if given else zeros)
    if seed is not None:
        flat["seed"] = tf.constant(row_seeds(seed, rows))
    return flat


def live(served, name, flat):
    answer = served.signatures()[name].function(flat)
    return {key: np.asarray(value) for key, value in answer.items()}


def assert_close(answer, expected):
    assert answer.keys() == expected.keys()
    for key in expected:
        assert answer[key].dtype == expected[key].dtype
        np.testing.assert_allclose(answer[key], expected[key], **TOLERANCE, err_msg=key)


@pytest.mark.parametrize("name", MODELS)
def test_all_five_answers_are_those_of_the_keras_model(name, connect, served_models):
    served, inputs, rows = served_models[name], example_batch(name, 3), 3
    client = connect(name)
    plain = flat_request(served, inputs, rows)
    seeded = flat_request(served, inputs, rows, seed=7)
    seeds = {"seed": seeded["seed"]}
    assert_close(client.reconstruct(inputs), live(served, "serving_default", plain))
    assert_close(client.encode(inputs), live(served, "encode", plain))
    assert_close(client.impute(inputs, seed=7), live(served, "impute", seeded))
    assert_close(client.sample(3, seed=7), live(served, "sample", seeds))
    answer = {"log_likelihood": client.log_likelihood(inputs, seed=7)}
    assert_close(answer, live(served, "log_likelihood", seeded))


@pytest.mark.parametrize("seed", [0, -1, 2**32, 2**63 - 1])
@pytest.mark.parametrize("name", ["views", "mixed"])
def test_served_draws_are_the_local_ones_of_the_same_seed(
    name, seed, connect, served_models
):
    model, inputs = served_models[name].model, example_batch(name, 3)
    client = connect(name)
    drawn = {key: x[0] for key, x in model.impute(inputs, seed=seed).items()}
    pairs = [
        (client.impute(inputs, seed=seed), drawn),
        (client.sample(3, seed=seed), model.sample(3, seed=seed)),
    ]
    for answer, expected in pairs:
        for key, value in expected.items():
            np.testing.assert_allclose(answer[key], value, **TOLERANCE, err_msg=key)
    np.testing.assert_allclose(
        client.log_likelihood(inputs, seed=seed),
        model.log_likelihood(inputs, num_samples=NUM_SAMPLES, seed=seed),
        **TOLERANCE,
    )


@pytest.mark.parametrize("name", MODELS)
def test_each_modality_alone_and_missing_rows_are_answered(
    name, connect, served_models
):
    served, rows = served_models[name], 3
    batch = example_batch(name, rows)
    client = connect(name)
    first = next(iter(batch))
    flag = np.array([True, False, True])
    requests = [{key: value} for key, value in batch.items()]
    requests.append({**batch, "present": {first: flag}})
    for inputs in requests:
        expected = live(served, "encode", flat_request(served, inputs, rows))
        assert_close(client.encode(inputs), expected)


def test_none_is_a_missing_file_or_text(connect):
    batch = example_batch("documents", 3)
    flag = np.array([True, False, True])
    holes = {
        name: [value if is_present else None for value, is_present in zip(values, flag)]
        for name, values in batch.items()
    }
    client = connect("documents")
    flags = {"present": dict.fromkeys(batch, flag)}
    assert_close(client.encode(holes), client.encode({**batch, **flags}))
    prior = {"loc": np.zeros(2, np.float32), "scale": np.ones(2, np.float32)}
    assert_close({key: v[1] for key, v in client.encode(holes).items()}, prior)


@pytest.mark.parametrize("rows", [1, 64, 150])
def test_answers_depend_on_neither_batch_size_nor_chunks(rows, connect):
    batch = example_batch("views", 150)
    client = connect("views")
    all_rows = client.impute(batch, seed=3)
    few = client.impute({key: value[:rows] for key, value in batch.items()}, seed=3)
    assert_close(few, {key: value[:rows] for key, value in all_rows.items()})
    small = connect("views", max_batch_size=40)
    draws = client.sample(rows, seed=5)
    assert_close(small.sample(rows, seed=row_seeds(5, rows)), draws)
    assert draws["image"].shape == (rows, *IMAGE)


def test_nan_where_a_modality_is_missing_changes_nothing(connect):
    batch = example_batch("views", 3)
    flag = np.array([False, True, False])
    client = connect("views")
    expected = client.encode({**batch, "present": {"table": flag}})
    batch["table"][~flag] = np.nan
    assert_close(client.encode({**batch, "present": {"table": flag}}), expected)


def test_zero_rows_have_empty_answers_of_the_right_shape(connect):
    client = connect("mixed")
    answer = client.reconstruct({"classes": np.zeros([0, 2], int)})
    assert {key: value.shape for key, value in answer.items()} == {
        "reals": (0, 3),
        "kind": (0, 4),
        "classes": (0, 2, 5),
    }
    assert client.log_likelihood({"reals": np.zeros([0, 3])}).dtype == np.float64


def test_unlikely_values_have_log_likelihood_minus_infinity(connect):
    unknown = connect("mixed").log_likelihood({"classes": np.array([[0, 9], [1, 1]])})
    assert unknown[0] == -np.inf
    assert np.isfinite(unknown[1])


def test_rest_and_grpc_give_the_same(servers):
    batch = example_batch("documents", 5)
    with RestClient(servers.rest, "documents") as rest:
        answer = rest.impute(batch, seed=1)
    with GrpcClient(servers.grpc, "documents") as grpc:
        assert_close(answer, grpc.impute(batch, seed=1))


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_asynchronous_clients_answer_as_the_synchronous_ones(transport, servers):
    batch = example_batch("views", 150)
    address = getattr(servers, transport)
    kind = {"rest": AsyncRestClient, "grpc": AsyncGrpcClient}[transport]

    async def ask():
        async with kind(address, "views") as client:
            assert await client.ready()
            return await asyncio.gather(
                client.reconstruct(batch),
                client.encode(batch),
                client.impute(batch, seed=2),
                client.sample(70, seed=2),
                client.log_likelihood(batch, seed=2),
            )

    *answers, log_likelihood = asyncio.run(ask())
    with RestClient(servers.rest, "views") as client:
        expected = [
            client.reconstruct(batch),
            client.encode(batch),
            client.impute(batch, seed=2),
            client.sample(70, seed=2),
        ]
        for answer, reference in zip(answers, expected):
            assert_close(answer, reference)
        reference = client.log_likelihood(batch, seed=2)
    np.testing.assert_allclose(log_likelihood, reference, **TOLERANCE)


def test_version_and_readiness(connect):
    client = connect("views", version=1)
    assert client.ready()
    assert client.sample(1)["table"].shape == (1, 4)
    assert not connect("views", version=99).ready()
    assert not connect("nothing").ready()


class TestRestRules:
    """The rules of TensorFlow Serving, which the test server keeps."""

    def post(self, servers, body, path="views:predict"):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(f"{servers.rest}/v1/models/{path}", content=content)

    def columns(self, rows=2):
        batch = example_batch("views", rows)
        flags = {f"has_{name}": [True] * rows for name in batch}
        return {**{name: v.tolist() for name, v in batch.items()}, **flags}

    def test_rows_and_columns_have_the_same_answer(self, servers):
        columns = self.columns()
        rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
        by_row = self.post(servers, {"signature_name": "encode", "instances": rows})
        by_column = self.post(servers, {"signature_name": "encode", "inputs": columns})
        row = by_row.json()["predictions"][1]["loc"]
        np.testing.assert_allclose(
            row, by_column.json()["outputs"]["loc"][1], **TOLERANCE
        )

    def test_only_output_is_not_named(self, servers):
        body = {"signature_name": "log_likelihood"}
        inputs = {**self.columns(), "seed": [0, 1]}
        by_column = self.post(servers, {**body, "inputs": inputs}).json()
        rows = [dict(zip(inputs, row)) for row in zip(*inputs.values())]
        by_row = self.post(servers, {**body, "instances": rows}).json()
        assert np.shape(by_column["outputs"]) == np.shape(by_row["predictions"]) == (2,)

    def test_only_input_needs_no_name(self, servers):
        for form in ("inputs", "instances"):
            body = {"signature_name": "sample", form: [3, 4, 5]}
            assert self.post(servers, body).status_code == 200

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({}, 200),
            ({"other": 1}, 200),  # passed over in column form
            ({"table": None}, 400),
            ({"table": [[1, 2, 3, 4], [1, 2, 3]]}, 400),
            ({"table": [[1, 2, 3, 4]]}, 400),
            ({"table": [[1, 2, 3], [1, 2, 3]]}, 400),
            ({"table": [["a"] * 4] * 2}, 400),
            ({"table": [[16777217] * 4] * 2}, 400),  # no float32
            ({"table": [[16777217.0] * 4] * 2}, 200),
            ({"table": [[1e39] * 4] * 2}, 400),
            ({"has_table": [1, 1]}, 400),
        ],
    )
    def test_wrong_inputs_are_refused_with_a_message(self, servers, change, status):
        inputs = {**self.columns(), **change}
        if inputs["table"] is None:
            del inputs["table"]
        answer = self.post(servers, {"inputs": inputs})
        assert answer.status_code == status
        assert ("error" in answer.json()) == (status != 200)

    @pytest.mark.parametrize(
        ("body", "path", "status"),
        [
            (b"{", "views:predict", 400),
            ([], "views:predict", 400),
            ({}, "views:predict", 400),
            ({"inputs": {}, "instances": []}, "views:predict", 400),
            ({"instances": []}, "views:predict", 400),
            ({"instances": [{"table": [1.0] * 4}]}, "views:predict", 400),
            ({"signature_name": "x", "inputs": {}}, "views:predict", 400),
            ({"inputs": {}}, "nothing:predict", 404),
            ({"inputs": {}}, "views/versions/99:predict", 404),
            ({"inputs": {}}, "views/versions/x:predict", 400),
        ],
    )
    def test_wrong_requests_are_refused_with_a_message(
        self, servers, body, path, status
    ):
        answer = self.post(servers, body, path)
        assert answer.status_code == status
        assert answer.json()["error"]

    def test_more_rows_than_the_servers_largest_batch_are_refused(self, servers):
        body = {"signature_name": "sample", "inputs": list(range(LIMIT + 1))}
        assert self.post(servers, body).status_code == 400

    def test_nan_travels_as_a_literal(self, servers):
        inputs = {**self.columns(), "table": [[float("nan")] * 4, [0.0] * 4]}
        answer = self.post(servers, {"signature_name": "encode", "inputs": inputs})
        assert b"NaN" in answer.content
        assert np.isnan(answer.json()["outputs"]["loc"]).all(axis=1).tolist() == [
            True,
            False,
        ]
