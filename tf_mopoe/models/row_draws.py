"""Draws that depend on a row and its own seed alone, whatever it is batched with.

In serving, rows of several requests are answered together; `impute` and `sample` draw
the same way.
"""

import keras
import tensorflow as tf

from tf_mopoe.distributions import noise
from tf_mopoe.distributions.components import component_at
from tf_mopoe.models.batches import Batch
from tf_mopoe.models.log_likelihood import MAX_ELEMENTS, gathered
from tf_mopoe.objectives.importance_sampling import estimate_from_weights

#: Of so many rows as many samples are weighed at a time as `MAX_ELEMENTS` allows.
ROWS = 64


class RowDrawsMixin(keras.Model):
    """Methods of `MultimodalVAE` with one seed a row; networks in inference mode.

    All may be called in a `tf.function`, with a number of rows that is not known.
    """

    def impute_by_row(
        self, batch: Batch, seeds: tf.Tensor, num_samples: int | None = None
    ) -> dict[str, tf.Tensor]:
        """Every modality given what is present in each row; see `impute`.

        Args:
          batch: What `unpack_batch` gave.
          seeds: int64 `[B]`.
          num_samples: Number of draws K of the latents; None for one.

        Returns:
          Modality name to means `[K, B, *event_shape]`, of None `[B, *event_shape]`;
          see `call`.
        """
        encoded = self._encode_batch(batch)
        components, weights = self._proposal_components(encoded, batch, None)
        points, normals = self._draws_by_row(seeds, num_samples or 1)
        z = gathered(components, component_at(weights, points), normals[""])
        styles = {
            name: style.loc + tf.exp(style.log_scale) * normals[name]
            for name, style in self._styles(encoded, batch).items()
        }
        if num_samples is None:
            z, styles = z[0], {name: style[0] for name, style in styles.items()}
        return self.decode(z, styles)

    def sample_by_row(self, seeds: tf.Tensor) -> dict[str, tf.Tensor]:
        """Every modality from the prior, as `sample`: one draw a seed.

        Args:
          seeds: int64 `[B]`.

        Returns:
          Modality name to `[B, *event_shape]`, means; see `call`.
        """
        normals = {name: x[0] for name, x in self._draws_by_row(seeds, 1)[1].items()}
        return self.decode(normals.pop(""), normals)

    def log_likelihood_by_row(
        self, batch: Batch, seeds: tf.Tensor, num_samples: int
    ) -> tf.Tensor:
        """log p of what is present in each row, as `log_likelihood` estimates it.

        Args:
          batch: What `unpack_batch` gave.
          seeds: int64 `[B]`.
          num_samples: K, importance samples from the posterior, at least 1.

        Returns:
          Nats, float64 `[B]`.
        """
        row = self._numbers_of_a_sample()
        per_step = max(1, min(num_samples, MAX_ELEMENTS // (ROWS * row)))
        steps = -(-num_samples // per_step)
        log_weights = self._log_weights(
            batch.values,
            batch.present,
            noise.seed_pairs(seeds),
            steps=steps,
            per_step=-(-num_samples // steps),
            names=None,
        )
        return estimate_from_weights(log_weights[:num_samples]).log_likelihood

    def _draws_by_row(self, seeds: tf.Tensor, count: int):
        """Points `[K, B]` and normals `[K, B, D]`, of z under the name ""."""
        sizes = {m.name: m.style_dim for m in self.modalities if m.style_dim}
        return noise.draws_by_row(
            noise.seed_pairs(seeds),
            count,
            {"": self.latent_dim, **sizes},
            self._latent_type(),
        )
