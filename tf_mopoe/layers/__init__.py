"""Keras layers: unimodal expert, products of experts, mixture of the products."""

from tf_mopoe.layers.gaussian_expert import GaussianExpert
from tf_mopoe.layers.mixture_of_experts import MixtureOfExperts
from tf_mopoe.layers.subset_product_of_experts import SubsetProductOfExperts

__all__ = ["GaussianExpert", "MixtureOfExperts", "SubsetProductOfExperts"]
