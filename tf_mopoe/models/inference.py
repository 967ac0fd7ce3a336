"""What a trained model is asked: posterior, encoding, imputation, samples."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mopoe.distributions import DiagonalGaussian, MixtureOfProductsOfExperts
from tf_mopoe.distributions.components import stateless_seed
from tf_mopoe.layers import SubsetProductOfExperts
from tf_mopoe.models.batches import Batch, unpack_batch


class InferenceMixin(keras.Model):
    """Inference methods of `MultimodalVAE`; networks run in inference mode."""

    def call(self, inputs: Mapping[str, Any], training: bool = False):
        """Reconstructs every modality from the posterior mean.

        Args:
          inputs: A batch, any modalities missing.
          training: Whether networks run in training mode.

        Returns:
          Modality name to the likelihood's mean, `[B, *event_shape]`.
        """
        batch = unpack_batch(inputs, self.modalities, self.latent_dtype)
        return self.decode(
            self.posterior_of(batch, training=training).mean(), training=training
        )

    def posterior(self, inputs: Mapping[str, Any]) -> MixtureOfProductsOfExperts:
        """q(z | X): the mixture over the subsets of what is present in each row.

        Args:
          inputs: A batch, any modalities missing.

        Returns:
          A `tfd.Distribution` of batch `[B]` and event `[D]`.

        Raises:
          TypeError, ValueError: If the batch is not as the class describes.
        """
        return self.posterior_of(
            unpack_batch(inputs, self.modalities, self.latent_dtype)
        )

    def posterior_of(
        self, batch: Batch, *, training: bool = False
    ) -> MixtureOfProductsOfExperts:
        """As `posterior`, of a batch that `unpack_batch` has checked."""
        loc, log_scale = self._experts(batch, training=training)
        return MixtureOfProductsOfExperts(
            loc,
            tf.exp(log_scale),
            batch.present,
            subsets=self.subsets,
            prior_expert=self.prior_expert,
        )

    def subset_posteriors(self, inputs: Mapping[str, Any]) -> DiagonalGaussian:
        """q_S(z | x_S) of all 2^M - 1 non-empty subsets, whichever the model mixes.

        Args:
          inputs: A batch, any modalities missing.

        Returns:
          `loc` and `log_scale` `[B, 2^M - 1, D]`, in the order of `membership_mask`; a
          subset that can't be formed in a row stands as N(0, I).
        """
        batch = unpack_batch(inputs, self.modalities, self.latent_dtype)
        layer = SubsetProductOfExperts(
            prior_expert=self.prior_expert, dtype=self.latent_dtype
        )
        return layer(self._experts(batch), batch.present)

    def encode(self, inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Mean and standard deviation of the posterior.

        Args:
          inputs: A batch, any modalities missing.

        Returns:
          `{"loc": [B, D], "scale": [B, D]}`, the mixture's moments.
        """
        posterior = self.posterior(inputs)
        return {"loc": posterior.mean(), "scale": posterior.stddev()}

    def decode(self, z: tf.Tensor, *, training: bool = False) -> dict[str, tf.Tensor]:
        """Mean of every modality's likelihood given latents.

        Args:
          z: `[..., D]`.
          training: Whether networks run in training mode.

        Returns:
          Modality name to `[..., *event_shape]`.
        """
        z = tf.convert_to_tensor(z, self.latent_dtype)
        return {
            name: self.decode_modality(name, z, training=training)
            for name in self.modality_names
        }

    def decode_modality(
        self, name: str, z: tf.Tensor, *, training: bool = False
    ) -> tf.Tensor:
        """Mean of one modality's likelihood given latents; runs one decoder.

        Args:
          name: Of the modality.
          z: `[..., D]`.
          training: Whether the network runs in training mode.

        Returns:
          `[..., *event_shape]`.

        Raises:
          ValueError: If the model has no such modality.
        """
        if name not in self.modality_names:
            raise ValueError(
                f"`name` must be one of {list(self.modality_names)}. "
                f"Received: {name!r}."
            )
        z = tf.convert_to_tensor(z, self.latent_dtype)
        index = self.modality_names.index(name)
        flat = tf.reshape(z, [-1, self.latent_dim])
        mean = self._likelihood(index, flat, training=training).mean()
        event_shape = self.modalities[index].event_shape
        shape = tf.concat([tf.shape(z)[:-1], event_shape], axis=0)
        return tf.ensure_shape(
            tf.reshape(mean, shape), z.shape[:-1].concatenate(event_shape)
        )

    def impute(
        self,
        inputs: Mapping[str, Any],
        num_samples: int = 1,
        *,
        seed: int | None = None,
    ) -> dict[str, tf.Tensor]:
        """Every modality given the observed ones: z ~ q(z|X), then the mean of p(x|z).

        Args:
          inputs: A batch, any modalities missing.
          num_samples: Number of draws K of z for each row, at least 1.
          seed: The same seed gives the same draws; None draws anew.

        Returns:
          Modality name to `[K, B, *event_shape]`; observed modalities too.

        Raises:
          ValueError: If `num_samples` < 1, or the batch is not as described.
        """
        _check_count("num_samples", num_samples)
        z = self.posterior(inputs).sample(num_samples, seed=stateless_seed(seed))
        return self.decode(z)

    def sample(self, n: int, *, seed: int | None = None) -> dict[str, tf.Tensor]:
        """Every modality from the prior: z ~ N(0, I), then the mean of p(x | z).

        Args:
          n: Number of draws, at least 1.
          seed: The same seed gives the same draws; None draws anew.

        Returns:
          Modality name to `[n, *event_shape]`; row i of all comes from one z.

        Raises:
          ValueError: If `n` < 1.
        """
        _check_count("n", n)
        z = tf.random.stateless_normal(
            [n, self.latent_dim], stateless_seed(seed), dtype=self.latent_dtype
        )
        return self.decode(z)


def _check_count(name: str, count: int) -> None:
    if not isinstance(count, (int, np.integer)) or count < 1:
        raise ValueError(
            f"`{name}` must be a whole number from 1. Received: {count!r}."
        )
