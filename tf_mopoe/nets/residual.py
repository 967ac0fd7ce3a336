"""Residual networks for 64 x 64 images and texts of 256 symbols.

They are the networks of the CelebA experiment: Sutter et al., Generalized Multimodal
ELBO, ICLR 2021, and its code. They contain batch normalisation, whose statistics
include rows in which the modality is missing (see `Modality`), and dropout, whose seeds
are drawn when a network is built: `keras.utils.set_random_seed` fixes them, the `seed`
of a model does not.
"""

from collections.abc import Sequence

import keras

from tf_mopoe.nets.padded_conv import padded_conv
from tf_mopoe.nets.text import one_hot_symbols

#: Height and width of an image.
IMAGE_SIZE = 64
#: Number of symbols in a text.
LENGTH = 256
#: Factors of the shortcut and of the branch of a block.
SHORTCUT, BRANCH = 2.0, 0.3
KERNEL = 4
DROPOUT = 0.5

#: Channels of each block in units of `filters`, its stride and its padding.
Plan = Sequence[tuple[int, int, int]]


def residual_image_encoder(
    *, filters: int = 128, name: str | None = None
) -> keras.Sequential:
    """Builds a convolution and four blocks, 64 -> 33 -> 16 -> 8 -> 4 -> 1.

    Example:
      >>> residual_image_encoder(filters=2)(tf.zeros([3, 64, 64, 3])).shape
      TensorShape([3, 10])

    Args:
      filters: Channels after the convolution; 2, 3, 4 and 5 times as many follow.
      name: Name of the network.

    Returns:
      A built network from `[B, 64, 64, 3]` to features `[B, 5 filters]`.
    """
    plan = [(2, 2, 1), (3, 2, 1), (4, 2, 1), (5, 2, 0)]
    return keras.Sequential(
        [
            keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3)),
            *padded_conv(filters, 3, 2, 2, use_bias=False),
            *_blocks((33, 33, filters), plan, filters),
            keras.layers.Flatten(),
        ],
        name=name,
    )


def residual_image_decoder(
    latent_dim: int, *, filters: int = 128, name: str | None = None
) -> keras.Sequential:
    """Builds a dense layer, four blocks and a convolution, 1 -> 4 -> ... -> 64.

    The dense layer and the last convolution have no activation.

    Example:
      >>> residual_image_decoder(latent_dim=5, filters=2)(tf.zeros([3, 5])).shape
      TensorShape([3, 64, 64, 3])

    Args:
      latent_dim: Size of the shared latent and the style together.
      filters: Channels before the last convolution.
      name: Name of the network.

    Returns:
      A built network from `[B, latent_dim]` to `[B, 64, 64, 3]`.
    """
    plan = [(4, 1, 0), (3, 2, 1), (2, 2, 1), (1, 2, 1)]
    return keras.Sequential(
        [
            keras.Input((latent_dim,)),
            keras.layers.Dense(5 * filters),
            keras.layers.Reshape((1, 1, 5 * filters)),
            *_blocks((1, 1, 5 * filters), plan, filters, transposed=True),
            *padded_conv(3, 3, 2, 1, transposed=True, output_padding=1),
        ],
        name=name,
    )


def residual_text_encoder(
    num_symbols: int = 71, *, filters: int = 128, name: str | None = None
) -> keras.Sequential:
    """Builds a convolution of one-hot symbols and six blocks, 256 -> ... -> 4 -> 1.

    Example:
      >>> residual_text_encoder(7, filters=2)(tf.zeros([3, 256], tf.int32)).shape
      TensorShape([3, 10])

    Args:
      num_symbols: Size C of the alphabet.
      filters: Channels after the convolution; 2, 3, 4, 5, 5 and 5 times as many follow.
      name: Name of the network.

    Returns:
      A built network from indices `[B, 256]` to features `[B, 5 filters]`.
    """
    plan = [*((width, 2, 1) for width in (2, 3, 4, 5, 5)), (5, 2, 0)]
    return keras.Sequential(
        [
            *one_hot_symbols(LENGTH, num_symbols),
            *padded_conv(filters, KERNEL, 2, 1, rank=1),
            *_blocks((LENGTH // 2, filters), plan, filters),
            keras.layers.Flatten(),
        ],
        name=name,
    )


def residual_text_decoder(
    latent_dim: int,
    num_symbols: int = 71,
    *,
    filters: int = 128,
    name: str | None = None,
) -> keras.Sequential:
    """Builds a dense layer, six blocks and a convolution, 1 -> 4 -> ... -> 256.

    The dense layer and the last convolution have no activation.

    Example:
      >>> residual_text_decoder(5, num_symbols=7, filters=2)(tf.zeros([3, 5])).shape
      TensorShape([3, 256, 7])

    Args:
      latent_dim: Size of the shared latent and the style together.
      num_symbols: Size C of the alphabet.
      filters: Channels before the last convolution.
      name: Name of the network.

    Returns:
      A built network from `[B, latent_dim]` to logits `[B, 256, C]`.
    """
    plan = [(5, 1, 0), *((width, 2, 1) for width in (5, 4, 3, 2, 1))]
    return keras.Sequential(
        [
            keras.Input((latent_dim,)),
            keras.layers.Dense(5 * filters),
            keras.layers.Reshape((1, 5 * filters)),
            *_blocks((1, 5 * filters), plan, filters, transposed=True),
            *padded_conv(num_symbols, KERNEL, 2, 1, rank=1, transposed=True),
        ],
        name=name,
    )


def residual_block(
    input_shape: Sequence[int],
    channels: int,
    stride: int,
    padding: int,
    *,
    transposed: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Builds a residual block, y = 2 shortcut(x) + 0.3 branch(x).

    The branch consists of normalisation, ReLU, a convolution (kernel 1, same number of
    channels) and dropout, and the same again with a convolution (kernel 4) to the new
    size. The shortcut is a convolution to the new size and normalisation. As published,
    blocks for images drop whole channels and have no biases in the branch.

    Args:
      input_shape: Shape (height, width, channels) of an image or (length, channels) of
        a text.
      channels: Number of output channels.
      stride: Stride of the convolutions to the new size.
      padding: Padding of these convolutions on both sides.
      transposed: Whether these convolutions are transposed.
      name: Name of the block.

    Returns:
      A built network from `[B, *input_shape]` to `[B, ..., channels]`.
    """
    *sizes, width = input_shape
    image = len(sizes) == 2
    dropout = keras.layers.SpatialDropout2D if image else keras.layers.Dropout

    def resize(**kwargs):
        return padded_conv(
            channels,
            KERNEL,
            stride,
            padding,
            rank=len(sizes),
            transposed=transposed,
            **kwargs,
        )

    branch = [
        _normalization("norm_1"),
        keras.layers.ReLU(),
        *padded_conv(width, 1, rank=len(sizes), use_bias=not image, name="conv_1"),
        dropout(DROPOUT),
        _normalization("norm_2"),
        keras.layers.ReLU(),
        *resize(use_bias=not image, name="conv_2"),
        dropout(DROPOUT),
        keras.layers.Rescaling(BRANCH),
    ]
    shortcut = [
        *resize(name="shortcut_conv"),
        _normalization("shortcut_norm"),
        keras.layers.Rescaling(SHORTCUT),
    ]
    x = keras.Input(tuple(input_shape))
    y = keras.layers.Add()([_apply_layers(shortcut, x), _apply_layers(branch, x)])
    return keras.Model(x, y, name=name)


def _blocks(
    shape: Sequence[int], plan: Plan, filters: int, *, transposed: bool = False
) -> list[keras.Model]:
    """Builds consecutive blocks, the first for inputs of `shape`."""
    blocks = []
    for number, (width, stride, padding) in enumerate(plan, start=1):
        block = residual_block(
            shape,
            width * filters,
            stride,
            padding,
            transposed=transposed,
            name=f"block_{number}",
        )
        shape = block.output_shape[1:]
        blocks.append(block)
    return blocks


def _normalization(name: str) -> keras.layers.BatchNormalization:
    """Builds a normalisation with the constants of the published code."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)


def _apply_layers(layers: Sequence[keras.layers.Layer], x):
    for layer in layers:
        x = layer(x)
    return x
