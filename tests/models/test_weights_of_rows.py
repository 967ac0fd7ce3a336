"""Weights of rows: in the loss, its terms, validation, and their mistakes."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_models import tiny_batch, tiny_model

ROWS = 12


@pytest.fixture(scope="module")
def model():
    model = tiny_model(options={"a": {"style_dim": 2}})
    model.compile("sgd")
    return model


def data(seed=1):
    batch = tiny_batch(rows=ROWS, seed=seed)
    return {**batch, "present": {"a": np.arange(ROWS) % 4 > 0}}


def evaluated(model, weights, x=None):
    return model.evaluate(
        data() if x is None else x,
        sample_weight=weights,
        batch_size=5,
        verbose=0,
        return_dict=True,
    )


@pytest.mark.integration
def test_the_loss_and_its_terms_are_means_of_weight_times_value(model):
    """Linear in the weights: each row's own values weigh as they are told."""
    unit = [evaluated(model, np.eye(ROWS)[row]) for row in range(ROWS)]
    weights = np.random.default_rng(0).uniform(0.0, 2.0, ROWS)
    result = evaluated(model, weights)
    for name in set(result) - {"beta"}:
        expected = np.dot(weights, [each[name] for each in unit])
        np.testing.assert_allclose(result[name], expected, rtol=1e-4, err_msg=name)


@pytest.mark.integration
def test_weights_of_one_change_nothing(model):
    plain, weighted = evaluated(model, None), evaluated(model, np.ones(ROWS))
    assert plain == pytest.approx(weighted, rel=1e-6)


@pytest.mark.integration
def test_terms_add_up_to_the_loss(model):
    weights = np.linspace(0.0, 2.0, ROWS)
    whole = tiny_batch(rows=ROWS)
    x = evaluated(model, weights, whole)
    total = x["kl_bound"] + x["a_style_kl"]
    total -= x["a_log_likelihood"] + x["b_log_likelihood"]
    assert x["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.integration
@pytest.mark.parametrize("form", ["array", "column", "dataset"])
def test_weights_of_validation_rows_count(model, form):
    weights = np.linspace(0.0, 2.0, ROWS).astype("float32")
    expected = evaluated(model, weights)["loss"]
    validation = {
        "array": (data(), None, weights),
        "column": (data(), None, weights[:, np.newaxis]),
        "dataset": tf.data.Dataset.from_tensor_slices((data(), None, weights)).batch(5),
    }[form]
    history = model.fit(
        data(2), validation_data=validation, validation_batch_size=5, verbose=0
    )
    again = evaluated(model, weights)["loss"]
    assert history.history["val_loss"][0] == pytest.approx(again, rel=1e-5)
    assert abs(expected - evaluated(model, None)["loss"]) > 1e-3


MISTAKES = {
    "too few": (np.ones(ROWS - 1), ValueError, r"shape \(12,\).* Received: \(11,\)"),
    "one number": (np.float32(1.0), ValueError, r"shape \(12,\)"),
    "a matrix": (np.ones([ROWS, 2]), ValueError, r"shape \(12,\).*\(12, 2\)"),
    "by modality": ({"a": np.ones(ROWS)}, TypeError, "reconstruction_weight"),
    "negative": (-np.ones(ROWS), ValueError, "finite and 0 or more"),
    "not a number": (np.full(ROWS, np.nan), ValueError, "finite and 0 or more"),
    "text": (np.full(ROWS, "x"), TypeError, "`sample_weight` must be an array"),
    "masked": (
        np.ma.masked_array(np.ones(ROWS), np.eye(ROWS)[0]), ValueError, "masked array",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_weights_are_refused_wherever_they_are_given(model, mistake):
    weights, error, message = MISTAKES[mistake]
    for call in (
        lambda: model.fit(data(), sample_weight=weights, verbose=0),
        lambda: model.fit(data(), validation_data=(data(), None, weights), verbose=0),
        lambda: model.evaluate(data(), sample_weight=weights, verbose=0),
        lambda: model.train_on_batch(data(), sample_weight=weights),
        lambda: model.test_on_batch(data(), sample_weight=weights),
    ):
        with pytest.raises(error, match=message):
            call()


def test_weights_beside_a_dataset_are_refused(model):
    batches = tf.data.Dataset.from_tensor_slices(data()).batch(5)
    with pytest.raises(ValueError, match="A dataset yields the weights"):
        model.fit(batches, sample_weight=np.ones(ROWS), verbose=0)
