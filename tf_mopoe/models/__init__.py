"""Keras models: `MultimodalVAE` and its subclasses."""

from tf_mopoe.models.log_likelihood import LogLikelihoodEstimate
from tf_mopoe.models.mmjsd import MMJSD
from tf_mopoe.models.mmvae import MMVAE
from tf_mopoe.models.mopoe import MoPoEVAE
from tf_mopoe.models.multimodal_vae import MultimodalVAE
from tf_mopoe.models.mvae import MVAE

__all__ = [
    "LogLikelihoodEstimate",
    "MMJSD",
    "MMVAE",
    "MVAE",
    "MoPoEVAE",
    "MultimodalVAE",
]
