"""The loss and its terms as running means over rows."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_mopoe.models.batches import Batch
from tf_mopoe.models.bounds import BoundTerms


class LossMetrics:
    """Running means of the loss, of its terms and of beta.

    All count rows, so that they are the same on any number of replicas.

    Attributes:
      all: The Keras metrics, in the order of Keras's logs.
    """

    def __init__(self, names: Sequence[str], names_with_style: Sequence[str]):
        """Makes the metrics.

        Args:
          names: Names of the modalities.
          names_with_style: Names of those that have a style.
        """
        self._names = list(names)
        self._loss = keras.metrics.Mean(name="loss")
        self._log_likelihoods = {
            name: keras.metrics.Mean(name=f"{name}_log_likelihood") for name in names
        }
        self._style_kls = {
            name: keras.metrics.Mean(name=f"{name}_style_kl")
            for name in names_with_style
        }
        self._kl_bound = keras.metrics.Mean(name="kl_bound")
        self._beta = keras.metrics.Mean(name="beta")
        self.all = [
            self._loss,
            *self._log_likelihoods.values(),
            *self._style_kls.values(),
            self._kl_bound,
            self._beta,
        ]

    def update(
        self,
        loss: tf.Tensor,
        terms: BoundTerms,
        beta: tf.Tensor,
        batch: Batch,
        row_weights: tf.Tensor | None = None,
    ) -> None:
        """Counts the rows of a batch.

        Args:
          loss: Scalar, mean over the rows.
          terms: Terms of the joint posterior's bound.
          beta: Weight of all divergences.
          batch: The batch.
          row_weights: Factors of the rows' terms, `[B]`.
        """
        rows = tf.shape(terms.divergence.content)[0]
        self._loss.update_state(loss, sample_weight=rows)
        self._beta.update_state(beta, sample_weight=rows)
        factor = 1.0 if row_weights is None else row_weights
        self._kl_bound.update_state(terms.divergence.content * factor)
        for name, value in terms.reconstruction.items():
            mean = tf.reduce_mean(value, axis=0) * factor
            self._update_present(self._log_likelihoods[name], name, mean, batch)
        for name, value in terms.divergence.styles.items():
            self._update_present(self._style_kls[name], name, value * factor, batch)

    def _update_present(self, metric, name: str, value: tf.Tensor, batch: Batch):
        """Counts the rows in which the modality is present."""
        is_present = None
        if batch.present is not None:
            is_present = batch.present[:, self._names.index(name)]
        metric.update_state(value, sample_weight=is_present)
