"""Networks for a modality that brings none: chosen by the shape of its events."""

from collections.abc import Sequence

import keras

from tf_mopoe.nets.convolutional import conv_decoder, conv_encoder
from tf_mopoe.nets.dense import dense_decoder, dense_encoder
from tf_mopoe.nets.log1p import Log1p

#: Smallest height and width that the convolutional networks are used for.
SMALLEST_IMAGE = 8
#: Most dimensions in which a class index is embedded.
LARGEST_EMBEDDING = 64


def _is_image(event_shape: Sequence[int]) -> bool:
    return len(event_shape) == 3 and min(event_shape[:2]) >= SMALLEST_IMAGE


def default_encoder(
    event_shape: Sequence[int],
    *,
    num_classes: int | None = None,
    count_columns: Sequence[int] = (),
    name: str | None = None,
) -> keras.Sequential:
    """Convolutional for (height, width, channels), else dense; both with ReLU.

    Args:
      event_shape: Shape of one observation.
      num_classes: C, if values are class indices: they are embedded first.
      count_columns: Indices along the last axis whose values are counts: log(1 + x) is
        taken of them first.
      name: Of the network.

    Returns:
      A built network from `[B, *event_shape]` to features `[B, F]`.
    """
    if num_classes is not None:
        size = min(num_classes, LARGEST_EMBEDDING)
        return keras.Sequential(
            [
                keras.Input(tuple(event_shape), dtype="int32"),
                keras.layers.Embedding(num_classes, size),
                dense_encoder((*event_shape, size)),
            ],
            name=name,
        )
    network = conv_encoder if _is_image(event_shape) else dense_encoder
    if not count_columns:
        return network(event_shape, name=name)
    double = keras.config.dtype_policy().compute_dtype == "float64"
    return keras.Sequential(
        [
            keras.Input(tuple(event_shape)),
            Log1p(count_columns, dtype="float64" if double else "float32"),
            network(event_shape),
        ],
        name=name,
    )


def default_decoder(
    event_shape: Sequence[int], latent_dim: int, *, name: str | None = None
) -> keras.Sequential:
    """Mirrors `default_encoder`; the output has no activation.

    Args:
      event_shape: Shape of the likelihood's parameters.
      latent_dim: Size of the shared latent and the style together.
      name: Of the network.

    Returns:
      A built network from `[B, latent_dim]` to `[B, *event_shape]`.
    """
    network = conv_decoder if _is_image(event_shape) else dense_decoder
    return network(event_shape, latent_dim, name=name)
