"""Draws of latents from the mixture of subset posteriors."""

import keras
import tensorflow as tf

from tf_mopoe.distributions import noise
from tf_mopoe.distributions.components import (
    component_at,
    contiguous_components,
    stratified_components,
    weighted_components,
)
from tf_mopoe.layers.subset_specs import restore_subsets, save_subsets
from tf_mopoe.subsets import (
    SubsetSampler,
    SubsetSpec,
    available_subsets,
    has_empty_subset,
    membership_mask,
)

COMPONENT_DRAWS = ("stratified", "contiguous")


@keras.saving.register_keras_serializable(package="tf_mopoe")
class MixtureOfExperts(keras.layers.Layer):
    """Draws z ~ q(z|X) = sum_S w_S q_S(z) for each row.

    w is uniform over the subsets that can be formed from the modalities present in
    the row. Given the component, z is reparameterised: z = loc_S + scale_S * noise.

    Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021.

    Example:
      >>> components = tf.zeros([14, 7, 2]), tf.zeros([14, 7, 2])  # of 3 modalities
      >>> z, component = MixtureOfExperts(seed=0)(components)
      >>> z.shape, np.bincount(component).tolist()
      (TensorShape([14, 2]), [2, 2, 2, 2, 2, 2, 2])

    Call arguments:
      components: `DiagonalGaussian` (or a pair) of `loc` and `log_scale`, `[B, S, D]`.
      present: Modalities present in each row, bool `[B, M]`; None if all are.
      seed: Seed of the draw. An int32 `[2]` draws the batch. An int32 `[B, 2]` draws
        each row from its own seed, independently of the other rows. None uses the
        layer's own generator, which advances with each call.
      drawn: `DrawnSubsets` of `components`; required if `subsets` is a sampler.
      num_samples: Number of independent draws K of each row; None for one without an
        axis K.
      replica: `noise.ReplicaSlice` of the global batch that these rows are, if several
        replicas draw together.

    Returns:
      z `[B, D]` and the component drawn, int32 `[B]`; with `num_samples` `[K, B, D]`
      and `[K, B]`.
    """

    def __init__(
        self,
        subsets: SubsetSpec = "nonempty",
        *,
        component_draw: str = "stratified",
        seed: int | None = None,
        dtype="float32",
        **kwargs,
    ):
        """Initializes the layer.

        Args:
          subsets: Subsets of `components`, the argument of `SubsetProductOfExperts`.
          component_draw: `"stratified"` for components that get floor(B w) or
            ceil(B w) rows at random (see `stratified_components`), or `"contiguous"`
            for the published code's fixed split of a batch without missing modalities,
            an empty subset last.
          seed: Seed of the layer's own generator, which is used by calls without a
            seed.
          dtype: Dtype of the computation.
          **kwargs: Keyword arguments of `keras.layers.Layer`.

        Raises:
          ValueError: If `component_draw` is unknown.
        """
        super().__init__(dtype=dtype, **kwargs)
        if component_draw not in COMPONENT_DRAWS:
            raise ValueError(
                f"`component_draw` must be one of {list(COMPONENT_DRAWS)}. "
                f"Received: {component_draw!r}."
            )
        self.subsets = subsets
        self.component_draw = component_draw
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(
        self,
        components,
        present=None,
        seed=None,
        drawn=None,
        num_samples=None,
        replica=None,
    ):
        """Runs the layer; see the class for arguments and results."""
        loc, log_scale = components  # [B, S, D]
        if seed is None:
            seed = tf.cast(self.seed_generator.next(), tf.int32)
        component_seed, noise_seed = noise.split_seed(noise.stateless_seed(seed))
        component = self._draw_components(
            loc, present, component_seed, drawn, num_samples or 1, replica
        )  # [K, B]
        one_hot = tf.one_hot(component, loc.shape[1], dtype=loc.dtype)  # [K, B, S]
        loc = tf.einsum("kbs,bsd->kbd", one_hot, loc)
        log_scale = tf.einsum("kbs,bsd->kbd", one_hot, log_scale)
        normal = noise.normal_for(noise_seed, num_samples or 1, loc[0], replica)
        z = loc + tf.exp(log_scale) * normal
        return (z[0], component[0]) if num_samples is None else (z, component)

    def _draw_components(self, loc, present, seed, drawn, num_draws, replica):
        batch, count = tf.shape(loc)[0], loc.shape[1]
        if seed.shape.rank == 2 and self.component_draw != "contiguous":
            weights = (
                drawn.weights if drawn is not None else self._weights(loc, present)
            )
            point = noise.uniform_by_row(seed, num_draws, tf.float64)
            return component_at(weights, tf.transpose(point))
        if drawn is not None:
            return weighted_components(
                drawn.weights, seed, num_draws=num_draws, replica=replica
            )
        if isinstance(self.subsets, SubsetSampler):
            raise ValueError("`drawn` is required if `subsets` is a SubsetSampler.")
        if count == 1:
            return tf.zeros([num_draws, batch], tf.int32)
        if replica is not None:
            batch, present = replica.global_batch_size, replica.present
        if self.component_draw == "contiguous":
            if present is not None:
                raise ValueError(
                    "`component_draw='contiguous'` is for batches without missing "
                    "modalities. Use 'stratified'."
                )
            component = contiguous_components(batch, count)
            if has_empty_subset(self.subsets):
                component = (component + 1) % count
            component = noise.take_local_rows(replica, component)
            return tf.tile(component[tf.newaxis], [num_draws, 1])
        available = self._available(batch, count, present)
        component = stratified_components(available, seed, present, num_draws=num_draws)
        return noise.take_local_rows(replica, component, axis=1)

    def _available(self, batch, count, present):
        """Returns which components each row can draw, bool `[B, S]`."""
        if present is None:
            return tf.ones([batch, count], tf.bool)
        mask = membership_mask(present.shape[-1], self.subsets)
        return available_subsets(mask, present)

    def _weights(self, loc, present):
        """Returns weights `[B, S]`, up to a factor for each row."""
        batch, count = tf.shape(loc)[0], loc.shape[1]
        return tf.cast(self._available(batch, count, present), tf.float32)

    def compute_output_spec(
        self,
        components,
        present=None,
        seed=None,
        drawn=None,
        num_samples=None,
        replica=None,
    ):
        """Returns the specs of z `[B, D]` and of the component, int32 `[B]`.

        With `num_samples` both have a leading axis K.
        """
        batch, _, latent_dim = components[0].shape
        draws = () if num_samples is None else (num_samples,)
        return (
            keras.KerasTensor((*draws, batch, latent_dim), self.compute_dtype),
            keras.KerasTensor((*draws, batch), "int32"),
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "subsets": save_subsets(self.subsets),
            "component_draw": self.component_draw,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        """Builds the layer from the dictionary of `get_config`."""
        return super().from_config(restore_subsets(config))
