"""Every likelihood by name against formulas in NumPy, its moments and its limits."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, special, stats

from tests import closed_forms
from tf_mopoe.distributions import LIKELIHOODS
from tf_mopoe.distributions.event_likelihoods import event_likelihood

LOCATIONS = ([-40.0, -3.0, 0.25, 7.0, 40.0], [-1e3, -1.0, 0.0, 2.5, 1e3])
LOGITS = [-40.0, -30.0, -10.0, -1.0, -1e-4, 0.0, 1e-3, 0.5, 3.0, 17.0, 40.0]
LOG_MEANS = [-40.0, -20.0, -3.0, 0.0, 3.0, 12.0, 40.0]
COUNTS = [0.0, 1.0, 3.0, 100.0, 1e4, 1e6]
SCALES = (0.01, 1.0, 10.0)
#: Name to (parameters, values, scales); every parameter meets every value.
GRIDS = {
    **dict.fromkeys(("normal", "laplace", "student_t"), (*LOCATIONS, (0.02, 1.0, 50))),
    **dict.fromkeys(
        ("bernoulli", "continuous_bernoulli"), (LOGITS, [0.0, 0.3, 0.5, 1.0], (1.0,))
    ),
    "categorical": (
        [[0.0, 0.0, 0.0], [1.0, -2.0, 0.5], [40.0, -40.0, 0.0]],
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]],
        (1.0,),
    ),
    "integer_categorical": (
        [[[0.0, 0.0, 0.0]], [[1.0, -2.0, 0.5]], [[40.0, -40.0, 0.0]]],
        [0, 1, 2],
        (1.0,),
    ),
    "poisson": (LOG_MEANS, COUNTS, (1.0,)),
    "negative_binomial": (LOG_MEANS, COUNTS, SCALES),
    "zero_inflated_negative_binomial": (
        [[[m, logit]] for m in LOG_MEANS for logit in (-40.0, -5.0, 0.0, 0.7, 40.0)],
        COUNTS,
        SCALES,
    ),
}
CASES = [(name, scale) for name, (_, _, scales) in GRIDS.items() for scale in scales]


def grid(name):
    """The likelihood, values `[N, ...]` and parameters `[N, ...]`, in float64."""
    parameters, values, _ = GRIDS[name]
    rows = [(p, x) for p in parameters for x in values]
    parameters, x = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    if name != "categorical":
        x = x[:, np.newaxis]
        parameters = parameters.reshape(len(rows), 1, *parameters.shape[2:])
    classes = 3 if name == "integer_categorical" else None
    return event_likelihood(name, x.shape[1:], classes), x, parameters


def evaluate(likelihood, x, parameters, scale, dtype, *, compiled=False):
    """log_prob, its gradient in the parameters, and the mean."""

    def compute(x, parameters):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            log_prob = likelihood.distribution(parameters, scale).log_prob(x)
        mean = likelihood.mean(parameters, scale)
        return log_prob, tape.gradient(log_prob, parameters), mean

    x = tf.constant(x, tf.int32 if likelihood.integer else dtype)
    if compiled:
        compute = tf.function(compute, jit_compile=True)
    return [value.numpy() for value in compute(x, tf.constant(parameters, dtype))]


def gradient_by_differences(name, x, parameters, scale):
    """Central differences of the closed form, in float64."""
    gradient = np.zeros_like(parameters)
    flat = gradient.reshape(len(x), -1)
    for column in range(flat.shape[1]):
        step = np.zeros(flat.shape[1])
        step[column] = 1e-4
        step = step.reshape(parameters.shape[1:])
        high, low = (
            closed_forms.log_likelihood(name, x, parameters + sign * step, scale)
            for sign in (1, -1)
        )
        flat[:, column] = (high - low) / 2e-4
    return gradient


def test_every_likelihood_has_a_reference_formula():
    assert set(GRIDS) == set(LIKELIHOODS) == set(closed_forms.MEANS)
    assert set(LIKELIHOODS) == set(closed_forms.ELEMENT_LOG_PROBS)


@pytest.mark.parametrize(("name", "scale"), CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # Terms of 1e7 nats nearly cancel at a million counts.
    [("float32", 3e-6), ("float64", 1e-9)],
    ids=["float32", "float64"],
)
def test_log_prob_is_its_formula(name, scale, dtype, tolerance):
    likelihood, x, parameters = grid(name)
    log_prob, _, _ = evaluate(likelihood, x, parameters, scale, dtype)
    expected = closed_forms.log_likelihood(name, x, parameters, scale)
    np.testing.assert_allclose(log_prob, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_gradient_is_finite_and_matches_the_formula(name, scale):
    likelihood, x, parameters = grid(name)
    _, gradient, _ = evaluate(likelihood, x, parameters, scale, "float32")
    assert np.all(np.isfinite(gradient))
    expected = gradient_by_differences(name, x, parameters, scale)
    # Differences of numbers near 1e7 over 2e-4 lose 1e-5; the curvature less.
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.integration
@pytest.mark.parametrize(
    "name",
    [
        "student_t",
        "bernoulli",
        "continuous_bernoulli",
        "integer_categorical",
        "poisson",
        "zero_inflated_negative_binomial",
    ],
)
def test_xla_gives_the_same_in_every_special_function(name):
    likelihood, x, parameters = grid(name)
    plain, compiled = (
        evaluate(likelihood, x, parameters, 1.0, "float32", compiled=jit)
        for jit in (False, True)
    )
    for left, right in zip(plain, compiled, strict=True):
        # XLA's float32 lgamma and tanh differ in the last digits.
        np.testing.assert_allclose(left, right, rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_mean_is_its_formula(name, scale):
    likelihood, _, parameters = grid(name)
    mean = likelihood.mean(tf.constant(parameters, tf.float32), scale)
    expected = closed_forms.MEANS[name](parameters)
    assert mean.shape[1:] == likelihood.mean_shape
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)  # float32


def counts_and_log_probs(name, parameters, scale, largest=20_000):
    counts = np.arange(largest)
    likelihood = event_likelihood(name, (1,))
    distribution = likelihood.distribution(tf.constant(parameters, tf.float32), scale)
    log_prob = distribution.log_prob(counts[:, np.newaxis].astype("float32"))
    return counts, log_prob.numpy().astype(np.float64)


@pytest.mark.parametrize(
    ("mean", "scale"), [(5.0, 0.5), (0.3, 2.0), (40.0, 0.1), (3.0, 0.001)]
)
def test_negative_binomial_has_variance_mean_plus_scale_mean_squared(mean, scale):
    counts, log_prob = counts_and_log_probs(
        "negative_binomial", [np.log(mean)], scale, largest=2000
    )
    probability = np.exp(log_prob)
    first = np.sum(counts * probability)
    second = np.sum((counts - mean) ** 2 * probability)
    # float32 log-probabilities, each to some 1e-5.
    np.testing.assert_allclose(np.sum(probability), 1.0, rtol=1e-4)
    np.testing.assert_allclose(first, mean, rtol=1e-4)
    np.testing.assert_allclose(second, mean + scale * mean**2, rtol=2e-4)


@pytest.mark.parametrize("scale", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("mean", [0.05, 1.0, 20.0])
def test_negative_binomial_tends_to_poisson(mean, scale):
    counts, log_prob = counts_and_log_probs(
        "negative_binomial", [np.log(mean)], scale, largest=60
    )
    excess = log_prob - stats.poisson.logpmf(counts, mean)
    # First order of the logarithm in the scale; the second is below 60 scale^2 60^2.
    first_order = 0.5 * scale * ((counts - mean) ** 2 - counts)
    np.testing.assert_allclose(excess, first_order, atol=2e5 * scale**2 + 1e-4)


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1.0])
@pytest.mark.parametrize(
    "name", ["negative_binomial", "zero_inflated_negative_binomial"]
)
def test_gradient_of_the_overdispersion_is_finite(name, scale):
    likelihood, x, parameters = grid(name)
    log_scale = tf.fill([len(x), 1], tf.math.log(scale))
    with tf.GradientTape() as tape:
        tape.watch(log_scale)
        distribution = likelihood.distribution(
            tf.constant(parameters, tf.float32), tf.exp(log_scale)
        )
        log_prob = distribution.log_prob(x.astype("float32"))
    gradient = tape.gradient(log_prob, log_scale)[:, 0]
    assert np.all(np.isfinite(gradient))
    if scale == 1.0:
        high, low = (
            closed_forms.log_likelihood(name, x, parameters, np.exp(step))
            for step in (1e-4, -1e-4)
        )
        # Digammas of a million, in float32.
        np.testing.assert_allclose(gradient, (high - low) / 2e-4, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("logit", [-4.0, 0.0, 1.3, 4.0])
def test_zero_inflation_mixes_zeros_into_the_counts(logit):
    mean, scale = 2.5, 0.4
    extra = special.expit(logit)
    counts, log_prob = counts_and_log_probs(
        "zero_inflated_negative_binomial", [[np.log(mean), logit]], scale, largest=500
    )
    probability = np.exp(log_prob)
    zero = (1 + scale * mean) ** (-1 / scale)
    np.testing.assert_allclose(probability[0], extra + (1 - extra) * zero, rtol=1e-5)
    np.testing.assert_allclose(np.sum(probability), 1.0, rtol=1e-5)
    expected = (1 - extra) * mean
    np.testing.assert_allclose(np.sum(counts * probability), expected, rtol=1e-5)
    reported = event_likelihood("zero_inflated_negative_binomial", (1,)).mean(
        tf.constant([[np.log(mean), logit]], tf.float32), scale
    )
    np.testing.assert_allclose(reported, [expected], rtol=1e-5)


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-3, 0.05, 0.4, 3.0, 40.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_continuous_bernoulli_integrates_to_one_and_to_its_mean(size, sign):
    x = np.linspace(0, 1, 20_001)
    likelihood = event_likelihood("continuous_bernoulli", (1,))
    logits = tf.constant([sign * size], tf.float32)
    log_prob = likelihood.distribution(logits, 1.0).log_prob(x[:, np.newaxis])
    density = np.exp(log_prob.numpy().astype(np.float64))
    # float32 log-probabilities of up to 40 nats.
    np.testing.assert_allclose(integrate.trapezoid(density, x), 1.0, rtol=1e-5)
    mean = integrate.trapezoid(x * density, x)
    np.testing.assert_allclose(likelihood.mean(logits, 1.0), [mean], rtol=1e-5)


def test_samples_of_every_likelihood_are_in_its_support_and_average_to_its_mean():
    parameters = {
        "categorical": [[0.5, -1.0, 0.0]],
        "integer_categorical": [[[0.5, -1.0, 0.0]]],
        "zero_inflated_negative_binomial": [[[0.7, -0.5]]],
    }
    for name in LIKELIHOODS:
        own = tf.constant(parameters.get(name, [[0.7]]))
        shape = (3,) if name == "categorical" else (1,)
        classes = 3 if name == "integer_categorical" else None
        likelihood = event_likelihood(name, shape, classes)
        x = likelihood.distribution(own, 0.5).sample(20_000, seed=(0, 1))
        assert np.all(likelihood.supported(x)), name
        if name == "integer_categorical":
            x = tf.one_hot(x, 3)
        # Standard deviations up to 1.9 over sqrt(20000), four of them.
        np.testing.assert_allclose(
            tf.reduce_mean(tf.cast(x, tf.float32), axis=0),
            likelihood.mean(own, 0.5),
            atol=0.055,
            err_msg=name,
        )
