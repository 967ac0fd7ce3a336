"""The number of requests of an invalid call: none if the client can tell."""

import asyncio
import inspect

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.client import InvalidRequest, Unavailable, core
from export.client.batches import read_batch, read_seeded_batch
from export.client.clients import AsyncClient, Client
from export.client.core import Transport
from export.client.errors import UnexpectedAnswer
from export.client.feeds import make_feed
from export.client.served_model import parse_metadata
from export.client.target import Target
from export.signatures.contract import (
    ENCODE,
    IMPUTE,
    LOG_LIKELIHOOD,
    RECONSTRUCT,
    SAMPLE,
)

X = [[1.0, 2.0]]


def info(dtype, *shape):
    dims = [{"size": str(size)} for size in (-1, *shape)]
    return {"dtype": f"DT_{dtype}", "tensor_shape": {"dim": dims}}


def metadata(width=2):
    """Modality `x` of reals `[B, width]` and `c` of classes `[B]`."""
    inputs = {"x": info("FLOAT", width), "c": info("INT32")}
    inputs |= {"has_x": info("BOOL"), "has_c": info("BOOL")}
    seeded = {**inputs, "seed": info("INT64")}
    outputs = {"x": info("FLOAT", width)}
    signatures = {
        RECONSTRUCT: {"inputs": inputs, "outputs": outputs},
        ENCODE: {"inputs": inputs, "outputs": outputs},
        IMPUTE: {"inputs": seeded, "outputs": outputs},
        SAMPLE: {"inputs": {"seed": info("INT64")}, "outputs": outputs},
        LOG_LIKELIHOOD: {"inputs": seeded, "outputs": {LOG_LIKELIHOOD: info("DOUBLE")}},
    }
    return {"metadata": {"signature_def": {"signature_def": signatures}}}


class Server:
    """What both fake clients ask; counts.

    Attributes:
      requests: "metadata" and "predict", in order.
      width: Width of modality `x` in the version that is served now.
      errors: Raised in turn by the next requests.
    """

    def __init__(self):
        self.requests, self.width, self.errors = [], 2, []

    def metadata(self):
        self.requests.append("metadata")
        if self.errors:
            raise self.errors.pop(0)
        return metadata(self.width)

    def predict(self, signature, feed):
        self.requests.append("predict")
        if self.errors:
            raise self.errors.pop(0)
        rows = len(next(iter(feed.values())))
        if "x" in feed and feed["x"].shape[1:] != (self.width,):
            raise InvalidRequest("another width")
        return {
            name: np.zeros([rows, *tensor.event_shape])
            for name, tensor in signature.outputs.items()
        }


class FakeTransport(Transport):
    """Asks a `Server` without a connection."""

    def __init__(self, server):
        self.server = server

    async def close(self):
        pass

    async def metadata(self):
        return self.server.metadata()

    async def predict(self, name, signature, feed):
        return self.server.predict(signature, feed)

    async def is_available(self):
        return True


class FakeClient(Client):
    def _make_transport(self, server):
        return FakeTransport(server)


class FakeAsyncClient(AsyncClient):
    def _make_transport(self, server):
        return FakeTransport(server)


class Asker:
    """A client and its server; runs an asynchronous client like the other."""

    def __init__(self, kind):
        self.server = Server()
        self.client = kind("host", "model", retries=0, server=self.server)
        self.loop = asyncio.new_event_loop() if kind is FakeAsyncClient else None

    def __call__(self, method, *arguments, **options):
        answer = getattr(self.client, method)(*arguments, **options)
        if inspect.isawaitable(answer):
            return self.loop.run_until_complete(answer)
        return answer

    def close(self):
        if self.loop is not None:
            self.loop.close()


@pytest.fixture(params=[FakeClient, FakeAsyncClient])
def ask(request):
    asker = Asker(request.param)
    yield asker
    asker.close()


HIDDEN = np.ma.array(X, mask=[[True, False]])
#: Invalid without knowing the model: inputs, error and message.
LOCAL = {
    "no dictionary": ([X], TypeError, "`inputs` must be a dictionary"),
    "nothing": ({}, ValueError, "at least one modality"),
    "None": ({"x": None}, TypeError, "'x' is None"),
    "masked array": ({"x": HIDDEN}, TypeError, "'x' is a masked array.*\"present\""),
    "list of masked arrays": ({"x": [HIDDEN[0]]}, TypeError, "'x' is a masked array"),
    "masked constant": ({"c": [np.ma.masked]}, TypeError, "'c' is a masked array"),
    "complex": ({"x": np.ones([1, 2]) + 0j}, TypeError, "'x' must hold numbers"),
    "dates": ({"x": np.zeros([1, 2], "M8[s]")}, TypeError, "'x' must hold numbers"),
    "table of strings": ({"x": [["1", "2"]]}, TypeError, "'x' must hold numbers"),
    "objects": ({"c": np.array([1, 2.0], object)}, TypeError, "'c'.*sequence of obj"),
    "nullable column": (
        {"c": pd.Series([1.5, None], dtype=object)},
        TypeError,
        "'c'.*Received float in row 0",
    ),
    "text with NA": (
        {"t": pd.Series(["a", None], dtype="string")},
        TypeError,
        "'t'.*Received NAType in row 1",
    ),
    "set": ({"c": {1, 2}}, TypeError, "'c' must be an array.*: set"),
    "lengths differ": ({"x": X, "c": [1, 2]}, ValueError, "same number of rows"),
    "flag of ints": (
        {"x": X, "present": {"x": [1]}},
        TypeError,
        "`present` must be bool for modality 'x'. Received: int64",
    ),
    "flag of two rows": (
        {"x": X, "present": {"x": [True, False]}},
        ValueError,
        r"`present` must have shape \[1\]",
    ),
    "flag with None": (
        {"c": [1, 2], "present": {"c": [True, None]}},
        TypeError,
        "`present` must be bool for modality 'c'. Received: object",
    ),
    "masked flag": (
        {"x": X, "present": {"x": np.ma.array([True], mask=[True])}},
        TypeError,
        "`present` is a masked array for modality 'x'",
    ),
    "flag without values": (
        {"x": X, "present": {"c": [True]}},
        ValueError,
        "modality 'c', but there are no values",
    ),
    "columns in two orders": (
        {"x": X * 2, "c": pd.Series([1, 2]), "t": pd.Series(["a", "b"], [1, 0])},
        ValueError,
        "'c' and 't' are pandas columns with different indexes",
    ),
    "flags in another order": (
        {"c": pd.Series([1, 2]), "present": {"c": pd.Series([True, False], [1, 0])}},
        ValueError,
        "'c' and `present` of 'c' are pandas columns with different indexes",
    ),
}
#: Invalid once the model is known.
DESCRIBED = {
    "unknown name": ({"y": X}, ValueError, "Unknown modality 'y'"),
    "shape": ({"x": [[1.0]]}, ValueError, r"'x' must have shape \[B, 2\]"),
    "bytes": ({"x": [b"a"]}, TypeError, "'x' must hold numbers.*: bytes"),
    "NaN": ({"x": [[np.nan, 0.0]]}, ValueError, "'x' must hold finite.*nan in row 0"),
    "integers": ({"x": [[1, 2]]}, TypeError, "'x' must have a floating dtype.*int64"),
}
METHODS = ["reconstruct", "encode", "impute", "log_likelihood"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", LOCAL)
def test_invalid_inputs_send_nothing(ask, method, case):
    inputs, kind, message = LOCAL[case]
    with pytest.raises(kind, match=message) as caught:
        ask(method, inputs)
    assert "\n" not in str(caught.value)
    assert ask.server.requests == []


@pytest.mark.parametrize(
    ("seed", "kind"),
    [
        (True, TypeError),
        (2.0, TypeError),
        ("1", TypeError),
        (None, TypeError),
        ([1.0], TypeError),
        ([True], TypeError),
        ([[1]], TypeError),
        (np.array([1.0]), TypeError),
        (np.array([True]), TypeError),
        (np.array([1], object), TypeError),
        (np.ma.array([1], mask=[True]), TypeError),
        (2**63, ValueError),
        (-(2**63) - 1, ValueError),
        ([2**63], ValueError),
        (np.array([2**63], np.uint64), ValueError),
        ([1, 2], ValueError),
        (np.array([[1]]), ValueError),
    ],
)
@pytest.mark.parametrize(
    ("method", "first"),
    [("impute", {"x": X}), ("log_likelihood", {"x": X}), ("sample", 1)],
)
def test_wrong_seeds_send_nothing(ask, method, first, seed, kind):
    with pytest.raises(kind, match="`seed` must"):
        ask(method, first, seed=seed)
    assert ask.server.requests == []


@pytest.mark.parametrize("n", [True, 2.0, "2", None, -1])
def test_wrong_numbers_of_draws_send_nothing(ask, n):
    with pytest.raises((TypeError, ValueError), match="`n` must"):
        ask("sample", n)
    assert ask.server.requests == []


@pytest.mark.parametrize(
    "seed",
    [[5], (5,), range(5, 6), np.array([5], ">i2"), np.array([5], np.uint64)]
    + [pd.Series([5]), pd.Series([5], dtype="Int64")],
)
def test_rows_seeds_are_sent_as_they_are(seed):
    served = parse_metadata(metadata(), Target("host", "m"))
    feed = make_feed(served.signature(IMPUTE), read_seeded_batch({"c": [0]}, seed))
    assert feed["seed"].dtype == np.int64
    assert feed["seed"].tolist() == [5]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", DESCRIBED)
def test_invalid_inputs_cost_one_description_together(ask, method, case):
    inputs, kind, message = DESCRIBED[case]
    for _ in range(3):
        with pytest.raises(kind, match=message):
            ask(method, inputs)
    assert ask.server.requests == ["metadata"]
    ask(method, {"x": X})
    assert ask.server.requests == ["metadata", "predict"]


def test_old_description_is_refreshed_once_for_an_invalid_input(ask, monkeypatch):
    ask("encode", {"x": X})
    now = core.time.monotonic()
    monkeypatch.setattr(core.time, "monotonic", lambda: now + core.MAX_AGE + 1)
    for _ in range(3):
        with pytest.raises(ValueError, match="shape"):
            ask("encode", {"x": [[1.0]]})
    assert ask.server.requests == ["metadata", "predict", "metadata"]


def test_old_description_is_refreshed_for_the_shape_of_a_new_version(ask, monkeypatch):
    ask("encode", {"x": X})
    ask.server.width = 3
    wide = {"x": [[1.0, 2.0, 3.0]]}
    with pytest.raises(ValueError, match="shape"):
        ask("encode", wide)
    monkeypatch.setattr(core, "MAX_AGE", 0.0)
    assert ask("encode", wide)["x"].shape == (1, 3)
    assert ask.server.requests == ["metadata", "predict", "metadata", "predict"]


def test_refusal_by_the_server_refreshes_at_once(ask):
    ask("encode", {"x": X})
    ask.server.width = 3
    assert ask("encode", {"c": [1]})["x"].shape == (1, 3)
    assert ask.server.requests[2:] == ["predict", "metadata", "predict"]
    ask.server.errors = [UnexpectedAnswer("odd")]
    with pytest.raises(UnexpectedAnswer, match="odd"):
        ask("encode", {"c": [1]})
    assert ask.server.requests[-2:] == ["predict", "metadata"]


def test_invalid_input_is_reported_although_the_server_is_gone(ask, monkeypatch):
    monkeypatch.setattr(core, "MAX_AGE", 0.0)
    ask("encode", {"x": X})
    ask.server.errors = [Unavailable("gone")]
    with pytest.raises(ValueError, match=r"'x' must have shape \[B, 2\]"):
        ask("encode", {"x": [[1.0]]})
    ask.server.errors = [InvalidRequest("wrong"), Unavailable("gone")]
    with pytest.raises(InvalidRequest, match="wrong"):
        ask("encode", {"x": X})


INTEGERS = st.sampled_from([*"bBhHiIlLqQ?", ">i4", ">u2"])


@given(kind=INTEGERS, as_list=st.booleans(), rows=st.integers(1, 3))
def test_integers_and_bools_are_refused_for_reals_with_both_remedies(
    kind, as_list, rows
):
    values = np.ones([rows, 2], kind)
    asker = Asker(FakeClient)
    with pytest.raises(TypeError, match="'x' must have a floating dtype") as caught:
        asker("encode", {"x": values.tolist() if as_list else values})
    message = str(caught.value)
    assert "`x / 255`" in message
    assert "`x.astype('float32')`" in message
    assert as_list or values.dtype.name in message
    assert "predict" not in asker.server.requests


FLAGS = st.lists(st.booleans(), min_size=1, max_size=5)
CONTAINERS = [
    list,
    tuple,
    np.array,
    pd.Series,
    lambda flag: pd.Series(flag, dtype="boolean"),
    lambda flag: np.array(flag, object),
    lambda flag: [np.bool_(one) for one in flag],
    lambda flag: np.ma.array(flag, mask=False),
]


@given(flag=FLAGS, container=st.sampled_from(CONTAINERS))
def test_flags_may_be_any_column_of_bools(flag, container):
    values = np.full([len(flag)], 1)
    inputs = {"c": values, "present": {"c": container(flag)}}
    served = parse_metadata(metadata(), Target("host", "m"))
    feed = make_feed(served.signature(ENCODE), read_batch(inputs))
    assert feed["has_c"].dtype == bool
    assert feed["has_c"].tolist() == flag
    assert feed["c"].tolist() == [int(one) for one in flag]


FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=64)


@given(values=st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=4))
def test_reals_arrive_rounded_to_float32_or_are_refused(values):
    values = np.array(values)
    served = parse_metadata(metadata(), Target("host", "m"))
    batch = read_batch({"x": values})
    with np.errstate(over="ignore"):
        expected = values.astype(np.float32)
    if np.isfinite(expected).all():
        assert np.array_equal(make_feed(served.signature(ENCODE), batch)["x"], expected)
    else:
        with pytest.raises(ValueError, match="'x' must hold finite float32 values"):
            make_feed(served.signature(ENCODE), batch)


def test_masked_arrays_that_hide_nothing_are_taken(ask):
    ask("encode", {"x": np.ma.array(X, mask=False), "c": np.ma.array([1])})
    assert ask.server.requests == ["metadata", "predict"]


def test_empty_batches_send_nothing_but_need_the_description(ask):
    for inputs in ({"x": np.zeros([0, 2])}, {"c": []}):
        flags = {"present": dict.fromkeys(inputs, [])}
        assert ask("encode", {**inputs, **flags})["x"].shape == (0, 2)
    assert ask("sample", 0)["x"].shape == (0, 2)
    assert ask.server.requests == ["metadata"]
