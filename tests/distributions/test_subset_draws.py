"""Sampled subsets stand for all of them: without bias, within the row's modalities."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests import closed_forms
from tests.sampling import random_experts
from tf_mopoe.distributions import MixtureOfProductsOfExperts
from tf_mopoe.distributions.components import component_at, weighted_components
from tf_mopoe.distributions.subset_draws import draw_subsets
from tf_mopoe.subsets import SubsetSampler

#: Rows with four, three, two, one and none of four modalities.
PRESENT = np.array(
    [[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]], bool
)
SEEDS = 6000
SAMPLERS = {
    "three": SubsetSampler(3),
    "one": SubsetSampler(1),
    "full and a single one always": SubsetSampler(4, [[0, 1, 2, 3], [1]]),
    "more than there are": SubsetSampler(20, [[2]]),
}


def drawn(sampler, present=PRESENT, seeds=SEEDS):
    """Masks `[SEEDS, B, S, M]` and weights `[SEEDS, B, S]`."""

    @tf.function
    def draw_all():
        pairs = tf.stack([tf.zeros(seeds, tf.int32), tf.range(seeds)], axis=1)
        return tf.map_fn(
            lambda seed: tuple(draw_subsets(sampler, tf.constant(present), seed)),
            pairs,
            fn_output_signature=(tf.bool, tf.float32),
        )

    return [value.numpy() for value in draw_all()]


@pytest.mark.integration
@pytest.mark.parametrize("name", SAMPLERS)
def test_each_subset_has_the_weight_of_the_uniform_mixture_on_average(name):
    masks, weights = drawn(SAMPLERS[name])
    bits = 2 ** np.arange(4)
    for row, here in enumerate(PRESENT):
        possible = 2 ** here.sum() - 1
        codes = (masks[:, row] * bits).sum(axis=-1)  # [SEEDS, S]
        for subset in itertools.product([False, True], repeat=4):
            weight = (weights[:, row] * (codes == np.dot(subset, bits))).sum(axis=-1)
            legal = any(subset) and not np.any(subset & ~here)
            expected = 1 / possible if legal else 0.0
            error = weight.std() / np.sqrt(SEEDS)
            assert abs(weight.mean() - expected) < 5 * error + 1e-6


@pytest.mark.parametrize("name", SAMPLERS)
def test_weights_of_a_row_sum_to_one_in_every_draw(name):
    _, weights = drawn(SAMPLERS[name], seeds=50)
    np.testing.assert_allclose(weights[:, :4].sum(axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(weights[:, 4], 0.0)  # nothing present


def test_subsets_of_always_are_in_every_draw_of_rows_that_can_form_them():
    masks, weights = drawn(SAMPLERS["full and a single one always"], seeds=20)
    np.testing.assert_array_equal(masks[:, 0, 0], True)
    np.testing.assert_array_equal(masks[:, 0, 1], np.tile([0, 1, 0, 0], [20, 1]))
    np.testing.assert_allclose(weights[:, 0, :2], 1 / 15)
    np.testing.assert_array_equal(weights[:, 1, :2], 0.0)  # lacks modality 1


def test_sampled_subsets_of_a_row_differ_while_there_are_enough():
    masks, weights = drawn(SubsetSampler(6, [[0, 1, 2, 3]]), seeds=200)
    codes = (masks[:, 0] * 2 ** np.arange(4)).sum(axis=-1)
    assert all(len(set(row)) == 6 for row in codes)
    assert np.all(weights[:, 0] > 0)


def test_twenty_modalities_need_no_list_of_all_subsets():
    present = np.ones([3, 20], bool)
    masks, weights = drawn(SubsetSampler(8), present, seeds=300)
    assert masks.shape == (300, 3, 8, 20)
    np.testing.assert_allclose(weights, 1 / 8, rtol=1e-6)
    # Each modality is in half of all subsets: 7200 draws, standard error 0.006.
    np.testing.assert_allclose(masks.mean(axis=(0, 1, 2)), 0.5, atol=0.03)


@pytest.mark.integration
def test_sampled_bound_has_the_mean_of_the_exact_bound():
    loc, scale = random_experts(1, 4, 2)
    exact = MixtureOfProductsOfExperts(loc, scale).kl_upper_bound().numpy()
    values = [
        MixtureOfProductsOfExperts(loc, scale, subsets=SubsetSampler(3, seed=seed))
        .kl_upper_bound()
        .numpy()
        for seed in range(100)
    ]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - exact.item()) < 4 * error
    assert error > 0


def test_distribution_is_the_mixture_of_its_drawn_subsets():
    loc, scale = random_experts(5, 4, 2)
    sampler = SubsetSampler(4, [[0, 1, 2, 3]])
    q = MixtureOfProductsOfExperts(
        loc, scale, PRESENT, subsets=sampler, prior_expert="none"
    )
    z = np.random.default_rng(0).normal(size=(5, 2))
    masks, weights = draw_subsets(
        sampler,
        tf.constant(PRESENT),
        tf.constant([0, 0]),
        by_pattern=True,
        dtype=tf.float64,
    )
    np.testing.assert_array_equal(q.mixture_weights, weights)
    for row in range(4):
        used = np.flatnonzero(weights[row].numpy() > 0)
        components = closed_forms.subset_posteriors(
            loc[row], scale[row], [np.flatnonzero(masks[row, s]) for s in used], "none"
        )
        expected = closed_forms.mixture_log_density(
            z[row], *components, weights[row].numpy()[used]
        )
        np.testing.assert_allclose(q.log_prob(z)[row], expected, rtol=1e-10)
    np.testing.assert_allclose(  # nothing present: the prior
        q.log_prob(z)[4], closed_forms.mixture_log_density(z[4], [[0, 0]], [[1, 1]])
    )


def test_posterior_of_a_row_does_not_depend_on_other_rows():
    loc, scale = random_experts(5, 4, 2)
    sampler = SubsetSampler(3)
    together = MixtureOfProductsOfExperts(loc, scale, PRESENT, subsets=sampler)
    for row in range(5):
        part = slice(row, row + 1)
        alone = MixtureOfProductsOfExperts(
            loc[part], scale[part], PRESENT[part], subsets=sampler
        )
        np.testing.assert_allclose(alone.mean()[0], together.mean()[row], rtol=1e-12)
        np.testing.assert_allclose(
            alone.stddev()[0], together.stddev()[row], rtol=1e-12
        )


def test_samples_have_the_mixtures_moments():
    loc, scale = random_experts(5, 4, 2)
    sampler = SubsetSampler(4, [[0, 1, 2, 3]])
    q = MixtureOfProductsOfExperts(loc, scale, PRESENT, subsets=sampler)

    @tf.function
    def stratified():
        pairs = tf.stack([tf.zeros(2000, tf.int32), tf.range(2000)], axis=1)
        return tf.map_fn(
            lambda seed: q.stratified_sample(seed=seed)[0],
            pairs,
            fn_output_signature=tf.float64,
        )

    for draws in (q.sample(20_000, seed=1).numpy(), stratified().numpy()):
        error = draws.std(axis=0) / np.sqrt(len(draws))
        assert np.all(np.abs(draws.mean(axis=0) - q.mean()) < 5 * error)
        # A standard deviation's relative error is below 0.03 with 2000 draws.
        np.testing.assert_allclose(draws.std(axis=0), q.stddev(), rtol=0.15)


def test_weighted_components_have_their_weights_in_every_row():
    weights = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [0, 0, 0]], "float32")
    draws = weighted_components(weights, tf.constant([0, 1]), num_draws=8000).numpy()
    for row, expected in enumerate([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [1 / 3] * 3]):
        share = np.bincount(draws[:, row], minlength=3) / 8000
        # 8000 draws: standard error 0.006.
        np.testing.assert_allclose(share, expected, atol=0.025)


def test_no_component_of_weight_zero_is_drawn_at_the_upper_end():
    weights = tf.constant([[1 / 3, 1 / 3, 1 / 3 - 1e-7, 0.0]])
    assert component_at(weights, tf.constant([1 - 1e-16], tf.float64)) == 2


def test_wrong_samplers_are_refused():
    for arguments in [(2, [[0], [1]]), (0,), (3, [[]]), (3, [[0], [0]])]:
        with pytest.raises(ValueError, match="`num_subsets`|`always`"):
            SubsetSampler(*arguments)
    with pytest.raises(TypeError, match="`num_subsets` must be a whole number"):
        SubsetSampler(1.5)
    with pytest.raises(ValueError, match="indices from 0 to 1"):
        draw_subsets(SubsetSampler(2, [[5]]), tf.ones([1, 2], tf.bool), [0, 1])
    with pytest.raises(ValueError, match="up to 30"):
        draw_subsets(SubsetSampler(2), tf.ones([1, 31], tf.bool), [0, 1])
