"""The convexity bound on the mixture's divergence from a prior."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import closed_forms
from tests.sampling import random_experts
from tf_mopoe.distributions import MixtureOfProductsOfExperts

tfd = tfp.distributions


def zeros(*shape):
    return tf.zeros(shape, tf.float64)


def standard_normal():
    return tfd.MultivariateNormalDiag(zeros(2), tf.ones_like(zeros(2)))


def divergence_draws(q, prior, count=20_000):
    """log q(z) - log p(z) at draws of q, `[count, B]`: its mean is the divergence."""
    z = q.sample(count, seed=(0, 1))
    return (q.log_prob(z) - prior.log_prob(z)).numpy()


def standard_error(draws):
    return draws.std(axis=0, ddof=1) / np.sqrt(len(draws))


@pytest.mark.parametrize("prior_expert", ["full_set", "none", "every_subset"])
def test_bound_is_the_mean_of_the_components_divergences(prior_expert):
    loc, scale = random_experts(4, 3, 2)
    q = MixtureOfProductsOfExperts(loc, scale, prior_expert=prior_expert)
    subsets = closed_forms.subsets_by_bit_counting(3)
    expected = [
        closed_forms.gaussian_kl(
            *closed_forms.subset_posteriors(*row, subsets, prior_expert)
        ).mean()
        for row in zip(loc, scale, strict=True)
    ]
    np.testing.assert_allclose(q.kl_upper_bound(), expected, rtol=1e-12)


def test_bound_exceeds_the_divergence_where_experts_differ():
    q = MixtureOfProductsOfExperts(*random_experts(4, 3, 2))
    draws = divergence_draws(q, standard_normal())
    gap = q.kl_upper_bound() - draws.mean(axis=0)
    assert np.all(gap > 10 * standard_error(draws))


def test_bound_is_the_divergence_where_experts_agree():
    loc, scale = random_experts(4, 1, 2)
    q = MixtureOfProductsOfExperts(
        loc.repeat(3, axis=1), scale.repeat(3, axis=1), subsets="singletons"
    )
    expected = closed_forms.gaussian_kl(loc[:, 0], scale[:, 0])
    np.testing.assert_allclose(q.kl_upper_bound(), expected, rtol=1e-12)
    draws = divergence_draws(q, standard_normal())
    gap = q.kl_upper_bound() - draws.mean(axis=0)
    assert np.all(np.abs(gap) <= 4 * standard_error(draws))


def test_bound_of_a_single_component_is_its_divergence():
    loc, scale = random_experts(4, 3, 2)
    q = MixtureOfProductsOfExperts(loc, scale, subsets="full", prior_expert="none")
    product = tfd.MultivariateNormalDiag(q.mean(), q.stddev())
    np.testing.assert_allclose(
        q.kl_upper_bound(), product.kl_divergence(standard_normal()), rtol=1e-12
    )


def test_bound_is_zero_where_the_posterior_is_the_prior():
    q = MixtureOfProductsOfExperts(
        tf.zeros([2, 3, 4]), tf.ones([2, 3, 4]), subsets=[[0]]
    )
    np.testing.assert_array_equal(q.kl_upper_bound(), [0.0, 0.0])


def test_other_priors_match_the_closed_form():
    loc, scale = random_experts(4, 3, 2)
    prior_loc, prior_scale = np.array([0.5, -2.0]), np.array([0.3, 4.0])
    q = MixtureOfProductsOfExperts(loc, scale)
    components = q.components_distribution
    expected = closed_forms.gaussian_kl(
        components.mean(), components.stddev(), prior_loc, prior_scale
    ).mean(axis=1)
    prior = tfd.MultivariateNormalDiag(prior_loc, prior_scale)
    np.testing.assert_allclose(q.kl_upper_bound(prior), expected, rtol=1e-12)
    draws = divergence_draws(q, prior)
    assert np.all(q.kl_upper_bound(prior) > draws.mean(axis=0))


def test_each_row_can_have_its_own_prior():
    loc, scale = random_experts(4, 3, 2)
    prior_loc, prior_scale = random_experts(4, 2, seed=1)
    q = MixtureOfProductsOfExperts(loc, scale)
    bound = q.kl_upper_bound(tfd.MultivariateNormalDiag(prior_loc, prior_scale))
    for row in range(4):
        alone = tfd.MultivariateNormalDiag(prior_loc[row], prior_scale[row])
        np.testing.assert_allclose(bound[row], q.kl_upper_bound(alone)[row], rtol=1e-12)


@pytest.mark.parametrize(
    "prior",
    [
        standard_normal,
        lambda: tfd.MultivariateNormalDiag(scale_diag=tf.ones(2, tf.float64)),
        lambda: tfd.Independent(tfd.Normal(zeros(2), 1.0), 1),
        lambda: tfd.Sample(tfd.Normal(zeros(), 1.0), 2),
    ],
    ids=["MultivariateNormalDiag", "no loc", "Independent", "Sample"],
)
def test_every_form_of_the_standard_normal_gives_the_default(prior):
    q = MixtureOfProductsOfExperts(*random_experts(4, 3, 2))
    np.testing.assert_allclose(
        q.kl_upper_bound(prior()), q.kl_upper_bound(), rtol=1e-14
    )


@pytest.mark.parametrize(
    "prior",
    [
        lambda: tfd.MultivariateNormalTriL(scale_tril=tf.eye(2, dtype=tf.float64)),
        lambda: tfd.Independent(tfd.Laplace(zeros(2), 1.0), 1),
        lambda: tfd.Normal(zeros(), 1.0),
        lambda: "standard normal",
    ],
    ids=["full covariance", "Laplace", "scalar", "name"],
)
def test_priors_that_are_not_diagonal_gaussians_are_refused(prior):
    q = MixtureOfProductsOfExperts(*random_experts(4, 3, 2))
    with pytest.raises(TypeError, match="`prior` must be a diagonal Gaussian.*Receive"):
        q.kl_upper_bound(prior())


def test_gradient_matches_its_closed_form_for_one_expert():
    loc, scale = (tf.constant(x) for x in random_experts(3, 1, 2))
    with tf.GradientTape() as tape:
        tape.watch([loc, scale])
        q = MixtureOfProductsOfExperts(loc, scale, prior_expert="none")
        bound = tf.reduce_sum(q.kl_upper_bound())
    by_loc, by_scale = tape.gradient(bound, [loc, scale])
    np.testing.assert_allclose(by_loc, loc, rtol=1e-12)
    np.testing.assert_allclose(by_scale, scale - 1 / scale, rtol=1e-12)
