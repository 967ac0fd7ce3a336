"""Unimodal Gaussian expert: from an encoder's features to q_m(z | x_m)."""

import keras
import tensorflow as tf

from tf_mopoe.distributions import DiagonalGaussian

#: Absolute value up to which `soft_bound` is the identity: scales from e^-10 to e^10.
LOG_SCALE_IDENTITY = 10.0
#: Absolute value that `soft_bound` never exceeds; products of experts are exact there.
LOG_SCALE_BOUND = 20.0


def soft_bound(log_scale: tf.Tensor) -> tf.Tensor:
    """Bounds log-scales to [-20, 20] smoothly; the identity in [-10, 10].

    Outside of [-10, 10] the value is sign(x) (10 + 10 tanh((|x| - 10) / 10)). The value
    and its first derivative are continuous.

    Example:
      >>> soft_bound(tf.constant([-1000.0, 5.0])).numpy().tolist()
      [-20.0, 5.0]
    """
    margin = LOG_SCALE_BOUND - LOG_SCALE_IDENTITY
    clipped = tf.clip_by_value(log_scale, -LOG_SCALE_IDENTITY, LOG_SCALE_IDENTITY)
    return clipped + margin * tf.tanh((log_scale - clipped) / margin)


@keras.saving.register_keras_serializable(package="tf_mopoe")
class GaussianExpert(keras.layers.Layer):
    """Maps features to a diagonal Gaussian by two dense heads.

    One head returns the mean. The other returns the log-variance, as in the published
    code, which is halved and bounded by `soft_bound`. The layer computes in float32 by
    default, also under mixed precision.

    Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021, and its code.

    Example:
      >>> expert = GaussianExpert(latent_dim=2)
      >>> expert(tf.ones([8, 5])).log_scale.shape
      TensorShape([8, 2])

    Call arguments:
      features: Features `[B, ...]`, flattened to `[B, F]`.

    Returns:
      `DiagonalGaussian` with `loc` and `log_scale` of shape `[B, D]`.
    """

    def __init__(self, latent_dim: int, *, dtype="float32", **kwargs):
        """Initializes the layer.

        Args:
          latent_dim: Size D of the latent, at least 1.
          dtype: Dtype of the heads and of their outputs.
          **kwargs: Keyword arguments of `keras.layers.Layer`.

        Raises:
          ValueError: If `latent_dim` is less than 1.
        """
        super().__init__(dtype=dtype, **kwargs)
        if latent_dim < 1:
            raise ValueError(
                f"`latent_dim` must be at least 1. Received: {latent_dim}."
            )
        self.latent_dim = latent_dim
        self.flatten = keras.layers.Flatten(dtype=dtype)
        self.loc = keras.layers.Dense(latent_dim, dtype=dtype, name="loc")
        self.log_variance = keras.layers.Dense(
            latent_dim, dtype=dtype, name="log_variance"
        )

    def build(self, input_shape):
        """Creates the weights of the heads."""
        self.flatten.build(input_shape)
        flat = self.flatten.compute_output_shape(input_shape)
        self.loc.build(flat)
        self.log_variance.build(flat)

    def call(self, features):
        """Runs the layer; see the class for arguments and results."""
        flat = self.flatten(features)
        return DiagonalGaussian(
            self.loc(flat), soft_bound(0.5 * self.log_variance(flat))
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "latent_dim": self.latent_dim}
