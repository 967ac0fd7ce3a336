"""From a batch to what every model's loss is made of.

For all models but `MMJSD`, with weights of 1 and complete rows, that is a lower bound
on log p(X) in expectation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from tf_mopoe.distributions import DiagonalGaussian, kl_to_standard_normal, noise
from tf_mopoe.distributions.gaussians import log_density
from tf_mopoe.distributions.subset_draws import DrawnSubsets, draw_subsets
from tf_mopoe.models.batches import Batch
from tf_mopoe.objectives import (
    DoublyReparameterized,
    log_importance_weights,
    negative_elbo,
    negative_iwae,
)
from tf_mopoe.subsets import SubsetSampler, available_subsets

#: What `objective` of a model may be.
OBJECTIVES = ("elbo", "iwae", "dreg")


class View(NamedTuple):
    """A posterior, and the modalities that a bound with it explains.

    Attributes:
      components: Subset posteriors, `[B, S, D]`.
      weights: `[B, S]`, rows of sum 1, or 0 where none can be formed.
      present: bool `[B, M]`: which modalities count in which row; None for all.
      names: The modalities to decode.
      drawn: The subsets, where a sampler has drawn them.
    """

    components: DiagonalGaussian
    weights: tf.Tensor
    present: tf.Tensor | None
    names: tuple[str, ...]
    drawn: DrawnSubsets | None = None


class BoundTerms(NamedTuple):
    """What a bound is made of: nats, 0 where a modality is missing.

    Attributes:
      log_likelihoods: Modality name to log p(x_m | z, s_m), `[K, B]`.
      kl_bound: The divergence of the shared latent's posterior, `[B]`.
      style_kls: Modality name to KL(q(s_m | x_m) || p), `[B]`.
      log_ratio: log p(z) - log q(z | X), `[K, B]`; None for the ELBO, as the next.
      style_log_ratios: Modality name to log p(s_m) - log q(s_m | x_m), `[K, B]`.
    """

    log_likelihoods: dict[str, tf.Tensor]
    kl_bound: tf.Tensor
    style_kls: dict[str, tf.Tensor]
    log_ratio: tf.Tensor | None
    style_log_ratios: dict[str, tf.Tensor]

    def weighted(self, weights: tf.Tensor) -> "BoundTerms":
        """Every term of row b times `weights[b]`."""
        return self._replace(
            log_likelihoods={k: x * weights for k, x in self.log_likelihoods.items()},
            kl_bound=self.kl_bound * weights,
            style_kls={k: x * weights for k, x in self.style_kls.items()},
        )


class BoundsMixin(keras.Model):
    """The bounds of `MultimodalVAE`: posterior, samples, terms, objective."""

    def views(
        self, experts: DiagonalGaussian, batch: Batch, seed: tf.Tensor
    ) -> list[View]:
        """The bounds that the loss adds up, the joint posterior's first.

        One of several components has the batch's `present`: on several replicas
        components are drawn for the whole batch.

        Args:
          experts: Unimodal posteriors `[B, M, D]`.
          batch: From `unpack_batch`.
          seed: int32 `[2]` or `[B, 2]`: seed of what is drawn besides z.
        """
        present, drawn = batch.present, None
        if isinstance(self.subsets, SubsetSampler):
            rows = tf.shape(experts.loc)[:-1]
            drawn = draw_subsets(
                self.subsets,
                tf.ensure_shape(
                    tf.ones(rows, tf.bool) if present is None else present,
                    [None, len(self.modalities)],
                ),
                seed,
                dtype=experts.loc.dtype,
                replica=batch.replica,
            )
        components = self.subset_product_of_experts(experts, present, drawn=drawn)
        if drawn is not None:
            weights = drawn.weights
        elif present is None:
            weights = tf.ones_like(components.loc[..., 0]) / len(self.mask)
        else:
            available = available_subsets(self.mask, present)
            weights = _normalized(tf.cast(available, components.loc.dtype))
        return [View(components, weights, present, tuple(batch.values), drawn)]

    def divergence(self, components: DiagonalGaussian, weights: tf.Tensor) -> tf.Tensor:
        """Sum_S w_S KL(q_S || p), nats.

        Args:
          components: `[B, S, D]`.
          weights: `[B, S]`.

        Returns:
          `[B]`.
        """
        return tf.reduce_sum(weights * kl_to_standard_normal(components), axis=-1)

    def negative_bounds(
        self,
        batch: Batch,
        seed: tf.Tensor,
        *,
        beta: float | tf.Tensor = 1.0,
        training: bool = False,
    ) -> tuple[tf.Tensor, BoundTerms]:
        """The loss of every row, and the terms of the joint posterior's bound.

        Args:
          batch: From `unpack_batch`.
          seed: int32 `[2]` for the batch, or `[B, 2]`, one for each row: the same seed
            gives the same noise.
          beta: Weight of all divergences.
          training: Whether networks run in training mode.

        Returns:
          Nats `[B]`, and the terms.
        """
        encoded = self._encode_batch(batch, training=training)
        view_seed, z_seed, style_seed = noise.split_seed(seed, 3)
        views = self.views(encoded.experts, batch, view_seed)
        estimators = [DoublyReparameterized() for _ in views]
        zs = [
            self._through(
                estimator,
                self.mixture_of_experts(
                    view.components,
                    view.present,
                    seed=noise.fold_in(z_seed, index),
                    drawn=view.drawn,
                    num_samples=self.num_samples,
                    replica=batch.replica,
                )[0],
                beta * self.beta_content,
            )
            for index, (view, estimator) in enumerate(zip(views, estimators))
        ]  # [K, B, D]
        styles = {
            name: self._draw_styles(
                name,
                encoded.styles[name],
                views,
                estimators,
                style_seed,
                beta,
                batch.replica,
            )
            for name in encoded.styles
        }  # [K, B, D_m] for every view that has the modality
        log_likelihoods = self._log_likelihoods(batch, views, zs, styles, training)
        every_terms = [
            self._terms(
                view,
                zs[index],
                log_likelihoods[index],
                encoded.styles,
                {
                    name: drawn[index]
                    for name, drawn in styles.items()
                    if index in drawn
                },
            )
            for index, view in enumerate(views)
        ]
        rows = [
            self._objective(terms, estimator, beta)
            for terms, estimator in zip(every_terms, estimators)
        ]
        return tf.add_n(rows), every_terms[0]

    def _through(self, estimator: DoublyReparameterized, samples: tf.Tensor, factor):
        """The samples; for DReG `factor` is the weight of their log q in log w."""
        if self.objective != "dreg":
            return samples
        return estimator.path(samples, factor)

    def _draw_styles(
        self, name, style: DiagonalGaussian, views, estimators, seed, beta, replica
    ):
        """View's index to s_m ~ q(s_m | x_m), `[K, B, D_m]`."""
        seed = noise.fold_in(seed, self.modality_names.index(name))
        drawn = {}
        for index, (view, estimator) in enumerate(zip(views, estimators)):
            if name in view.names:
                normal = noise.normal_for(
                    noise.fold_in(seed, index), self.num_samples, style.loc, replica
                )
                s = style.loc + tf.exp(style.log_scale) * normal
                factor = beta * self.beta_styles[name]
                drawn[index] = self._through(estimator, s, factor)
        return drawn

    def _log_likelihoods(
        self, batch: Batch, views: Sequence[View], zs, styles, training: bool
    ) -> list[dict[str, tf.Tensor]]:
        """For each view, modality name to log p(x_m | z, s_m), `[K, B]`.

        Each decoder runs once, on the latents of all views that have its modality.
        """
        results: list[dict[str, tf.Tensor]] = [{} for _ in views]
        for index, name in enumerate(self.modality_names):
            mine = [number for number, view in enumerate(views) if name in view.names]
            if not mine:
                continue
            z = tf.stack([zs[number] for number in mine])  # [V, K, B, D]
            style = None
            if name in styles:
                style = tf.stack([styles[name][number] for number in mine])
            parameters = self._decode_parameters(index, z, style, training=training)
            likelihood = self._likelihood(index, parameters)
            values = tf.unstack(likelihood.log_prob(batch.values[name]), num=len(mine))
            for number, value in zip(mine, values):  # [K, B]
                results[number][name] = self._where_present(views[number], name, value)
        return results

    def _where_present(self, view: View, name: str, value: tf.Tensor) -> tf.Tensor:
        """The value, 0 in rows where the view does not have the modality."""
        if view.present is None:
            return value
        here = view.present[:, self.modality_names.index(name)]
        return tf.where(here, value, tf.zeros([], value.dtype))

    def _terms(self, view: View, z, log_likelihoods, style_experts, styles):
        """The view's `BoundTerms`; `styles` are its samples, by modality."""
        log_ratio, style_log_ratios = None, {}
        if self.objective != "elbo":
            prior = DiagonalGaussian(tf.zeros([], z.dtype), tf.zeros([], z.dtype))
            log_ratio = log_density(prior, z) - self._log_mixture(view, z)
            for name, s in styles.items():
                ratio = log_density(prior, s) - log_density(
                    self._proposal(style_experts[name]), s
                )
                style_log_ratios[name] = self._where_present(view, name, ratio)
        return BoundTerms(
            log_likelihoods,
            self.divergence(view.components, view.weights),
            {
                name: self._where_present(
                    view, name, kl_to_standard_normal(style_experts[name])
                )
                for name in styles
            },
            log_ratio,
            style_log_ratios,
        )

    def _log_mixture(self, view: View, z: tf.Tensor) -> tf.Tensor:
        """log q(z | X) of the whole mixture, `[K, B]`, for z `[K, B, D]`."""
        # Where no subset can be formed all components are N(0, I): any weights do.
        some = tf.reduce_any(view.weights > 0.0, axis=-1, keepdims=True)
        weights = tf.where(some, view.weights, 1.0 / view.weights.shape[-1])
        log_densities = log_density(
            self._proposal(view.components), z[..., tf.newaxis, :]
        )  # [K, B, S]
        return tf.reduce_logsumexp(tf.math.log(weights) + log_densities, axis=-1)

    def _proposal(self, gaussian: DiagonalGaussian) -> DiagonalGaussian:
        """For DReG without a gradient into its own parameters."""
        if self.objective != "dreg":
            return gaussian
        return DiagonalGaussian(*(tf.stop_gradient(field) for field in gaussian))

    def _objective(
        self, terms: BoundTerms, estimator: DoublyReparameterized, beta
    ) -> tf.Tensor:
        """Nats `[B]`, to be minimised."""
        factors = {
            "weights": self.reconstruction_weights,
            "beta": beta,
            "beta_content": self.beta_content,
            "beta_styles": self.beta_styles,
        }
        if self.objective == "elbo":
            means = {
                name: tf.reduce_mean(value, axis=0)
                for name, value in terms.log_likelihoods.items()
            }
            return negative_elbo(
                means, terms.kl_bound, style_kls=terms.style_kls, **factors
            )
        log_weights = log_importance_weights(
            terms.log_likelihoods,
            terms.log_ratio,
            style_log_ratios=terms.style_log_ratios,
            **factors,
        )
        if self.objective == "dreg":
            return estimator.loss(log_weights)
        return negative_iwae(log_weights)


def _normalized(weights: tf.Tensor) -> tf.Tensor:
    """Rows of sum 1; rows of zeros stay."""
    return tf.math.divide_no_nan(
        weights, tf.reduce_sum(weights, axis=-1, keepdims=True)
    )
