"""Keras models: the base and the members of the family."""

from tf_mopoe.models.mopoe import MoPoEVAE
from tf_mopoe.models.multimodal_vae import MultimodalVAE

__all__ = ["MoPoEVAE", "MultimodalVAE"]
