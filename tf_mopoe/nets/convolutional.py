"""Convolutional encoders and decoders, for images of any size.

With the default filters, 28 x 28 x 3 images and 512 features they are the networks of
the PolyMNIST experiment: Sutter et al., Generalized Multimodal ELBO, ICLR 2021.
"""

from collections.abc import Sequence

import keras

#: Data format of images, independent of the default of Keras.
CHANNELS = "channels_last"


def conv_encoder(
    event_shape: Sequence[int],
    *,
    filters: Sequence[int] = (32, 64, 128),
    features: int = 512,
    name: str | None = None,
) -> keras.Sequential:
    """Builds convolutions (kernel 3, stride 2, padding 1) and a dense layer, with ReLU.

    Example:
      >>> conv_encoder((28, 28, 3), filters=(8, 16), features=32)(
      ...     tf.zeros([4, 28, 28, 3])
      ... ).shape
      TensorShape([4, 32])

    Args:
      event_shape: Shape (height, width, channels) of one image.
      filters: Channels after each convolution, which halves height and width.
      features: Units of the dense layer, F.
      name: Name of the network.

    Returns:
      A built network from `[B, height, width, channels]` to `[B, F]`.
    """
    layers = [keras.Input(tuple(event_shape))]
    for channels in filters:
        # "same" would pad even sizes on one side only, half a pixel off the paper.
        layers += [
            keras.layers.ZeroPadding2D(1, data_format=CHANNELS),
            keras.layers.Conv2D(
                channels, 3, strides=2, activation="relu", data_format=CHANNELS
            ),
        ]
    layers += [keras.layers.Flatten(), keras.layers.Dense(features, "relu")]
    return keras.Sequential(layers, name=name)


def conv_decoder(
    event_shape: Sequence[int],
    latent_dim: int,
    *,
    filters: Sequence[int] = (128, 64, 32),
    name: str | None = None,
) -> keras.Sequential:
    """Builds the mirror image of `conv_encoder`, with transposed convolutions.

    All layers but the last have a ReLU.

    Example:
      >>> conv_decoder((28, 28, 3), 5, filters=(16, 8))(tf.zeros([4, 5])).shape
      TensorShape([4, 28, 28, 3])

    Args:
      event_shape: Shape (height, width, channels) of one image.
      latent_dim: Size D of the latent.
      filters: Channels before each transposed convolution, which doubles height and
        width: 4 -> 7 -> 14 -> 28 for PolyMNIST.
      name: Name of the network.

    Returns:
      A built network from `[B, D]` to `[B, height, width, channels]`.
    """
    height, width, channels = event_shape
    sizes = [(height, width)]  # from the image down; each is half of the one before
    for _ in filters:
        height, width = (height + 1) // 2, (width + 1) // 2
        sizes.append((height, width))
    small = sizes[-1]
    layers = [
        keras.Input((latent_dim,)),
        keras.layers.Dense(small[0] * small[1] * filters[0], "relu"),
        keras.layers.Reshape((*small, filters[0])),
    ]
    outputs = [*filters[1:], channels]
    for index, (units, target) in enumerate(zip(outputs, reversed(sizes[:-1]))):
        # A full transposed convolution returns 2 n + 1. Cropping 1 before and the rest
        # after is the "padding 1, output padding 0 or 1" of the published networks.
        crop = [(1, 2 * n - size) for n, size in zip(sizes[-1 - index], target)]
        activation = "relu" if index + 1 < len(outputs) else None
        layers += [
            keras.layers.Conv2DTranspose(units, 3, strides=2, data_format=CHANNELS),
            keras.layers.Cropping2D(crop, data_format=CHANNELS),
        ]
        if activation:
            layers.append(keras.layers.Activation(activation))
    return keras.Sequential(layers, name=name)
