"""Likelihoods of whole modalities: names, class indices, tables of several kinds."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tests import closed_forms
from tf_mopoe.distributions import LIKELIHOODS, Likelihood, Support
from tf_mopoe.distributions.event_likelihoods import event_likelihood

#: Name, number of columns, its columns of parameters, shape of its own parameters.
BLOCKS = [
    ("normal", 2, slice(0, 2), (2,)),
    ("poisson", 1, slice(2, 3), (1,)),
    ("zero_inflated_negative_binomial", 2, slice(3, 7), (2, 2)),
    ("categorical", 3, slice(7, 10), (3,)),
]
COLUMNS = [(name, width) for name, width, _, _ in BLOCKS]
TABLE = np.array(
    [
        [0.3, -7.0, 4, 0, 12, 0, 1, 0],
        [-1.5, 2.0, 0, 3, 0, 1, 0, 0],
        [100.0, 0.0, 50, 0, 0, 0, 0, 1],
    ],
    np.float32,
)


def table_parameters(*batch_shape):
    return np.random.default_rng(0).normal(size=(*batch_shape, 10)).astype("float32")


def parts(x, parameters, scale=1.0):
    """Log-likelihoods and means of every block by closed forms, one by one."""
    start = 0
    for name, width, columns, shape in BLOCKS:
        own = parameters[..., columns].reshape(len(x), *shape).astype(np.float64)
        own_scale = np.broadcast_to(scale, (8,))[start : start + width]
        yield (
            closed_forms.log_likelihood(
                name, x[:, start : start + width], own, own_scale
            ),
            closed_forms.MEANS[name](own),
        )
        start += width


@pytest.mark.parametrize(
    "scale", [1.0, 0.7, np.linspace(0.5, 2.0, 8)], ids=["1", "one for all", "each"]
)
def test_a_table_is_the_product_of_its_parts(scale):
    likelihood = event_likelihood(COLUMNS, (8,))
    assert likelihood.parameter_shape == (10,)
    assert likelihood.mean_shape == likelihood.event_shape == (8,)
    parameters = table_parameters(3)
    distribution = likelihood.distribution(tf.constant(parameters), scale)
    assert distribution.batch_shape == (3,)
    assert distribution.event_shape == (8,)
    log_probs, means = zip(*parts(TABLE, parameters, scale), strict=True)
    # float32, some ten terms.
    np.testing.assert_allclose(distribution.log_prob(TABLE), sum(log_probs), rtol=1e-5)
    mean = likelihood.mean(tf.constant(parameters), scale)
    np.testing.assert_allclose(mean, np.concatenate(means, axis=-1), rtol=1e-5)


@pytest.mark.parametrize(
    "compiled",
    [False, pytest.param(True, marks=pytest.mark.integration)],
    ids=["plain", "XLA"],
)
def test_a_table_s_log_prob_broadcasts_over_samples_of_z(compiled):
    likelihood = event_likelihood(COLUMNS, (8,))
    parameters = table_parameters(2, 4, 3)  # [V, K, B, ...]

    @tf.function(jit_compile=compiled)
    def compute(p, log_scale):
        with tf.GradientTape() as tape:
            tape.watch([p, log_scale])
            scale = tf.exp(log_scale)
            log_prob = likelihood.distribution(p, scale).log_prob(TABLE)
        gradients = tape.gradient(log_prob, [p, log_scale])
        return log_prob, likelihood.mean(p, scale), gradients

    log_prob, mean, gradients = compute(tf.constant(parameters), tf.zeros([8]))
    assert mean.shape == (2, 4, 3, 8)
    for view, sample in np.ndindex(2, 4):
        log_probs, _ = zip(*parts(TABLE, parameters[view, sample]), strict=True)
        np.testing.assert_allclose(log_prob[view, sample], sum(log_probs), rtol=1e-5)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    used = np.array([1, 1, 0, 1, 1, 0, 0, 0], bool)
    np.testing.assert_array_equal(gradients[1] != 0, used)


def test_attributes_of_a_table_follow_from_its_columns():
    likelihood = event_likelihood(COLUMNS, (8,))
    assert likelihood.count_columns == (2, 3, 4)
    assert likelihood.num_variables == 2 + 1 + 2 + 1
    assert likelihood.scaled
    assert not likelihood.integer
    assert not likelihood.other_dtypes  # some columns are real numbers
    np.testing.assert_array_equal(likelihood.inside, np.zeros(8))
    assert not event_likelihood([("poisson", 2), ("bernoulli", 1)], (3,)).scaled
    supported = likelihood.supported(tf.constant(TABLE))
    assert supported.shape == (3, 8)
    assert np.all(supported)
    wrong = TABLE.copy()
    wrong[0, 2], wrong[1, 3], wrong[2, 5] = -1.0, 0.5, 1.0
    expected = np.ones((3, 8), bool)
    expected[0, 2] = expected[1, 3] = expected[2, 5:] = False
    np.testing.assert_array_equal(likelihood.supported(tf.constant(wrong)), expected)


@pytest.mark.parametrize(
    ("columns", "event_shape", "message"),
    [
        (
            [("normal", 2), ("poisson", 1)],
            (4,),
            r"add up .*\(4,\).* Received: \[2, 1\]",
        ),
        ([("normal", 4), ("poisson", 0)], (4,), r"add up .* Received: \[4, 0\]"),
        ([("normal", 5), ("poisson", -1)], (4,), r"add up .* Received: \[5, -1\]"),
        ([("normal", 2)], (2, 2), r"add up .*\(2, 2\), a vector's"),
        ([], (4,), r"add up .* Received: \[\]"),
        ([("integer_categorical", 4)], (4,), r"one-hot columns, \('categorical', C\)"),
        ([("normal", 2), ("poison", 2)], (4,), "'poison'. Did you mean 'poisson'"),
    ],
    ids=str,
)
def test_a_table_that_does_not_fit_is_an_error(columns, event_shape, message):
    with pytest.raises(ValueError, match=message):
        event_likelihood(columns, event_shape)


def test_class_indices_have_the_log_likelihood_of_one_hot_vectors():
    rng = np.random.default_rng(0)
    logits = tf.constant(rng.normal(size=(5, 6, 2, 3, 4)), tf.float32)
    x = rng.integers(4, size=(6, 2, 3))
    indices = event_likelihood("integer_categorical", (2, 3), 4)
    one_hot = event_likelihood("categorical", (2, 3, 4))
    assert indices.parameter_shape == indices.mean_shape == (2, 3, 4)
    assert indices.num_variables == one_hot.num_variables == 6
    log_prob = indices.distribution(logits, 1.0).log_prob(tf.constant(x, tf.int32))
    assert log_prob.shape == (5, 6)
    expected = one_hot.distribution(logits, 1.0).log_prob(tf.one_hot(x, 4))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-6)
    np.testing.assert_allclose(
        indices.mean(logits, 1.0), one_hot.mean(logits, 1.0), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "num_classes"), [("integer_categorical", None), ("normal", 4)]
)
def test_num_classes_is_for_class_indices_alone(name, num_classes):
    with pytest.raises(ValueError, match=f"only then.*{num_classes}.*'{name}'"):
        event_likelihood(name, (3,), num_classes)
    with pytest.raises(ValueError, match="`num_classes` is not for tables"):
        event_likelihood([("normal", 3)], (3,), 4)


def test_zero_inflated_images_have_two_parameters_for_each_element():
    likelihood = event_likelihood("zero_inflated_negative_binomial", (4, 5, 3))
    assert likelihood.parameter_shape == (4, 5, 3, 2)
    assert likelihood.event_shape == likelihood.mean_shape == (4, 5, 3)
    assert likelihood.num_variables == 60
    assert likelihood.count_columns == (0, 1, 2)
    scale = tf.ones([4, 5, 3])
    distribution = likelihood.distribution(tf.zeros([7, 4, 5, 3, 2]), scale)
    assert distribution.log_prob(tf.zeros([7, 4, 5, 3])).shape == (7,)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gaussain", None),
        ("Normal", "normal"),
        ("poison", "poisson"),
        ("student", "student_t"),
        ("negativebinomial", "negative_binomial"),
    ],
)
def test_an_unknown_name_lists_the_known_and_suggests_the_closest(name, hint):
    with pytest.raises(ValueError, match="must be one of") as caught:
        event_likelihood(name, (3,))
    message = str(caught.value)
    assert all(repr(known) in message for known in LIKELIHOODS)
    assert repr(name) in message
    assert ("Did you mean" in message) == (hint is not None)
    assert hint is None or message.endswith(f"Did you mean {hint!r}?")


def test_one_line_adds_a_likelihood(monkeypatch):
    monkeypatch.setitem(
        LIKELIHOODS,
        "wide",
        Likelihood(
            lambda parameters, scale: tfd.Normal(
                parameters[..., 0], scale * tf.exp(parameters[..., 1])
            ),
            Support("positive numbers", lambda x: x > 0),
            scaled=True,
            num_parameters=2,
        ),
    )
    likelihood = event_likelihood([("normal", 1), ("wide", 2)], (3,))
    assert likelihood.parameter_shape == (5,)
    parameters = tf.constant([[0.5, 1.0, 0.3, -2.0, -0.4]])
    log_prob = likelihood.distribution(parameters, 2.0).log_prob([[1.0, 2.0, 3.0]])
    expected = closed_forms.log_likelihood(
        "normal",
        [[1.0, 2.0, 3.0]],
        [[0.5, 1.0, -2.0]],
        2 * np.exp([[0, 0.3, -0.4]]),
    )
    np.testing.assert_allclose(log_prob, expected, rtol=1e-6)
    np.testing.assert_array_equal(
        likelihood.supported(tf.constant([[-1.0, -1.0, 1.0]])), [[True, False, True]]
    )
    assert "2 columns of positive numbers" in likelihood.support_description()


@pytest.mark.parametrize(
    ("spec", "dtype", "accepted"),
    [
        ("poisson", tf.int64, True),
        ("categorical", tf.uint8, True),
        ([("poisson", 2), ("categorical", 3)], tf.int32, True),
        ([("poisson", 2), ("bernoulli", 3)], tf.bool, True),
        ("bernoulli", tf.bool, True),
        ("bernoulli", tf.uint8, False),  # an image, not divided by 255
        ("normal", tf.int32, False),
        ([("poisson", 2), ("normal", 3)], tf.int32, False),
    ],
)
def test_other_dtypes_are_accepted_only_if_unambiguous(spec, dtype, accepted):
    assert (dtype in event_likelihood(spec, (5,)).other_dtypes) == accepted
