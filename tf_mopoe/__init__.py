"""Multimodal variational autoencoders for Keras, for data with holes."""

from tf_mopoe import distributions, layers, nets, objectives, subsets
from tf_mopoe.modality import Modality
from tf_mopoe.models import MMJSD, MMVAE, MVAE, MoPoEVAE, MultimodalVAE
from tf_mopoe.version import __version__

__all__ = [
    "MMJSD",
    "MMVAE",
    "MVAE",
    "Modality",
    "MoPoEVAE",
    "MultimodalVAE",
    "__version__",
    "distributions",
    "layers",
    "nets",
    "objectives",
    "subsets",
]
