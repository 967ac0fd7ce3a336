"""The MVAE: one product of experts over everything present."""

import math

import keras
import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.distributions import noise
from tf_mopoe.distributions.gaussians import subset_products
from tf_mopoe.models.bounds import View
from tf_mopoe.models.fixed_fusion import FixedFusionVAE


@keras.saving.register_keras_serializable(package="tf_mopoe")
class MVAE(FixedFusionVAE):
    """Product-of-experts VAE.

        q(z|X) proportional to N(0, I) prod_{m present} q_m(z|x_m)

    A product alone leaves the experts of single modalities untrained, so the loss adds
    further bounds, each with the product of some of what is present as its posterior
    and those modalities to explain:

        loss(X) + sum_m loss({x_m}) + sum_{j <= k} loss(X_{S_j})

    The first sum is `unimodal_elbos`, as in the published code of Sutter et al.; the
    second `random_subset_elbos`, S_j drawn anew for each row and step, uniformly from
    the subsets of two to M - 1 modalities. Encoders run once for all of them, and so do
    decoders, on the latents of every bound that needs them.

    Metrics other than `loss` are those of the first bound.

    Source: Wu and Goodman, Multimodal Generative Models for Scalable Weakly-Supervised
    Learning, NeurIPS 2018.
    """

    FIXED = {"subsets": "full", "prior_expert": "every_subset"}

    FIXED_SETTINGS = (
        *FixedFusionVAE.FIXED_SETTINGS,
        *("unimodal_elbos", "random_subset_elbos"),
    )

    def __init__(
        self,
        modalities,
        latent_dim,
        *,
        unimodal_elbos: bool = True,
        random_subset_elbos: int = 0,
        **kwargs,
    ):
        """Makes and builds the model.

        Args:
          modalities: See `MultimodalVAE`.
          latent_dim: See `MultimodalVAE`.
          unimodal_elbos: Whether the loss has a bound for each modality alone.
          random_subset_elbos: Number k of bounds for random subsets, 0 or more; needs
            three modalities.
          **kwargs: Of `MultimodalVAE`, but for `subsets` and `prior_expert`.

        Raises:
          ValueError, TypeError: If an argument is not as described.
        """
        super().__init__(modalities, latent_dim, **kwargs)
        count = whole_number("random_subset_elbos", random_subset_elbos)
        if count and len(self.modalities) < 3:
            raise ValueError(
                "`random_subset_elbos` needs at least three modalities: of two, the "
                f"subsets are all or one. Received: {len(self.modalities)} modalities."
            )
        self.unimodal_elbos = bool(unimodal_elbos)
        self.random_subset_elbos = count

    def views(self, experts, batch, seed):
        """The joint bound, one for each modality, one for each random subset."""
        [joint] = super().views(experts, batch, seed)
        count = len(self.modalities)
        present = batch.present
        if present is None:
            present = tf.ones(tf.shape(experts.loc)[:-1], tf.bool)
        masks = []
        if self.unimodal_elbos:
            masks += [
                (tf.constant(np.arange(count) == index)[tf.newaxis], (name,))
                for index, name in enumerate(self.modality_names)
                if name in batch.values
            ]
        for number in range(self.random_subset_elbos):
            drawn = random_subsets(
                tf.shape(experts.loc)[0],
                count,
                noise.fold_in(seed, number),
                replica=batch.replica,
            )
            masks.append((drawn, tuple(batch.values)))
        return [joint] + [
            self._view(experts, present & mask, names) for mask, names in masks
        ]

    def _view(self, experts, present, names):
        """The bound with the product of what is `present` `[B, M]`."""
        full = np.ones([1, len(self.modalities)], bool)
        components = subset_products(
            experts.loc,
            experts.log_scale,
            full,
            with_prior=np.array([True]),
            present=present,
        )
        # A row without any of the modalities has N(0, I): nothing diverges or counts.
        weights = tf.ones_like(components.loc[..., 0])
        return View(components, weights, present, names)

    def get_config(self):
        """The constructor's arguments, with the networks that were built."""
        return {
            **super().get_config(),
            "unimodal_elbos": self.unimodal_elbos,
            "random_subset_elbos": self.random_subset_elbos,
        }


def random_subsets(
    rows: int | tf.Tensor,
    count: int,
    seed: tf.Tensor,
    *,
    replica: noise.ReplicaSlice | None = None,
) -> tf.Tensor:
    """Draws subsets of 2 to M - 1 of M modalities uniformly, bool `[rows, M]`.

    A size with the probability of all subsets of that size, then members in a random
    order: no list of 2^M subsets is made.
    """
    size_seed, order_seed = noise.split_seed(seed)
    counts = np.array([math.comb(count, size) for size in range(2, count)], float)
    upto = np.cumsum(counts / counts.sum())
    point = noise.uniform_for(size_seed, rows, 1, tf.float64, replica)
    size = 2 + tf.reduce_sum(tf.cast(upto[:-1] <= point, tf.int32), axis=-1)
    rank = tf.argsort(noise.uniform_for(order_seed, rows, count, replica=replica))
    return rank < size[:, tf.newaxis]
