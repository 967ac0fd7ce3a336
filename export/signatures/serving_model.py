"""The model as it is served: on one device, in float32."""

from typing import Any

import keras
import tensorflow as tf

from export.errors import ExportError
from export.signatures.loading import reason
from tf_mopoe.models import MultimodalVAE

#: Dtypes of 16 bits, and policies of layers that compute in them.
HALF = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def serving_model(model: MultimodalVAE) -> MultimodalVAE:
    """The model itself, or a copy with its weights if it can't be served as it is.

    A copy is made if the variables are spread over replicas, or if layers compute in 16
    bits: a row's answer would then change with the size of its batch, and values above
    65504 overflow. The weights of mixed precision are float32 anyway.

    Raises:
      TypeError: If it is another kind of model.
      ExportError: If a copy is needed and can't be made.

    Example:
      >>> from tf_mopoe import Modality, MoPoEVAE
      >>> model = MoPoEVAE([Modality("table", (5,))], latent_dim=2)
      >>> serving_model(model) is model
      True
    """
    if not isinstance(model, MultimodalVAE):
        raise TypeError(
            "`model` must be a model of tf_mopoe, such as MoPoEVAE. "
            f"Received: {type(model).__name__}."
        )
    is_spread = any(
        isinstance(variable.value, tf.distribute.DistributedValues)
        for variable in model.variables
    )
    is_half = any(
        getattr(layer, "compute_dtype", None) in HALF
        for layer in model._flatten_layers()
    )
    if not is_spread and not is_half:
        return model
    if tf.distribute.has_strategy():
        raise ExportError("publish the model outside of its strategy's scope().")
    try:
        config = _in_float32(keras.saving.serialize_keras_object(model))
        config.pop("compile_config", None)
        copy = keras.saving.deserialize_keras_object(config)
    except (TypeError, ValueError) as error:
        raise ExportError(
            "the model can't be copied for serving: a custom layer can't be made from "
            f"its configuration: {reason(error)}"
        ) from error
    copy.set_weights(model.get_weights())
    return copy


def _in_float32(config: Any) -> Any:
    """A configuration with float32 in place of every dtype of 16 bits."""
    if isinstance(config, dict):
        return {
            key: "float32"
            if key in ("dtype", "name") and value in HALF
            else _in_float32(value)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(value) for value in config)
    return config
