"""Diagonal Gaussians: products of experts and Kullback-Leibler divergences."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

#: Choices of the products that have N(0, I) as an expert; see `prior_mask`.
PRIOR_EXPERTS = ("full_set", "none", "every_subset")


class DiagonalGaussian(NamedTuple):
    """Parameters of N(loc, diag(exp(log_scale)^2)), with any leading axes.

    Example:
      >>> gaussian = DiagonalGaussian(tf.zeros([4, 2]), tf.zeros([4, 2]))
      >>> kl_to_standard_normal(gaussian).numpy().tolist()
      [0.0, 0.0, 0.0, 0.0]

    Attributes:
      loc: Mean, `[..., D]`.
      log_scale: Natural logarithm of the standard deviation, `[..., D]`.
    """

    loc: tf.Tensor
    log_scale: tf.Tensor


def prior_mask(mask: np.ndarray | tf.Tensor, prior_expert: str):
    """Returns in which subsets' products the prior N(0, I) is one more expert.

    Args:
      mask: Membership mask, bool `[..., S, M]`.
      prior_expert: `"full_set"` for the product of all M modalities only, as in the
        published code, if M is at least 2 (the product of one modality is its expert,
        as in an ordinary VAE); `"every_subset"` (MVAE, Wu and Goodman, 2018); `"none"`.

    Returns:
      bool `[..., S]`, a NumPy array or a tensor as `mask` is.

    Raises:
      ValueError: If `prior_expert` is not one of the three.
    """
    if prior_expert not in PRIOR_EXPERTS:
        raise ValueError(
            f"`prior_expert` must be one of {list(PRIOR_EXPERTS)}. "
            f"Received: {prior_expert!r}."
        )
    several = mask.shape[-1] > 1
    if tf.is_tensor(mask):
        full = tf.reduce_all(mask, axis=-1) & several
        ones = tf.ones_like(full)
        return {"full_set": full, "every_subset": ones, "none": ~ones}[prior_expert]
    if prior_expert == "every_subset":
        return np.ones(mask.shape[0], dtype=bool)
    if prior_expert == "full_set":
        return np.all(mask, axis=1) & several
    return np.zeros(mask.shape[0], dtype=bool)


def subset_products(
    loc: tf.Tensor,
    log_scale: tf.Tensor,
    mask: np.ndarray | tf.Tensor,
    *,
    with_prior: np.ndarray | tf.Tensor | None = None,
    present: tf.Tensor | None = None,
    formed: tf.Tensor | None = None,
) -> DiagonalGaussian:
    """Multiplies the experts of every subset; the product is again a Gaussian.

        lambda_S = sum_{m in S} lambda_m (+ 1 with the prior expert)
        loc_S    = sum_{m in S} lambda_m loc_m / lambda_S,   lambda_m = scale_m^-2

    Precisions are divided by the row's largest before they are summed. So the sums over
    all subsets are one matrix product with the mask, which cannot overflow. An expert
    more than exp(40) times wider than the narrowest of its row (exp(345) in float64)
    counts as exactly that much wider.

    Example:
      >>> mask = np.array([[True, False], [False, True], [True, True]])
      >>> loc, log_scale = tf.constant([[0.0], [2.0]]), tf.zeros([2, 1])
      >>> subset_products(loc, log_scale, mask).loc.numpy().ravel().tolist()
      [0.0, 2.0, 1.0]

    Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021 (the products);
    Hinton, Training products of experts, 2002.

    Args:
      loc: Experts' means, `[..., M, D]`.
      log_scale: Logarithms of their standard deviations, `[..., M, D]`.
      mask: Membership mask, bool `[S, M]`, or a bool tensor `[..., S, M]` that differs
        from row to row. Numbers are powers of the experts' densities.
      with_prior: Subsets with N(0, I) as one more expert, bool `[S]`, or a tensor
        `[..., S]` if `mask` is one. By default none.
      present: Experts that are present, bool `[..., M]`. Others have precision 0; their
        `loc` and `log_scale` may hold anything, including NaN.
      formed: Subsets to form, bool `[..., S]`; the others are N(0, I). By default the
        subsets that have a prior expert or an expert present.

    Returns:
      The subset posteriors, `loc` and `log_scale` of shape `[..., S, D]`.
    """
    dtype = loc.dtype
    if present is not None:
        present = tf.convert_to_tensor(present, tf.bool)
    floor = tf.constant(-80.0 if dtype == tf.float32 else -690.0, dtype)
    if with_prior is None:
        with_prior = prior_mask(mask, "none")
    log_precision = -2.0 * log_scale  # [..., M, D]
    if present is not None:
        is_present = present[..., tf.newaxis]  # [..., M, 1]
        loc = tf.where(is_present, loc, tf.zeros([], dtype))
        minus_infinity = tf.constant(-np.inf, dtype)
        log_precision = tf.where(is_present, log_precision, minus_infinity)
    # The shift cancels in every result, so it needs no gradient.
    shift = tf.stop_gradient(
        tf.reduce_max(log_precision, axis=-2, keepdims=True)
    )  # [..., 1, D]
    shift = tf.where(tf.math.is_inf(shift), tf.zeros([], dtype), shift)
    any_prior = tf.is_tensor(with_prior) or with_prior.any()
    if any_prior:
        shift = tf.maximum(shift, 0.0)  # the log-precision of N(0, I)
    # In units of 2^-58, gradients of small precisions neither underflow nor overflow.
    unit = 2.0 ** (58 if dtype == tf.float32 else 498)
    precision = _exp_in_units(tf.maximum(log_precision - shift, floor), unit)
    if present is not None:
        precision = tf.where(is_present, precision, tf.zeros([], dtype))

    weights = tf.cast(mask, dtype)  # [S, M]
    total = tf.linalg.matmul(weights, precision)  # [..., S, D]
    mean_sum = tf.linalg.matmul(weights, precision * loc)  # [..., S, D]
    if any_prior:
        prior = unit * tf.exp(tf.maximum(-shift, floor))  # [..., 1, D]
        total += tf.cast(with_prior, dtype)[..., tf.newaxis] * prior
    if tf.is_tensor(mask):
        has_expert = tf.reduce_any(mask, axis=-1) | with_prior
    else:
        has_expert = mask.any(1) | with_prior
    always_formed = not tf.is_tensor(has_expert) and has_expert.all()
    if formed is None and (present is not None or not always_formed):
        formed = tf.reduce_any(total > 0.0, axis=-1)  # [..., S]
    if formed is None:
        log_scale = -0.5 * (_log_in_units(total, unit) + shift)
        return DiagonalGaussian(mean_sum / total, log_scale)
    # The empty subset is always available, but has no experts to multiply.
    formed &= has_expert
    formed = formed[..., tf.newaxis]  # [..., S, 1]
    total = tf.where(formed, total, tf.ones([], dtype))  # log(0) has no gradient
    log_scale = -0.5 * (_log_in_units(total, unit) + shift)
    zero = tf.zeros([], dtype)
    return DiagonalGaussian(
        tf.where(formed, mean_sum / total, zero), tf.where(formed, log_scale, zero)
    )


def _log_in_units(x: tf.Tensor, unit: float) -> tf.Tensor:
    """Returns log(x / unit), whose gradient overflows only if x itself is tiny."""

    @tf.custom_gradient
    def log(x):
        return tf.math.log(x / unit), lambda upstream: upstream / x

    return log(x)


def _exp_in_units(x: tf.Tensor, unit: float) -> tf.Tensor:
    """Returns unit * exp(x), whose gradient does not contain the tiny exp(x)."""

    @tf.custom_gradient
    def exp(x):
        y = unit * tf.exp(x)
        return y, lambda upstream: upstream * y

    return exp(x)


def product_of_gaussians(
    loc: tf.Tensor,
    scale: tf.Tensor,
    mask: np.ndarray | None = None,
    *,
    prior_expert: bool = False,
    present: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Multiplies diagonal Gaussian densities; the normalised product is Gaussian.

    See `subset_products` for the formula and its source.

    Example:
      Two equal experts halve the variance:

      >>> loc, scale = product_of_gaussians([[0.0], [2.0]], [[1.0], [1.0]])
      >>> float(loc[0]), round(float(scale[0]) ** 2, 6)
      (1.0, 0.5)

    Args:
      loc: Experts' means, `[..., M, D]`.
      scale: Experts' standard deviations, positive, `[..., M, D]`.
      mask: Experts of each product, bool `[S, M]`. By default there is one product of
        all M experts, without an axis S.
      prior_expert: Whether N(0, I) is one more expert of every product.
      present: Experts that are present, bool `[..., M]`; others are left out.

    Returns:
      `(loc, scale)` of the product, `[..., D]`, or `[..., S, D]` with a `mask`. A
      product without experts is N(0, I).
    """
    loc = tf.convert_to_tensor(loc)
    scale = tf.convert_to_tensor(scale, loc.dtype)
    if present is not None:
        present = tf.convert_to_tensor(present, tf.bool)
        scale = tf.where(present[..., tf.newaxis], scale, tf.ones([], scale.dtype))
    rows = np.ones((1, loc.shape[-2]), bool) if mask is None else np.asarray(mask, bool)
    product = subset_products(
        loc,
        tf.math.log(scale),
        rows,
        with_prior=np.full(len(rows), prior_expert),
        present=present,
    )
    result = product.loc, tf.exp(product.log_scale)
    return result if mask is not None else tuple(x[..., 0, :] for x in result)


def log_density(gaussian: DiagonalGaussian, z: tf.Tensor) -> tf.Tensor:
    """Returns log N(z; loc, scale^2) in nats, summed over D: `[...]`.

    Args:
      gaussian: Gaussian with `loc` and `log_scale` of shape `[..., D]`.
      z: Points `[..., D]`, broadcast against them.
    """
    loc, log_scale = gaussian
    standardized = (z - loc) * tf.exp(-log_scale)
    constant = 0.5 * math.log(2.0 * math.pi)
    return -tf.reduce_sum(0.5 * tf.square(standardized) + log_scale + constant, axis=-1)


def kl_to_standard_normal(gaussian: DiagonalGaussian) -> tf.Tensor:
    """Returns KL(N(loc, scale^2) || N(0, I)) in nats, summed over D: `[...]`.

        1/2 sum_d (scale_d^2 + loc_d^2 - 1 - 2 log scale_d)

    Example:
      >>> kl_to_standard_normal(DiagonalGaussian(tf.constant([1.0]), tf.zeros([1])))
      <tf.Tensor: shape=(), dtype=float32, numpy=0.5>

    Source: Kingma and Welling, Auto-Encoding Variational Bayes, 2014, appendix B.
    """
    loc, log_scale = gaussian
    return 0.5 * tf.reduce_sum(
        tf.exp(2.0 * log_scale) + tf.square(loc) - 1.0 - 2.0 * log_scale, axis=-1
    )


def kl_divergence(q: DiagonalGaussian, p: DiagonalGaussian) -> tf.Tensor:
    """Returns KL(q || p) of two diagonal Gaussians in nats, summed over D.

    A divergence does not change if both densities are shifted and scaled in the same
    way. So it is the divergence of q, standardised by p, from N(0, I).

    Example:
      >>> q = DiagonalGaussian(tf.constant([3.0]), tf.zeros([1]))
      >>> p = DiagonalGaussian(tf.constant([2.0]), tf.zeros([1]))
      >>> kl_divergence(q, p)
      <tf.Tensor: shape=(), dtype=float32, numpy=0.5>

    Args:
      q: Gaussian with `loc` and `log_scale` of shape `[..., D]`.
      p: Gaussian, broadcast against `q`.

    Returns:
      Divergence, `[...]`.
    """
    return kl_to_standard_normal(
        DiagonalGaussian(
            (q.loc - p.loc) * tf.exp(-p.log_scale), q.log_scale - p.log_scale
        )
    )


def geometric_mean(
    gaussians: DiagonalGaussian, weights: Sequence[float]
) -> DiagonalGaussian:
    """Returns the normalised weighted geometric mean of Gaussian densities.

        prod_m q_m(z)^w_m:   lambda = sum_m w_m lambda_m,
                             loc    = sum_m w_m lambda_m loc_m / lambda

    It is Gaussian again, and the dynamic prior of mmJSD.

    Example:
      >>> pair = DiagonalGaussian(tf.constant([[0.0], [4.0]]), tf.zeros([2, 1]))
      >>> geometric_mean(pair, [0.75, 0.25]).loc.numpy()
      array([1.], dtype=float32)

    Source: Sutter et al., Multimodal Generative Learning
    Utilizing Jensen-Shannon-Divergence, NeurIPS 2020; Nielsen, 2019 (geometric mean).

    Args:
      gaussians: Gaussians with `loc` and `log_scale` of shape `[..., M, D]`.
      weights: M non-negative numbers w_m with sum 1.

    Returns:
      Gaussian with `loc` and `log_scale` of shape `[..., D]`.

    Raises:
      ValueError: If `weights` are not M non-negative numbers with sum 1.
    """
    powers = np.asarray(weights, dtype=np.float64)[np.newaxis]  # [1, M]
    count = gaussians.loc.shape[-2]
    if powers.shape != (1, count) or powers.min() < 0 or abs(powers.sum() - 1) > 1e-6:
        raise ValueError(
            f"`weights` must be {count} non-negative numbers with sum 1. "
            f"Received: {weights}."
        )
    loc, log_scale = subset_products(*gaussians, powers)  # [..., 1, D]
    return DiagonalGaussian(loc[..., 0, :], log_scale[..., 0, :])


def diagonal_gaussian_of(prior: tfd.Distribution, size: int) -> DiagonalGaussian:
    """Returns the parameters of a prior that is a diagonal Gaussian, `[..., D]`.

    Args:
      prior: Prior: `tfd.MultivariateNormalDiag`, or `tfd.Independent` or `tfd.Sample`
        of `tfd.Normal`.
      size: Size D of its event.

    Raises:
      TypeError: If it is not a diagonal Gaussian.
      ValueError: If its event shape is not `[D]`, so that it would be broadcast.
    """
    diagonal = isinstance(prior, tfd.MultivariateNormalDiag)
    if isinstance(prior, (tfd.Independent, tfd.Sample)):
        diagonal = isinstance(prior.distribution, tfd.Normal)
    if not diagonal:
        raise TypeError(
            "`prior` must be a diagonal Gaussian: MultivariateNormalDiag, or "
            f"Independent or Sample of Normal. Received: {prior!r}."
        )
    if prior.event_shape != [size]:
        raise ValueError(
            f"`prior` must have event_shape ({size},), as the latent has. Received: "
            f"{tuple(prior.event_shape)}."
        )
    return DiagonalGaussian(prior.mean(), tf.math.log(prior.stddev()))
