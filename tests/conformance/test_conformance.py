"""Everything public is configured, saved, exported, compiled, replicated alike."""

import inspect
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance import cases

ROOT = pathlib.Path(__file__).parents[2]
POLICIES = ("mixed_float16", "mixed_bfloat16")
every_layer = pytest.mark.parametrize("name", cases.LAYERS)
every_model = pytest.mark.parametrize("name", cases.MODELS)
#: Where each takes long: the others are slow tests.
every_model_in_time = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[] if name in ("MoPoEVAE", "MMVAE") else pytest.mark.slow
        )
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


def twin(layer, inputs):
    """The layer rebuilt from its configuration, with the same weights."""
    other = type(layer).from_config(layer.get_config())
    other(*inputs)
    other.set_weights(layer.get_weights())
    return other


def loss_of(model):
    return model.compute_loss(x=cases.batch(), training=False)


# What is public has an entry.


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
def test_a_class_without_an_entry_would_be_noticed(cls, monkeypatch):
    class Another(cls):
        pass

    Another.__module__ = "tf_mopoe.layers"
    monkeypatch.setattr(cases.layers, "Another", Another, raising=False)
    monkeypatch.setattr(cases.layers, "__all__", [*cases.layers.__all__, "Another"])
    assert "Another" in cases.public_names()


# Layers.


@every_layer
def test_layer_comes_back_from_its_configuration(name):
    case = cases.LAYERS[name]
    layer = case.make()
    output = layer(*case.inputs)
    assert len(layer.trainable_weights) == case.weights
    rebuilt = twin(layer, case.inputs)
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


def batched(inputs):
    return [x for x in flat(inputs) if x.shape[0] == cases.ROWS]


@every_layer
def test_layer_in_a_saved_model_file_comes_back(name, tmp_path):
    case = cases.LAYERS[name]
    model = as_functional(case.make(), case.inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    values = batched(case.inputs)
    assert_same(loaded(values), model(values))


@every_layer
def test_layer_in_a_savedmodel_gives_the_same_numbers(name, tmp_path):
    case = cases.LAYERS[name]
    layer = case.make()
    output = layer(*case.inputs)
    archive = keras.export.ExportArchive()
    archive.track(layer)
    specs = tf.nest.map_structure(
        lambda x: tf.TensorSpec(np.shape(x), np.asarray(x).dtype), case.inputs
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
    served = loaded.serve(*case.inputs)
    assert_same([served[str(i)] for i in range(len(served))], output)


@every_layer
def test_layer_gives_the_same_numbers_under_xla(name):
    case = cases.LAYERS[name]
    layer = case.make()
    expected = layer(*case.inputs)
    compiled = tf.function(
        lambda: layer(*case.inputs), jit_compile=True, autograph=False
    )
    # Noise is an inverse error function of XLA's own.
    assert_same(compiled(), expected, rtol=1e-4, atol=1e-5)


@every_layer
@pytest.mark.parametrize("policy", POLICIES)
def test_layer_works_in_float32_under_mixed_precision(name, policy):
    case = cases.LAYERS[name]
    layer = case.make()
    expected = layer(*case.inputs)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        mixed = case.make()
        mixed(*case.inputs)
    finally:
        keras.config.set_dtype_policy(before)
    mixed.set_weights(layer.get_weights())
    assert_same(mixed(*case.inputs), expected)


# Models.


@every_model
def test_model_comes_back_from_its_configuration(name):
    model = cases.make_model(cases.MODELS[name])
    rebuilt = type(model).from_config(model.get_config())
    rebuilt.set_weights(model.get_weights())
    assert rebuilt.get_config() == model.get_config()
    assert_same(loss_of(rebuilt), loss_of(model))


@every_model
def test_model_in_a_file_comes_back_and_goes_on_training(name, tmp_path):
    model = cases.make_model(cases.MODELS[name])
    model.compile(keras.optimizers.Adam(1e-2))
    model.train_on_batch(cases.batch())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(
        loaded.predict(cases.batch(), verbose=0),
        model.predict(cases.batch(), verbose=0),
    )
    assert_same(
        loaded.train_on_batch(cases.batch()), model.train_on_batch(cases.batch())
    )
    assert_same(loaded.get_weights(), model.get_weights())


@every_model
def test_model_in_a_savedmodel_gives_the_same_numbers(name, tmp_path):
    model = cases.make_model(cases.MODELS[name])
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


@every_model_in_time
def test_model_trains_the_same_with_xla(name):
    logs = []
    for jit in (False, True):
        model = cases.make_model(cases.MODELS[name])
        model.compile(keras.optimizers.SGD(1e-2), jit_compile=jit)
        logs.append([model.train_on_batch(cases.batch()) for _ in range(3)])
    # float32, and noise good to 1e-5, over three steps.
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-3)


@every_model_in_time
@pytest.mark.parametrize("policy", POLICIES)
def test_model_has_the_same_loss_under_mixed_precision(name, policy):
    model = cases.make_model(cases.MODELS[name])
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        mixed = cases.make_model(cases.MODELS[name])
    finally:
        keras.config.set_dtype_policy(before)
    assert mixed.networks.encoders["a"].layers[-1].compute_dtype in policy
    # bfloat16 keeps 8 bits: 0.4 % in each product of the networks.
    np.testing.assert_allclose(
        loss_of(mixed), loss_of(model), rtol=3e-3 if policy == "mixed_float16" else 2e-2
    )
    if policy == "mixed_bfloat16":
        return  # float16, whose gradients may overflow, is the one to see training
    mixed.compile(keras.optimizers.Adam(1e-2))
    losses = mixed.fit(cases.batch(), epochs=20, verbose=0).history["loss"]
    assert np.all(np.isfinite(losses))
    assert losses[-1] < losses[0]


# Distributions.


@every_distribution
def test_distribution_comes_back_from_its_parameters(name):
    q = cases.make_distribution(cases.DISTRIBUTIONS[name])
    z = q.sample(3, seed=1)
    assert_same(q.copy().log_prob(z), q.log_prob(z))
    assert_same(type(q)(**q.parameters).log_prob(z), q.log_prob(z))


@every_distribution
@pytest.mark.parametrize("jit", [False, True])
def test_distribution_goes_through_a_compiled_function(name, jit):
    q = cases.make_distribution(cases.DISTRIBUTIONS[name])

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
    assert_same(loaded.log_prob(z), cases.make_distribution(kwargs).log_prob(z))


@every_distribution
def test_distribution_in_float32_agrees_with_float64(name):
    single, double = (
        cases.make_distribution(cases.DISTRIBUTIONS[name], dtype)
        for dtype in ("float32", "float64")
    )
    z = np.ones([cases.ROWS, cases.LATENT_DIM])
    assert_same(single.log_prob(z.astype("float32")), double.log_prob(z), rtol=1e-4)


# Two replicas, all in one process of its own.


@pytest.fixture(scope="module")
def replicated(tmp_path_factory):
    """Case to pairs of numbers, of two replicas and of one device."""
    out = tmp_path_factory.mktemp("replicas") / "results.json"
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(ROOT),
    }
    completed = subprocess.run(
        [sys.executable, "-m", "tests.conformance.two_replicas", str(out)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr[-4000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize("name", [*cases.LAYERS, *cases.MODELS, *cases.DISTRIBUTIONS])
def test_two_replicas_do_what_one_device_does(name, replicated):
    two, one = replicated[name]
    assert len(two) == len(one) > 0
    for left, right in zip(two, one, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
