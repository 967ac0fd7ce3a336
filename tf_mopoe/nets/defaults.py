"""Networks for a modality that brings none: chosen by the shape of its events."""

from collections.abc import Sequence

import keras

from tf_mopoe.nets.convolutional import conv_decoder, conv_encoder
from tf_mopoe.nets.dense import dense_decoder, dense_encoder

#: Smallest height and width that the convolutional networks are used for.
SMALLEST_IMAGE = 8


def _is_image(event_shape: Sequence[int]) -> bool:
    return len(event_shape) == 3 and min(event_shape[:2]) >= SMALLEST_IMAGE


def default_encoder(
    event_shape: Sequence[int], *, name: str | None = None
) -> keras.Sequential:
    """Convolutional for (height, width, channels), else dense; both with ReLU."""
    network = conv_encoder if _is_image(event_shape) else dense_encoder
    return network(event_shape, name=name)


def default_decoder(
    event_shape: Sequence[int], latent_dim: int, *, name: str | None = None
) -> keras.Sequential:
    """Mirrors `default_encoder`; the output has no activation."""
    network = conv_decoder if _is_image(event_shape) else dense_decoder
    return network(event_shape, latent_dim, name=name)
