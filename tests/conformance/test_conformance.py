"""Every public class is configured, saved, exported, compiled and replicated alike.

Models are built once per test process and shared by tests that leave them as they are.
"""

import functools
import inspect
import json
import os
import pathlib
import subprocess
import sys
from contextlib import contextmanager

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance import cases

ROOT = pathlib.Path(__file__).parents[2]
#: Policy to the relative tolerance of a loss: bfloat16 keeps 8 bits, 0.4 % of each
#: product in the networks.
POLICIES = {"mixed_float16": 3e-3, "mixed_bfloat16": 2e-2}
every_layer = pytest.mark.parametrize("name", cases.LAYERS)
every_model = pytest.mark.parametrize("name", cases.MODELS)
#: One is an integration test, the others are slow. tests/models tests MoPoEVAE.
every_model_slow_but_one = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "MMVAE" else pytest.mark.slow)
        for name in cases.MODELS
    ],
)
every_distribution = pytest.mark.parametrize("name", cases.DISTRIBUTIONS)


def flat(structure):
    return [np.asarray(tensor) for tensor in tf.nest.flatten(structure)]


def assert_same(actual, expected, **tolerance):
    tolerance = tolerance or {"rtol": 1e-5, "atol": 1e-6}
    for left, right in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_allclose(left, right, **tolerance)


def loss_of(model):
    return model.compute_loss(x=cases.batch(), training=False)


@functools.cache
def shared_layer(name):
    """The case's layer, and its output."""
    case = cases.LAYERS[name]
    layer = case.make()
    return layer, layer(*case.inputs)


@functools.cache
def shared_model(name):
    """The case's model, not trained, and its loss."""
    model = cases.make_model(cases.MODELS[name])
    return model, loss_of(model)


@functools.cache
def shared_distribution(name):
    """The case's distribution."""
    return cases.make_distribution(cases.DISTRIBUTIONS[name])


@contextmanager
def global_policy(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


# Completeness of the cases.


def test_every_public_class_and_metric_has_an_entry_or_a_reason_not_to():
    covered = {
        name.split(",")[0]
        for table in (cases.LAYERS, cases.MODELS, cases.DISTRIBUTIONS)
        for name in table
    }
    assert cases.public_names() == covered | set(cases.EXEMPT)
    assert not covered & set(cases.EXEMPT)


@pytest.mark.parametrize(
    "cls",
    [cases.layers.MixtureOfExperts, cases.MoPoEVAE, cases.nets.Log1p],
)
def test_a_class_without_an_entry_is_noticed(cls, monkeypatch):
    class Another(cls):
        pass

    Another.__module__ = "tf_mopoe.layers"
    monkeypatch.setattr(cases.layers, "Another", Another, raising=False)
    monkeypatch.setattr(cases.layers, "__all__", [*cases.layers.__all__, "Another"])
    assert "Another" in cases.public_names()


# Layers.


@every_layer
def test_layer_is_rebuilt_from_its_configuration(name):
    case = cases.LAYERS[name]
    layer, output = shared_layer(name)
    assert len(layer.trainable_weights) == case.weights
    rebuilt = type(layer).from_config(layer.get_config())
    rebuilt(*case.inputs)
    rebuilt.set_weights(layer.get_weights())
    assert rebuilt.get_config() == layer.get_config()
    assert_same(rebuilt(*case.inputs), output)
    # Every argument of the constructor is in it.
    arguments = set(inspect.signature(type(layer).__init__).parameters)
    assert arguments - {"self", "kwargs"} <= set(layer.get_config())


def as_functional(layer, inputs):
    """A functional model of the layer alone."""
    specs = tf.nest.map_structure(
        lambda x: (
            keras.Input(x.shape[1:], dtype=x.dtype.name)
            if x.shape[0] == cases.ROWS
            else x
        ),
        tuple(tf.nest.map_structure(np.asarray, inputs)),
    )
    given = [x for x in tf.nest.flatten(specs) if isinstance(x, keras.KerasTensor)]
    return keras.Model(given, list(tf.nest.flatten(layer(*specs))))


@every_layer
def test_layer_is_loaded_from_a_saved_model_file(name, tmp_path):
    case = cases.LAYERS[name]
    model = as_functional(case.make(), case.inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    values = [x for x in flat(case.inputs) if x.shape[0] == cases.ROWS]
    assert_same(loaded(values), model(values))


@pytest.mark.integration
@every_layer
def test_layer_in_a_savedmodel_gives_the_same_numbers(name, tmp_path):
    inputs = cases.LAYERS[name].inputs
    layer, output = shared_layer(name)
    archive = keras.export.ExportArchive()
    archive.track(layer)
    specs = tf.nest.map_structure(
        lambda x: tf.TensorSpec(np.shape(x), np.asarray(x).dtype), inputs
    )
    archive.add_endpoint(
        "serve",
        lambda *inputs: {
            str(i): x for i, x in enumerate(tf.nest.flatten(layer(*inputs)))
        },
        input_signature=specs,
    )
    archive.write_out(str(tmp_path / "saved"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    served = loaded.serve(*inputs)
    assert_same([served[str(i)] for i in range(len(served))], output)


@every_layer
def test_layer_gives_the_same_numbers_under_xla(name):
    layer, expected = shared_layer(name)
    compiled = tf.function(
        lambda: layer(*cases.LAYERS[name].inputs), jit_compile=True, autograph=False
    )
    # XLA computes the inverse error function, and with it the noise, in its own way.
    assert_same(compiled(), expected, rtol=1e-4, atol=1e-5)


@every_layer
@pytest.mark.parametrize("policy", POLICIES)
def test_layer_works_in_float32_under_mixed_precision(name, policy):
    case = cases.LAYERS[name]
    layer, expected = shared_layer(name)
    with global_policy(policy):
        mixed = case.make()
        mixed(*case.inputs)
    mixed.set_weights(layer.get_weights())
    assert_same(mixed(*case.inputs), expected)


# Models.


@pytest.mark.integration
@every_model
def test_model_is_rebuilt_from_its_configuration(name):
    model, loss = shared_model(name)
    rebuilt = type(model).from_config(model.get_config())
    rebuilt.set_weights(model.get_weights())
    assert rebuilt.get_config() == model.get_config()
    assert_same(loss_of(rebuilt), loss)


@every_model
@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.integration)],
)
def test_model_has_the_same_loss_under_mixed_precision(name, policy):
    _, loss = shared_model(name)
    with global_policy(policy):
        mixed = cases.make_model(cases.MODELS[name])
    assert any(layer.compute_dtype in policy for layer in mixed._flatten_layers())
    np.testing.assert_allclose(loss_of(mixed), loss, rtol=POLICIES[policy])


@pytest.mark.integration
@every_model_slow_but_one
def test_model_trains_under_mixed_precision(name):
    with global_policy("mixed_float16"):  # gradients may overflow, unlike bfloat16's
        mixed = cases.make_model(cases.MODELS[name])
    mixed.compile(keras.optimizers.Adam(1e-2))
    losses = mixed.fit(cases.batch(), epochs=20, verbose=0).history["loss"]
    assert np.all(np.isfinite(losses))
    assert losses[-1] < losses[0]


@pytest.mark.integration
@every_model
def test_loaded_model_answers_and_trains_like_the_saved_one(name, tmp_path):
    model = cases.make_model(cases.MODELS[name])
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    model.train_on_batch(cases.batch())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(loaded(cases.batch()), model(cases.batch()))
    assert_same(
        loaded.train_on_batch(cases.batch()), model.train_on_batch(cases.batch())
    )
    assert_same(loaded.get_weights(), model.get_weights())


@pytest.mark.integration
@every_model
def test_model_in_a_savedmodel_gives_the_same_numbers(name, tmp_path):
    model, _ = shared_model(name)
    archive = keras.export.ExportArchive()
    archive.track(model)
    specs = tf.nest.map_structure(
        lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), cases.batch()
    )
    archive.add_endpoint("serve", lambda batch: model(batch), input_signature=[specs])
    archive.write_out(str(tmp_path / "saved"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    tensors = tf.nest.map_structure(tf.constant, cases.batch())
    assert_same(loaded.serve(tensors), model(cases.batch()))


@pytest.mark.integration
@every_model_slow_but_one
def test_model_trains_the_same_with_xla(name):
    logs = []
    for jit in (False, True):
        model = cases.make_model(cases.MODELS[name])
        model.compile(keras.optimizers.SGD(1e-2), jit_compile=jit)
        logs.append([model.train_on_batch(cases.batch()) for _ in range(3)])
    # float32, and noise good to 1e-5, over three steps.
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-3)


# Distributions.


@every_distribution
def test_distribution_is_rebuilt_from_its_parameters(name):
    q = shared_distribution(name)
    z = q.sample(3, seed=1)
    assert_same(q.copy().log_prob(z), q.log_prob(z))
    assert_same(type(q)(**q.parameters).log_prob(z), q.log_prob(z))


@every_distribution
@pytest.mark.parametrize(
    "jit", [False, pytest.param(True, marks=pytest.mark.integration)]
)
def test_distribution_goes_through_a_compiled_function(name, jit):
    q = shared_distribution(name)

    @tf.function(jit_compile=jit, autograph=False)
    def through(q):
        return q, q.log_prob(q.mean()), q.sample(2, seed=1), q.kl_upper_bound()

    back, log_prob, sample, bound = through(q)
    assert type(back) is type(q)
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    assert_same(back.mean(), q.mean(), **tolerance)
    assert_same(log_prob, q.log_prob(q.mean()), **tolerance)
    assert_same(sample, q.sample(2, seed=1), **tolerance)
    assert_same(bound, q.kl_upper_bound(), **tolerance)


@every_distribution
def test_distribution_in_a_savedmodel_gives_the_same_numbers(name, tmp_path):
    kwargs = cases.DISTRIBUTIONS[name]
    module = tf.Module()
    module.log_prob = tf.function(
        lambda z: cases.make_distribution(kwargs).log_prob(z),
        input_signature=[tf.TensorSpec([cases.ROWS, cases.LATENT_DIM])],
    )
    tf.saved_model.save(module, str(tmp_path / "saved"))
    z = tf.ones([cases.ROWS, cases.LATENT_DIM])
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    assert_same(loaded.log_prob(z), shared_distribution(name).log_prob(z))


@every_distribution
def test_distribution_in_float32_agrees_with_float64(name):
    double = cases.make_distribution(cases.DISTRIBUTIONS[name], "float64")
    z = np.ones([cases.ROWS, cases.LATENT_DIM])
    single = shared_distribution(name).log_prob(z.astype("float32"))
    assert_same(single, double.log_prob(z), rtol=1e-4)


# Two replicas, in a process of their own.


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [cases.REPLICATED, cases.REPLICATED_SLOWLY],
    ids=["cases", "other models"],
)
def test_two_replicas_give_what_one_device_gives(names, tmp_path):
    out = tmp_path / "results.json"
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(ROOT),
    }
    completed = subprocess.run(
        [sys.executable, "-m", "tests.conformance.two_replicas", str(out), *names],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr[-4000:]
    results = json.loads(out.read_text())
    assert set(results) == set(names)
    for name, (two, one) in results.items():
        assert len(two) == len(one) > 0
        for left, right in zip(two, one, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5, err_msg=name)


def test_every_model_runs_on_two_replicas_somewhere():
    elsewhere = {name for name in cases.MODELS if name.startswith("MoPoEVAE")}
    covered = {*cases.REPLICATED, *cases.REPLICATED_SLOWLY} & set(cases.MODELS)
    assert covered == set(cases.MODELS) - elsewhere
