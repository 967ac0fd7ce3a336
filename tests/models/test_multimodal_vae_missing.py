"""Missing modalities: absent keys, flags, NaN, rows with nothing."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import closed_forms
from tests.tiny_models import (
    experts_of,
    fix_noise,
    loss_and_gradients,
    losses_and_terms,
    tiny_batch,
    tiny_model,
)

#: Every pattern of three modalities, nothing present first: one a row.
PATTERNS = np.array(list(itertools.product([False, True], repeat=3)))


def holed(batch, *, garbage=np.nan, patterns=PATTERNS):
    """The batch with flags, and with garbage where they are False."""
    flags = {name: patterns[:, index] for index, name in enumerate(batch)}
    values = {
        name: np.where(flags[name][:, np.newaxis], value, np.float32(garbage))
        for name, value in batch.items()
    }
    return {**values, "present": flags}


def formable(row, subsets):
    return [s for s in subsets if set(s) <= set(np.flatnonzero(PATTERNS[row]))]


def assert_same_gradients(actual, expected, **tolerance):
    """None is the same as zeros: a network that has no part in the loss."""
    for left, right in zip(actual, expected, strict=True):
        left = tf.zeros_like(right) if left is None else left
        right = tf.zeros_like(left) if right is None else right
        if left is not None:
            assert np.all(np.isfinite(left))
            np.testing.assert_allclose(left, right, **tolerance)


def test_loss_of_the_product_of_what_is_present_is_its_formula(monkeypatch):
    """subsets="full": one component a row, so that z is known."""
    fix_noise(monkeypatch)
    options = {"b": {"reconstruction_weight": 3.0}}
    model = tiny_model(
        "abc", options=options, subsets="full", prior_expert="none", beta=2
    )
    batch = tiny_batch("abc")
    loc, scale = experts_of(model, batch)
    z, expected = np.zeros([8, 2]), np.zeros(8)
    for row in range(1, 8):
        kept = PATTERNS[row]
        product = closed_forms.product_by_formula(loc[row, kept], scale[row, kept])
        z[row] = product[0]
        expected[row] = 2 * closed_forms.gaussian_kl(*product)
    likelihoods = {}
    for index, name in enumerate("abc"):
        parameters = model.networks.decoders[name](z.astype("float32"))
        value = closed_forms.log_likelihood("normal", batch[name], parameters)
        likelihoods[name] = value[PATTERNS[:, index]].mean()
        expected -= {"a": 1, "b": 3, "c": 1}[name] * value * PATTERNS[:, index]
    loss = model.compute_loss(x=holed(batch), training=False)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    for name in "abc":
        # Over the rows in which the modality is present.
        np.testing.assert_allclose(
            model.get_metrics_result()[f"{name}_log_likelihood"],
            likelihoods[name],
            rtol=1e-5,
        )


@pytest.mark.integration
@pytest.mark.parametrize("family", ["nonempty", "powerset", "singletons"])
def test_bound_is_the_mean_over_subsets_that_can_be_formed(family):
    model = tiny_model("abc", subsets=family)
    batch = tiny_batch("abc")
    loc, scale = experts_of(model, batch)
    subsets = {
        "nonempty": closed_forms.subsets_by_bit_counting(3),
        "powerset": closed_forms.subsets_by_bit_counting(3, with_empty=True),
        "singletons": [(0,), (1,), (2,)],
    }[family]
    expected = []
    for row in range(8):
        possible = formable(row, subsets)
        divergences = [0.0]
        if possible:
            divergences = closed_forms.gaussian_kl(
                *closed_forms.subset_posteriors(
                    loc[row], scale[row], possible, "full_set"
                )
            )
        expected.append(np.mean(divergences))
    _, terms = losses_and_terms(
        model, model.unpack_batch(holed(batch)), tf.constant([0, 1])
    )
    np.testing.assert_allclose(terms.divergence.content, expected, rtol=1e-4, atol=1e-5)


def test_each_row_is_decoded_from_one_of_its_own_subsets(monkeypatch):
    fix_noise(monkeypatch)
    model = tiny_model("abc")
    batch = tiny_batch("abc")
    loc, scale = experts_of(model, batch)
    subsets = closed_forms.subsets_by_bit_counting(3)
    checked = model.unpack_batch(holed(batch))
    drawn = [
        np.stack(
            list(
                losses_and_terms(model, checked, tf.constant([0, seed]))[
                    1
                ].reconstruction.values()
            ),
            axis=-1,
        )[0]
        for seed in range(12)
    ]
    for row in range(1, 8):
        possible = formable(row, subsets)
        means, _ = closed_forms.subset_posteriors(
            loc[row], scale[row], possible, "full_set"
        )
        candidates = np.stack(
            [
                PATTERNS[row, index]
                * closed_forms.log_likelihood(
                    "normal",
                    np.repeat(batch[name][row : row + 1], len(possible), axis=0),
                    model.networks.decoders[name](means.astype("float32")),
                )
                for index, name in enumerate("abc")
            ],
            axis=1,
        )  # [S, M]
        found = [
            np.flatnonzero(np.all(np.isclose(candidates, d[row], rtol=1e-3), axis=1))
            for d in drawn
        ]
        assert all(len(matches) == 1 for matches in found)
        # 12 draws of up to 7 subsets: the seeds are fixed, and more than one comes up.
        assert len({int(matches[0]) for matches in found}) >= min(3, len(possible))


@pytest.mark.integration
@pytest.mark.parametrize("family", ["nonempty", "powerset", "full"])
def test_what_missing_rows_hold_changes_neither_loss_nor_gradients(family):
    model = tiny_model("abc", subsets=family)
    batch = tiny_batch("abc")
    expected = loss_and_gradients(model, holed(batch, garbage=0.0))
    assert np.isfinite(expected[0])
    for garbage in (np.nan, np.inf, 1e30):
        loss, gradients = loss_and_gradients(model, holed(batch, garbage=garbage))
        assert loss == expected[0]
        assert_same_gradients(gradients, expected[1], rtol=0)


def test_an_absent_key_equals_flags_that_are_all_false():
    model = tiny_model("abc")
    model.compile("sgd", run_eagerly=True)  # for `predict`
    batch = tiny_batch("abc")
    patterns = np.tile([True, False, True], [8, 1])
    flagged = holed(batch, patterns=patterns)
    absent = {name: batch[name] for name in "ac"}
    outcomes = [loss_and_gradients(model, x) for x in (flagged, absent)]
    np.testing.assert_allclose(outcomes[0][0], outcomes[1][0], rtol=1e-6)
    assert_same_gradients(outcomes[0][1], outcomes[1][1], rtol=1e-5, atol=1e-6)
    for moment in ("loc", "scale"):
        left, right = (model.encode(x)[moment] for x in (flagged, absent))
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
    # The missing one is imputed all the same.
    left, right = (model.predict(x, verbose=0)["b"] for x in (flagged, absent))
    assert left.shape == (8, 4)
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_rows_do_not_depend_on_each_other():
    model = tiny_model("abc")
    x = holed(tiny_batch("abc"))
    together = model.encode(x)
    for row in range(8):
        alone = {name: x[name][row : row + 1] for name in "abc"}
        alone["present"] = {k: v[row : row + 1] for k, v in x["present"].items()}
        for moment, value in model.encode(alone).items():
            np.testing.assert_allclose(
                value[0], together[moment][row], rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("family", ["nonempty", "powerset", "full"])
def test_a_row_with_nothing_present_has_the_prior_and_no_part_in_the_loss(
    family, monkeypatch
):
    fix_noise(monkeypatch)
    model = tiny_model("abc", subsets=family)
    encoded = model.encode(holed(tiny_batch("abc")))
    np.testing.assert_allclose(encoded["loc"][0], [0.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(encoded["scale"][0], [1.0, 1.0], rtol=1e-6)
    model.reset_metrics()
    nothing = holed(tiny_batch("abc"), patterns=np.zeros_like(PATTERNS))
    loss, gradients = loss_and_gradients(model, nothing)
    assert loss == 0.0
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))
    assert {float(metric.result()) for metric in model.loss_terms[:-1]} == {0.0}


def test_a_single_modality_may_be_missing_too():
    model = tiny_model("a")
    model.compile("sgd", run_eagerly=True)
    x = tiny_batch("a", rows=4)
    flags = np.array([True, False, True, False])
    logs = model.train_on_batch({**x, "present": {"a": flags}}, return_dict=True)
    assert np.all(np.isfinite(list(logs.values())))
    encoded = model.encode({**x, "present": {"a": flags}})
    np.testing.assert_allclose(encoded["loc"][1::2], 0.0, atol=1e-7)
    np.testing.assert_allclose(
        encoded["loc"][::2], model.encode({"a": x["a"][::2]})["loc"], rtol=1e-5
    )


def test_a_batch_of_one_row_trains():
    model = tiny_model("abc")
    model.compile("sgd", run_eagerly=True)
    for pattern in ([True, True, True], [False, True, False], [False, False, False]):
        x = holed(tiny_batch("abc", rows=1), patterns=np.array([pattern]))
        logs = model.train_on_batch(x, return_dict=True)
        assert np.all(np.isfinite(list(logs.values())))


def test_a_model_trained_without_a_modality_can_go_on_with_it():
    model = tiny_model("ab")
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    batch = tiny_batch("ab")
    before = model.get_weights()
    model.train_on_batch({"a": batch["a"]})
    idle = [
        model.networks.encoders["b"],
        model.networks.experts["b"],
        model.networks.decoders["b"],
    ]
    idle = {variable.path for network in idle for variable in network.weights}
    for variable, old in zip(model.weights, before, strict=True):
        assert np.array_equal(variable, old) == (variable.path in idle)
    model.train_on_batch(batch)
    assert all(
        not np.array_equal(old, new)
        for old, new in zip(before, model.get_weights(), strict=True)
    )


@pytest.mark.integration
def test_fit_evaluate_and_predict_take_holes_in_datasets():
    model = tiny_model("abc")
    model.compile("sgd")
    x = holed(tiny_batch("abc"))
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(4)
    history = model.fit(
        dataset, validation_data=dataset, shuffle=False, verbose=0
    ).history
    assert np.all(np.isfinite(list(history.values())))
    assert history["b_log_likelihood"][0] < 0
    predicted = model.predict(dataset, verbose=0)
    expected = model.decode(model.encode(x)["loc"])
    for name in "abc":
        np.testing.assert_allclose(
            predicted[name], expected[name], rtol=1e-4, atol=1e-5
        )
