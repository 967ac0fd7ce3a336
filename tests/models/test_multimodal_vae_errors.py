"""The boundary: every mistake is refused with a message that names it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_models import tiny_batch, tiny_modality, tiny_model
from tf_mopoe import Modality, MoPoEVAE, nets


@pytest.fixture(scope="module")
def model():
    model = tiny_model()
    model.compile("sgd", run_eagerly=True)
    return model


def batch_with(**entries):
    return {**tiny_batch(), **entries}


ZEROS = np.zeros([8, 3], "float32")
FLAGS = np.ones(8, dtype=bool)
WRONG_BATCHES = {
    "not a dictionary": (ZEROS, TypeError, "must be a dictionary .*: Eager"),
    "unknown key": (
        {"aa": ZEROS}, ValueError, r"Unknown modality 'aa' .*\['a', 'b'\].* mean 'a'\?",
    ),
    "unlike any key": (
        batch_with(image=ZEROS), ValueError, r"'image' in the batch; .*\['a', 'b'\].$",
    ),
    "wrong size": (
        batch_with(a=np.zeros([8, 5], "float32")),
        ValueError,
        r"'a' must have shape \('B', 3\), B rows. Received: \(8, 5\)",
    ),
    "wrong rank": (
        batch_with(a=np.zeros([8, 3, 1], "float32")),
        ValueError,
        r"'a' must have shape \('B', 3\), B rows. Received: \(8, 3, 1\)",
    ),
    "no batch dimension": (
        batch_with(a=np.zeros([3], "float32")),
        ValueError,
        r"'a' must have shape .* Received: \(3,\)",
    ),
    "bytes": (
        batch_with(a=np.zeros([8, 3], "uint8")),
        TypeError,
        "'a' must have a floating dtype. Received: uint8. .*/ 255",
    ),
    "rows that differ": (
        batch_with(a=ZEROS[:5]), ValueError, "same number of rows. .*'a': 5, 'b': 8",
    ),
    "nothing known": ({}, ValueError, r"none of this model's .*\['a', 'b'\].*: \[\]"),
    "flags alone": (
        {"present": {"a": FLAGS}}, ValueError, "flag for modality 'a', but .* no value",
    ),
    "a flag without values": (
        {"b": tiny_batch()["b"], "present": {"a": FLAGS}},
        ValueError,
        "`present` has a flag for modality 'a', but the batch has no values",
    ),
    "a flag of an unknown name": (
        batch_with(present={"aa": FLAGS}), ValueError, "'aa' .*Did you mean 'a'",
    ),
    "flags that are numbers": (
        batch_with(present={"a": np.ones(8, "int32")}),
        TypeError,
        r"`present\['a'\]` must be bool. Received: int32",
    ),
    "flags of a wrong shape": (
        batch_with(present={"a": FLAGS[:, np.newaxis]}),
        ValueError,
        r"`present\['a'\]` must have shape \(8,\), .* Received: \(8, 1\)",
    ),
    "too few flags": (
        batch_with(present={"a": FLAGS[:5]}),
        ValueError,
        r"`present\['a'\]` must have shape \(8,\), .* Received: \(5,\)",
    ),
    "flags without names": (
        batch_with(present=FLAGS), TypeError, "`present` must be a dictionary",
    ),
    "NaN": (
        batch_with(a=np.where(np.arange(8)[:, None] == 3, np.nan, ZEROS)),
        ValueError,
        "'a' must hold finite numbers .*'present' flags for 'a'",
    ),
    "infinity": (
        batch_with(b=np.full([8, 4], np.inf)),
        ValueError,
        "'b' must hold finite numbers .*'present' flags for 'b'",
    ),
    "NaN in a row that is present": (
        batch_with(a=np.full([8, 3], np.nan), present={"a": np.arange(8) > 0}),
        ValueError,
        "'a' must hold finite numbers in rows that are present",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG_BATCHES)
def test_wrong_batches_are_refused_by_name(model, mistake):
    batch, error, message = WRONG_BATCHES[mistake]
    if isinstance(batch, np.ndarray):
        batch = tf.constant(batch)
    for method in (model.posterior, model.encode, model.impute):
        with pytest.raises(error, match=message):
            method(batch)


@pytest.mark.parametrize(
    "mistake", ["unknown key", "bytes", "wrong size", "a flag without values", "NaN"]
)
def test_wrong_batches_are_refused_in_training_too(model, mistake):
    batch, error, message = WRONG_BATCHES[mistake]
    for method in (model.fit, model.evaluate, model.predict):
        with pytest.raises(error, match=message):
            method(batch, verbose=0)
    for method in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(error, match=message):
            method(batch)


@pytest.mark.integration
def test_nan_inside_a_compiled_step_is_a_value_error_that_names_the_modality():
    model = tiny_model()
    model.compile("sgd")
    batch, error, message = WRONG_BATCHES["NaN"]
    with pytest.raises(error, match=message):
        model.fit(batch, verbose=0)
    with pytest.raises(error, match=message):
        model.train_on_batch(batch)


def test_what_is_not_an_array_is_refused(model):
    with pytest.raises(TypeError, match="'a' must be an array"):
        model.posterior(batch_with(a={"b": 1}))


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"latent_dim": 0}, ValueError, "`latent_dim` must be .* Received: 0"),
        ({"latent_dim": 2.5}, TypeError, "`latent_dim` must be .* Received: 2.5"),
        ({"beta": -1.0}, ValueError, "`beta` must be a number, .* Received: -1"),
        (
            {"beta": float("nan")},
            ValueError,
            "`beta` must be a number, .* Received: nan",
        ),
        ({"subsets": "pairs"}, ValueError, "`subsets` must be .* Received: 'pairs'"),
        ({"subsets": [["a", "z"]]}, ValueError, r"`subsets` .*\['z'\].*\['a', 'b'\]"),
        ({"prior_expert": "no"}, ValueError, "`prior_expert` must .* Received: 'no'"),
        ({"component_draw": "no"}, ValueError, "`component_draw` .* Received: 'no'"),
    ],
)
def test_wrong_arguments_of_the_model_are_refused(kwargs, error, message):
    modalities = [tiny_modality("a"), tiny_modality("b")]
    with pytest.raises(error, match=message):
        MoPoEVAE(modalities, **{"latent_dim": 2, **kwargs})


def test_modalities_need_names_of_their_own():
    twice = [tiny_modality("a"), tiny_modality("a")]
    with pytest.raises(ValueError, match=r"unique names. Received.*\['a', 'a'\]"):
        MoPoEVAE(twice, latent_dim=2)
    with pytest.raises(ValueError, match=r"at least one modality.*: \[\]"):
        MoPoEVAE([], latent_dim=2)
    with pytest.raises(TypeError, match="`modalities` must be a list .*Received: 'a'"):
        MoPoEVAE(["a"], latent_dim=2)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"name": "present"}, ValueError, "'present' is a reserved name"),
        ({"name": "seed"}, ValueError, "'seed' is a reserved name"),
        ({"name": "has_a"}, ValueError, "'has_a' is a reserved name.* Rename"),
        ({"name": "a b"}, ValueError, "`name` of a modality .* Received: 'a b'"),
        ({"name": ""}, ValueError, "`name` of a modality .* Received: ''"),
        ({"name": "_a"}, ValueError, "`name` of a modality .* Received: '_a'"),
        ({"name": 3}, ValueError, "`name` of a modality .* Received: 3"),
        ({"event_shape": ()}, ValueError, r"`event_shape` .*'x'.* Received: \(\)"),
        ({"event_shape": 3}, ValueError, "`event_shape` .*'x'.* Received: 3"),
        ({"event_shape": (3, 0)}, ValueError, r"`event_shape` .* Received: \(3, 0\)"),
        ({"event_shape": (None, 3)}, ValueError, r"`event_shape` .*\(None, 3\)"),
        ({"encoder": "cnn"}, TypeError, "`encoder` .*'x'.* layer .*Received: 'cnn'"),
        ({"decoder": len}, TypeError, "`decoder` .*'x'.* layer .*Received: <built-in"),
        ({"likelihood_scale": 0.0}, ValueError, "`likelihood_scale` .*'x'.*: 0.0"),
        ({"likelihood_scale": -1}, ValueError, "`likelihood_scale` .*'x'.*: -1"),
        ({"reconstruction_weight": -1}, ValueError, "`reconstruction_weight` .*: -1"),
    ],
)
def test_wrong_arguments_of_a_modality_are_refused(kwargs, error, message):
    with pytest.raises(error, match=message):
        Modality(**{"name": "x", "event_shape": (3,), **kwargs})


def test_an_unknown_likelihood_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match="'a': `likelihood` .*'bernoulli'.*'normal'.*: 'gauss'"
    ):
        MoPoEVAE([tiny_modality("a", likelihood="gauss")], latent_dim=2)


def test_a_decoder_of_another_shape_is_refused():
    decoder = nets.dense_decoder((7,), 2, hidden=(5,))
    with pytest.raises(
        ValueError,
        match=r"decoder of modality 'a' .* \('B', 3\). Received: \(None, 7\)",
    ):
        MoPoEVAE([tiny_modality("a", decoder=decoder)], latent_dim=2)


@pytest.mark.parametrize(
    "argument", ["loss", "metrics", "loss_weights", "weighted_metrics"]
)
def test_losses_and_metrics_from_outside_are_refused(model, argument):
    with pytest.raises(ValueError, match=f"`{argument}` is not for this .* ELBO"):
        tiny_model("a").compile("sgd", **{argument: ["mse"]})


def test_a_failed_compile_leaves_the_optimizer_alone(model):
    optimizer = model.optimizer
    with pytest.raises(ValueError, match="`loss`"):
        model.compile(keras.optimizers.Adam(), loss="mse")
    assert model.optimizer is optimizer


def test_a_contiguous_draw_refuses_missing_modalities():
    model = tiny_model(component_draw="contiguous")
    with pytest.raises(ValueError, match="'contiguous'.* without missing"):
        model.compute_loss(x={"a": tiny_batch()["a"]}, training=False)
