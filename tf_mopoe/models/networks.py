"""A model's networks: built, checked and run; modalities in, parameters out."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tf_mopoe import nets
from tf_mopoe.distributions import DiagonalGaussian
from tf_mopoe.distributions.event_likelihoods import EventLikelihood, event_likelihood
from tf_mopoe.layers import GaussianExpert
from tf_mopoe.layers.gaussian_expert import soft_bound
from tf_mopoe.modality import LEARNED_SCALES, Modality
from tf_mopoe.models.batches import Batch

#: Attribute of layers: name of the model that they are part of.
OWNER = "_multimodal_vae"


class Encoded(NamedTuple):
    """What the encoders say about a batch.

    Attributes:
      experts: q_m(z | x_m), `[B, M, D]`; zeros for modalities without values.
      styles: q(s_m | x_m) `[B, style_dim]` by name, of modalities that have a style
        and values.
    """

    experts: DiagonalGaussian
    styles: dict[str, DiagonalGaussian]


class NetworksMixin(keras.Model):
    """Encoders, experts, decoders and likelihoods of `MultimodalVAE`."""

    modalities: tuple[Modality, ...]
    encoders: Any
    experts: Any
    decoders: Any

    def _build_networks(self):
        # Lists: Keras keeps the weights in the order in which layers are appended.
        self.encoders, self.experts, self.decoders = [], [], []
        self.style_experts, self.log_likelihood_scales = {}, {}
        complete = []
        for modality, likelihood in zip(self.modalities, self.likelihoods):
            encoder = self._build_encoder(modality, likelihood)
            decoder = self._build_decoder(modality, likelihood)
            if modality.likelihood_scale in LEARNED_SCALES:
                each = modality.likelihood_scale == "per_element"
                self.log_likelihood_scales[modality.name] = self.add_weight(
                    shape=modality.event_shape if each else (),
                    initializer="zeros",
                    name=f"{modality.name}_log_likelihood_scale",
                )
            self.encoders.append(encoder)
            self.decoders.append(decoder)
            complete.append(
                dataclasses.replace(modality, encoder=encoder, decoder=decoder)
            )
        for name in ("encoders", "experts", "decoders"):
            setattr(self, name, tuple(getattr(self, name)))
        # With the networks chosen for it, so that a saved model names them.
        self.modalities = tuple(complete)

    def _build_encoder(self, modality: Modality, likelihood: EventLikelihood):
        name = modality.name
        encoder = modality.encoder or nets.default_encoder(
            modality.event_shape,
            num_classes=modality.num_classes,
            count_columns=likelihood.count_columns,
            name=f"{name}_encoder",
        )
        dtype = "int32" if likelihood.integer else None
        # Builds it, whatever it is.
        features = _called(
            encoder,
            keras.Input(modality.event_shape, dtype=dtype),
            f"The encoder of modality {name!r} must take "
            f"{('B', *modality.event_shape)}",
        )
        if not isinstance(features, keras.KerasTensor):
            raise ValueError(
                f"The encoder of modality {name!r} must return one tensor of features. "
                f"Received: {features!r}."
            )
        expert = GaussianExpert(
            self.latent_dim, dtype=self.latent_dtype, name=f"{name}_expert"
        )
        expert(features)
        self.experts.append(expert)
        if modality.style_dim:
            style = GaussianExpert(
                modality.style_dim, dtype=self.latent_dtype, name=f"{name}_style_expert"
            )
            style(features)
            self.style_experts[name] = style
        return encoder

    def _build_decoder(self, modality: Modality, likelihood: EventLikelihood):
        shape = likelihood.parameter_shape
        size = self.latent_dim + modality.style_dim
        decoder = modality.decoder or nets.default_decoder(
            shape, size, name=f"{modality.name}_decoder"
        )
        check_last_activation(modality)
        output = _called(
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

    def _encode_batch(self, batch: Batch, *, training: bool = False) -> Encoded:
        """Runs the encoder of every modality that has values, once."""
        experts, styles = {}, {}
        for name, encoder, expert in zip(
            self.modality_names, self.encoders, self.experts
        ):
            if name in batch.values:
                features = encoder(batch.values[name], training=training)
                experts[name] = expert(features)
                if name in self.style_experts:
                    styles[name] = self.style_experts[name](features)
        zeros = tf.zeros_like(next(iter(experts.values())).loc)
        missing = DiagonalGaussian(zeros, zeros)
        stacked = [experts.get(name, missing) for name in self.modality_names]
        fields = (tf.stack(field, axis=1) for field in zip(*stacked))
        return Encoded(DiagonalGaussian(*fields), styles)

    def _decode_parameters(
        self, index: int, z: tf.Tensor, style: tf.Tensor | None, *, training: bool
    ) -> tf.Tensor:
        """Runs one decoder, once, on `z` `[..., D]`: `[..., *parameter_shape]`."""
        latent = z if style is None else tf.concat([z, style], axis=-1)
        flat = tf.reshape(latent, [-1, latent.shape[-1]])
        parameters = self.decoders[index](flat, training=training)
        event = self.likelihoods[index].parameter_shape
        shape = tf.concat([tf.shape(latent)[:-1], event], axis=0)
        parameters = tf.reshape(tf.cast(parameters, self.latent_dtype), shape)
        return tf.ensure_shape(parameters, latent.shape[:-1].concatenate(event))

    def _likelihood_scale(self, index: int) -> float | tf.Tensor:
        """The fixed number, or what was learned: scalar or `[*event_shape]`."""
        modality = self.modalities[index]
        if modality.likelihood_scale in LEARNED_SCALES:
            log_scale = self.log_likelihood_scales[modality.name]
            return tf.exp(soft_bound(tf.cast(log_scale, self.latent_dtype)))
        return modality.likelihood_scale

    def _likelihood(self, index: int, parameters: tf.Tensor) -> tfd.Distribution:
        """p(x_m | z): batch `[...]`, event `event_shape`."""
        return self.likelihoods[index].distribution(
            parameters, self._likelihood_scale(index)
        )


def _called(network: keras.layers.Layer, inputs: keras.KerasTensor, expected: str):
    """The network's symbolic output; its refusal with what was expected before it."""
    try:
        return network(inputs)
    except ValueError as error:
        raise ValueError(f"{expected}. Keras said: {error}") from error


def checked_modalities(modalities: Sequence[Modality]) -> tuple[Modality, ...]:
    """The modalities of a model.

    Raises:
      TypeError, ValueError: If there is none, one is not a `Modality`, or two share a
        name or a network.
    """
    if isinstance(modalities, Modality) or not isinstance(modalities, Iterable):
        raise TypeError(
            f"`modalities` must be a list of `Modality`. Received: {modalities!r}."
        )
    modalities = tuple(modalities)
    for modality in modalities:
        if not isinstance(modality, Modality):
            raise TypeError(
                f"`modalities` must be a list of `Modality`. Received: {modality!r}."
            )
    _check_networks(modalities)
    names = [modality.name for modality in modalities]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            "`modalities` must be at least one, each with a name of its own. "
            f"Received names: {names}."
        )
    for name in names:
        for other in names:
            if name != other and other.lower() in (
                name.lower(),
                name.lower() + "_bytes",
            ):
                raise ValueError(
                    f"`modalities` named {name!r} and {other!r} could not be served "
                    "together: their inputs would have one name. Rename one."
                )
    return modalities


def _networks(modality: Modality) -> list[tuple[str, keras.layers.Layer]]:
    """The networks that a modality was given, each with a name for messages."""
    pairs = (("encoder", modality.encoder), ("decoder", modality.decoder))
    return [
        (f"{kind} of modality {modality.name!r}", network)
        for kind, network in pairs
        if network is not None
    ]


def _check_networks(modalities: Sequence[Modality]) -> None:
    """Raises a ValueError if a layer has two places, in this model or in two."""
    owners: dict[int, str] = {}
    for modality in modalities:
        for what, network in _networks(modality):
            for layer in {id(x): x for x in network._flatten_layers()}.values():
                other = owners.setdefault(id(layer), what)
                if other != what and (layer is network or layer.weights):
                    raise ValueError(
                        f"The {what} and the {other} share the layer {layer.name!r}. A "
                        "shared layer could not be saved: build it twice."
                    )
                if layer.trainable_variables and hasattr(layer, OWNER):
                    raise ValueError(
                        f"The {what} has the layer {layer.name!r}, which is part of "
                        f"model {getattr(layer, OWNER)!r} already: two models would "
                        "train the same weights. Make new modalities for each model, "
                        "or copies, weights included: `copy.deepcopy(modalities)`."
                    )


def claim_networks(modalities: Sequence[Modality], model_name: str) -> None:
    """Marks all layers of a model, so that no second model takes them."""
    for modality in modalities:
        for _, network in _networks(modality):
            for layer in network._flatten_layers():
                layer.__dict__[OWNER] = model_name


def checked_likelihood(modality: Modality) -> EventLikelihood:
    """The likelihood of a modality.

    Raises:
      ValueError: If its name is unknown, or it does not fit the modality's shape,
        scale or classes.
    """
    try:
        likelihood = event_likelihood(
            modality.likelihood, modality.event_shape, modality.num_classes
        )
    except ValueError as error:
        raise ValueError(f"Modality {modality.name!r}: {error}") from error
    if not likelihood.scaled and modality.likelihood_scale != 1.0:
        raise ValueError(
            f"Modality {modality.name!r}: `likelihood_scale` has no effect with "
            f"likelihood {modality.likelihood!r}. Received: "
            f"{modality.likelihood_scale!r}."
        )
    return likelihood


#: Last activations that give no parameter of these likelihoods.
WRONG_ACTIVATIONS = {
    **dict.fromkeys(
        ("bernoulli", "continuous_bernoulli", "categorical", "integer_categorical"),
        ("logits", ("sigmoid", "softmax")),
    ),
    **dict.fromkeys(
        ("poisson", "negative_binomial", "zero_inflated_negative_binomial"),
        ("logs of means", ("exponential", "softplus")),
    ),
}


def check_last_activation(modality: Modality) -> None:
    """Raises a ValueError if a decoder ends in what its likelihood applies itself."""
    if not isinstance(modality.likelihood, str):
        return
    parameter, wrong = WRONG_ACTIVATIONS.get(modality.likelihood, ("", ()))
    network = modality.decoder
    while isinstance(network, (keras.Sequential, keras.models.Model)):
        layers = [x for x in network.layers if not isinstance(x, keras.layers.Reshape)]
        if not layers:
            return
        network = layers[-1]
    activation = getattr(network, "activation", None)
    name = getattr(activation, "__name__", type(network).__name__.lower())
    if name in wrong:
        raise ValueError(
            f"The decoder of modality {modality.name!r} must return {parameter} for "
            f"likelihood {modality.likelihood!r}, but ends in {name}, which the "
            "likelihood applies itself. Leave that activation out."
        )


def reconstruction_weights(
    modalities: Sequence[Modality], likelihoods: Sequence[EventLikelihood]
) -> dict[str, float]:
    """r_m by name; `"dimension"` is the largest number of variables over its own."""
    largest = max(likelihood.num_variables for likelihood in likelihoods)
    return {
        modality.name: (
            largest / likelihood.num_variables
            if isinstance(modality.reconstruction_weight, str)
            else modality.reconstruction_weight
        )
        for modality, likelihood in zip(modalities, likelihoods)
    }
