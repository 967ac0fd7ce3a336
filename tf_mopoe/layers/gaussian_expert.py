"""The unimodal Gaussian expert: from an encoder's features to q_m(z | x_m)."""

import keras
import tensorflow as tf

from tf_mopoe.distributions import DiagonalGaussian

#: `soft_bound` is the identity up to here (a scale from e^-10 to e^10) ...
LOG_SCALE_IDENTITY = 10.0
#: ... and never leaves this range, in which products of experts are exact.
LOG_SCALE_BOUND = 20.0


def soft_bound(log_scale: tf.Tensor) -> tf.Tensor:
    """Keeps log-scales within [-20, 20]: the identity in [-10, 10], then smooth.

    Beyond the identity, sign(x) (10 + 10 tanh((|x| - 10) / 10)): value and first
    derivative are continuous.
    """
    room = LOG_SCALE_BOUND - LOG_SCALE_IDENTITY
    inside = tf.clip_by_value(log_scale, -LOG_SCALE_IDENTITY, LOG_SCALE_IDENTITY)
    return inside + room * tf.tanh((log_scale - inside) / room)


@keras.saving.register_keras_serializable(package="tf_mopoe")
class GaussianExpert(keras.layers.Layer):
    """Two dense heads that turn features into a diagonal Gaussian.

    The head gives the log-variance, as in the published code, halved and bounded by
    `soft_bound`. Works in float32 also under mixed precision.

    Call arguments:
      features: `[B, ...]`, flattened to `[B, F]`.

    Returns:
      `DiagonalGaussian` with `loc` and `log_scale` of shape `[B, D]`.
    """

    def __init__(self, latent_dim: int, *, dtype="float32", **kwargs):
        """Makes the layer.

        Args:
          latent_dim: D, at least 1.
          dtype: Of the heads and of what they return.
          **kwargs: Of `keras.layers.Layer`.

        Raises:
          ValueError: If `latent_dim` < 1.
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
        """Makes the heads' weights."""
        self.flatten.build(input_shape)
        flat = self.flatten.compute_output_shape(input_shape)
        self.loc.build(flat)
        self.log_variance.build(flat)

    def call(self, features):
        """See the class."""
        flat = self.flatten(features)
        return DiagonalGaussian(
            self.loc(flat), soft_bound(0.5 * self.log_variance(flat))
        )

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "latent_dim": self.latent_dim}
