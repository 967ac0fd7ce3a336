"""The networks of all modalities, as one Keras layer."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tf_mopoe import nets
from tf_mopoe.distributions import DiagonalGaussian
from tf_mopoe.distributions.event_likelihoods import EventLikelihood
from tf_mopoe.layers import GaussianExpert
from tf_mopoe.layers.gaussian_expert import soft_bound
from tf_mopoe.modality import LEARNED_SCALES, Modality
from tf_mopoe.models.arguments import check_last_activation
from tf_mopoe.models.batches import Batch


class Encoded(NamedTuple):
    """Unimodal posteriors of a batch.

    Attributes:
      experts: q_m(z | x_m), `[B, M, D]`; zeros for modalities without values.
      styles: q(s_m | x_m) `[B, style_dim]` by name, of modalities that have a style
        and values.
    """

    experts: DiagonalGaussian
    styles: dict[str, DiagonalGaussian]


class MultimodalNetworks(keras.layers.Layer):
    """Encoders, Gaussian experts, decoders and likelihoods, in order of the modalities.

    Attributes:
      modalities: The modalities, completed by the networks that were built for them.
      likelihoods: Modality name to its `EventLikelihood`.
      encoders: Modality name to the layer from values to features.
      experts: Modality name to the `GaussianExpert` of the shared latent.
      style_experts: Modality name to the `GaussianExpert` of its style, if it has one.
      decoders: Modality name to the layer from latents to the likelihood's parameters.
      log_likelihood_scales: Modality name to its learned log scale, if it is learned.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        likelihoods: Sequence[EventLikelihood],
        latent_dim: int,
        **kwargs,
    ):
        """Makes and builds the networks.

        Args:
          modalities: Modalities of the model.
          likelihoods: Their likelihoods.
          latent_dim: Size of the shared latent, D.
          **kwargs: Keyword arguments of `keras.layers.Layer`; `dtype` is that of the
            latents and of learned scales.

        Raises:
          ValueError: If the output of an encoder or decoder does not fit.
        """
        super().__init__(**kwargs)
        self.autocast = False
        self.latent_dim = latent_dim
        self.likelihoods = {m.name: x for m, x in zip(modalities, likelihoods)}
        self.encoders: dict[str, keras.layers.Layer] = {}
        self.experts: dict[str, GaussianExpert] = {}
        self.style_experts: dict[str, GaussianExpert] = {}
        self.decoders: dict[str, keras.layers.Layer] = {}
        self.log_likelihood_scales: dict[str, keras.Variable] = {}
        complete = []
        for modality, likelihood in zip(modalities, likelihoods):
            name = modality.name
            self.encoders[name] = self._build_encoder(modality, likelihood)
            self.decoders[name] = self._build_decoder(modality, likelihood)
            if modality.likelihood_scale in LEARNED_SCALES:
                each = modality.likelihood_scale == "per_element"
                self.log_likelihood_scales[name] = self.add_weight(
                    shape=modality.event_shape if each else (),
                    initializer="zeros",
                    name=f"{name}_log_likelihood_scale",
                )
            complete.append(
                dataclasses.replace(
                    modality, encoder=self.encoders[name], decoder=self.decoders[name]
                )
            )
        # With the networks chosen for it, so that a saved model names them.
        self.modalities = tuple(complete)
        self.built = True
        self._lock_state()  # no network is replaced afterwards

    def _build_encoder(self, modality: Modality, likelihood: EventLikelihood):
        name = modality.name
        encoder = modality.encoder or nets.default_encoder(
            modality.event_shape,
            num_classes=modality.num_classes,
            count_columns=likelihood.count_columns,
            name=f"{name}_encoder",
        )
        # The call builds any layer.
        features = call_with_context(
            encoder,
            keras.Input(
                modality.event_shape, dtype="int32" if likelihood.integer else None
            ),
            f"The encoder of modality {name!r} must take "
            f"{('B', *modality.event_shape)}",
        )
        if not isinstance(features, keras.KerasTensor):
            raise ValueError(
                f"The encoder of modality {name!r} must return one tensor of features. "
                f"Received: {features!r}."
            )
        dtype = self.compute_dtype
        self.experts[name] = GaussianExpert(
            self.latent_dim, dtype=dtype, name=f"{name}_expert"
        )
        self.experts[name](features)
        if modality.style_dim:
            self.style_experts[name] = GaussianExpert(
                modality.style_dim, dtype=dtype, name=f"{name}_style_expert"
            )
            self.style_experts[name](features)
        return encoder

    def _build_decoder(self, modality: Modality, likelihood: EventLikelihood):
        shape = likelihood.parameter_shape
        size = self.latent_dim + modality.style_dim
        decoder = modality.decoder or nets.default_decoder(
            shape, size, name=f"{modality.name}_decoder"
        )
        check_last_activation(modality)
        output = call_with_context(
            decoder,
            keras.Input((size,)),
            f"The decoder of modality {modality.name!r} must take {('B', size)}: "
            f"latent_dim {self.latent_dim} and style_dim {modality.style_dim}",
        )
        if tuple(getattr(output, "shape", ())[1:]) != shape:
            raise ValueError(
                f"The decoder of modality {modality.name!r} must return shape "
                f"{('B', *shape)}. Received: {getattr(output, 'shape', output)}."
            )
        return decoder

    def encode(self, batch: Batch, *, training: bool = False) -> Encoded:
        """Runs the encoder of every modality that has values, once."""
        experts, styles = {}, {}
        for name, encoder in self.encoders.items():
            if name in batch.values:
                features = encoder(batch.values[name], training=training)
                experts[name] = self.experts[name](features)
                if name in self.style_experts:
                    styles[name] = self.style_experts[name](features)
        zeros = tf.zeros_like(next(iter(experts.values())).loc)
        missing = DiagonalGaussian(zeros, zeros)
        stacked = [experts.get(name, missing) for name in self.encoders]
        fields = (tf.stack(field, axis=1) for field in zip(*stacked))
        return Encoded(DiagonalGaussian(*fields), styles)

    def styles(self, encoded: Encoded, batch: Batch) -> dict[str, DiagonalGaussian]:
        """q(s_m | x_m) `[B, D_m]` where the modality is present, else N(0, I)."""
        rows = tf.shape(encoded.experts.loc)[0]
        styles = {}
        for index, modality in enumerate(self.modalities):
            name = modality.name
            if not modality.style_dim:
                continue
            zeros = tf.zeros([rows, modality.style_dim], self.compute_dtype)
            style = encoded.styles.get(name, DiagonalGaussian(zeros, zeros))
            if name in encoded.styles and batch.present is not None:
                is_present = batch.present[:, index : index + 1]
                style = DiagonalGaussian(
                    *(tf.where(is_present, x, zeros) for x in style)
                )
            styles[name] = style
        return styles

    def checked_styles(
        self, styles: Mapping[str, tf.Tensor] | None
    ) -> Mapping[str, tf.Tensor]:
        """The styles; raises a ValueError if one is of a modality without a style."""
        for name in styles or {}:
            if name not in self.style_experts:
                raise ValueError(
                    f"`styles` has {name!r}; modalities with a style are "
                    f"{list(self.style_experts)}."
                )
        return styles or {}

    def decode(
        self,
        name: str,
        z: tf.Tensor,
        style: tf.Tensor | None = None,
        *,
        training: bool = False,
    ) -> tf.Tensor:
        """Runs one decoder, once.

        Args:
          name: Name of the modality.
          z: `[..., D]`.
          style: `[..., D_m]`, for a modality that has a style; 0 by default.
          training: Whether the network runs in training mode.

        Returns:
          Parameters of the likelihood, `[..., *parameter_shape]`.

        Raises:
          ValueError: If there is no such modality, or a latent does not fit.
        """
        latent = self._latent(name, z, style)
        flat = tf.reshape(latent, [-1, latent.shape[-1]])
        parameters = self.decoders[name](flat, training=training)
        event = self.likelihoods[name].parameter_shape
        shape = tf.concat([tf.shape(latent)[:-1], event], axis=0)
        parameters = tf.reshape(tf.cast(parameters, self.compute_dtype), shape)
        return tf.ensure_shape(parameters, latent.shape[:-1].concatenate(event))

    def _latent(self, name: str, z: tf.Tensor, style: tf.Tensor | None) -> tf.Tensor:
        """The decoder's input `[..., D + D_m]`."""
        names = list(self.decoders)
        if name not in names:
            raise ValueError(f"`name` must be one of {names}. Received: {name!r}.")
        z = tf.convert_to_tensor(z, self.compute_dtype)
        _check_size("z", z, self.latent_dim)
        size = self.modalities[names.index(name)].style_dim
        if style is not None:
            if not size:
                raise ValueError(f"Modality {name!r} has no style. Leave out `style`.")
            style = tf.convert_to_tensor(style, self.compute_dtype)
            _check_size(f"style of {name}", style, size)
        elif size:
            shape = tf.concat([tf.shape(z)[:-1], [size]], axis=0)
            style = tf.ensure_shape(tf.zeros(shape, z.dtype), [*z.shape[:-1], size])
        return z if style is None else tf.concat([z, style], axis=-1)

    def likelihood(
        self,
        name: str,
        z: tf.Tensor,
        style: tf.Tensor | None = None,
        *,
        training: bool = False,
    ) -> tfd.Distribution:
        """p(x_m | z, s_m): batch `[...]`, event `event_shape`; see `decode`."""
        parameters = self.decode(name, z, style, training=training)
        scale = self.likelihood_scale(name)
        return self.likelihoods[name].distribution(parameters, scale)

    def mean(
        self,
        name: str,
        z: tf.Tensor,
        style: tf.Tensor | None = None,
        *,
        training: bool = False,
    ) -> tf.Tensor:
        """Mean of p(x_m | z, s_m), `[..., *event_shape]`; see `decode`."""
        parameters = self.decode(name, z, style, training=training)
        likelihood = self.likelihoods[name]
        mean = likelihood.mean(parameters, self.likelihood_scale(name))
        # TFP forgets sizes of 1, and serving refuses unknown ones.
        # (EnsureShape would say so too, but LiteRT has none for sizes of 1.)
        batch = tf.shape(parameters)[: -len(likelihood.parameter_shape)]
        return tf.reshape(mean, tf.concat([batch, likelihood.mean_shape], axis=0))

    def likelihood_scale(self, name: str) -> float | tf.Tensor:
        """The fixed scale, or the learned one: scalar or `[*event_shape]`."""
        if name in self.log_likelihood_scales:
            log_scale = self.log_likelihood_scales[name]
            return tf.exp(soft_bound(tf.cast(log_scale, self.compute_dtype)))
        return self.modalities[list(self.decoders).index(name)].likelihood_scale


def _check_size(name: str, value: tf.Tensor, size: int) -> None:
    """Raises a ValueError unless the last axis has this size."""
    if not value.shape.rank or value.shape[-1] != size:
        raise ValueError(
            f"`{name}` must have shape [..., {size}]. Received: {tuple(value.shape)}."
        )


def call_with_context(
    network: keras.layers.Layer, inputs: keras.KerasTensor, expected: str
):
    """The network's symbolic output; errors begin with what was expected."""
    try:
        return network(inputs)
    except ValueError as error:
        raise ValueError(f"{expected}. Keras said: {error}") from error
