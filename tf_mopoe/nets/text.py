"""Convolutional networks for words of 8 symbols, given as class indices.

Those of the MNIST-SVHN-Text experiment: Sutter et al., Generalized Multimodal ELBO,
ICLR 2021, and its code. They go with the likelihood `"integer_categorical"`.
"""

import keras

from tf_mopoe.nets.padded_conv import padded_conv

#: Symbols in a word.
LENGTH = 8


def one_hot_symbols(length: int, num_symbols: int) -> list:
    """First layers of an encoder: indices `[B, L]` to one-hot `[B, L, C]`, L > 1."""
    return [
        keras.Input((length,), dtype="int32"),
        keras.layers.CategoryEncoding(num_symbols, output_mode="one_hot"),
    ]


def text_encoder(
    num_symbols: int = 71, *, filters: int = 128, name: str | None = None
) -> keras.Sequential:
    """Three convolutions of one-hot symbols, 8 -> 8 -> 4 -> 1, each with ReLU.

    Args:
      num_symbols: C, the alphabet's size.
      filters: Channels of every layer, F.
      name: Of the network.

    Returns:
      A built network from indices `[B, 8]` to features `[B, F]`.
    """
    return keras.Sequential(
        [
            *one_hot_symbols(LENGTH, num_symbols),
            *padded_conv(filters, 1, rank=1, activation="relu"),
            *padded_conv(filters, 4, 2, 1, rank=1, activation="relu"),
            *padded_conv(filters, 4, 2, rank=1, activation="relu"),
            keras.layers.Flatten(),
        ],
        name=name,
    )


def text_decoder(
    latent_dim: int,
    num_symbols: int = 71,
    *,
    filters: int = 128,
    name: str | None = None,
) -> keras.Sequential:
    """Mirrors `text_encoder`; ReLU after the two transposed convolutions alone.

    Args:
      latent_dim: Size of the shared latent and the style together.
      num_symbols: C, the alphabet's size.
      filters: Channels of every layer but the last.
      name: Of the network.

    Returns:
      A built network from `[B, latent_dim]` to logits `[B, 8, C]`.
    """
    return keras.Sequential(
        [
            keras.Input((latent_dim,)),
            keras.layers.Dense(filters),
            keras.layers.Reshape((1, filters)),
            *padded_conv(filters, 4, rank=1, transposed=True, activation="relu"),
            *padded_conv(filters, 4, 2, 1, rank=1, transposed=True, activation="relu"),
            *padded_conv(num_symbols, 1, rank=1),
        ],
        name=name,
    )
