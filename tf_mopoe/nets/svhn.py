"""Convolutional networks for 32 x 32 colour images of digits.

They are the networks of the MNIST-SVHN-Text experiment: Sutter et al., Generalized
Multimodal ELBO, ICLR 2021, and its code.
"""

import keras

from tf_mopoe.nets.padded_conv import padded_conv


def svhn_encoder(*, name: str | None = None) -> keras.Sequential:
    """Builds four convolutions, 32 -> 16 -> 8 -> 4 -> 1 (kernel 4, stride 2, ReLU).

    Example:
      >>> svhn_encoder()(tf.zeros([3, 32, 32, 3])).shape
      TensorShape([3, 128])

    Args:
      name: Name of the network.

    Returns:
      A built network from `[B, 32, 32, 3]` to features `[B, 128]`.
    """
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            *padded_conv(32, 4, 2, 1, activation="relu"),
            *padded_conv(64, 4, 2, 1, activation="relu"),
            *padded_conv(64, 4, 2, 1, activation="relu"),
            *padded_conv(128, 4, 2, activation="relu"),
            keras.layers.Flatten(),
        ],
        name=name,
    )


def svhn_decoder(latent_dim: int, *, name: str | None = None) -> keras.Sequential:
    """Builds a dense layer and four transposed convolutions, 1 -> 4 -> ... -> 32.

    All layers but the last have a ReLU.

    Example:
      >>> svhn_decoder(latent_dim=5)(tf.zeros([3, 5])).shape
      TensorShape([3, 32, 32, 3])

    Args:
      latent_dim: Size of the shared latent and the style together.
      name: Name of the network.

    Returns:
      A built network from `[B, latent_dim]` to `[B, 32, 32, 3]`.
    """
    return keras.Sequential(
        [
            keras.Input((latent_dim,)),
            keras.layers.Dense(128, "relu"),
            keras.layers.Reshape((1, 1, 128)),
            *padded_conv(64, 4, transposed=True, activation="relu"),
            *padded_conv(64, 4, 2, 1, transposed=True, activation="relu"),
            *padded_conv(32, 4, 2, 1, transposed=True, activation="relu"),
            *padded_conv(3, 4, 2, 1, transposed=True),
        ],
        name=name,
    )
