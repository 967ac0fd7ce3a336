"""The weighted geometric mean of Gaussians, mmJSD's dynamic prior."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.integrate import trapezoid

from tests import reference
from tf_mopoe.distributions import DiagonalGaussian, geometric_mean, kl_divergence


def test_density_is_the_normalised_weighted_geometric_mean():
    loc, scale = np.array([[-1.0], [2.0], [0.5]]), np.array([[0.5], [1.5], [1.0]])
    weights = [0.5, 0.2, 0.3]
    mean = geometric_mean(
        DiagonalGaussian(tf.constant(loc), tf.constant(np.log(scale))), weights
    )
    grid = np.linspace(-15, 15, 20001)
    log_density = sum(
        w * (-0.5 * ((grid - m) / s) ** 2 - np.log(s))
        for w, m, s in zip(weights, loc[:, 0], scale[:, 0])
    )
    density = np.exp(log_density)
    density /= trapezoid(density, grid)
    first = trapezoid(grid * density, grid)
    second = trapezoid((grid - first) ** 2 * density, grid)
    np.testing.assert_allclose(mean.loc, [first], rtol=1e-8)
    np.testing.assert_allclose(tf.exp(2 * mean.log_scale), [second], rtol=1e-8)


def test_equal_gaussians_are_their_own_geometric_mean():
    one = DiagonalGaussian(tf.fill([3, 2], 0.7), tf.fill([3, 2], -0.4))
    mean = geometric_mean(one, [0.2, 0.3, 0.5])
    np.testing.assert_allclose(mean.loc, [0.7, 0.7], rtol=1e-6)
    np.testing.assert_allclose(mean.log_scale, [-0.4, -0.4], rtol=1e-6)


@pytest.mark.parametrize("modalities", [2, 3, 4, 5])
def test_dynamic_prior_and_divergence_agree_with_the_published_code(modalities):
    numbers, prefix = reference.load(), f"fusion_M{modalities}/jsd"
    # Its components are the experts and, last, the prior.
    loc = numbers[f"{prefix}/component_loc"].swapaxes(0, 1)  # [B, S, D]
    log_variance = numbers[f"{prefix}/component_log_variance"].swapaxes(0, 1)
    experts = numbers[f"fusion_M{modalities}/loc"].swapaxes(0, 1)
    np.testing.assert_allclose(loc[:, :-1], experts, rtol=1e-12)
    np.testing.assert_array_equal(loc[:, -1], 0.0)
    components = DiagonalGaussian(tf.constant(loc), tf.constant(0.5 * log_variance))
    weights = numbers[f"{prefix}/weights"]
    prior = geometric_mean(components, weights)
    for ours, name in (
        (prior.loc, "loc"),
        (tf.exp(2 * prior.log_scale), "log_variance"),
    ):
        theirs = numbers[f"{prefix}/dynamic_prior_{name}"]
        theirs = np.exp(theirs) if name == "log_variance" else theirs
        # The published code adds 1e-8 to variances.
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    against = DiagonalGaussian(*(field[:, tf.newaxis] for field in prior))
    divergence = tf.reduce_mean(kl_divergence(components, against), axis=0)  # [S]
    np.testing.assert_allclose(
        divergence, numbers[f"{prefix}/component_divergence"], rtol=1e-6
    )
    np.testing.assert_allclose(
        tf.reduce_sum(weights * divergence),
        numbers[f"{prefix}/joint_divergence"],
        rtol=1e-6,
    )
