"""The evidence lower bound of a multimodal VAE, assembled from its terms."""

from collections.abc import Mapping

import tensorflow as tf


def negative_elbo(
    log_likelihoods: Mapping[str, tf.Tensor],
    kl_bound: tf.Tensor,
    *,
    weights: Mapping[str, float],
    beta: float | tf.Tensor = 1.0,
) -> tf.Tensor:
    """-sum_m r_m log p(x_m | z) + beta KL_bound, to be minimised.

    Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021; beta as in Higgins
    et al., beta-VAE, ICLR 2017.

    Args:
      log_likelihoods: Modality name to log p(x_m | z), nats, `[B]`; 0 where the
        modality is missing.
      kl_bound: Upper bound on KL(q(z|X) || p(z)), nats, `[B]`.
      weights: Modality name to r_m.
      beta: Weight of the divergence.

    Returns:
      Nats for each row, `[B]`; with every r_m and beta at 1 an upper bound on the
      negative log-evidence in expectation over z.
    """
    reconstruction = tf.add_n(
        [weights[name] * value for name, value in log_likelihoods.items()]
    )
    return beta * kl_bound - reconstruction
