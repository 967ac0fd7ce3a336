"""Training: seeds, determinism, compilation, precision, forms of data."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_models import (
    fix_noise,
    loss_and_gradients,
    tiny_batch,
    tiny_model,
    train_logs,
)


@pytest.fixture
def policy():
    """Sets a global policy until the end of the test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def fitted(seed=3):
    """Weights and history of an epoch of which the global seed alone is given."""
    keras.utils.set_random_seed(seed)
    model = tiny_model(seed=None)
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    history = model.fit(tiny_batch(rows=16), batch_size=8, verbose=0).history
    return model.get_weights(), history


@pytest.mark.integration
def test_the_same_global_seed_gives_the_same_training():
    (weights, history), (again, history_again) = fitted(), fitted()
    assert history == history_again
    for left, right in zip(weights, again, strict=True):
        np.testing.assert_array_equal(left, right)
    _, other = fitted(seed=4)
    assert other["loss"] != history["loss"]


@pytest.mark.integration
def test_training_lowers_the_loss_and_evaluation_is_the_same_in_every_call():
    model = tiny_model()
    model.compile(keras.optimizers.Adam(0.1), run_eagerly=True)
    x = tiny_batch(rows=16)
    before = model.evaluate(x, verbose=0, return_dict=True)
    model.optimizer.iterations.assign(5)  # steps don't change the noise either
    assert model.evaluate(x, verbose=0, return_dict=True) == before
    for _ in range(8):
        model.train_on_batch(x)
    after = model.evaluate(x, verbose=0, return_dict=True)
    assert after["loss"] < 0.9 * before["loss"]


def test_noise_of_a_step_follows_from_the_seed_and_the_steps_number_alone():
    batch = tiny_batch()

    def losses(seed, first_step):
        model = tiny_model(seed=0)
        model.seed = seed
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        model.optimizer.iterations.assign(first_step)
        return [train_logs(model, batch)["loss"] for _ in range(2)]

    first = losses(seed=1, first_step=0)
    assert len(set(first)) == 2  # each step draws anew
    assert losses(seed=1, first_step=0) == first
    assert losses(seed=1, first_step=1)[:1] == first[1:]
    assert not set(losses(seed=2, first_step=0)) & set(first)


def test_a_step_moves_the_weights_by_the_gradient_of_the_loss(monkeypatch):
    fix_noise(monkeypatch)
    model = tiny_model(subsets="full")
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    batch = tiny_batch()
    before = model.get_weights()
    _, gradients = loss_and_gradients(model, batch)
    model.train_on_batch(batch)
    for old, gradient, new in zip(before, gradients, model.get_weights(), strict=True):
        assert np.any(np.not_equal(gradient, 0))
        np.testing.assert_allclose(new, old - 0.1 * gradient, rtol=1e-5, atol=1e-6)


def test_gradients_match_finite_differences(monkeypatch):
    fix_noise(monkeypatch, 0.7)
    model = tiny_model(beta=1.5, component_draw="contiguous")
    batch = tiny_batch(rows=6)
    _, gradients = loss_and_gradients(model, batch)
    rng = np.random.default_rng(0)
    direction = [rng.normal(size=v.shape) for v in model.trainable_variables]
    expected = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
    weights = model.get_weights()
    losses = []
    for step in (-3e-3, 3e-3):
        model.set_weights(
            [w + step * d for w, d in zip(weights, direction, strict=True)]
        )
        losses.append(loss_and_gradients(model, batch)[0])
    # Of third order in the step, 1e-5 relative; float32's rounding of the loss / step.
    np.testing.assert_allclose((losses[1] - losses[0]) / 6e-3, expected, rtol=5e-3)


@pytest.mark.integration
def test_xla_gives_the_same_losses(monkeypatch):
    fix_noise(monkeypatch)
    batch = tiny_batch()
    # Each row can form one subset alone: XLA's random numbers are others.
    first = np.arange(8) % 3 > 0
    batch["present"] = {"a": first, "b": ~first}
    results = []
    for jit_compile in (False, True):
        model = tiny_model()
        model.compile("sgd", jit_compile=jit_compile, run_eagerly=not jit_compile)
        results.append([train_logs(model, batch) for _ in range(2)])
    for expected, actual in zip(*results, strict=True):
        assert actual == pytest.approx(expected, rel=1e-4)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "tolerance"),
    # Steps of relative 2^-11 and 2^-8 in networks of four layers.
    [("mixed_float16", 5e-3), ("mixed_bfloat16", 4e-2)],
)
def test_mixed_precision_stays_close_to_float32(name, tolerance, policy, monkeypatch):
    fix_noise(monkeypatch)
    batch = tiny_batch()
    results = []
    for dtype in ("float32", name):
        policy(dtype)
        model = tiny_model(subsets="full")
        model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        results.append([train_logs(model, batch)["loss"] for _ in range(2)])
    assert model.networks.encoders["a"].layers[-1].compute_dtype == name.removeprefix(
        "mixed_"
    )
    assert model.posterior(batch).dtype == tf.float32
    assert {value.dtype for value in model.sample(2).values()} == {tf.float32}
    assert np.all(np.isfinite(results))
    np.testing.assert_allclose(results[1], results[0], rtol=tolerance)
    assert results[0] != results[1]


@pytest.mark.integration
def test_float64_is_float64_throughout(policy):
    policy("float64")
    model = tiny_model()
    model.compile("sgd")
    x = {name: value.astype("float64") for name, value in tiny_batch().items()}
    x["present"] = {"a": np.arange(8) % 3 > 0}
    logs = train_logs(model, x)
    assert np.all(np.isfinite(list(logs.values())))
    assert {variable.dtype for variable in model.trainable_variables} == {"float64"}
    assert model.posterior(x).dtype == tf.float64
    assert model.predict(x, verbose=0)["b"].dtype == np.float64
