"""The base of all multimodal VAEs: networks, fusion, terms of the loss."""

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from tf_mopoe import nets
from tf_mopoe.distributions import DiagonalGaussian, kl_to_standard_normal
from tf_mopoe.distributions.likelihoods import LIKELIHOODS, make_likelihood
from tf_mopoe.layers import GaussianExpert, MixtureOfExperts, SubsetProductOfExperts
from tf_mopoe.modality import Modality
from tf_mopoe.models.batches import Batch
from tf_mopoe.models.inference import InferenceMixin
from tf_mopoe.models.training import ElboTerms, TrainingMixin
from tf_mopoe.subsets import SubsetSpec, available_subsets, membership_mask


class MultimodalVAE(TrainingMixin, InferenceMixin):
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
    in which the modality is present; 0 if there was none), `kl_bound`, `beta`.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        *,
        beta: float | LearningRateSchedule = 1.0,
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
          beta: Weight of the divergence, 0 or more; or a
            `keras.optimizers.schedules.LearningRateSchedule`, its value at each
            training step (KL warm-up). `evaluate` uses the value of the last step.
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
        if not isinstance(latent_dim, (int, np.integer)) or latent_dim < 1:
            raise ValueError(
                f"`latent_dim` must be a whole number from 1. Received: {latent_dim!r}."
            )
        if not isinstance(beta, LearningRateSchedule):
            if not (beta >= 0 and math.isfinite(beta)):
                raise ValueError(f"`beta` must be 0 or more. Received: {beta!r}.")
            beta = float(beta)
        self.latent_dim = int(latent_dim)
        self.beta = beta
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
        if any(isinstance(subset, str) for subset in subsets):
            raise ValueError(
                "`subsets` must be a family's name or a list of lists, such as "
                f"[['a'], ['a', 'b']]. Received: {subsets!r}."
            )
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

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the networks that were built."""
        return {
            **super().get_config(),
            "modalities": [
                keras.saving.serialize_keras_object(modality)
                for modality in self.modalities
            ],
            "latent_dim": self.latent_dim,
            "beta": keras.saving.serialize_keras_object(self.beta),
            "subsets": self.subsets,
            "prior_expert": self.prior_expert,
            "component_draw": self.component_draw,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects=None):
        """Rebuilds the model from `get_config`'s dictionary."""
        modalities = [
            keras.saving.deserialize_keras_object(entry, custom_objects=custom_objects)
            for entry in config["modalities"]
        ]
        beta = keras.saving.deserialize_keras_object(
            config["beta"], custom_objects=custom_objects
        )
        return cls(**{**config, "modalities": modalities, "beta": beta})


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
    networks = [m.encoder for m in modalities] + [m.decoder for m in modalities]
    given = [id(network) for network in networks if network is not None]
    if len(set(given)) < len(given):
        raise ValueError(
            "Each `encoder` and `decoder` of `modalities` must be an object of its "
            "own: a shared network could not be saved. Build it twice."
        )
    names = [modality.name for modality in modalities]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            "`modalities` must be at least one, each with a name of its own. "
            f"Received names: {names}."
        )
    return modalities
