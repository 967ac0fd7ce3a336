"""Multimodal variational autoencoders for Keras, for data with holes."""

import importlib
from typing import Any

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
    "data",
    "distributions",
    "layers",
    "metrics",
    "nets",
    "objectives",
    "subsets",
]

#: Subpackages that are imported when they are first used: their imports take long.
_LAZY = ("data", "metrics")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"tf_mopoe.{name}")
    raise AttributeError(f"module 'tf_mopoe' has no attribute {name!r}")
