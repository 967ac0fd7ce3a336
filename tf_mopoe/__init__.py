"""Multimodal variational autoencoders for Keras, for data with missing modalities.

Everything here is imported when it is first used: `import tf_mopoe` alone imports
neither TensorFlow nor Keras, and `tf_mopoe.distributions` and `tf_mopoe.subsets` import
no other part of the library. `keras.saving.load_model` needs no further import.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tf_mopoe.saved_classes import defer_saved_classes
from tf_mopoe.version import __version__

if TYPE_CHECKING:
    from tf_mopoe import (
        data,
        distributions,
        layers,
        metrics,
        models,
        nets,
        objectives,
        subsets,
    )
    from tf_mopoe.modality import Modality
    from tf_mopoe.models import MMJSD, MMVAE, MVAE, MoPoEVAE, MultimodalVAE

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
    "models",
    "nets",
    "objectives",
    "subsets",
]

#: Class to the module that defines it; every other name is a subpackage or module.
_CLASSES = {
    "Modality": "tf_mopoe.modality",
    "MMJSD": "tf_mopoe.models",
    "MMVAE": "tf_mopoe.models",
    "MVAE": "tf_mopoe.models",
    "MoPoEVAE": "tf_mopoe.models",
    "MultimodalVAE": "tf_mopoe.models",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tf_mopoe' has no attribute {name!r}")
    if name not in _CLASSES:
        return importlib.import_module(f"tf_mopoe.{name}")
    value = getattr(importlib.import_module(_CLASSES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


defer_saved_classes()
