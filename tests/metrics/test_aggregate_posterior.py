"""Latents of rows, and densities fitted to them."""

import gc
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats
from sklearn.mixture import GaussianMixture

from tests import closed_forms
from tests.metrics.shared_models import shared_model
from tests.tiny_models import experts_of, tiny_batch
from tf_mopoe import MVAE
from tf_mopoe.metrics.aggregate_posterior import (
    aggregate_posterior_samples,
    fit_gaussian_mixture,
)
from tf_mopoe.metrics.normalizing_flow import fit_flow

COPIES = 3000
SMALL = {
    "num_layers": 2,
    "hidden": (8,),
    "epochs": 5,
    "batch_size": 20,
    "learning_rate": 1e-2,
}


def banana(rows, seed):
    """x ~ N(0, 1), y | x ~ N(x^2, 0.3^2)."""
    x, noise = np.random.default_rng(seed).normal(size=(2, rows))
    return np.stack([x, x**2 + 0.3 * noise], axis=1).astype("float32")


def banana_of_three(rows=300):
    x, y, z = np.random.default_rng(0).normal(size=(3, rows))
    columns = [x, x**2 + 0.3 * y, np.sin(2 * x) * y + 0.3 * z]
    return np.stack(columns, axis=1).astype("float32")


@pytest.mark.integration
def test_draws_of_each_row_have_the_moments_of_its_posterior():
    model = shared_model(cls=MVAE)  # one component, with the prior as one more expert
    rows = tiny_batch(rows=2)
    copies = {name: np.repeat(value, COPIES, axis=0) for name, value in rows.items()}
    flags = {
        "a": np.repeat([True, True], COPIES),
        "b": np.repeat([True, False], COPIES),
    }
    z = aggregate_posterior_samples(model, {**copies, "present": flags}, seed=3)
    assert z.shape == (2 * COPIES, 2)
    assert len(np.unique(z[:, 0])) > 0.99 * len(z), "batches share their noise"
    loc, scale = experts_of(model, rows)
    for row, present in enumerate([[0, 1], [0]]):
        mean, deviation = closed_forms.product_by_formula(
            loc[row, present], scale[row, present], prior_expert=True
        )
        drawn = z[row * COPIES : (row + 1) * COPIES]
        # Four standard errors.
        error = 4 * deviation / np.sqrt(COPIES)
        assert np.all(np.abs(drawn.mean(axis=0) - mean) < error)
        assert np.all(np.abs(drawn.std(axis=0) - deviation) < error)


def test_draws_are_those_of_the_seed():
    model, rows = shared_model(), tiny_batch()
    first, again, other = (
        aggregate_posterior_samples(model, rows, seed=seed, batch_size=3)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


def test_nan_without_a_flag_is_refused():
    rows = tiny_batch()
    rows["b"][2] = np.nan
    with pytest.raises(ValueError, match="Modality 'b' must hold"):
        aggregate_posterior_samples(shared_model(), rows)


@pytest.mark.parametrize(("rows", "kind"), [(40, "full"), (39, "diag")])
def test_log_prob_of_mixture_is_scikit_learns(rows, kind):
    """Full covariances from 10 K D = 40 rows."""
    latents = banana(rows, 0).astype("float64")
    mixture = fit_gaussian_mixture(latents, num_components=2, seed=4)
    reference = GaussianMixture(2, covariance_type=kind, random_state=4).fit(latents)
    points = np.random.default_rng(1).normal(size=(50, 2))
    np.testing.assert_allclose(
        mixture.log_prob(points), reference.score_samples(points), rtol=1e-10
    )


def test_samples_of_mixture_land_in_the_clusters_as_often_as_the_latents():
    rng = np.random.default_rng(0)
    centres = np.array([[5.0, 5.0], [-5.0, 0.0]], "float32")
    labels = np.arange(400) % 4 == 0
    latents = centres[labels.astype(int)] + 0.1 * rng.normal(size=(400, 2))
    mixture = fit_gaussian_mixture(latents.astype("float32"), num_components=2)
    assert (mixture.batch_shape, mixture.event_shape) == ([], [2])
    drawn = mixture.sample(2000, seed=1)
    assert drawn.dtype == tf.float32  # as a float32 model decodes
    assert mixture.log_prob(drawn).dtype == tf.float32
    distances = np.linalg.norm(drawn.numpy()[:, np.newaxis] - centres, axis=-1)
    assert np.all(distances.min(axis=1) < 1)
    # 0.25, standard error 0.01.
    assert abs(np.mean(distances.argmin(axis=1)) - 0.25) < 0.04


@pytest.mark.parametrize(
    ("latents", "options", "message"),
    [
        (np.zeros((3, 2)), {"num_components": 4}, "at most the 3 rows"),
        (np.zeros(3), {}, r"shape \[N, D\]"),
        (np.full((30, 2), np.nan), {}, "60 values not finite"),
        (np.zeros((30, 2), int), {}, "float32 or float64"),
    ],
)
def test_latents_that_no_mixture_fits_are_refused(latents, options, message):
    with pytest.raises(ValueError, match=message):
        fit_gaussian_mixture(latents, **options)


@pytest.fixture(scope="module")
def banana_flow():
    seen = []

    def progress(epochs):
        for epoch in epochs:
            seen.append(epoch)
            yield epoch

    flow = fit_flow(
        banana(1000, 0),
        num_layers=4,
        hidden=(16,),
        epochs=20,
        batch_size=100,
        learning_rate=1e-2,
        progress=progress,
    )
    assert seen == [*range(20)]
    gc.collect()  # its networks must be held by it
    return flow


@pytest.mark.integration
def test_flow_is_nearer_to_a_banana_than_a_gaussian(banana_flow):
    training, unseen = banana(1000, 0), banana(1000, 1)
    gaussian = stats.multivariate_normal(training.mean(axis=0), np.cov(training.T))
    truth = stats.norm.logpdf(unseen[:, 0]) + stats.norm.logpdf(
        unseen[:, 1], unseen[:, 0] ** 2, 0.3
    )
    actual = np.mean(banana_flow.log_prob(unseen))
    assert actual > np.mean(gaussian.logpdf(unseen)) + 1.0
    assert truth.mean() - 0.4 < actual < truth.mean()


@pytest.mark.integration
def test_density_of_flow_integrates_to_one_and_is_that_of_its_samples(banana_flow):
    x, y = np.linspace(-6, 6, 400), np.linspace(-8, 30, 1200)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).astype("float32")
    log_prob = banana_flow.log_prob(points).numpy().astype("float64")
    assert log_prob.shape == (400, 1200)

    def integral(values):
        return integrate.trapezoid(integrate.trapezoid(values, y), x)

    density = np.exp(log_prob)
    assert integral(density) == pytest.approx(1, abs=0.01)
    drawn = banana_flow.sample(5000, seed=1)
    surprise = -banana_flow.log_prob(drawn).numpy()
    error = 4 * surprise.std() / np.sqrt(5000)
    assert surprise.mean() == pytest.approx(
        integral(-density * log_prob), abs=error + 0.02
    )
    for column, mean in enumerate([x[:, np.newaxis], y]):
        error = 4 * drawn[:, column].numpy().std() / np.sqrt(5000)
        actual = drawn[:, column].numpy().mean()
        assert actual == pytest.approx(integral(mean * density), abs=error + 0.02)


@pytest.mark.integration
def test_flow_gives_the_same_values_compiled_and_for_a_single_latent(banana_flow):
    points = banana(3, 2)
    expected = banana_flow.log_prob(points)
    compiled = tf.function(banana_flow.log_prob)(points)
    np.testing.assert_allclose(compiled, expected, rtol=1e-4)
    np.testing.assert_allclose(banana_flow.log_prob(points[0]), expected[0], rtol=1e-4)
    assert banana_flow.log_prob(points[np.newaxis]).shape == (1, 3)
    draw = tf.function(lambda: banana_flow.sample(4, seed=[0, 5]))
    np.testing.assert_allclose(
        draw(), banana_flow.sample(4, seed=[0, 5]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.integration
def test_two_layers_bend_every_one_of_three_dimensions():
    flow = fit_flow(banana_of_three(), **SMALL)
    z = np.ones((1, 3), "float32")
    plus, minus, middle = (flow.bijector.forward(z * sign) for sign in (1, -1, 0))
    # 0 for an affine map.
    assert np.all(np.abs(plus + minus - 2 * middle) > 1e-2)


@pytest.mark.integration
def test_flow_depends_on_its_seed_alone():
    latents, states = banana_of_three(), []
    actual = []
    for global_seed, seed in [(1, 0), (2, 0), (2, 1)]:
        keras.utils.set_random_seed(global_seed)
        before = random.getstate(), np.random.get_state()[1].copy()
        flow = fit_flow(latents, **SMALL, seed=seed)
        states.append(random.getstate() == before[0])
        states.append(np.all(np.random.get_state()[1] == before[1]))
        actual.append(flow.log_prob(latents).numpy())
    np.testing.assert_array_equal(actual[0], actual[1])
    assert np.any(actual[0] != actual[2])
    assert all(states), "a global generator was used"


@pytest.mark.integration
def test_training_that_diverges_leaves_the_best_epoch_which_may_be_the_start():
    """The start is a Gaussian; held-out rows are random although latents are sorted."""
    latents = np.random.default_rng(0).normal([3, -2], [2, 0.5], size=(500, 2))
    latents = latents[np.argsort(latents[:, 0])]
    flow = fit_flow(latents, **{**SMALL, "learning_rate": 100.0})
    gaussian = stats.norm.logpdf(latents, [3, -2], [2, 0.5]).sum(axis=1)
    # Four parameters from 450 rows: about 0.005.
    assert np.mean(flow.log_prob(latents)) == pytest.approx(gaussian.mean(), abs=0.02)


@pytest.mark.parametrize(
    ("latents", "options", "error", "message"),
    [
        (np.zeros((30, 1)), {}, ValueError, "fit_gaussian_mixture"),
        (np.ones((30, 2)), {}, ValueError, r"constant columns \[0, 1\]"),
        (banana(9, 0), {}, ValueError, "N at least 10"),
        (banana(30, 0), {"learning_rate": 0.0}, ValueError, "`learning_rate`"),
        (banana(30, 0), {"epochs": 0}, ValueError, "`epochs`"),
        (banana(30, 0), {"hidden": (2.5,)}, TypeError, "`hidden`"),
    ],
)
def test_latents_and_settings_that_no_flow_fits_are_refused(
    latents, options, error, message
):
    with pytest.raises(error, match=message):
        fit_flow(latents, **options)
