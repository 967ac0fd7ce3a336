"""Default networks of a modality, chosen by the shape of its events."""

from collections.abc import Sequence

import keras

from tf_mopoe.nets.convolutional import conv_decoder, conv_encoder
from tf_mopoe.nets.dense import dense_decoder, dense_encoder
from tf_mopoe.nets.log1p import Log1p

#: Height and width from which on convolutional networks are used.
MIN_IMAGE_SIZE = 8
#: Number of dimensions up to which a class index is embedded.
MAX_EMBEDDING_SIZE = 64


def _is_image(event_shape: Sequence[int]) -> bool:
    return len(event_shape) == 3 and min(event_shape[:2]) >= MIN_IMAGE_SIZE


def default_encoder(
    event_shape: Sequence[int],
    *,
    num_classes: int | None = None,
    count_columns: Sequence[int] = (),
    name: str | None = None,
) -> keras.Sequential:
    """Builds a convolutional encoder for images, else a dense one; both with ReLU.

    Events are images if their shape is (height, width, channels) with at least 8 x 8
    pixels.

    Example:
      >>> default_encoder((5,), count_columns=[0])(tf.ones([4, 5])).shape
      TensorShape([4, 256])

    Args:
      event_shape: Shape of one observation.
      num_classes: Number of classes C if values are class indices, which are embedded.
      count_columns: Indices along the last axis whose values are counts, of which the
        first layer takes log(1 + x).
      name: Name of the network.

    Returns:
      A built network from `[B, *event_shape]` to features `[B, F]`.
    """
    if num_classes is not None:
        size = min(num_classes, MAX_EMBEDDING_SIZE)
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
    """Builds a convolutional decoder for images, else a dense one.

    The last layer has no activation.

    Example:
      >>> default_decoder((5,), latent_dim=2)(tf.zeros([4, 2])).shape
      TensorShape([4, 5])

    Args:
      event_shape: Shape of the likelihood's parameters.
      latent_dim: Size of the shared latent and the style together.
      name: Name of the network.

    Returns:
      A built network from `[B, latent_dim]` to `[B, *event_shape]`.
    """
    network = conv_decoder if _is_image(event_shape) else dense_decoder
    return network(event_shape, latent_dim, name=name)
