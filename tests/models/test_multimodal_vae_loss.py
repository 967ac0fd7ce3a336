"""The loss against its formula in NumPy, and the metrics it is reported by."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import closed_forms
from tests.tiny_models import (
    experts_of,
    fix_noise,
    tiny_batch,
    tiny_modality,
    tiny_model,
)

PAIR = [(0,), (1,), (0, 1)]
METHODS = {
    "default": ({}, PAIR, "full_set"),
    "paper": ({"subsets": "powerset"}, [*PAIR, ()], "full_set"),
    "MVAE": (
        {"subsets": "full", "prior_expert": "every_subset"}, [(0, 1)], "every_subset",
    ),
    "MMVAE": ({"subsets": "singletons", "prior_expert": "none"}, PAIR[:2], "none"),
    "by name": (
        {"subsets": [["b", "a"], ["b"]], "prior_expert": "none"},
        [(1,), (0, 1)],
        "none",
    ),
}  # fmt: skip
OPTIONS = {
    "a": {
        "likelihood": "laplace",
        "likelihood_scale": 0.75,
        "reconstruction_weight": 2,
    },
    "b": {"likelihood_scale": 0.5, "reconstruction_weight": 0.3},
}


def expected_terms(model, batch, subsets, prior_expert, noise):
    """Log-likelihoods `{name: [B]}` and bound `[B]`, by the contiguous split."""
    loc, scale = experts_of(model, batch)
    rows, size = len(loc), len(loc) // len(subsets)
    z, bound = [], []
    for row in range(rows):
        component_loc, component_scale = closed_forms.subset_posteriors(
            loc[row], scale[row], subsets, prior_expert
        )
        drawn = min(row // size, len(subsets) - 1)
        z.append(component_loc[drawn] + noise * component_scale[drawn])
        bound.append(closed_forms.gaussian_kl(component_loc, component_scale).mean())
    z = np.stack(z).astype("float32")
    log_likelihoods = {
        modality.name: closed_forms.log_likelihood(
            modality.likelihood,
            batch[modality.name],
            decoder(z),
            modality.likelihood_scale,
        )
        for modality, decoder in zip(
            model.modalities, model.networks.decoders.values(), strict=True
        )
    }
    return log_likelihoods, np.array(bound)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_loss_is_its_formula(method, noise, monkeypatch):
    fix_noise(monkeypatch, noise)
    kwargs, subsets, prior_expert = METHODS[method]
    model = tiny_model(options=OPTIONS, beta=2.5, component_draw="contiguous", **kwargs)
    batch = tiny_batch(rows=9)
    log_likelihoods, bound = expected_terms(model, batch, subsets, prior_expert, noise)
    rows = -2 * log_likelihoods["a"] - 0.3 * log_likelihoods["b"] + 2.5 * bound
    for training in (False, True):
        model.compile("sgd")
        model.reset_metrics()
        loss = model.compute_loss(x=batch, training=training)
        # float32: sums of some ten terms.
        np.testing.assert_allclose(loss, rows.mean(), rtol=1e-5)
        expected = {
            "loss": rows.mean(),
            "a_log_likelihood": log_likelihoods["a"].mean(),
            "b_log_likelihood": log_likelihoods["b"].mean(),
            "kl_bound": bound.mean(),
            "beta": 2.5,
        }
        reported = {metric.name: float(metric.result()) for metric in model.loss_terms}
        assert reported == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("likelihood", "event_shape"),
    [
        ("normal", (3,)),
        ("laplace", (2, 3)),
        ("bernoulli", (4,)),
        ("bernoulli", (2, 2, 1)),
        ("categorical", (5,)),
        ("categorical", (3, 4)),
    ],
)
def test_every_likelihood_is_summed_over_the_event(
    likelihood, event_shape, monkeypatch
):
    fix_noise(monkeypatch)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, *event_shape)).astype("float32")
    if likelihood == "bernoulli":
        x = rng.random((6, *event_shape)).astype("float32")
    if likelihood == "categorical":
        x = np.eye(event_shape[-1], dtype="float32")[x.argmax(axis=-1)]
    scale = {"likelihood_scale": 0.6} if likelihood in ("normal", "laplace") else {}
    modality = tiny_modality("x", event_shape, likelihood=likelihood, **scale)
    model = tiny_model([modality], subsets="full", prior_expert="none")
    model.compute_loss(x={"x": x}, training=False)
    loc, _ = experts_of(model, {"x": x})
    parameters = model.networks.decoders["x"](loc[:, 0].astype("float32"))
    expected = closed_forms.log_likelihood(likelihood, x, parameters, 0.6)
    reported = model.get_metrics_result()["x_log_likelihood"]
    np.testing.assert_allclose(reported, expected.mean(), rtol=1e-5)
    means = model.decode(loc[:, 0].astype("float32"))["x"]
    if likelihood == "bernoulli":
        np.testing.assert_allclose(means, 1 / (1 + np.exp(-parameters)), rtol=1e-5)
    elif likelihood == "categorical":
        np.testing.assert_allclose(means.numpy().sum(axis=-1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(
            tf.math.log(means / means[..., :1]),
            parameters - parameters[..., :1],
            rtol=1e-3,
            atol=1e-4,
        )
    else:
        np.testing.assert_allclose(means, parameters)


@pytest.mark.integration
def test_terms_in_the_history_add_up_to_the_loss():
    model = tiny_model(options=OPTIONS, beta=2.5)
    model.compile("sgd", run_eagerly=True)
    x = tiny_batch(rows=20)
    history = model.fit(
        x, batch_size=8, epochs=2, validation_data=tiny_batch(rows=6, seed=2), verbose=0
    ).history
    assert set(history) == {
        f"{prefix}{name}"
        for prefix in ("", "val_")
        for name in ("loss", "a_log_likelihood", "b_log_likelihood", "kl_bound", "beta")
    }
    for prefix in ("", "val_"):
        columns = {
            name.removeprefix("val_"): np.array(values)
            for name, values in history.items()
            if name.startswith("val_") == bool(prefix)
        }
        total = (
            -2 * columns["a_log_likelihood"]
            - 0.3 * columns["b_log_likelihood"]
            + columns["beta"] * columns["kl_bound"]
        )
        # Also with a last batch of four rows: each batch counts by its rows.
        np.testing.assert_allclose(columns["loss"], total, rtol=1e-5)
    assert history["beta"] == [2.5, 2.5]


def test_evaluation_of_batches_is_the_mean_over_all_rows(monkeypatch):
    fix_noise(monkeypatch)
    model = tiny_model(subsets="full")
    model.compile("sgd", run_eagerly=True)
    x = tiny_batch(rows=10)
    whole = model.evaluate(x, batch_size=10, verbose=0, return_dict=True)
    parts = model.evaluate(x, batch_size=4, verbose=0, return_dict=True)
    assert parts == pytest.approx(whole, rel=1e-6)


@pytest.mark.integration
@pytest.mark.parametrize("shape", [(8,), (8, 1)], ids=str)
def test_sample_weights_multiply_the_rows_of_the_loss(shape, monkeypatch):
    fix_noise(monkeypatch)
    model = tiny_model(subsets="full")
    batch, weights = tiny_batch(), np.arange(8.0).astype("float32")
    rows = [
        float(model.compute_loss(x={k: v[i : i + 1] for k, v in batch.items()},
                                 training=False))
        for i in range(8)
    ]  # fmt: skip
    loss = model.compute_loss(
        x=batch, sample_weight=weights.reshape(shape), training=False
    )
    np.testing.assert_allclose(loss, np.mean(weights * rows), rtol=1e-5)


def test_sample_weights_reach_the_loss(monkeypatch):
    fix_noise(monkeypatch)
    model = tiny_model(subsets="full")
    model.compile("sgd", run_eagerly=True)
    batch, weights = tiny_batch(), np.arange(8.0)
    expected = model.compute_loss(x=batch, sample_weight=weights, training=False)
    result = model.evaluate(batch, sample_weight=weights, verbose=0, return_dict=True)
    np.testing.assert_allclose(result["loss"], expected, rtol=1e-6)


def regularised(**kwargs):
    layers = [keras.Input((3,)), keras.layers.Dense(5, "tanh", **kwargs)]
    return tiny_model(
        options={"a": {"encoder": keras.Sequential(layers)}}, subsets="full"
    )


def test_regularisers_of_the_networks_are_added_once(monkeypatch):
    fix_noise(monkeypatch)
    plain = regularised()
    model = regularised(kernel_regularizer=keras.regularizers.L2(0.1))
    batch = tiny_batch()
    for _ in range(2):
        difference = model.compute_loss(x=batch, training=False) - plain.compute_loss(
            x=batch, training=False
        )
        kernel = model.networks.encoders["a"].layers[-1].kernel
        np.testing.assert_allclose(difference, 0.1 * np.sum(kernel**2), rtol=1e-4)


def test_losses_of_networks_that_a_batch_does_not_use_are_not_added(monkeypatch):
    fix_noise(monkeypatch)
    model = regularised(activity_regularizer=keras.regularizers.L2(0.1))
    batch = tiny_batch()
    without = {"b": batch["b"]}
    expected = regularised().compute_loss(x=without, training=False)
    model.compute_loss(x=batch, training=False)
    loss = model.compute_loss(x=without, training=False)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
