"""Residual networks for 64 x 64 images and texts of 256 symbols.

Those of the CelebA experiment: Sutter et al., Generalized Multimodal ELBO, ICLR 2021,
and its code. They hold batch normalisation, whose statistics count rows in which the
modality is missing (see `Modality`), and dropout, whose seeds are drawn when a network
is made: `keras.utils.set_random_seed` fixes them, a model's `seed` does not.
"""

from collections.abc import Sequence

import keras

from tf_mopoe.nets.padded_conv import padded_conv
from tf_mopoe.nets.text import one_hot_symbols

#: Height and width of an image.
IMAGE_SIZE = 64
#: Symbols in a text.
LENGTH = 256
#: Factors of a block's shortcut and branch.
SHORTCUT, BRANCH = 2.0, 0.3
KERNEL = 4
DROPOUT = 0.5

#: A block's channels in units of `filters`, its stride and its padding.
Plan = Sequence[tuple[int, int, int]]


def residual_image_encoder(
    *, filters: int = 128, name: str | None = None
) -> keras.Sequential:
    """A convolution and four blocks, 64 -> 33 -> 16 -> 8 -> 4 -> 1.

    Args:
      filters: Channels after the convolution; 2, 3, 4 and 5 times as many follow.
      name: Of the network.

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
    """A dense layer, four blocks and a convolution, 1 -> 4 -> 8 -> 16 -> 32 -> 64.

    No activation after the dense layer and at the end.

    Args:
      latent_dim: Size of the shared latent and the style together.
      filters: Channels before the last convolution.
      name: Of the network.

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
    """A convolution of one-hot symbols and six blocks, 256 -> 128 -> ... -> 4 -> 1.

    Args:
      num_symbols: C, the alphabet's size.
      filters: Channels after the convolution; 2, 3, 4, 5, 5 and 5 times as many follow.
      name: Of the network.

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
    """A dense layer, six blocks and a convolution, 1 -> 4 -> 8 -> ... -> 256.

    No activation after the dense layer and at the end.

    Args:
      latent_dim: Size of the shared latent and the style together.
      num_symbols: C, the alphabet's size.
      filters: Channels before the last convolution.
      name: Of the network.

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
    """y = 2 shortcut(x) + 0.3 branch(x).

    The branch: normalisation, ReLU, convolution (kernel 1, channels unchanged),
    dropout, and the same again with a convolution (kernel 4) to the new size. The
    shortcut: a convolution to the new size, normalisation. As published, in images
    whole channels are dropped and the branch's convolutions have no biases.

    Args:
      input_shape: (height, width, channels) of an image, (length, channels) of a text.
      channels: Of the output.
      stride: Of the convolutions to the new size.
      padding: Of these, on both sides.
      transposed: Whether they are transposed.
      name: Of the block.

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
    y = keras.layers.Add()([_chained(shortcut, x), _chained(branch, x)])
    return keras.Model(x, y, name=name)


def _blocks(
    shape: Sequence[int], plan: Plan, filters: int, *, transposed: bool = False
) -> list[keras.Model]:
    """Blocks one after the other, the first for inputs of `shape`."""
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
    """With the published code's constants: a tenth of the new statistics, 1e-5."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)


def _chained(layers: Sequence[keras.layers.Layer], x):
    for layer in layers:
        x = layer(x)
    return x
