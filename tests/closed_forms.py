"""Reference mathematics in NumPy float64, written otherwise than in the library.

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


def log_likelihood(name: str, x, parameters, scale: float = 1.0):
    """log p(x|z) for each row, summed over the event: x and parameters `[B, ...]`."""
    x, parameters = np.asarray(x, np.float64), np.asarray(parameters, np.float64)
    if name == "normal":
        elements = stats.norm.logpdf(x, parameters, scale)
    elif name == "laplace":
        elements = stats.laplace.logpdf(x, parameters, scale)
    elif name == "bernoulli":
        probability = special.expit(parameters)
        elements = special.xlogy(x, probability) + special.xlog1py(1 - x, -probability)
    else:  # categorical, one-hot over the last axis
        elements = x * special.log_softmax(parameters, axis=-1)
    return elements.reshape(len(x), -1).sum(axis=1)
