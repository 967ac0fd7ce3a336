"""`encode` as a layer, for functional models around a multimodal VAE."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="tf_mopoe")
class PosteriorEncoder(keras.layers.Layer):
    """A multimodal VAE's posterior mean and standard deviation as a layer.

    `model.encode` makes it where it is given a `keras.Input`.

    Call arguments:
      inputs: A batch; see `MultimodalVAE`.

    Returns:
      `{"loc": [B, D], "scale": [B, D]}`.
    """

    def __init__(self, model: keras.Model, **kwargs):
        """Makes the layer.

        Args:
          model: The VAE, whose weights are the layer's.
          **kwargs: Keyword arguments of `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.autocast = False  # as the model's
        self.model = model
        self.built = True

    def call(self, inputs):
        """See the class."""
        return self.model.encode(inputs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the model serialised."""
        model = keras.saving.serialize_keras_object(self.model)
        return {**super().get_config(), "model": model}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds the layer from `get_config`'s dictionary."""
        model = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        return cls(**{**config, "model": model})


def encode_symbolically(model: Any, inputs: Any) -> dict[str, Any]:
    """`encode` of Keras tensors, by one layer per model, which saved files name."""
    if "_encode_symbolically" not in model.__dict__:
        layer = PosteriorEncoder(model, name=f"{model.name}_posterior")
        # In a function: Keras would save the layer, which holds this model.
        model.__dict__["_encode_symbolically"] = lambda inputs: layer(inputs)
    return model.__dict__["_encode_symbolically"](inputs)
