"""The objectives that a model offers: from the terms of a bound to its loss.

To add an objective, write a subclass of `Objective` here and add it to `OBJECTIVES`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from tf_mopoe.distributions import DiagonalGaussian
from tf_mopoe.objectives.elbo import negative_elbo
from tf_mopoe.objectives.importance_weighted import (
    DoublyReparameterized,
    log_importance_weights,
    negative_iwae,
)


class LossWeights(NamedTuple):
    """Weights of the terms of a loss.

    Attributes:
      reconstruction: Modality name to r_m.
      beta: Weight of all divergences.
      content: Weight of the shared latent's divergence within that.
      styles: Modality name to the weight of its style's divergence.
    """

    reconstruction: Mapping[str, float]
    beta: float | tf.Tensor
    content: float
    styles: Mapping[str, float]


class Divergence(NamedTuple):
    """Divergence of the posterior from the prior, nats; 0 where a modality is missing.

    Attributes:
      content: Upper bound on KL(q(z | X) || p(z)), `[B]`.
      styles: Modality name to KL(q(s_m | x_m) || p(s_m)), `[B]`.
      log_ratio: log p(z) - log q(z | X) of the samples, `[K, B]`; None unless the
        objective needs densities.
      style_log_ratios: Modality name to log p(s_m) - log q(s_m | x_m), `[K, B]`.
    """

    content: tf.Tensor
    styles: dict[str, tf.Tensor]
    log_ratio: tf.Tensor | None = None
    style_log_ratios: Mapping[str, tf.Tensor] | None = None


class Objective:
    """The ELBO, and the base class of objectives; one object per bound of a loss.

    Example:
      >>> divergence = Divergence(content=tf.constant([0.5]), styles={})
      >>> weights = LossWeights({"a": 1.0}, beta=2.0, content=1.0, styles={})
      >>> reconstruction = {"a": tf.constant([[-3.0], [-5.0]])}  # [K, B]
      >>> float(Objective().loss(reconstruction, divergence, weights)[0])
      5.0
    """

    #: Whether `loss` needs the log ratios of a `Divergence`.
    needs_densities = False

    def reparameterize(
        self, samples: tf.Tensor, weight: float | tf.Tensor
    ) -> tf.Tensor:
        """The samples `[K, B, D]`, their gradients changed where the objective does.

        Args:
          samples: Samples of z or of a style.
          weight: Weight of their log q in the log importance weights.
        """
        del weight
        return samples

    def proposal(self, gaussian: DiagonalGaussian) -> DiagonalGaussian:
        """The Gaussian as its density enters the importance weights."""
        return gaussian

    def loss(
        self,
        reconstruction: Mapping[str, tf.Tensor],
        divergence: Divergence,
        weights: LossWeights,
    ) -> tf.Tensor:
        """Negative bound on log p(X), nats, `[B]`.

        Args:
          reconstruction: Modality name to log p(x_m | z, s_m), `[K, B]`.
          divergence: Divergence from the prior.
          weights: Weights of the terms.
        """
        return negative_elbo(
            {name: tf.reduce_mean(x, axis=0) for name, x in reconstruction.items()},
            divergence.content,
            style_kls=divergence.styles,
            **_as_arguments(weights),
        )


class ImportanceWeighted(Objective):
    """The importance-weighted bound (Burda et al., ICLR 2016)."""

    needs_densities = True

    def loss(self, reconstruction, divergence, weights):
        """See `Objective.loss`."""
        return negative_iwae(self._log_weights(reconstruction, divergence, weights))

    def _log_weights(self, reconstruction, divergence, weights):
        """log w, `[K, B]`."""
        return log_importance_weights(
            reconstruction,
            divergence.log_ratio,
            style_log_ratios=divergence.style_log_ratios,
            **_as_arguments(weights),
        )


class DReG(ImportanceWeighted):
    """The same bound with the doubly reparameterised gradient (Tucker et al., 2019)."""

    def __init__(self):
        """Makes the objective of one bound."""
        self._estimator = DoublyReparameterized()

    def reparameterize(self, samples, weight):
        """See `Objective.reparameterize`."""
        return self._estimator.path(samples, weight)

    def proposal(self, gaussian):
        """The Gaussian without a gradient into its own parameters."""
        return DiagonalGaussian(*(tf.stop_gradient(field) for field in gaussian))

    def loss(self, reconstruction, divergence, weights):
        """See `Objective.loss`."""
        log_weights = self._log_weights(reconstruction, divergence, weights)
        return self._estimator.loss(log_weights)


def _as_arguments(weights: LossWeights) -> dict:
    return {
        "weights": weights.reconstruction,
        "beta": weights.beta,
        "beta_content": weights.content,
        "beta_styles": weights.styles,
    }


#: Values of a model's argument `objective`.
OBJECTIVES: dict[str, type[Objective]] = {
    "elbo": Objective,
    "iwae": ImportanceWeighted,
    "dreg": DReG,
}
