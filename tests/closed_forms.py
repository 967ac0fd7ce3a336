"""Reference formulas in NumPy float64, computed in another way than in the library.

Nothing here imports `tf_mopoe`. Letters as everywhere: M modalities, S subsets, D
latent dimension; scales are standard deviations; everything is in nats.
"""

import numpy as np
from scipy import integrate, special, stats


def subsets_by_bit_counting(
    num_modalities: int, *, with_empty: bool = False
) -> list[tuple[int, ...]]:
    """All subsets by size, then by modality index, from the bits of whole numbers.

    With modality 0 as the highest bit, the tuple that comes first among those of one
    size is the largest number.
    """
    codes = range(0 if with_empty else 1, 2**num_modalities)
    ordered = sorted(codes, key=lambda code: (code.bit_count(), -code))
    return [
        tuple(m for m in range(num_modalities) if code >> (num_modalities - 1 - m) & 1)
        for code in ordered
    ]


def product_by_formula(loc, scale, *, prior_expert: bool = False):
    """Product of M Gaussians, `[M, D]` to `[D]`: precisions add, means average."""
    loc, scale = np.asarray(loc, np.float64), np.asarray(scale, np.float64)
    if prior_expert:
        loc = np.concatenate([loc, np.zeros_like(loc[:1])])
        scale = np.concatenate([scale, np.ones_like(scale[:1])])
    variance = scale[0] ** 2
    mean = loc[0]
    for next_loc, next_scale in zip(loc[1:], scale[1:], strict=True):
        # Two at a time, as a Kalman update: gain = v / (v + v').
        gain = variance / (variance + next_scale**2)
        mean = mean + gain * (next_loc - mean)
        variance = gain * next_scale**2
    return mean, np.sqrt(variance)


def product_by_quadrature(loc, scale, *, prior_expert: bool = False):
    """Product of M Gaussians in one dimension, `[M]` to scalars: by its definition.

    The densities are multiplied on a grid, normalised by the trapezoidal rule, and the
    first two moments are integrated.
    """
    loc, scale = list(loc), list(scale)
    if prior_expert:
        loc, scale = [*loc, 0.0], [*scale, 1.0]
    reach = 40.0 * min(scale)  # no product is wider than its narrowest factor
    grid = np.linspace(min(loc) - reach, max(loc) + reach, 200_001)
    log_density = sum(
        stats.norm.logpdf(grid, m, s) for m, s in zip(loc, scale, strict=True)
    )
    density = np.exp(log_density - log_density.max())
    density /= integrate.trapezoid(density, grid)
    mean = integrate.trapezoid(grid * density, grid)
    variance = integrate.trapezoid((grid - mean) ** 2 * density, grid)
    return mean, np.sqrt(variance)


def subset_posteriors(loc, scale, subsets, prior_expert: str):
    """Subset posteriors `[S, D]` of one row's experts `[M, D]`, one by one.

    An empty subset is the prior N(0, I).
    """
    count = len(loc)
    posteriors = []
    for members in map(list, subsets):
        with_prior = prior_expert == "every_subset" or (
            prior_expert == "full_set" and len(members) == count
        )
        if members:
            posteriors.append(
                product_by_formula(
                    loc[members], scale[members], prior_expert=with_prior
                )
            )
        else:
            posteriors.append((np.zeros(loc.shape[-1]), np.ones(loc.shape[-1])))
    locs, scales = zip(*posteriors, strict=True)
    return np.stack(locs), np.stack(scales)


def gaussian_kl(loc, scale, prior_loc=0.0, prior_scale=1.0):
    """KL of diagonal Gaussians, `[..., D]` to `[...]`: cross-entropy minus entropy."""
    loc, scale = np.asarray(loc, np.float64), np.asarray(scale, np.float64)
    expected_square = scale**2 + (loc - prior_loc) ** 2
    cross_entropy = 0.5 * np.log(2 * np.pi * np.square(prior_scale)) + (
        expected_square / (2 * np.square(prior_scale))
    )
    entropy = 0.5 * np.log(2 * np.pi * np.e * scale**2)
    return np.sum(cross_entropy - entropy, axis=-1)


def kl_by_quadrature(loc, scale, prior_loc=0.0, prior_scale=1.0):
    """KL of two Gaussians in one dimension, by its definition as an integral."""
    grid = np.linspace(loc - 40 * scale, loc + 40 * scale, 200_001)
    log_q = stats.norm.logpdf(grid, loc, scale)
    log_p = stats.norm.logpdf(grid, prior_loc, prior_scale)
    return integrate.trapezoid(np.exp(log_q) * (log_q - log_p), grid)


def mixture_log_density(z, loc, scale, weights=None):
    """log q(z), z `[..., D]`, of a mixture with components `[S, D]`; `[...]`."""
    z, loc = np.asarray(z, np.float64), np.asarray(loc, np.float64)
    weights = np.full(len(loc), 1 / len(loc)) if weights is None else weights
    log_densities = stats.norm.logpdf(z[..., np.newaxis, :], loc, scale).sum(-1)
    return special.logsumexp(log_densities, axis=-1, b=weights)


def mixture_moments(loc, scale, weights=None):
    """Mean and standard deviation `[D]` of a mixture, from its raw moments."""
    loc, scale = np.asarray(loc, np.float64), np.asarray(scale, np.float64)
    mean = np.average(loc, axis=0, weights=weights)
    second = np.average(scale**2 + loc**2, axis=0, weights=weights)
    return mean, np.sqrt(second - mean**2)


def negative_binomial_log_prob(x, log_mean, scale):
    """Counts whose variance is mean + scale mean^2; gamma functions of 1 / scale."""
    count, log_odds = 1 / scale, log_mean + np.log(scale)
    log_choices = (
        special.gammaln(count + x) - special.gammaln(count) - special.gammaln(x + 1)
    )
    return log_choices + x * log_odds - (count + x) * np.logaddexp(0, log_odds)


def zero_inflated_log_prob(x, parameters, scale):
    """0 with probability expit(logit), else a negative binomial."""
    log_mean, logit = parameters[..., 0], parameters[..., 1]
    counted = special.log_expit(-logit) + negative_binomial_log_prob(x, log_mean, scale)
    return np.where(x == 0, np.logaddexp(special.log_expit(logit), counted), counted)


def continuous_bernoulli_log_prob(x, logits, scale):
    """Density exp(logit x) on [0, 1], divided by its integral."""
    size = np.maximum(np.abs(logits), 1e-5)
    log_integral = np.maximum(logits, 0) + np.log(-np.expm1(-size) / size)
    # Near 0 by its series: (e^l - 1) / l = exp(l / 2 + l^2 / 24 - ...).
    series = logits / 2 + logits**2 / 24
    return logits * x - np.where(np.abs(logits) < 1e-4, series, log_integral)


#: log p(x_i | z) of every element, by the likelihood's name: (x, parameters, scale).
ELEMENT_LOG_PROBS = {
    "normal": lambda x, loc, scale: stats.norm.logpdf(x, loc, scale),
    # SciPy takes the logarithm of a density that underflows.
    "laplace": lambda x, loc, scale: -np.abs(x - loc) / scale - np.log(2 * scale),
    "student_t": lambda x, loc, scale: stats.t.logpdf(x, 4, loc, scale),
    "bernoulli": lambda x, logits, _: (
        x * special.log_expit(logits) + (1 - x) * special.log_expit(-logits)
    ),
    "continuous_bernoulli": continuous_bernoulli_log_prob,
    # One-hot over the last axis; and indices into one more axis of the parameters.
    "categorical": lambda x, logits, _: x * special.log_softmax(logits, axis=-1),
    "integer_categorical": lambda x, logits, _: np.take_along_axis(
        special.log_softmax(logits, axis=-1), x[..., np.newaxis].astype(int), axis=-1
    ),
    "poisson": lambda x, log_rate, _: (
        x * log_rate - np.exp(log_rate) - special.gammaln(x + 1)
    ),
    "negative_binomial": negative_binomial_log_prob,
    "zero_inflated_negative_binomial": zero_inflated_log_prob,
}


def _continuous_bernoulli_mean(logits):
    safe = np.where(np.abs(logits) < 1e-3, 1.0, logits)
    return np.where(
        np.abs(logits) < 1e-3, 0.5 + logits / 12, -1 / np.expm1(-safe) - 1 / safe
    )


#: Means by the likelihood's name, of parameters; no mean depends on the scale.
MEANS = {
    **dict.fromkeys(("normal", "laplace", "student_t"), lambda loc: loc),
    "bernoulli": special.expit,
    "continuous_bernoulli": _continuous_bernoulli_mean,
    **dict.fromkeys(
        ("categorical", "integer_categorical"), lambda x: special.softmax(x, axis=-1)
    ),
    **dict.fromkeys(("poisson", "negative_binomial"), np.exp),
    "zero_inflated_negative_binomial": lambda parameters: (
        special.expit(-parameters[..., 1]) * np.exp(parameters[..., 0])
    ),
}


def log_likelihood(name: str, x, parameters, scale: float = 1.0):
    """log p(x|z) for each row, summed over the event: x and parameters `[B, ...]`."""
    x, parameters = np.asarray(x, np.float64), np.asarray(parameters, np.float64)
    elements = ELEMENT_LOG_PROBS[name](x, parameters, scale)
    return elements.reshape(len(x), -1).sum(axis=1)


def linear_gaussian_log_evidence(x, kernels, offsets, scales, style_kernels=None):
    """log p(x) of rows, where x_m = z W_m + s_m V_m + b_m + scale_m noise.

    z and s_m are standard normal, so x is Gaussian; only modalities in `x` count.

    Args:
      x: Modality name to `[B, n_m]`.
      kernels: Modality name to W_m, `[D, n_m]`.
      offsets: Modality name to b_m, `[n_m]`.
      scales: Modality name to the noise's standard deviation.
      style_kernels: Modality name to V_m, `[D_m, n_m]`, where there is a style.
    """
    names = list(x)
    kernel = np.concatenate([kernels[name] for name in names], axis=1)
    covariance = kernel.T @ kernel
    start = 0
    for name in names:
        size = kernels[name].shape[1]
        noise = scales[name] ** 2 * np.eye(size)
        if name in (style_kernels or {}):
            noise += style_kernels[name].T @ style_kernels[name]
        covariance[start : start + size, start : start + size] += noise
        start += size
    mean = np.concatenate([offsets[name] for name in names])
    values = np.concatenate([x[name] for name in names], axis=1)
    return stats.multivariate_normal.logpdf(values, mean, covariance)
