"""Importance-weighted bound and its doubly reparameterised gradient."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_mopoe.objectives.elbo import weighted_sum


def log_importance_weights(
    log_likelihoods: Mapping[str, tf.Tensor],
    log_ratio: tf.Tensor,
    *,
    weights: Mapping[str, float],
    beta: float | tf.Tensor = 1.0,
    beta_content: float = 1.0,
    style_log_ratios: Mapping[str, tf.Tensor] | None = None,
    beta_styles: Mapping[str, float] | None = None,
) -> tf.Tensor:
    """Returns the log-weights log w_k of K samples of each row.

        log w_k = sum_m r_m log p(x_m | z_k, s_mk)
            + beta (beta_content log p(z_k) / q(z_k)
                    + sum_m beta_style,m log p(s_mk) / q(s_mk))

    If all weights are 1 these are importance weights, E[w_k] = p(X).

    Source: Burda, Grosse, Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016,
    for all weights 1.

    Example:
      >>> log_likelihoods = {"a": tf.constant([[-3.0], [-2.0]])}  # [K, B]
      >>> log_ratio = tf.constant([[-1.0], [-4.0]])
      >>> log_weights = log_importance_weights(log_likelihoods, log_ratio, weights={})
      >>> log_weights.numpy().tolist()
      [[-4.0], [-6.0]]

    Args:
      log_likelihoods: Modality name to log p(x_m | z_k, s_mk) in nats, `[K, B]`; 0
        where the modality is missing.
      log_ratio: log p(z_k) - log q(z_k | X) in nats, `[K, B]`, where q is the density
        of the whole mixture that z_k was drawn from.
      weights: Modality name to r_m; 1 for names that are left out.
      beta: Weight of all ratios.
      beta_content: Weight of the shared latent's ratio.
      style_log_ratios: Modality name to log p(s_mk) - log q(s_mk | x_m) in nats,
        `[K, B]`; 0 where the modality is missing.
      beta_styles: Modality name to beta_style,m; 1 for names that are left out.

    Returns:
      Log-weights in nats, `[K, B]`.
    """
    ratio = beta_content * log_ratio + weighted_sum(style_log_ratios, beta_styles)
    return beta * ratio + weighted_sum(log_likelihoods, weights)


def negative_iwae(log_weights: tf.Tensor) -> tf.Tensor:
    """Returns -log (1/K) sum_k w_k, the negative bound on log p(X), to be minimised.

    Source: Burda, Grosse, Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016.

    Example:
      >>> weights = tf.constant([[0.25], [0.75]])  # K = 2 samples of one row
      >>> bool(np.isclose(negative_iwae(tf.math.log(weights))[0], -np.log(0.5)))
      True

    Args:
      log_weights: Log-weights in nats, `[K, B]`.

    Returns:
      Negative bound of each row in nats, `[B]`.
    """
    count = tf.cast(tf.shape(log_weights)[0], log_weights.dtype)
    return tf.math.log(count) - tf.reduce_logsumexp(log_weights, axis=0)


class DoublyReparameterized:
    """DReG gradient of the importance-weighted bound, in one backward pass.

    With normalised weights v_k = w_k / sum_j w_j and log q entering log w with the
    factor f (1, or the product of the latent's divergence weights),

        encoders:  sum_k ((1 - f) v_k + f v_k^2)  d log w_k / dz_k  dz_k / dphi
        others:    sum_k v_k                      d log w_k / dtheta

    It has the same mean as the gradient of the bound and a smaller variance: the signal
    of the encoders' part does not vanish in noise as K grows. This holds for a mixture
    as for a Gaussian if the weights of the mixture are constants, the K samples of a
    row are independent, and log q in log w_k is the density of the whole mixture, with
    constant parameters.

    Pass the samples through `path` before anything is computed from them, then call
    `loss` with the log-weights. In the backward pass `path` multiplies the gradient by
    the factor in brackets divided by v_k. The weights are known only once `loss` has
    been called, which is why this is an object.

    Example:
      >>> loc = tf.Variable([0.5])
      >>> noise = tf.constant([[[-1.0]], [[0.0]], [[2.0]]])  # [K, B, D]
      >>> estimator = DoublyReparameterized()
      >>> with tf.GradientTape() as tape:
      ...     z = estimator.path(loc + noise)
      ...     log_q = -0.5 * tf.square(z - tf.stop_gradient(loc))
      ...     log_joint = -0.5 * tf.square(z) - 0.5 * tf.square(z - 1.0)
      ...     loss = estimator.loss(tf.reduce_sum(log_joint - log_q, axis=-1))
      >>> loss.shape, tape.gradient(loss, loc).shape
      (TensorShape([1]), TensorShape([1]))

    Source: Tucker, Lawson, Gu, Maddison, Doubly Reparameterized Gradient Estimators
    for Monte Carlo Objectives, ICLR 2019, where f is 1. For other f, the score of q
    that is left out, f sum_k v_k d log q(z_k) / dphi, has the same mean as
    f sum_k (v_k - v_k^2) d log w_k / dz_k dz_k / dphi.
    """

    def __init__(self):
        """Initializes the estimator of one bound."""
        self._normalized: Any = None

    def path(self, samples: tf.Tensor, factor: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Returns the samples unchanged; scales their gradients.

        Args:
          samples: Samples `[K, B, D]`.
          factor: Factor f with which log q of these samples enters log w.
        """
        factor = tf.cast(factor, samples.dtype)

        @tf.custom_gradient
        def identity(x):
            def scaled(upstream):
                multiplier = (1.0 - factor) + factor * self._normalized  # [K, B]
                return upstream * multiplier[..., tf.newaxis]

            return tf.identity(x), scaled

        return identity(samples)

    def loss(self, log_weights: tf.Tensor) -> tf.Tensor:
        """Returns `negative_iwae(log_weights)`, `[B]`, with the DReG gradient.

        Args:
          log_weights: Log-weights `[K, B]` in nats, of samples that passed through
            `path`, without gradients of the parameters of q.
        """
        self._normalized = tf.stop_gradient(tf.nn.softmax(log_weights, axis=0))
        surrogate = -tf.reduce_sum(self._normalized * log_weights, axis=0)
        return surrogate + tf.stop_gradient(negative_iwae(log_weights) - surrogate)
