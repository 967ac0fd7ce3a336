"""What a trained model is asked: posterior, encoding, imputation, samples."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tf_mopoe.checks import whole_number
from tf_mopoe.distributions import (
    DiagonalGaussian,
    MixtureOfProductsOfExperts,
    noise,
)
from tf_mopoe.layers import SubsetProductOfExperts
from tf_mopoe.models.batches import Batch, unpack_batch
from tf_mopoe.models.networks import Encoded
from tf_mopoe.models.posterior_encoder import PosteriorEncoder


class InferenceMixin(keras.Model):
    """Inference methods of `MultimodalVAE`; networks run in inference mode."""

    def unpack_batch(self, inputs: Mapping[str, Any], *, check_values=True) -> Batch:
        """Checks a batch; see `tf_mopoe.models.batches.unpack_batch`."""
        return unpack_batch(
            inputs,
            self.modalities,
            self.likelihoods,
            self.latent_dtype,
            check_values=check_values,
        )

    def call(self, inputs: Mapping[str, Any], training: bool = False):
        """Reconstructs every modality from the posterior mean.

        Args:
          inputs: A batch, any modalities missing.
          training: Whether networks run in training mode.

        Returns:
          Modality name to the likelihood's mean, `[B, *event_shape]`, of class indices
          the probabilities `[B, *event_shape, C]`.
        """
        return self.reconstruct(self.unpack_batch(inputs), training=training)

    def reconstruct(
        self, batch: Batch, *, training: bool = False
    ) -> dict[str, tf.Tensor]:
        """As `call`, of a batch that `unpack_batch` has checked.

        Styles are their posterior means where the modality is present, else 0, the
        mean of their prior.
        """
        encoded = self._encode_batch(batch, training=training)
        styles = {
            name: style.loc for name, style in self._styles(encoded, batch).items()
        }
        return self.decode(
            self._mixture(encoded, batch).mean(), styles, training=training
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
        return self.posterior_of(self.unpack_batch(inputs))

    def posterior_of(self, batch: Batch) -> MixtureOfProductsOfExperts:
        """As `posterior`, of a batch that `unpack_batch` has checked."""
        return self._mixture(self._encode_batch(batch), batch)

    def _mixture(self, encoded: Encoded, batch: Batch) -> MixtureOfProductsOfExperts:
        loc, log_scale = encoded.experts
        return MixtureOfProductsOfExperts(
            loc,
            tf.exp(log_scale),
            batch.present,
            subsets=self.subsets,
            prior_expert=self.prior_expert,
        )

    def _styles(self, encoded: Encoded, batch: Batch) -> dict[str, DiagonalGaussian]:
        """q(s_m | x_m) `[B, D_m]` where the modality is present, else N(0, I)."""
        rows = tf.shape(encoded.experts.loc)[0]
        styles = {}
        for index, modality in enumerate(self.modalities):
            name = modality.name
            if not modality.style_dim:
                continue
            zeros = tf.zeros([rows, modality.style_dim], self.latent_dtype)
            style = encoded.styles.get(name, DiagonalGaussian(zeros, zeros))
            if name in encoded.styles and batch.present is not None:
                here = batch.present[:, index : index + 1]
                style = DiagonalGaussian(*(tf.where(here, x, zeros) for x in style))
            styles[name] = style
        return styles

    def encode_styles(
        self, inputs: Mapping[str, Any]
    ) -> dict[str, dict[str, tf.Tensor]]:
        """Mean and standard deviation of the modality-specific latents.

        Args:
          inputs: A batch, any modalities missing.

        Returns:
          `{name: {"loc": [B, D_m], "scale": [B, D_m]}}` for modalities that have a
          style; those of the prior, 0 and 1, where the modality is missing.
        """
        batch = self.unpack_batch(inputs)
        return {
            name: {"loc": style.loc, "scale": tf.exp(style.log_scale)}
            for name, style in self._styles(self._encode_batch(batch), batch).items()
        }

    def subset_posteriors(self, inputs: Mapping[str, Any]) -> DiagonalGaussian:
        """q_S(z | x_S) of all 2^M - 1 non-empty subsets, whichever the model mixes.

        Args:
          inputs: A batch, any modalities missing.

        Returns:
          `loc` and `log_scale` `[B, 2^M - 1, D]`, in the order of `membership_mask`; a
          subset that can't be formed in a row stands as N(0, I).

        Raises:
          ValueError: If the model has more than 12 modalities, or the batch is not as
            described.
        """
        self._check_few_modalities("The posteriors of all subsets")
        batch = self.unpack_batch(inputs)
        layer = SubsetProductOfExperts(
            prior_expert=self.prior_expert, dtype=self.latent_dtype
        )
        return layer(self._encode_batch(batch).experts, batch.present)

    def encode(self, inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Mean and standard deviation of the posterior.

        Args:
          inputs: A batch, any modalities missing.

        Returns:
          `{"loc": [B, D], "scale": [B, D]}`, the mixture's moments; Keras tensors where
          the batch holds some, such as `keras.Input`.
        """
        if any(isinstance(x, keras.KerasTensor) for x in tf.nest.flatten(inputs)):
            return self._posterior_encoder(inputs)
        posterior = self.posterior(inputs)
        return {"loc": posterior.mean(), "scale": posterior.stddev()}

    def _posterior_encoder(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """`encode` of Keras tensors, by the one layer that a saved model names."""
        if "_encode_symbolically" not in self.__dict__:
            layer = PosteriorEncoder(self, name=f"{self.name}_posterior")
            # Within a function: Keras would save a layer that holds this model.
            self.__dict__["_encode_symbolically"] = lambda inputs: layer(inputs)
        return self.__dict__["_encode_symbolically"](inputs)

    def decode(
        self,
        z: tf.Tensor,
        styles: Mapping[str, tf.Tensor] | None = None,
        *,
        training: bool = False,
    ) -> dict[str, tf.Tensor]:
        """Mean of every modality's likelihood given latents.

        Args:
          z: `[..., D]`.
          styles: Modality name to its style, `[..., D_m]`; 0, the mean of its prior,
            where there is none.
          training: Whether networks run in training mode.

        Returns:
          Modality name to `[..., *event_shape]`; see `call`.

        Raises:
          ValueError: If a style is of no modality that has one.
        """
        styles = styles or {}
        for name in styles:
            if name not in self.style_experts:
                raise ValueError(
                    f"`styles` has {name!r}; modalities with a style are "
                    f"{list(self.style_experts)}."
                )
        return {
            name: self.decode_modality(name, z, styles.get(name), training=training)
            for name in self.modality_names
        }

    def decode_modality(
        self,
        name: str,
        z: tf.Tensor,
        style: tf.Tensor | None = None,
        *,
        training: bool = False,
    ) -> tf.Tensor:
        """Mean of one modality's likelihood given latents; runs one decoder.

        Args:
          name: Name of the modality.
          z: `[..., D]`.
          style: `[..., D_m]`, for a modality that has a style; 0 by default.
          training: Whether the network runs in training mode.

        Returns:
          `[..., *event_shape]`; see `call`.

        Raises:
          ValueError: If the model has no such modality.
        """
        index, parameters = self._parameters_of(name, z, style, training=training)
        likelihood = self.likelihoods[index]
        mean = likelihood.mean(parameters, self._likelihood_scale(index))
        # TFP forgets sizes of 1, and serving refuses unknown ones.
        # (EnsureShape would say so too, but LiteRT has none for sizes of 1.)
        batch = tf.shape(parameters)[: -len(likelihood.parameter_shape)]
        return tf.reshape(mean, tf.concat([batch, likelihood.mean_shape], axis=0))

    def likelihood(
        self, name: str, z: tf.Tensor, style: tf.Tensor | None = None
    ) -> tfd.Distribution:
        """p(x_m | z, s_m) of one modality; runs one decoder.

        Args:
          name: Name of the modality.
          z: `[..., D]`.
          style: `[..., D_m]`, for a modality that has a style; 0 by default.

        Returns:
          A distribution of batch `[...]` and event `event_shape`.

        Raises:
          ValueError: If the model has no such modality.
        """
        index, parameters = self._parameters_of(name, z, style, training=False)
        return self._likelihood(index, parameters)

    def _parameters_of(self, name, z, style, *, training: bool):
        """The modality's index, and its decoder's output `[..., *parameter_shape]`."""
        if name not in self.modality_names:
            raise ValueError(
                f"`name` must be one of {list(self.modality_names)}. "
                f"Received: {name!r}."
            )
        z = tf.convert_to_tensor(z, self.latent_dtype)
        _check_size("z", z, self.latent_dim)
        index = self.modality_names.index(name)
        size = self.modalities[index].style_dim
        if style is not None:
            if not size:
                raise ValueError(f"Modality {name!r} has no style. Leave out `style`.")
            style = tf.convert_to_tensor(style, self.latent_dtype)
            _check_size(f"style of {name}", style, size)
        elif size:
            shape = tf.concat([tf.shape(z)[:-1], [size]], axis=0)
            style = tf.ensure_shape(
                tf.zeros(shape, self.latent_dtype), [*z.shape[:-1], size]
            )
        return index, self._decode_parameters(index, z, style, training=training)

    def impute(
        self,
        inputs: Mapping[str, Any],
        num_samples: int = 1,
        *,
        seed: int | None = None,
    ) -> dict[str, tf.Tensor]:
        """Every modality given the observed ones: z ~ q(z|X), then the mean of p(x|z).

        Styles are drawn as well: from the encoder's Gaussian where the modality is
        observed, from the prior where it is not.

        Args:
          inputs: A batch, any modalities missing.
          num_samples: Number of draws K of the latents for each row, at least 1.
          seed: Any whole number in the range of int64. The draws of row i depend on it
            and i alone; other seeds, neighbouring ones too, give unrelated draws; a
            served model's `impute` gives the first of them. None draws anew.

        Returns:
          Modality name to `[K, B, *event_shape]`; observed modalities too; see `call`.

        Raises:
          TypeError, ValueError: If `num_samples`, `seed` or the batch is not as
            described.
        """
        num_samples = whole_number("num_samples", num_samples, minimum=1)
        batch = self.unpack_batch(inputs)
        seeds = noise.row_seeds(seed, batch.num_rows())
        return self.impute_by_row(batch, seeds, num_samples)

    def sample(self, n: int, *, seed: int | None = None) -> dict[str, tf.Tensor]:
        """Every modality from the prior: z, s ~ N(0, I), then the mean of p(x | z, s).

        Args:
          n: Number of draws, at least 1.
          seed: Any whole number in the range of int64; see `impute`. None draws anew.

        Returns:
          Modality name to `[n, *event_shape]`; row i of all comes from one z.

        Raises:
          TypeError, ValueError: If `n` or `seed` is not as described.
        """
        n = whole_number("n", n, minimum=1)
        return self.sample_by_row(noise.row_seeds(seed, n))

    def _latent_type(self) -> tf.DType:
        return tf.as_dtype(self.latent_dtype)


def _check_size(name: str, value: tf.Tensor, size: int) -> None:
    """Raises a ValueError unless the last axis has this size."""
    if not value.shape.rank or value.shape[-1] != size:
        raise ValueError(
            f"`{name}` must have shape [..., {size}]. Received: {tuple(value.shape)}."
        )
