"""Convolutional networks for words of 8 symbols, given as class indices.

They are the networks of the MNIST-SVHN-Text experiment: Sutter et al., Generalized
Multimodal ELBO, ICLR 2021, and its code. The likelihood for them is
`"integer_categorical"`.
"""

import keras

from tf_mopoe.nets.padded_conv import padded_conv

#: Number of symbols in a word.
LENGTH = 8


def one_hot_symbols(length: int, num_symbols: int) -> list:
    """Returns first layers that map indices `[B, L]` to one-hot `[B, L, C]`, L > 1."""
    return [
        keras.Input((length,), dtype="int32"),
        keras.layers.CategoryEncoding(num_symbols, output_mode="one_hot"),
    ]


def text_encoder(
    num_symbols: int = 71, *, filters: int = 128, name: str | None = None
) -> keras.Sequential:
    """Builds three convolutions of one-hot symbols, 8 -> 8 -> 4 -> 1, with ReLU.

    Example:
      >>> text_encoder(num_symbols=7, filters=16)(tf.zeros([3, 8], tf.int32)).shape
      TensorShape([3, 16])

    Args:
      num_symbols: Size C of the alphabet.
      filters: Channels of every layer, F.
      name: Name of the network.

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
    """Builds the mirror image of `text_encoder`.

    Only the two transposed convolutions have a ReLU.

    Example:
      >>> text_decoder(5, num_symbols=7, filters=16)(tf.zeros([3, 5])).shape
      TensorShape([3, 8, 7])

    Args:
      latent_dim: Size of the shared latent and the style together.
      num_symbols: Size C of the alphabet.
      filters: Channels of every layer but the last.
      name: Name of the network.

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
