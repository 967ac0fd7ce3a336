"""Multimodal variational autoencoders for Keras, for data with holes."""

from tf_mopoe import distributions, layers, nets, objectives, subsets
from tf_mopoe.modality import Modality
from tf_mopoe.models import MoPoEVAE, MultimodalVAE

__version__ = "0.1.0"

__all__ = [
    "Modality",
    "MoPoEVAE",
    "MultimodalVAE",
    "distributions",
    "layers",
    "nets",
    "objectives",
    "subsets",
]
