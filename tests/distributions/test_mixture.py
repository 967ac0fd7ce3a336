"""The mixture of products of experts: density, moments, samples, gradients, forms."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats
from tensorflow_probability import distributions as tfd

from tests import closed_forms
from tests.sampling import assert_estimates, random_experts
from tf_mopoe.distributions import MixtureOfProductsOfExperts

FAMILIES = ["nonempty", "powerset", "singletons", "full", [[0], [0, 2], [1, 2]]]
LISTS = {
    "nonempty": closed_forms.subsets_by_bit_counting(3),
    "powerset": closed_forms.subsets_by_bit_counting(3, with_empty=True),
    "singletons": [(0,), (1,), (2,)],
    "full": [(0, 1, 2)],
}
families = pytest.mark.parametrize("family", FAMILIES, ids=str)
prior_experts = pytest.mark.parametrize(
    "prior_expert", ["full_set", "none", "every_subset"]
)


def components(loc, scale, family, prior_expert="full_set"):
    """Closed form of one row's components, `[S, D]`."""
    subsets = LISTS[family] if isinstance(family, str) else family
    return closed_forms.subset_posteriors(loc, scale, subsets, prior_expert)


@families
@prior_experts
def test_components_weights_density_and_moments_match_closed_forms(
    family, prior_expert
):
    loc, scale = random_experts(4, 3, 2)
    q = MixtureOfProductsOfExperts(
        loc, scale, subsets=family, prior_expert=prior_expert
    )
    z = np.random.default_rng(1).normal(size=(5, 4, 2))
    log_prob, mean, stddev = q.log_prob(z), q.mean(), q.stddev()
    for row in range(4):
        expected = components(loc[row], scale[row], family, prior_expert)
        actual = q.components_distribution
        np.testing.assert_allclose(
            [actual.mean()[row], actual.stddev()[row]], expected, rtol=1e-12
        )
        np.testing.assert_allclose(
            q.mixture_weights[row], np.full(len(expected[0]), 1 / len(expected[0]))
        )
        np.testing.assert_allclose(
            log_prob[:, row],
            closed_forms.mixture_log_density(z[:, row], *expected),
            rtol=1e-12,
        )
        np.testing.assert_allclose(
            [mean[row], stddev[row]],
            closed_forms.mixture_moments(*expected),
            rtol=1e-12,
        )


def test_defaults_are_all_nonempty_subsets_and_the_prior_in_the_full_set_alone():
    loc, scale = random_experts(1, 3, 2)
    q = MixtureOfProductsOfExperts(loc, scale)
    expected = components(loc[0], scale[0], "nonempty", "full_set")
    actual = q.components_distribution
    np.testing.assert_allclose(
        [actual.mean()[0], actual.stddev()[0]], expected, rtol=1e-12
    )


@families
def test_density_in_one_dimension_integrates_to_one(family):
    loc, scale = random_experts(1, 3, 1)
    q = MixtureOfProductsOfExperts(loc, scale, subsets=family)
    grid = np.linspace(-30, 30, 20_001)
    density = np.exp(q.log_prob(grid[:, np.newaxis, np.newaxis])[:, 0])
    # The trapezoidal rule is exact to rounding for densities this smooth.
    np.testing.assert_allclose(integrate.trapezoid(density, grid), 1.0, rtol=1e-12)


def test_density_in_two_dimensions_integrates_to_one():
    loc, scale = random_experts(1, 2, 2)
    q = MixtureOfProductsOfExperts(loc, scale)
    axis = np.linspace(-20, 20, 401)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 1, 2)
    density = np.exp(q.log_prob(grid)).reshape(401, 401)
    total = integrate.trapezoid(integrate.trapezoid(density, axis), axis)
    np.testing.assert_allclose(total, 1.0, rtol=1e-10)  # the step is a fifth of a scale


@families
def test_samples_have_the_density(family):
    loc, scale = random_experts(1, 3, 1)
    q = MixtureOfProductsOfExperts(loc, scale, subsets=family)
    draws = q.sample(4000, seed=(0, 11))[:, 0, 0].numpy()
    grid = np.linspace(-30, 30, 20_001)
    density = np.exp(q.log_prob(grid[:, np.newaxis, np.newaxis])[:, 0])
    distribution = integrate.cumulative_trapezoid(density, grid, initial=0)
    p = stats.kstest(draws, lambda z: np.interp(z, grid, distribution)).pvalue
    assert (
        p > 1e-3
    )  # a right sampler fails at one seed in a thousand; this one is fixed


@prior_experts
def test_moments_match_monte_carlo(prior_expert):
    loc, scale = random_experts(3, 3, 2)
    q = MixtureOfProductsOfExperts(loc, scale, prior_expert=prior_expert)
    draws = q.sample(20_000, seed=(0, 3)).numpy()
    assert_estimates(draws, q.mean())
    assert_estimates((draws - q.mean()) ** 2, q.stddev() ** 2)


def test_rows_of_a_sample_draw_their_components_independently():
    # Far-apart experts of one row: the sign of z tells its component.
    loc = np.array([-50.0, 50.0]).reshape(1, 2, 1).repeat(2, axis=0)
    q = MixtureOfProductsOfExperts(loc, np.ones_like(loc), subsets="singletons")
    signs = np.sign(q.sample(4000, seed=(0, 5))[..., 0])
    assert_estimates(signs, 0.0)
    assert_estimates(signs[:, 0] * signs[:, 1], 0.0)


def test_gradient_of_an_expectation_matches_its_closed_form():
    """E[z^2] = mean_S (loc_S^2 + scale_S^2), differentiated by the experts."""
    loc, scale = random_experts(3, 1)
    rows = 20_000
    tiled = [tf.tile(tf.constant(x)[tf.newaxis], [rows, 1, 1]) for x in (loc, scale)]
    with tf.GradientTape() as tape:
        tape.watch(tiled)
        total = tf.reduce_sum(
            MixtureOfProductsOfExperts(*tiled).sample(seed=(0, 7)) ** 2
        )
    by_loc, by_scale = tape.gradient(total, tiled)  # one estimate a row
    component_loc, component_scale = components(loc, scale, "nonempty")
    expected_by_loc, expected_by_scale = np.zeros([2, 3, 1])
    for members, mean, width in zip(
        LISTS["nonempty"], component_loc, component_scale, strict=True
    ):
        for m in members:
            share = (width / scale[m]) ** 2  # lambda_m / lambda_S = d loc_S / d loc_m
            expected_by_loc[m] += 2 * mean * share / 7
            by_mean = 2 * mean * 2 * share * (mean - loc[m]) / scale[m]
            by_width = 2 * width * (width / scale[m]) ** 3
            expected_by_scale[m] += (by_mean + by_width) / 7
    assert_estimates(by_loc, expected_by_loc)
    assert_estimates(by_scale, expected_by_scale)


def test_one_component_alone_is_a_gaussian():
    loc, scale = random_experts(5, 1, 2)
    q = MixtureOfProductsOfExperts(loc, scale, prior_expert="none")
    z = np.random.default_rng(1).normal(size=(5, 2))
    expected = stats.norm.logpdf(z, loc[:, 0], scale[:, 0]).sum(axis=1)
    np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-12)
    np.testing.assert_allclose([q.mean(), q.stddev()], (loc[:, 0], scale[:, 0]))


@pytest.mark.parametrize("prior_expert", ["full_set", "none", "every_subset"])
def test_one_modality_has_the_prior_expert_only_where_every_subset_has(prior_expert):
    loc, scale = random_experts(5, 1, 2)
    q = MixtureOfProductsOfExperts(loc, scale, prior_expert=prior_expert)
    joined = prior_expert == "every_subset"
    expected = [
        closed_forms.product_by_formula(*row, prior_expert=joined)
        for row in zip(loc, scale, strict=True)
    ]
    np.testing.assert_allclose(
        np.stack([q.mean(), q.stddev()], axis=1), expected, rtol=1e-12
    )


@pytest.mark.parametrize(
    "prior",
    [
        tfd.MultivariateNormalDiag(tf.zeros(1), tf.ones(1)),
        tfd.Independent(tfd.Normal(tf.zeros(2), 1.0), 0),
        tfd.Independent(tfd.Normal(tf.zeros([4, 2]), 1.0), 2),
        tfd.Sample(tfd.Normal(0.0, 1.0), [7, 2]),
    ],
    ids=["[1]", "[]", "[4, 2]", "[7, 2]"],
)
def test_priors_of_another_event_shape_are_refused(prior):
    loc, scale = random_experts(4, 3, 2)
    q = MixtureOfProductsOfExperts(loc.astype("f"), scale.astype("f"))
    with pytest.raises(ValueError, match=r"`prior` must have event_shape \(2,\)"):
        q.kl_upper_bound(prior)


@pytest.mark.parametrize("leading", [(), (1,), (4,), (2, 4)], ids=str)
@pytest.mark.parametrize("with_present", [False, True])
def test_leading_dimensions_are_treated_as_rows(leading, with_present):
    loc, scale = random_experts(*leading, 3, 2)
    present = np.random.default_rng(2).random((*leading, 3)) < 0.6
    present = present if with_present else np.ones_like(present)
    q = MixtureOfProductsOfExperts(
        loc, scale, tf.constant(present) if with_present else None
    )
    assert q.batch_shape == leading
    assert q.event_shape == (2,)
    assert q.mixture_weights.shape == (*leading, 7)
    assert q.sample(seed=(0, 0)).shape == (*leading, 2)
    assert q.sample([5, 6], seed=(0, 0)).shape == (5, 6, *leading, 2)
    z = q.sample(5, seed=(0, 0))
    assert z.shape == (5, *leading, 2)
    flat = MixtureOfProductsOfExperts(
        loc.reshape(-1, 3, 2), scale.reshape(-1, 3, 2), present.reshape(-1, 3)
    )
    np.testing.assert_allclose(
        tf.reshape(q.log_prob(z), [5, -1]),
        flat.log_prob(tf.reshape(z, [5, -1, 2])),
        rtol=1e-12,
    )
    for name in ("mean", "stddev", "kl_upper_bound"):
        actual, expected = getattr(q, name)(), getattr(flat, name)()
        np.testing.assert_allclose(tf.reshape(actual, expected.shape), expected)


@pytest.mark.parametrize("leading", [(), (1,), (2, 3)], ids=str)
def test_stratified_sample_has_the_shape_of_the_batch(leading):
    q = MixtureOfProductsOfExperts(*random_experts(*leading, 2, 4))
    z, component = q.stratified_sample(seed=(0, 0))
    assert z.shape == (*leading, 4)
    assert component.shape == leading


def test_rows_can_be_sliced_like_any_distribution():
    loc, scale = random_experts(4, 3, 2)
    present = tf.constant(np.random.default_rng(2).random((4, 3)) < 0.6)
    q = MixtureOfProductsOfExperts(loc, scale, present)
    np.testing.assert_allclose(q[1:3].mean(), q.mean()[1:3])
    np.testing.assert_allclose(q[1:3].stddev(), q.stddev()[1:3])


def test_copy_keeps_every_argument():
    loc, scale = random_experts(2, 3, 2)
    q = MixtureOfProductsOfExperts(loc, scale, subsets="full", prior_expert="none")
    np.testing.assert_allclose(q.copy().mean(), q.mean())
    np.testing.assert_allclose(q.copy(loc=loc + 1).mean(), q.mean() + 1)


def test_same_seed_gives_the_same_draw_and_another_seed_another():
    q = MixtureOfProductsOfExperts(*random_experts(4, 3, 2))
    # TFP takes whole numbers as seeds of a moving stream; pairs it takes by value.
    draws = {q.sample: [(0, 1), (0, 1), (0, 2)], q.stratified_sample: [1, 1, 2]}
    for draw, seeds in draws.items():
        first, again, other = (tf.nest.flatten(draw(seed=seed))[0] for seed in seeds)
        np.testing.assert_array_equal(first, again)
        assert not np.any(np.equal(first, other))


def test_goes_in_and_out_of_a_graph_function_in_float64():
    loc, scale = random_experts(3, 2, 4)
    present = tf.constant([[True, True], [True, False], [False, False]])
    q = MixtureOfProductsOfExperts(loc, scale, present)

    @tf.function
    def inside(q):
        shifted = MixtureOfProductsOfExperts(q.loc + 1, q.scale, q.present)
        return shifted, q.sample(2, seed=(0, 1)), numbers_of(q)

    shifted, sample, numbers = inside(q)
    assert isinstance(shifted, MixtureOfProductsOfExperts)
    assert shifted.batch_shape == (3,)
    for actual, expected in zip(numbers, numbers_of(q), strict=True):
        assert actual.dtype == tf.float64
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(sample, q.sample(2, seed=(0, 1)), rtol=1e-12)


@pytest.mark.integration
def test_works_under_xla_in_float32():
    loc, scale = random_experts(3, 2, 4, dtype="float32")
    present = tf.constant([[True, True], [True, False], [False, False]])

    def build(loc, scale):
        return MixtureOfProductsOfExperts(loc, scale, present)

    @tf.function(jit_compile=True)
    def inside(loc, scale):
        q = build(loc, scale)
        return q.sample(2, seed=(0, 1)), numbers_of(q)

    sample, numbers = inside(loc, scale)
    for actual, expected in zip(numbers, numbers_of(build(loc, scale)), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert sample.shape == (2, 3, 4)
    assert np.all(np.isfinite(sample))


def numbers_of(q):
    return (
        q.log_prob(tf.ones_like(q.loc[:, 0])),
        q.mean(),
        q.stddev(),
        q.kl_upper_bound(),
    )


def test_float32_agrees_with_float64():
    loc, scale = random_experts(6, 3, 2)
    wide = MixtureOfProductsOfExperts(loc, scale)
    narrow = MixtureOfProductsOfExperts(loc.astype("float32"), scale.astype("float32"))
    assert narrow.dtype == tf.float32
    for name in ("mean", "stddev", "kl_upper_bound"):
        np.testing.assert_allclose(
            getattr(narrow, name)(), getattr(wide, name)(), rtol=1e-5
        )


def test_errors_name_the_argument():
    loc, scale = random_experts(2, 3, 2)
    with pytest.raises(ValueError, match=r"`loc` must have shape \[..., B, M, D\]"):
        MixtureOfProductsOfExperts(loc[0, 0], scale[0, 0])
    with pytest.raises(ValueError, match="`subsets` must be one of .*'pairs'"):
        MixtureOfProductsOfExperts(loc, scale, subsets="pairs")
    with pytest.raises(ValueError, match="`prior_expert` must be one of .*'some'"):
        MixtureOfProductsOfExperts(loc, scale, prior_expert="some")
    with pytest.raises(tf.errors.InvalidArgumentError, match="`scale` must be pos"):
        MixtureOfProductsOfExperts(loc, -scale, validate_args=True)
