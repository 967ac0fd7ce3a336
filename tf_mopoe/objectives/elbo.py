"""The evidence lower bound of a multimodal VAE, assembled from its terms."""

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
    """The negative ELBO, to be minimised.

    -sum_m r_m log p(x_m | z, s_m)
        + beta (beta_content KL_bound + sum_m beta_style,m KL(q(s_m | x_m) || p))

    Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021; beta as in Higgins
    et al., beta-VAE, ICLR 2017.

    Args:
      log_likelihoods: Modality name to log p(x_m | z, s_m), nats, `[B]`; 0 where the
        modality is missing.
      kl_bound: Upper bound on KL(q(z|X) || p(z)), nats, `[B]`.
      weights: Modality name to r_m.
      beta: Weight of all divergences.
      beta_content: Weight of the shared latent's.
      style_kls: Modality name to KL(q(s_m | x_m) || p), nats, `[B]`; 0 where missing.
      beta_styles: Modality name to beta_style,m.

    Returns:
      Nats for each row, `[B]`; with every weight at 1 an upper bound on the negative
      log-evidence in expectation over z and s.
    """
    divergence = beta_content * kl_bound + weighted_sum(style_kls, beta_styles)
    return beta * divergence - weighted_sum(log_likelihoods, weights)


def weighted_sum(
    terms: Mapping[str, tf.Tensor] | None, weights: Mapping[str, float] | None
) -> float | tf.Tensor:
    """Sum over modalities of weight times term, `[...]`; weights are 1 by default."""
    return sum(
        (weights or {}).get(name, 1.0) * term for name, term in (terms or {}).items()
    )
