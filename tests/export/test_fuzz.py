"""Generated requests: a right answer or a clear error, never a crash."""

import numpy as np
import pytest
import tensorflow as tf

from export.publication.publish import write_saved_model
from export.signatures.contract import FLAG_PREFIX, SAMPLE
from export.signatures.signatures import make_signatures
from export.verification.examples import make_inputs
from export.verification.session import ServingSession, SessionError
from tests.tiny_models import tiny_modality
from tf_mopoe import Modality, MoPoEVAE

#: Numbers of requests, in the suite and in the slow test.
FEW, MANY = 250, 10_000
POOL = 256
NAMES = ("serving_default", "encode", "impute", "sample", "log_likelihood")
LARGEST = np.finfo(np.float32).max
EXTREMES = [LARGEST, -LARGEST, 1e30, -1e20, 1e10, -65536.0, 1e-45, -0.0]


@pytest.fixture(scope="module")
def model():
    return MoPoEVAE(
        [
            tiny_modality("reals", (3,), style_dim=2),
            tiny_modality("counts", (2,), likelihood="negative_binomial"),
            Modality("kinds", (2,), likelihood="integer_categorical", num_classes=3),
        ],
        latent_dim=2,
        seed=0,
        name="fuzzed",
    )


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """The folder of a SavedModel, and the traced functions of the live model."""
    folder = tmp_path_factory.mktemp("fuzzed")
    signatures = make_signatures(model, num_samples=4)
    return folder, signatures, write_saved_model(model, signatures, folder)


@pytest.fixture(scope="module")
def session(saved):
    return ServingSession(saved[0])


@pytest.fixture(scope="module")
def pool(model, saved):
    """Rows of every kind, extreme ones among them, and the live model's answers."""
    generator = np.random.default_rng(0)
    _, signatures, functions = saved
    present = generator.random([POOL, len(model.modalities)]) < 0.6
    inputs = make_inputs(model, signatures, present, generator)
    for name in model.modality_names:
        values = inputs[name]
        some = generator.random(values.shape) < 0.05
        extremes = EXTREMES if values.dtype == np.float32 else [-1, 3, 2**31 - 1]
        values[some] = generator.choice(extremes, some.sum())
    answers = {}
    for name, signature in signatures.items():
        flat = {key: tf.constant(inputs[key]) for key in signature.inputs}
        answers[name] = {k: v.numpy() for k, v in functions[name](flat).items()}
    return inputs, answers


def valid_request(session, pool, name, generator):
    """Rows of the pool, with anything at all where a modality is absent."""
    inputs, answers = pool
    rows = generator.integers(POOL, size=generator.integers(1, 65))
    feed = {key: inputs[key][rows] for key in session.signatures[name].inputs}
    for key, values in feed.items():
        if FLAG_PREFIX + key in feed:
            absent = ~feed[FLAG_PREFIX + key]
            garbage = [np.nan, np.inf, -np.inf, 1e38]
            if values.dtype == np.int32:
                garbage = [-(2**31), 2**31 - 1, 77]
            shape = (absent.sum(), *values.shape[1:])
            values[absent] = generator.choice(garbage, shape)
    return feed, {key: value[rows] for key, value in answers[name].items()}


def wrong_dtype(feed, key, generator):
    others = [np.float32, np.float64, np.int32, np.int64, bool]
    others.remove(feed[key].dtype.type if feed[key].dtype != bool else bool)
    with np.errstate(invalid="ignore", over="ignore"):
        feed[key] = feed[key].astype(generator.choice(others))


def wrong_rank(feed, key, generator):
    more = generator.random() < 0.5
    feed[key] = feed[key][..., np.newaxis] if more else feed[key][0]


def wrong_width(feed, key, generator):
    values = feed[key]
    if values.ndim == 1:
        return wrong_rank(feed, key, generator)
    axis = generator.integers(1, values.ndim)
    size = generator.choice([0, 1, values.shape[axis] + 1, 2 * values.shape[axis]])
    size = size if size != values.shape[axis] else size + 1
    feed[key] = np.resize(
        values, (*values.shape[:axis], size, *values.shape[axis + 1 :])
    )
    return None


def wrong_rows(feed, key, generator):
    rows = len(feed[key])
    more = generator.choice([n for n in (0, 1, rows + 1, 2 * rows) if n != rows])
    feed[key] = np.resize(feed[key], (more, *feed[key].shape[1:]))


def missing_input(feed, key, generator):
    del feed[key]


def unknown_input(feed, key, generator):
    feed[key + "_"] = feed[key]


FAULTS = [wrong_dtype, wrong_rank, wrong_width, wrong_rows, missing_input]
FAULTS += [unknown_input]


def refusal(session, signature, feed):
    """The message for a wrong request, "" if it is answered."""
    try:
        session.run(signature, feed)
    except SessionError as error:
        return error.message
    return ""


def fuzz(session, pool, count, seed):
    generator = np.random.default_rng(seed)
    answered = refused = 0
    for number in range(count):
        name = generator.choice(NAMES)
        feed, expected = valid_request(session, pool, name, generator)
        signature = session.signatures[name]
        if generator.random() < 0.3:
            faults = [f for f in FAULTS if name != SAMPLE or f is not wrong_rows]
            fault = generator.choice(faults)
            key = generator.choice(sorted(feed))
            fault(feed, key, generator)
            what = (number, name, fault.__name__, key)
            assert len(refusal(session, signature, feed)) > 20, what
            refused += 1
            continue
        answer = session.run(signature, feed)
        for key, reference in expected.items():
            what = f"request {number}: {name}, {key}"
            assert not np.isnan(answer[key]).any(), what
            np.testing.assert_allclose(
                answer[key], reference, rtol=1e-3, atol=1e-5, err_msg=what
            )
        answered += 1
    return answered, refused


@pytest.mark.integration
def test_requests_are_answered_right_or_refused(session, pool):
    answered, refused = fuzz(session, pool, FEW, seed=1)
    assert answered > FEW / 2
    assert refused > FEW / 5


@pytest.mark.slow
def test_ten_thousand_requests_are_answered_right_or_refused(session, pool):
    answered, refused = fuzz(session, pool, MANY, seed=2)
    print(f"{answered} answered, {refused} refused")
    assert answered + refused == MANY
