"""The mmJSD: experts and prior in a mixture, drawn towards their geometric mean."""

import keras
import numpy as np
import tensorflow as tf

from tf_mopoe.distributions.gaussians import (
    DiagonalGaussian,
    kl_divergence,
    subset_products,
)
from tf_mopoe.models.fixed_fusion import FixedFusionVAE


@keras.saving.register_keras_serializable(package="tf_mopoe")
class MMJSD(FixedFusionVAE):
    """Multimodal Jensen-Shannon divergence VAE, with the geometric dynamic prior.

        q(z|X) = (p(z) + sum_{m present} q_m(z|x_m)) / (n + 1),   n modalities present

    The loss has, in place of a divergence from the prior, the Jensen-Shannon form

        1/(n+1) (KL(p || f) + sum_m KL(q_m || f)),   f proportional to
                                                     (p prod_m q_m)^(1/(n+1))

    f is the dynamic prior. As in the published code the prior N(0, I) is a component of
    the mixture, so `posterior`, `encode` and `impute` mix it in with weight 1/(n+1);
    `subset_posteriors` has products of experts without it. Importance-weighted
    objectives have p(z) as their prior: the dynamic one has no part in them.

    See `MultimodalVAE` for arguments (but for `subsets` and `prior_expert`, which are
    fixed) and batches.

    Source: Sutter, Daunhawer, Vogt, Multimodal Generative Learning Utilizing
    Jensen-Shannon-Divergence, NeurIPS 2020.

    Example:
      >>> model = MMJSD([Modality("a", (4,)), Modality("b", (6,))], latent_dim=2)
      >>> model.compile("adam")
      >>> x = {"a": np.zeros([8, 4], "float32"), "b": np.ones([8, 6], "float32")}
      >>> history = model.fit(x, verbose=0)
      >>> model.predict({"b": x["b"]}, verbose=0)["a"].shape
      (8, 4)
    """

    FIXED = {"subsets": "singletons_and_prior", "prior_expert": "none"}

    def __init__(self, modalities, latent_dim, **kwargs):
        """Makes and builds the model.

        Args:
          modalities: At least two; see `MultimodalVAE`.
          latent_dim: See `MultimodalVAE`.
          **kwargs: Arguments of `MultimodalVAE` but for `subsets` and `prior_expert`.

        Raises:
          ValueError, TypeError: If an argument is not as described.
        """
        super().__init__(modalities, latent_dim, **kwargs)
        if len(self.modalities) < 2:
            raise ValueError(
                "`modalities` of MMJSD must be at least two: of one, half of all draws "
                "would come from the prior. MoPoEVAE of one is an ordinary VAE."
            )

    def divergence(self, components, weights):
        """The Jensen-Shannon form, nats, `[B]`; components the prior, then experts."""
        is_present = weights > 0.0  # [B, M + 1]
        experts = DiagonalGaussian(*(field[:, 1:] for field in components))
        count = experts.loc.shape[1]
        product = subset_products(
            experts.loc,
            experts.log_scale,
            np.ones([1, count], bool),
            with_prior=np.array([True]),
            present=is_present[:, 1:],
        )  # [B, 1, D]
        terms = tf.reduce_sum(tf.cast(is_present, weights.dtype), -1)  # n + 1
        terms = terms[:, tf.newaxis, tf.newaxis]
        dynamic_prior = DiagonalGaussian(
            product.loc, product.log_scale + 0.5 * tf.math.log(terms)
        )
        return tf.reduce_sum(weights * kl_divergence(components, dynamic_prior), -1)
