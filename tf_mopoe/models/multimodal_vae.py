"""The base of all multimodal VAEs: networks, training loop, loss."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mopoe import nets
from tf_mopoe.distributions import DiagonalGaussian, kl_to_standard_normal
from tf_mopoe.distributions.likelihoods import LIKELIHOODS, make_likelihood
from tf_mopoe.layers import GaussianExpert, MixtureOfExperts, SubsetProductOfExperts
from tf_mopoe.modality import Modality
from tf_mopoe.models.batches import Batch, readable_errors, unpack_batch
from tf_mopoe.models.inference import InferenceMixin
from tf_mopoe.objectives import negative_elbo
from tf_mopoe.subsets import SubsetSpec, available_subsets, membership_mask


class ElboTerms(NamedTuple):
    """What the loss is made of.

    Attributes:
      log_likelihoods: Modality name to log p(x_m | z) in nats, `[B]`, 0 where missing.
      kl_bound: Sum_S w_S KL(q_S || p) in nats, `[B]`.
    """

    log_likelihoods: dict[str, tf.Tensor]
    kl_bound: tf.Tensor


class MultimodalVAE(InferenceMixin, keras.Model):
    """A VAE with one latent for several modalities, any of which may be missing.

    Every modality has an encoder, whose features two dense heads turn into a Gaussian
    expert, and a decoder. Subclasses say which subsets of experts are mixed.

    Batches, in every method: a dictionary of modality name to floating
    `[B, *event_shape]`. A modality may be missing from the whole batch (no key) or in
    some rows (`"present": {name: bool [B]}`); rows with nothing present have the prior
    as their posterior. Labels beside the dictionary, `(x, y)`, are not used.

    The loss is, in nats, the mean over rows of

        sum_m r_m (-log p(x_m | z)) + beta sum_S w_S KL(q_S || p),   z ~ q(z | X)

    and its terms are metrics: `loss`, `<modality>_log_likelihood` (mean over the rows
    in which the modality is present), `kl_bound`, `beta`.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        *,
        beta: float = 1.0,
        subsets: SubsetSpec | Sequence[Sequence[str]] = "nonempty",
        prior_expert: str = "full_set",
        component_draw: str = "stratified",
        seed: int | None = None,
        **kwargs,
    ):
        """Makes and builds the model.

        Args:
          modalities: At least one `Modality`, with different names.
          latent_dim: Size of the latent, D, at least 1.
          beta: Weight of the divergence, 0 or more.
          subsets: Which subsets' posteriors are mixed; a family's name (see
            `tf_mopoe.subsets.membership_mask`) or lists of modality names or indices.
          prior_expert: Where N(0, I) is one more expert: `"full_set"`, `"none"`,
            `"every_subset"`.
          component_draw: `"stratified"` or `"contiguous"`; see `MixtureOfExperts`.
          seed: Of the noise in training. The noise of a step depends on this and the
            step's number alone, so a resumed run goes on as if it had not stopped.
            None: drawn from Python's generator, which
            `keras.utils.set_random_seed` seeds.
          **kwargs: Of `keras.Model`: `name`, `dtype`.

        Raises:
          ValueError, TypeError: If an argument is not as described, or an encoder's
            or decoder's output does not fit.
        """
        super().__init__(**kwargs)
        self.modalities = _checked_modalities(modalities)
        if not isinstance(latent_dim, int) or latent_dim < 1:
            raise ValueError(
                f"`latent_dim` must be a whole number from 1. Received: {latent_dim!r}."
            )
        if not beta >= 0:
            raise ValueError(f"`beta` must be 0 or more. Received: {beta!r}.")
        self.latent_dim = latent_dim
        self.beta = float(beta)
        self.subsets = self._subsets_by_index(subsets)
        self.prior_expert = prior_expert
        self.component_draw = component_draw
        self.seed = random.randrange(2**31) if seed is None else int(seed)
        self.mask = membership_mask(len(self.modalities), self.subsets)  # [S, M]
        # Latent arithmetic is in float32 under every 16-bit policy.
        self.latent_dtype = "float64" if self.variable_dtype == "float64" else "float32"
        self._build_networks()
        self._build_fusion(component_draw)
        self._build_metrics()
        self.built = True

    def _build_fusion(self, component_draw):
        self.subset_product_of_experts = SubsetProductOfExperts(
            self.subsets, prior_expert=self.prior_expert, dtype=self.latent_dtype
        )
        self.mixture_of_experts = MixtureOfExperts(
            self.subsets, component_draw=component_draw, dtype=self.latent_dtype
        )
        shape = (len(self.modalities), self.latent_dim)
        experts = [keras.Input(shape, dtype=self.latent_dtype) for _ in range(2)]
        self.mixture_of_experts(self.subset_product_of_experts(experts))

    @property
    def modality_names(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(modality.name for modality in self.modalities)

    def _subsets_by_index(self, subsets):
        if isinstance(subsets, str):
            return subsets
        names = list(self.modality_names)
        unknown = {m for s in subsets for m in s if isinstance(m, str)} - set(names)
        if unknown:
            raise ValueError(
                f"`subsets` names unknown modalities {sorted(unknown)}; this model has "
                f"{names}."
            )
        return [
            [names.index(m) if isinstance(m, str) else int(m) for m in subset]
            for subset in subsets
        ]

    def _build_networks(self):
        self.encoders, self.experts, self.decoders = [], [], []
        complete = []
        for modality in self.modalities:
            name, shape = modality.name, modality.event_shape
            encoder = modality.encoder or nets.default_encoder(
                shape, name=f"{name}_encoder"
            )
            decoder = modality.decoder or nets.default_decoder(
                shape, self.latent_dim, name=f"{name}_decoder"
            )
            expert = GaussianExpert(
                self.latent_dim, dtype=self.latent_dtype, name=f"{name}_expert"
            )
            expert(encoder(keras.Input(shape)))  # builds both, whatever they are
            output = decoder(keras.Input((self.latent_dim,)))
            if tuple(getattr(output, "shape", ())[1:]) != shape:
                raise ValueError(
                    f"The decoder of modality {name!r} must return shape "
                    f"{('B', *shape)}. Received: {getattr(output, 'shape', output)}."
                )
            self.encoders.append(encoder)
            self.experts.append(expert)
            self.decoders.append(decoder)
            complete.append(
                dataclasses.replace(modality, encoder=encoder, decoder=decoder)
            )
        # With the networks chosen for it, so that a saved model names them.
        self.modalities = tuple(complete)

    def _build_metrics(self):
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.log_likelihood_trackers = [
            keras.metrics.Mean(name=f"{name}_log_likelihood")
            for name in self.modality_names
        ]
        self.kl_bound_tracker = keras.metrics.Mean(name="kl_bound")
        self.beta_tracker = keras.metrics.Mean(name="beta")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The loss and each of its terms."""
        return [
            self.loss_tracker,
            *self.log_likelihood_trackers,
            self.kl_bound_tracker,
            self.beta_tracker,
        ]

    def compile(
        self,
        optimizer="adam",
        *,
        jit_compile: bool = False,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        **kwargs,
    ):
        """Configures training. The loss is the model's own.

        Args:
          optimizer: A Keras optimizer or its name.
          jit_compile: Whether XLA compiles the step.
          run_eagerly: Whether to run without `tf.function`, for debugging.
          steps_per_execution: As in Keras.
          **kwargs: `auto_scale_loss`, as in Keras.

        Raises:
          ValueError: If `loss` or `metrics` are given.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.pop(name, None) is not None:
                raise ValueError(
                    f"`{name}` is not for this model: its loss is the negative ELBO, "
                    "its metrics are the terms of that. Set weights in `Modality` and "
                    "`beta`; compute other metrics in a callback."
                )
        super().compile(
            optimizer=optimizer,
            jit_compile=jit_compile,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            **kwargs,
        )

    def compile_from_config(self, config: dict[str, Any]):
        """Compiles as a saved model was; Keras asks for this beside a `compile`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, *args, **kwargs):
        """As `keras.Model.fit`, on batches as the class describes."""
        with readable_errors():
            return super().fit(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        """As `keras.Model.evaluate`; the noise is the same in every call."""
        with readable_errors():
            return super().evaluate(*args, **kwargs)

    def predict(self, *args, **kwargs):
        """As `keras.Model.predict`: every modality's mean, `[B, *event_shape]`."""
        with readable_errors():
            return super().predict(*args, **kwargs)

    def train_step(self, data):
        """One step on `data`; returns the metrics."""
        x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, sample_weight=sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled, variables)
        # A decoder whose modality this batch lacks has no gradient.
        pairs = [pair for pair in zip(gradients, variables) if pair[0] is not None]
        self.optimizer.apply_gradients(pairs)
        return self.get_metrics_result()

    def test_step(self, data):
        """One evaluation step on `data`; returns the metrics."""
        x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.compute_loss(x=x, sample_weight=sample_weight, training=False)
        return self.get_metrics_result()

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The loss of a batch, for gradients, and an update of the metrics.

        Args:
          x: A batch.
          y: Not used.
          y_pred: Not used.
          sample_weight: Optional weights of the rows, `[B]`.
          training: Whether networks run in training mode and the noise is the step's.

        Returns:
          Scalar, nats: the mean over rows and replicas.
        """
        batch = unpack_batch(x, self.modalities, self.latent_dtype)
        terms = self.elbo_terms(batch, self._noise_seed(training), training=training)
        weights = {m.name: m.reconstruction_weight for m in self.modalities}
        rows = negative_elbo(
            terms.log_likelihoods, terms.kl_bound, weights=weights, beta=self.beta
        )  # [B]
        if sample_weight is not None:
            rows *= tf.cast(sample_weight, rows.dtype)
        loss = tf.reduce_mean(rows)
        if self.losses:  # regularisers of the user's networks
            loss += tf.cast(tf.add_n(self.losses), loss.dtype)
        self._update_metrics(loss, terms, batch)
        # The only place: Keras sums gradients over replicas.
        return loss / tf.distribute.get_strategy().num_replicas_in_sync

    def _noise_seed(self, training: bool) -> tf.Tensor:
        seed = tf.constant([self.seed, int(training)], tf.int32)
        if training:
            step = tf.cast(self.optimizer.iterations, tf.int32)
            seed = tf.random.experimental.stateless_fold_in(seed, step)
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            seed = tf.random.experimental.stateless_fold_in(
                seed, replica.replica_id_in_sync_group
            )
        return seed

    def elbo_terms(self, batch: Batch, seed: tf.Tensor, *, training: bool) -> ElboTerms:
        """Encodes, draws one z a row, decodes what the batch has.

        Args:
          batch: From `unpack_batch`.
          seed: int32 `[2]`.
          training: Whether networks run in training mode.

        Returns:
          The terms of the loss, each `[B]`.
        """
        experts = self._experts(batch, training=training)  # [B, M, D]
        components = self.subset_product_of_experts(experts, batch.present)
        z, _ = self.mixture_of_experts(components, batch.present, seed=seed)  # [B, D]
        log_likelihoods = {}
        for index, modality in enumerate(self.modalities):
            if modality.name in batch.values:
                likelihood = self._likelihood(index, z, training=training)
                value = likelihood.log_prob(batch.values[modality.name])  # [B]
                if batch.present is not None:
                    value = tf.where(batch.present[:, index], value, 0.0)
                log_likelihoods[modality.name] = value
        return ElboTerms(log_likelihoods, self.divergence(components, batch.present))

    def divergence(
        self, components: DiagonalGaussian, present: tf.Tensor | None
    ) -> tf.Tensor:
        """Sum_S w_S KL(q_S || p), nats, `[B]`, from components `[B, S, D]`."""
        kl = kl_to_standard_normal(components)  # [B, S]
        if present is None:
            return tf.reduce_mean(kl, axis=-1)
        weights = tf.cast(available_subsets(self.mask, present), kl.dtype)
        return tf.math.divide_no_nan(
            tf.reduce_sum(weights * kl, axis=-1), tf.reduce_sum(weights, axis=-1)
        )

    def _experts(self, batch: Batch, *, training: bool = False) -> DiagonalGaussian:
        """The unimodal posteriors `[B, M, D]`; zeros for modalities without values."""
        experts = {}
        for name, encoder, expert in zip(
            self.modality_names, self.encoders, self.experts
        ):
            if name in batch.values:
                features = encoder(batch.values[name], training=training)
                experts[name] = expert(features)
        zeros = tf.zeros_like(next(iter(experts.values())).loc)
        missing = DiagonalGaussian(zeros, zeros)
        stacked = [experts.get(name, missing) for name in self.modality_names]
        return DiagonalGaussian(*(tf.stack(field, axis=1) for field in zip(*stacked)))

    def _likelihood(self, index: int, z: tf.Tensor, *, training: bool = False):
        """p(x_m | z) for `z` `[B, D]`: batch `[B]`, event `event_shape`."""
        modality = self.modalities[index]
        parameters = self.decoders[index](z, training=training)
        return make_likelihood(
            modality.likelihood,
            tf.cast(parameters, self.latent_dtype),
            modality.likelihood_scale,
            len(modality.event_shape),
        )

    def _update_metrics(self, loss, terms: ElboTerms, batch: Batch):
        rows = tf.shape(terms.kl_bound)[0]
        self.loss_tracker.update_state(loss, sample_weight=rows)
        self.kl_bound_tracker.update_state(terms.kl_bound)
        self.beta_tracker.update_state(self.beta)
        for index, name in enumerate(self.modality_names):
            if name in terms.log_likelihoods:
                here = None if batch.present is None else batch.present[:, index]
                self.log_likelihood_trackers[index].update_state(
                    terms.log_likelihoods[name], sample_weight=here
                )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the networks that were built."""
        return {
            **super().get_config(),
            "modalities": [
                keras.saving.serialize_keras_object(modality)
                for modality in self.modalities
            ],
            "latent_dim": self.latent_dim,
            "beta": self.beta,
            "subsets": self.subsets,
            "prior_expert": self.prior_expert,
            "component_draw": self.component_draw,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects=None):
        """Rebuilds the model from `get_config`'s dictionary."""
        with keras.saving.custom_object_scope(custom_objects or {}):
            modalities = [
                keras.saving.deserialize_keras_object(entry)
                for entry in config["modalities"]
            ]
        return cls(**{**config, "modalities": modalities})


def _checked_modalities(modalities: Sequence[Modality]) -> tuple[Modality, ...]:
    modalities = tuple(modalities)
    for modality in modalities:
        if not isinstance(modality, Modality):
            raise TypeError(
                f"`modalities` must be a list of `Modality`. Received: {modality!r}."
            )
        if modality.likelihood not in LIKELIHOODS:
            raise ValueError(
                f"`likelihood` of modality {modality.name!r} must be one of "
                f"{sorted(LIKELIHOODS)}. Received: {modality.likelihood!r}."
            )
    names = [modality.name for modality in modalities]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            "`modalities` must be at least one, each with a name of its own. "
            f"Received names: {names}."
        )
    return modalities
