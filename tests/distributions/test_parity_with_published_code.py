"""Products, mixtures, divergences, draws against the published code, in float64.

That code adds 1e-8 to the variance of every factor of a product, the prior expert's
included, but not to components that are no products (those of `moe`). So there are two
comparisons: with its inputs as they are, where 1e-8 in the smallest variance (0.008)
leaves 1.3e-6 relative in a variance; and with 1e-8 added here, where the prior
expert's own 1e-8 alone is left.
"""

import numpy as np
import pytest
import tensorflow as tf

from tests import reference
from tf_mopoe.distributions import MixtureOfProductsOfExperts, product_of_gaussians
from tf_mopoe.distributions.components import contiguous_components
from tf_mopoe.subsets import subset_names

METHODS = {
    "joint_elbo": {},
    "poe": {"subsets": "full", "prior_expert": "every_subset"},
    "moe": {"subsets": "singletons", "prior_expert": "none"},
}
EPSILON = 1e-8
methods = pytest.mark.parametrize("method", METHODS)
counts = pytest.mark.parametrize("count", [2, 3, 4, 5])
# Relative: what the prior expert's 1e-8 leaves; what everybody's leaves.
TOLERANCES = {"with epsilon": 2e-8, "without epsilon": 2e-6}
epsilons = pytest.mark.parametrize("epsilon", TOLERANCES)


def published_experts(count, epsilon="without epsilon"):
    """loc and scale `[B, M, D]` of the published code's inputs."""
    numbers = reference.load()
    loc = numbers[f"fusion_M{count}/loc"]
    variance = np.exp(numbers[f"fusion_M{count}/log_variance"])
    variance += EPSILON if epsilon == "with epsilon" else 0.0
    return loc.swapaxes(0, 1), np.sqrt(variance).swapaxes(0, 1)


def published_mixture(method, count, epsilon):
    if method == "moe":  # adds none
        epsilon = "without epsilon"
    return MixtureOfProductsOfExperts(
        *published_experts(count, epsilon), **METHODS[method]
    )


def tolerance(method, epsilon):
    return 1e-13 if method == "moe" else TOLERANCES[epsilon]


@methods
@counts
@epsilons
def test_components_and_weights_agree(method, count, epsilon):
    numbers, prefix = reference.load(), f"fusion_M{count}/{method}"
    q = published_mixture(method, count, epsilon)
    rtol = tolerance(method, epsilon)
    loc = numbers[f"{prefix}/component_loc"].swapaxes(0, 1)
    variance = np.exp(numbers[f"{prefix}/component_log_variance"]).swapaxes(0, 1)
    actual = q.components_distribution
    np.testing.assert_allclose(actual.variance(), variance, rtol=rtol)
    # Means are sums that may cancel: absolute, in units of the locations of order 1.
    np.testing.assert_allclose(actual.mean(), loc, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(
        q.mixture_weights,
        np.broadcast_to(numbers[f"{prefix}/weights"], q.mixture_weights.shape),
        rtol=1e-12,
    )


@methods
@counts
@epsilons
def test_divergence_agrees(method, count, epsilon):
    numbers, prefix = reference.load(), f"fusion_M{count}/{method}"
    q = published_mixture(method, count, epsilon)
    # The effect of 1e-8 averages out over rows: under 5e-8 with and without it.
    np.testing.assert_allclose(
        np.mean(q.kl_upper_bound()), numbers[f"{prefix}/joint_divergence"], rtol=1e-7
    )


@methods
@counts
def test_contiguous_split_draws_the_same_components(method, count):
    numbers, prefix = reference.load(), f"fusion_M{count}/{method}"
    q = published_mixture(method, count, "with epsilon")
    rows, components = q.mixture_weights.shape
    drawn = contiguous_components(rows, components)
    joint = q.components_distribution
    np.testing.assert_allclose(
        tf.gather(joint.mean(), drawn, batch_dims=1),
        numbers[f"{prefix}/joint_loc"],
        rtol=1e-7,
        atol=1e-7,
    )
    np.testing.assert_allclose(
        tf.gather(joint.variance(), drawn, batch_dims=1),
        np.exp(numbers[f"{prefix}/joint_log_variance"]),
        rtol=1e-7,
    )


@counts
def test_subsets_have_the_order_of_their_published_names(count):
    numbers, prefix = reference.load(), f"fusion_M{count}/joint_elbo/subset"
    actual = published_mixture("joint_elbo", count, "with epsilon")
    actual = actual.components_distribution
    names = subset_names([f"m{m}" for m in range(count)])
    assert len(names) == 2**count - 1
    for index, name in enumerate(names):
        key = f"{prefix}/{name.replace('+', '_')}"
        np.testing.assert_allclose(
            actual.mean()[:, index], numbers[f"{key}/loc"], rtol=1e-7, atol=1e-7
        )
        np.testing.assert_allclose(
            actual.variance()[:, index],
            np.exp(numbers[f"{key}/log_variance"]),
            rtol=1e-7,
        )


@counts
def test_the_full_product_agrees_to_rounding_with_every_epsilon_in_place(count):
    loc, scale = published_experts(count, "with epsilon")
    prior_scale = np.full_like(scale[:, :1], np.sqrt(1 + EPSILON))
    result_loc, result_scale = product_of_gaussians(
        np.concatenate([loc, np.zeros_like(prior_scale)], axis=1),
        np.concatenate([scale, prior_scale], axis=1),
    )
    numbers, prefix = reference.load(), f"fusion_M{count}/poe"
    np.testing.assert_allclose(
        result_loc, numbers[f"{prefix}/component_loc"][0], rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(
        2 * np.log(result_scale),
        numbers[f"{prefix}/component_log_variance"][0],
        rtol=1e-12,
        atol=1e-14,
    )
