"""Keras layers: the unimodal expert, the products of experts, their mixture."""

from tf_mopoe.layers.gaussian_expert import GaussianExpert
from tf_mopoe.layers.mixture_of_experts import MixtureOfExperts
from tf_mopoe.layers.subset_product_of_experts import SubsetProductOfExperts

__all__ = ["GaussianExpert", "MixtureOfExperts", "SubsetProductOfExperts"]
