"""Classes that Keras finds in saved files after a bare `import tf_mopoe`.

Keras looks up the class of a saved object in its registry, and a class is there only
once its module has been imported. Until then the registry holds a `DeferredClass`,
which imports the module when an object of that class is loaded.
"""

import dataclasses
import importlib
from typing import Any

import wrapt

#: Package of the names in Keras's registry: `tf_mopoe>MoPoEVAE`.
KERAS_PACKAGE = "tf_mopoe"
#: Module to the names of the classes that importing it registers.
SAVED_CLASSES = {
    "tf_mopoe.layers": (
        "GaussianExpert",
        "MixtureOfExperts",
        "SubsetProductOfExperts",
        "SubsetSampler",
    ),
    "tf_mopoe.modality": ("Modality",),
    "tf_mopoe.models": (
        "MMJSD",
        "MMVAE",
        "MVAE",
        "MoPoEVAE",
        "MultimodalVAE",
        "PosteriorEncoder",
    ),
    "tf_mopoe.nets": ("Log1p",),
}


@dataclasses.dataclass(frozen=True)
class DeferredClass:
    """Entry of Keras's registry for a class whose module is not imported yet.

    Attributes:
      registered_name: Name of the class in Keras's registry.
      module: Module whose import replaces this entry by the class.
    """

    registered_name: str
    module: str

    def from_config(self, config: dict[str, Any]) -> Any:
        """Imports the class and returns its `from_config(config)`."""
        import keras

        importlib.import_module(self.module)
        # `get_registered_object` would find this entry again while a file is loaded:
        # Keras then looks at a copy of the registry first.
        registered = keras.saving.get_custom_objects()[self.registered_name]
        return registered.from_config(config)


def defer_saved_classes() -> None:
    """Adds the deferred classes to Keras's registry, as soon as Keras is imported."""
    # TensorFlow imports Keras, so importing it here would make every import slow.
    wrapt.register_post_import_hook(_add_to_registry, "keras")


def _add_to_registry(keras) -> None:
    registry = keras.saving.get_custom_objects()
    for module, names in SAVED_CLASSES.items():
        for name in names:
            registered_name = f"{KERAS_PACKAGE}>{name}"
            registry.setdefault(registered_name, DeferredClass(registered_name, module))
