"""Fully connected encoders and decoders, for vectors and tables."""

import math
from collections.abc import Sequence

import keras


def dense_encoder(
    event_shape: Sequence[int],
    *,
    hidden: Sequence[int] = (256, 256),
    activation: str = "relu",
    name: str | None = None,
) -> keras.Sequential:
    """Builds a network that flattens events and applies dense layers.

    Example:
      >>> dense_encoder((8, 4), hidden=(32,))(tf.zeros([3, 8, 4])).shape
      TensorShape([3, 32])

    Args:
      event_shape: Shape of one observation.
      hidden: Units of each layer; the last is the number of features F.
      activation: Activation of every layer.
      name: Name of the network.

    Returns:
      A built network from `[B, *event_shape]` to features `[B, F]`.
    """
    return keras.Sequential(
        [
            keras.Input(tuple(event_shape)),
            keras.layers.Flatten(),
            *(keras.layers.Dense(units, activation) for units in hidden),
        ],
        name=name,
    )


def dense_decoder(
    event_shape: Sequence[int],
    latent_dim: int,
    *,
    hidden: Sequence[int] = (256, 256),
    activation: str = "relu",
    output_activation: str | None = None,
    name: str | None = None,
) -> keras.Sequential:
    """Builds dense layers and reshapes their output to events.

    Example:
      >>> dense_decoder((8, 4), latent_dim=2, hidden=(32,))(tf.zeros([3, 2])).shape
      TensorShape([3, 8, 4])

    Args:
      event_shape: Shape of one observation.
      latent_dim: Size D of the latent.
      hidden: Units of each hidden layer.
      activation: Activation of the hidden layers.
      output_activation: Activation of the last layer, such as "sigmoid"; None for none.
      name: Name of the network.

    Returns:
      A built network from `[B, D]` to `[B, *event_shape]`.
    """
    return keras.Sequential(
        [
            keras.Input((latent_dim,)),
            *(keras.layers.Dense(units, activation) for units in hidden),
            keras.layers.Dense(math.prod(event_shape), output_activation),
            keras.layers.Reshape(tuple(event_shape)),
        ],
        name=name,
    )
