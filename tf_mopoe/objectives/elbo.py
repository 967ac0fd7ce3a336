"""Evidence lower bound of a multimodal VAE, from its terms."""

from collections.abc import Mapping

import tensorflow as tf


def negative_elbo(
    log_likelihoods: Mapping[str, tf.Tensor],
    kl_bound: tf.Tensor,
    *,
    weights: Mapping[str, float],
    beta: float | tf.Tensor = 1.0,
    beta_content: float = 1.0,
    style_kls: Mapping[str, tf.Tensor] | None = None,
    beta_styles: Mapping[str, float] | None = None,
) -> tf.Tensor:
    """Returns the negative ELBO, to be minimised.

        -sum_m r_m log p(x_m | z, s_m)
            + beta (beta_content KL_bound + sum_m beta_style,m KL(q(s_m | x_m) || p))

    Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021; beta as in Higgins
    et al., beta-VAE, ICLR 2017.

    Example:
      >>> log_likelihoods = {"a": tf.constant([-3.0]), "b": tf.constant([-1.0])}
      >>> negative_elbo(
      ...     log_likelihoods, tf.constant([2.0]), weights={"b": 5.0}, beta=0.5
      ... ).numpy()
      array([9.], dtype=float32)

    Args:
      log_likelihoods: Modality name to log p(x_m | z, s_m) in nats, `[B]`; 0 where the
        modality is missing.
      kl_bound: Upper bound on KL(q(z|X) || p(z)) in nats, `[B]`.
      weights: Modality name to r_m; 1 for names that are left out.
      beta: Weight of all divergences.
      beta_content: Weight of the shared latent's divergence.
      style_kls: Modality name to KL(q(s_m | x_m) || p) in nats, `[B]`; 0 where the
        modality is missing.
      beta_styles: Modality name to beta_style,m; 1 for names that are left out.

    Returns:
      Negative ELBO of each row in nats, `[B]`. If all weights are 1, its expectation
      over z and s is an upper bound on the negative log-evidence.
    """
    divergence = beta_content * kl_bound + weighted_sum(style_kls, beta_styles)
    return beta * divergence - weighted_sum(log_likelihoods, weights)


def weighted_sum(
    terms: Mapping[str, tf.Tensor] | None, weights: Mapping[str, float] | None
) -> float | tf.Tensor:
    """Returns the sum over modalities of weight times term; weights default to 1."""
    return sum(
        (weights or {}).get(name, 1.0) * term for name, term in (terms or {}).items()
    )
