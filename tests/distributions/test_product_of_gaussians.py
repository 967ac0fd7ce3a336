"""Products of Gaussian experts and their divergences: values, limits, gradients."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from tests import closed_forms
from tf_mopoe.distributions import (
    DiagonalGaussian,
    kl_to_standard_normal,
    product_of_gaussians,
)
from tf_mopoe.distributions.gaussians import subset_products
from tf_mopoe.subsets import membership_mask


def experts(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), np.exp(rng.normal(size=shape))


@pytest.mark.parametrize("prior_expert", [False, True])
def test_product_matches_quadrature(prior_expert):
    loc, scale = experts(3, 1)
    result = product_of_gaussians(loc, scale, prior_expert=prior_expert)
    expected = closed_forms.product_by_quadrature(
        loc[:, 0], scale[:, 0], prior_expert=prior_expert
    )
    # The trapezoidal rule is exact to rounding for Gaussians; 2e5 terms are added.
    np.testing.assert_allclose([x[0] for x in result], expected, rtol=1e-10)


@pytest.mark.parametrize("prior_expert", [False, True])
def test_product_in_float64_matches_the_formula(prior_expert):
    loc, scale = experts(4, 5)
    result = product_of_gaussians(loc, scale, prior_expert=prior_expert)
    expected = closed_forms.product_by_formula(loc, scale, prior_expert=prior_expert)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_each_row_of_a_mask_is_the_product_of_its_members():
    loc, scale = experts(6, 4, 3)  # [B, M, D]
    mask = membership_mask(4)
    result = product_of_gaussians(loc, scale, mask)
    for row in range(6):
        expected = closed_forms.subset_posteriors(
            loc[row], scale[row], closed_forms.subsets_by_bit_counting(4), "none"
        )
        np.testing.assert_allclose([x[row] for x in result], expected, rtol=1e-12)


def test_single_expert_is_unchanged():
    loc, scale = experts(1, 7)
    np.testing.assert_allclose(
        product_of_gaussians(loc, scale), (loc[0], scale[0]), rtol=1e-14
    )


@pytest.mark.parametrize("count", [2, 5])
def test_equal_experts_divide_the_variance(count):
    loc, scale = experts(1, 4)
    result_loc, result_scale = product_of_gaussians(
        np.repeat(loc, count, axis=0), np.repeat(scale, count, axis=0)
    )
    np.testing.assert_allclose(result_loc, loc[0], rtol=1e-14)
    np.testing.assert_allclose(result_scale**2, scale[0] ** 2 / count, rtol=1e-14)


def test_order_of_experts_is_irrelevant():
    loc, scale = experts(4, 3)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(
        product_of_gaussians(loc[order], scale[order]),
        product_of_gaussians(loc, scale),
        rtol=1e-14,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("wide", [1e30, np.inf])
def test_expert_of_infinite_variance_equals_leaving_it_out(wide, dtype):
    loc, scale = (x.astype(dtype) for x in experts(3, 4))
    scale[1] = wide
    np.testing.assert_allclose(
        product_of_gaussians(loc, scale),
        product_of_gaussians(loc[[0, 2]], scale[[0, 2]]),
        rtol=1e-6 if dtype == "float32" else 1e-14,  # rounding only
    )


def test_prior_expert_is_one_more_standard_normal_expert():
    loc, scale = experts(3, 4)
    np.testing.assert_allclose(
        product_of_gaussians(loc, scale, prior_expert=True),
        product_of_gaussians(
            np.concatenate([loc, np.zeros([1, 4])]),
            np.concatenate([scale, np.ones([1, 4])]),
        ),
        rtol=1e-14,
    )


def test_prior_expert_dominates_if_all_other_experts_are_wide():
    loc, scale = product_of_gaussians([[3.0]], [[1e10]], prior_expert=True)
    np.testing.assert_allclose([loc[0], scale[0]], [0.0, 1.0], atol=1e-15)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 0.0, -1.0])
@pytest.mark.parametrize("prior_expert", [False, True])
def test_missing_expert_equals_leaving_it_out(prior_expert, garbage):
    loc, scale = experts(3, 4)
    kept = [0, 2]
    expected = product_of_gaussians(loc[kept], scale[kept], prior_expert=prior_expert)
    loc[1] = scale[1] = garbage
    loc, scale = tf.constant(loc), tf.constant(scale)
    with tf.GradientTape() as tape:
        tape.watch([loc, scale])
        result = product_of_gaussians(
            loc,
            scale,
            prior_expert=prior_expert,
            present=tf.constant([True, False, True]),
        )
        total = tf.add_n([tf.reduce_sum(x) for x in result])
    np.testing.assert_allclose(result, expected, rtol=1e-14)
    for gradient in tape.gradient(total, [loc, scale]):
        np.testing.assert_array_equal(gradient[1], np.zeros(4))
        assert np.all(np.isfinite(gradient))
        assert np.all(gradient.numpy()[kept] != 0)


def test_presence_may_be_a_plain_list():
    loc, scale = experts(2, 1)
    result = product_of_gaussians(loc, scale, present=[True, False])
    np.testing.assert_allclose(result, (loc[0], scale[0]), rtol=1e-14)


def test_product_of_nothing_is_standard_normal_with_gradient_zero():
    loc, scale = tf.constant(np.nan, shape=[2, 3]), tf.constant(np.nan, shape=[2, 3])
    with tf.GradientTape() as tape:
        tape.watch([loc, scale])
        result = product_of_gaussians(loc, scale, present=tf.constant([False, False]))
        total = tf.add_n([tf.reduce_sum(x) for x in result])
    np.testing.assert_array_equal(result, ([0.0] * 3, [1.0] * 3))
    np.testing.assert_array_equal(
        tape.gradient(total, [loc, scale]), np.zeros([2, 2, 3])
    )


@pytest.mark.parametrize("present", [None, [True, False, True]])
def test_empty_row_of_a_mask_is_standard_normal(present):
    loc, scale = experts(3, 2)
    present = None if present is None else tf.constant(present)
    result = product_of_gaussians(
        loc, scale, membership_mask(3, "powerset"), present=present
    )
    np.testing.assert_array_equal([x[0] for x in result], ([0.0] * 2, [1.0] * 2))


def test_gradients_match_their_closed_forms():
    loc, scale = (tf.constant(x) for x in experts(3, 1))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([loc, scale])
        product_loc, product_scale = product_of_gaussians(loc, scale)
    share = (product_scale / scale) ** 2  # lambda_m / lambda
    expected = {
        "d loc / d loc_m": share,
        "d loc / d scale_m": 2 * share * (product_loc - loc) / scale,
        "d scale / d scale_m": (product_scale / scale) ** 3,
    }
    actual = {
        "d loc / d loc_m": tape.gradient(product_loc, loc),
        "d loc / d scale_m": tape.gradient(product_loc, scale),
        "d scale / d scale_m": tape.gradient(product_scale, scale),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-12, err_msg=name)


# Rounding of exp(2 * extreme) is 2 * extreme times the machine epsilon.
EXTREMES = pytest.mark.parametrize(
    ("dtype", "extreme", "rtol"), [("float32", 19.0, 1e-5), ("float64", 150.0, 1e-12)]
)


def extreme_experts(dtype, extreme):
    sizes = np.array([-extreme, -1.0, 0.0, 2.0, extreme])
    log_scale = np.stack(np.meshgrid(sizes, sizes, sizes), -1).reshape(-1, 3, 1)
    loc = np.random.default_rng(0).normal(size=log_scale.shape)
    return loc.astype(dtype), log_scale.astype(dtype)  # [125, M, 1]


@EXTREMES
def test_extreme_scales_give_exact_products(dtype, extreme, rtol):
    loc, log_scale = extreme_experts(dtype, extreme)
    result = product_of_gaussians(loc, np.exp(log_scale), membership_mask(3))
    subsets = closed_forms.subsets_by_bit_counting(3)
    for row, (row_loc, row_log_scale) in enumerate(zip(loc, log_scale, strict=True)):
        expected = closed_forms.subset_posteriors(
            row_loc, np.exp(row_log_scale.astype(np.float64)), subsets, "none"
        )
        # Means far smaller than the locations they average have rounding of those.
        np.testing.assert_allclose(result[0][row], expected[0], rtol=rtol, atol=rtol)
        np.testing.assert_allclose(result[1][row], expected[1], rtol=rtol)


@EXTREMES
def test_extreme_scales_give_exact_gradients_of_the_divergence(dtype, extreme, rtol):
    arrays = extreme_experts(dtype, extreme)
    loc, log_scale = map(tf.constant, arrays)
    mask = membership_mask(3)
    with tf.GradientTape() as tape:
        tape.watch([loc, log_scale])
        product = subset_products(loc, log_scale, mask)  # [125, S, 1]
        divergence = tf.reduce_sum(kl_to_standard_normal(product))
    actual = tape.gradient(divergence, [loc, log_scale])

    loc, log_scale = (x.astype(np.float64)[:, np.newaxis] for x in arrays)
    log_precision = np.where(mask[..., np.newaxis], -2 * log_scale, -np.inf)
    share = special.softmax(
        log_precision, axis=2
    )  # lambda_m / lambda_S, [125, S, M, 1]
    product_loc = np.sum(share * loc, axis=2, keepdims=True)
    variance = np.exp(-special.logsumexp(log_precision, axis=2, keepdims=True))
    by_loc = share * product_loc
    by_log_scale = share * (variance - 1 + 2 * product_loc * (product_loc - loc))
    expected = by_loc.sum(axis=1), by_log_scale.sum(axis=1)
    for gradient, value in zip(actual, expected, strict=True):
        # Seven terms of order 1 cancel: their rounding is what remains.
        np.testing.assert_allclose(gradient, value, rtol=rtol, atol=10 * rtol)


def test_extreme_scales_of_one_latent_dimension_do_not_affect_the_others():
    # 1e-17 and 1e17 in float32: their precisions do not fit one common exponent.
    loc = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    scale = np.array([[1e-17, 1e17], [1e-17, 1e17]], np.float32)
    result_loc, result_scale = product_of_gaussians(loc, scale)
    np.testing.assert_allclose(result_loc, [2.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(result_scale, scale[0] / np.sqrt(2), rtol=1e-5)


def test_kl_to_standard_normal_matches_quadrature():
    loc, scale = experts(6)
    divergence = kl_to_standard_normal(
        DiagonalGaussian(tf.constant(loc[:, None]), tf.math.log(scale[:, None]))
    )
    expected = [
        closed_forms.kl_by_quadrature(*pair) for pair in zip(loc, scale, strict=True)
    ]
    np.testing.assert_allclose(divergence, expected, rtol=1e-10)  # as above


def test_kl_to_standard_normal_is_summed_over_latent_dimensions():
    loc, scale = experts(4, 3)
    divergence = kl_to_standard_normal(
        DiagonalGaussian(tf.constant(loc), tf.math.log(scale))
    )
    assert divergence.shape == (4,)
    np.testing.assert_allclose(
        divergence, closed_forms.gaussian_kl(loc, scale), rtol=1e-12
    )
