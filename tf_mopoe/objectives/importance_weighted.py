"""Importance-weighted bounds and their doubly reparameterised gradient."""

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
    """log w_k of K samples of each row.

    log w_k = sum_m r_m log p(x_m | z_k, s_mk) + beta (beta_content log p(z_k) / q(z_k)
              + sum_m beta_style,m log p(s_mk) / q(s_mk))

    With every weight at 1 these are importance weights, E[w_k] = p(X).

    Args:
      log_likelihoods: Modality name to log p(x_m | z_k, s_mk), nats, `[K, B]`; 0 where
        the modality is missing.
      log_ratio: log p(z_k) - log q(z_k | X), nats, `[K, B]`, q the true density of the
        mixture that z_k was drawn from.
      weights: Modality name to r_m.
      beta: Weight of all ratios.
      beta_content: Weight of the shared latent's.
      style_log_ratios: Modality name to log p(s_mk) - log q(s_mk | x_m), `[K, B]`; 0
        where missing.
      beta_styles: Modality name to beta_style,m.

    Returns:
      `[K, B]`, nats.
    """
    ratio = beta_content * log_ratio + weighted_sum(style_log_ratios, beta_styles)
    return beta * ratio + weighted_sum(log_likelihoods, weights)


def negative_iwae(log_weights: tf.Tensor) -> tf.Tensor:
    """-log (1/K) sum_k w_k, to be minimised: the negative bound on log p(X).

    Source: Burda, Grosse, Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016.

    Args:
      log_weights: `[K, B]`, nats.

    Returns:
      Nats for each row, `[B]`.
    """
    count = tf.cast(tf.shape(log_weights)[0], log_weights.dtype)
    return tf.math.log(count) - tf.reduce_logsumexp(log_weights, axis=0)


class DoublyReparameterized:
    """The DReG gradient of the importance-weighted bound, in one backward pass.

    With normalised weights v_k = w_k / sum_j w_j and log q entering log w with the
    factor f (1, or the product of the latent's divergence weights),

        encoders:  sum_k ((1 - f) v_k + f v_k^2)  d log w_k / dz_k  dz_k / dphi
        others:    sum_k v_k                      d log w_k / dtheta

    Its mean is that of the bound's own gradient, its variance smaller: the encoders'
    part does not drown in noise as K grows. It holds for a mixture as for a Gaussian,
    if the weights of the mixture are constants, the K samples of a row independent,
    and log q in log w_k the density of the whole mixture, with constant parameters.

    Usage: pass samples through `path` before anything is computed from them, then
    `loss` on the log-weights that follow from them. The backward pass multiplies by
    the factor in brackets, over v_k, where it comes through `path`; the weights are
    known only when `loss` has been called, hence an object.

    Source: Tucker, Lawson, Gu, Maddison, Doubly Reparameterized Gradient Estimators
    for Monte Carlo Objectives, ICLR 2019, where f is 1. For other f: the score of q
    that is left out, f sum_k v_k d log q(z_k) / dphi, has the mean of
    f sum_k (v_k - v_k^2) d log w_k / dz_k dz_k / dphi.
    """

    def __init__(self):
        """Makes one for one bound."""
        self._normalized: Any = None

    def path(self, samples: tf.Tensor, factor: float | tf.Tensor = 1.0) -> tf.Tensor:
        """The samples themselves, gradients to be scaled.

        Args:
          samples: `[K, B, D]`.
          factor: f, with which their log q enters log w.
        """
        factor = tf.cast(factor, samples.dtype)

        @tf.custom_gradient
        def identity(x):
            def scaled(upstream):
                share = (1.0 - factor) + factor * self._normalized  # [K, B]
                return upstream * share[..., tf.newaxis]

            return tf.identity(x), scaled

        return identity(samples)

    def loss(self, log_weights: tf.Tensor) -> tf.Tensor:
        """As `negative_iwae`, `[B]`, with the other gradient.

        Args:
          log_weights: `[K, B]`, from samples that came through `path`, the parameters
            of q in them stopped.
        """
        self._normalized = tf.stop_gradient(tf.nn.softmax(log_weights, axis=0))
        surrogate = -tf.reduce_sum(self._normalized * log_weights, axis=0)
        return surrogate + tf.stop_gradient(negative_iwae(log_weights) - surrogate)
