"""The joint posterior: mixture over subsets of products of Gaussian experts."""

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tf_mopoe.distributions.components import (
    component_at,
    independent_components,
    stratified_components,
    weighted_components,
)
from tf_mopoe.distributions.gaussians import (
    DiagonalGaussian,
    diagonal_gaussian_of,
    kl_divergence,
    kl_to_standard_normal,
    log_density,
    prior_mask,
    subset_products,
)
from tf_mopoe.distributions.noise import (
    split_seed,
    standard_normal,
    stateless_seed,
    uniform,
)
from tf_mopoe.distributions.subset_draws import subsets_for_inference
from tf_mopoe.subsets import (
    SubsetSampler,
    SubsetSpec,
    available_subsets,
    membership_mask,
)


class MixtureOfProductsOfExperts(tfd.AutoCompositeTensorDistribution):
    """q(z|X) = sum_S w_S q_S(z), where q_S is the normalised product of S's experts.

    w is uniform over the subsets that can be formed from the modalities present in
    the row. The weights depend on no parameter, so samples are reparameterised: the
    gradient through a drawn component is unbiased.

    Source: Sutter, Daunhawer, Vogt, Generalized Multimodal ELBO, ICLR 2021.

    Example:
      >>> q = MixtureOfProductsOfExperts(tf.zeros([4, 3, 2]), tf.ones([4, 3, 2]))
      >>> q.batch_shape, q.event_shape, q.mixture_weights.shape
      (TensorShape([4]), TensorShape([2]), TensorShape([4, 7]))
    """

    def __init__(
        self,
        loc,
        scale,
        present=None,
        subsets: SubsetSpec = "nonempty",
        prior_expert: str = "full_set",
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "MixtureOfProductsOfExperts",
    ):
        """Builds the mixture from the unimodal experts.

        Args:
          loc: Experts' means, float `[..., B, M, D]`.
          scale: Experts' standard deviations, positive, `[..., B, M, D]`.
          present: bool `[..., B, M]`; False where a modality is missing in a row: its
            `loc` and `scale` may hold anything, including NaN. None if all are
            present. A row in which no subset can be formed has the prior N(0, I).
          subsets: Subsets that are mixed; see `tf_mopoe.subsets.membership_mask`. A
            `SubsetSampler` mixes k subsets of each row, the same ones for rows that
            have the same modalities.
          prior_expert: Products with N(0, I) as one more expert: `"full_set"` for the
            product of all M modalities, as in the published code; `"none"`;
            `"every_subset"`.
          validate_args: Whether to check that `scale` is positive.
          allow_nan_stats: See `tfd.Distribution`.
          name: Name of the distribution.

        Raises:
          ValueError: If `loc` is not floating or not of rank 2 or more with a known M,
            `scale` or `present` does not fit it, or `subsets` or `prior_expert` is
            unknown.
        """
        if isinstance(subsets, dict):
            subsets = SubsetSampler.from_config(subsets)
        parameters = dict(locals())
        if isinstance(subsets, SubsetSampler):
            # TensorFlow compares types by their parameters, which must be plain values.
            parameters["subsets"] = subsets.get_config()
        with tf.name_scope(name):
            self._loc = tf.convert_to_tensor(loc, name="loc")
            dtype = self._loc.dtype
            self._scale = tf.convert_to_tensor(scale, dtype, name="scale")
            self._present = (
                None if present is None else tf.convert_to_tensor(present, tf.bool)
            )
            if self._loc.shape.rank is None or self._loc.shape.rank < 2:
                raise ValueError(
                    "`loc` must have shape [..., B, M, D]. "
                    f"Received: {self._loc.shape}."
                )
            if self._present is not None and not self._present.shape.is_compatible_with(
                self._loc.shape[:-1]
            ):
                raise ValueError(
                    "`present` must have the shape of `loc` without its last dimension,"
                    f" {self._loc.shape[:-1]}. Received: {self._present.shape}."
                )
            if not dtype.is_floating or not self._scale.shape.is_compatible_with(
                self._loc.shape
            ):
                raise ValueError(
                    "`loc` and `scale` must be floating and have the same shape. "
                    "Received: "
                    f"{dtype.name} {self._loc.shape}, {self._scale.shape}."
                )
            self._subsets = parameters["subsets"]
            self._prior_expert = prior_expert
            self._weights = None  # [..., B, S] of sampled subsets
            if isinstance(subsets, SubsetSampler):
                self._mask, self._weights = subsets_for_inference(
                    subsets, self._loc, self._present
                )
            else:
                self._mask = membership_mask(self._loc.shape[-2], subsets)  # [S, M]
            self._with_prior = prior_mask(self._mask, prior_expert)  # [S]
            super().__init__(
                dtype=dtype,
                reparameterization_type=tfd.FULLY_REPARAMETERIZED,
                validate_args=validate_args,
                allow_nan_stats=allow_nan_stats,
                parameters=parameters,
                name=name,
            )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {
            "loc": tfp.util.ParameterProperties(event_ndims=2),
            "scale": tfp.util.ParameterProperties(
                event_ndims=2, default_constraining_bijector_fn=tfp.bijectors.Softplus
            ),
            "present": tfp.util.ParameterProperties(
                event_ndims=1, default_constraining_bijector_fn=None
            ),
        }

    @property
    def loc(self) -> tf.Tensor:
        """Experts' means, `[..., B, M, D]`."""
        return self._loc

    @property
    def scale(self) -> tf.Tensor:
        """Experts' standard deviations, `[..., B, M, D]`."""
        return self._scale

    @property
    def present(self) -> tf.Tensor | None:
        """bool `[..., B, M]`, or None where every modality is present."""
        return self._present

    @property
    def components_distribution(self) -> tfd.Distribution:
        """The S subset posteriors: batch `[..., B, S]`, event `[D]`.

        A subset that cannot be formed in a row is N(0, I) there.
        """
        loc, log_scale = self._components()
        return tfd.MultivariateNormalDiag(loc, tf.exp(log_scale))

    @property
    def mixture_weights(self) -> tf.Tensor:
        """Weights w_S, `[..., B, S]`; 0 where a subset lacks a modality.

        Rows sum to 1, except for rows in which no subset can be formed, which are 0.
        """
        if self._weights is not None:
            return self._weights
        available = tf.cast(self._available(), self.dtype)
        return tf.math.divide_no_nan(
            available, tf.reduce_sum(available, axis=-1, keepdims=True)
        )

    def stratified_sample(self, seed=None) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws one z for each row, with components stratified over the batch.

        Of n rows that have the same modalities, floor(n w) or ceil(n w) draw a
        component of weight w; each row draws it with probability w.

        Args:
          seed: Seed of the draw: an int, int32 `[2]`, or None for fresh entropy.

        Returns:
          `z` `[..., B, D]` and `component` int32 `[..., B]`.
        """
        component_seed, noise_seed = split_seed(stateless_seed(seed))
        batch_shape = tf.shape(self._loc)[:-2]
        if self._weights is not None:
            weights = tf.reshape(self._weights, [-1, self._num_components])
            component = weighted_components(weights, component_seed)
        else:
            present = self._present
            if present is not None:
                present = tf.reshape(present, [-1, present.shape[-1]])
            rows = tf.reshape(self._available(), [-1, self._num_components])
            component = stratified_components(rows, component_seed, present)
        component = tf.reshape(component, batch_shape)
        return self._draw(component, noise_seed), component

    def kl_upper_bound(self, prior: tfd.Distribution | None = None) -> tf.Tensor:
        """Bounds KL(q || prior) from above by sum_S w_S KL(q_S || prior), in nats.

        The bound holds because the divergence is convex. The divergence of the mixture
        itself has no closed form and is smaller.

        Args:
          prior: Diagonal Gaussian of event `[D]`: `tfd.MultivariateNormalDiag`, or
            `tfd.Independent` or `tfd.Sample` of `tfd.Normal`. By default N(0, I).

        Returns:
          `[..., B]`; 0 for a row in which no subset can be formed.

        Raises:
          TypeError: If `prior` is not a diagonal Gaussian.
          ValueError: If its event is not `[D]`.
        """
        components = self._components()  # [..., B, S, D]
        if prior is None:
            divergence = kl_to_standard_normal(components)  # [..., B, S]
        else:
            loc, log_scale = diagonal_gaussian_of(prior, self._loc.shape[-1])
            every = DiagonalGaussian(
                loc[..., tf.newaxis, :], log_scale[..., tf.newaxis, :]
            )
            divergence = kl_divergence(components, every)
        return tf.reduce_sum(self.mixture_weights * divergence, axis=-1)

    @property
    def _num_components(self) -> int:
        """Number of components S."""
        return self._mask.shape[-2]

    def _components(self) -> DiagonalGaussian:
        """Subset posteriors, `[..., B, S, D]`."""
        return subset_products(
            self._loc,
            self._log_scale(),
            self._mask,
            with_prior=self._with_prior,
            present=self._present,
            formed=self._formed(),
        )

    def _log_scale(self) -> tf.Tensor:
        """Log-scales `[..., B, M, D]`; 0 for missing experts, whatever their scale."""
        scale = self._scale
        if self._present is not None:
            one = tf.ones([], self.dtype)
            scale = tf.where(self._present[..., tf.newaxis], scale, one)
        return tf.math.log(scale)

    def _formed(self) -> tf.Tensor | None:
        """Subsets to form, bool `[..., B, S]`; None if the mask alone decides."""
        if self._weights is None and self._present is None:
            return None
        return self._available()

    def _available(self) -> tf.Tensor:
        """Subsets that can be drawn, bool `[..., B, S]`."""
        if self._weights is not None:
            return self._weights > 0.0
        if self._present is not None:
            return available_subsets(self._mask, self._present)
        shape = tf.concat([tf.shape(self._loc)[:-2], [self._num_components]], axis=0)
        return tf.ones(shape, tf.bool)

    def _log_weights(self) -> tf.Tensor:
        """Log-weights `[..., B, S]`; uniform where no subset can be formed.

        All components of such a row are N(0, I).
        """
        weights = self.mixture_weights
        none = tf.reduce_sum(weights, axis=-1, keepdims=True) < 0.5
        uniform = tf.constant(1.0 / self._num_components, self.dtype)
        return tf.math.log(tf.where(none, uniform, weights))

    def _draw(self, component: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draws z `[n..., ..., B, D]` from components `[n..., ..., B]`."""
        loc, log_scale = self._components()  # [..., B, S, D]
        one_hot = tf.one_hot(component, self._num_components, dtype=self.dtype)
        loc = tf.einsum("...s,...sd->...d", one_hot, loc)
        log_scale = tf.einsum("...s,...sd->...d", one_hot, log_scale)
        noise = standard_normal(tf.shape(loc), seed, self.dtype)
        return loc + tf.exp(log_scale) * noise

    def _sample_n(self, n, seed=None):
        component_seed, noise_seed = split_seed(stateless_seed(seed))
        component = self._draw_components(n, component_seed)
        return self._draw(component, noise_seed)

    def _draw_components(self, n, seed):
        """Draws components, int32 `[n, ..., B]`."""
        if self._weights is None:
            return independent_components(self._available(), n, seed)
        shape = tf.concat([[n], tf.shape(self._loc)[:-2]], axis=0)
        return component_at(self._weights, uniform(shape, seed, tf.float64))

    def _log_prob(self, value):
        log_prob = log_density(self._components(), value[..., tf.newaxis, :])
        return tf.reduce_logsumexp(self._log_weights() + log_prob, axis=-1)

    def _mean(self):
        weights = tf.exp(self._log_weights())[..., tf.newaxis]  # [..., B, S, 1]
        return tf.reduce_sum(weights * self._components().loc, axis=-2)

    def _variance(self):
        """Variance within plus between: sum_S w_S (scale_S^2 + (loc_S - mean)^2)."""
        loc, log_scale = self._components()
        mean = self._mean()[..., tf.newaxis, :]
        spread = tf.exp(2.0 * log_scale) + tf.math.squared_difference(loc, mean)
        return tf.reduce_sum(tf.exp(self._log_weights())[..., tf.newaxis] * spread, -2)

    def _event_shape(self):
        return self._loc.shape[-1:]

    def _event_shape_tensor(self, loc=None, **_):
        return tf.shape(self._loc if loc is None else loc)[-1:]

    def _default_event_space_bijector(self):
        return tfp.bijectors.Identity(validate_args=self.validate_args)

    def _parameter_control_dependencies(self, is_init):
        if not self.validate_args or not is_init:
            return []
        scale = self._scale
        if self._present is not None:
            scale = tf.where(self._present[..., tf.newaxis], scale, 1.0)
        return [
            tf.debugging.assert_positive(scale, message="`scale` must be positive.")
        ]
