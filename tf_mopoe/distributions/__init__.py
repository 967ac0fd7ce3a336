"""Distributions and pure functions on them: TensorFlow Probability, without Keras."""

from tf_mopoe.distributions.gaussians import (
    DiagonalGaussian,
    geometric_mean,
    kl_divergence,
    kl_to_standard_normal,
    product_of_gaussians,
)
from tf_mopoe.distributions.likelihoods import LIKELIHOODS, Likelihood, Support
from tf_mopoe.distributions.mixture import MixtureOfProductsOfExperts

__all__ = [
    "LIKELIHOODS",
    "DiagonalGaussian",
    "Likelihood",
    "MixtureOfProductsOfExperts",
    "Support",
    "geometric_mean",
    "kl_divergence",
    "kl_to_standard_normal",
    "product_of_gaussians",
]
