"""Argument `subsets` in the configurations of layers: names, lists and samplers."""

from typing import Any

import keras

from tf_mopoe.subsets import SubsetSampler, SubsetSpec

keras.saving.register_keras_serializable(package="tf_mopoe")(SubsetSampler)


def save_subsets(subsets: SubsetSpec) -> Any:
    """Returns `subsets` as a configuration holds it."""
    return keras.saving.serialize_keras_object(subsets)


def restore_subsets(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the configuration with its `subsets` deserialised."""
    subsets = keras.saving.deserialize_keras_object(config["subsets"])
    return {**config, "subsets": subsets}
