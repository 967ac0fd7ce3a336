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
    """Flattens the event, then one dense layer for each entry of `hidden`.

    Args:
      event_shape: Shape of one observation.
      hidden: Units of each layer; the last is the number of features F.
      activation: Of every layer.
      name: Of the network.

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
    """Mirrors `dense_encoder`; the last layer has no activation unless one is given.

    Args:
      event_shape: Shape of one observation.
      latent_dim: Size of the latent, D.
      hidden: Units of each hidden layer.
      activation: Of the hidden layers.
      output_activation: Of the last layer, such as "sigmoid".
      name: Of the network.

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
