"""One latent a row from the mixture of subset posteriors: the component draw."""

import keras
import tensorflow as tf

from tf_mopoe.distributions.components import (
    contiguous_components,
    stateless_seed,
    stratified_components,
)
from tf_mopoe.subsets import SubsetSpec, available_subsets, membership_mask

COMPONENT_DRAWS = ("stratified", "contiguous")


@keras.saving.register_keras_serializable(package="tf_mopoe")
class MixtureOfExperts(keras.layers.Layer):
    """Draws z ~ q(z|X) = sum_S w_S q_S(z), one for each row.

    w is uniform over the subsets that can be formed from the modalities present in
    the row. Given the component, z is reparameterised: z = loc_S + scale_S * noise.

    Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021.

    Call arguments:
      components: `DiagonalGaussian` (or a pair) of `loc` and `log_scale`, `[B, S, D]`.
      present: Optional bool `[B, M]`.
      seed: Optional int32 `[2]`; the same seed gives the same draw. By default the
        layer's own generator moves on with each call.

    Returns:
      z `[B, D]` and the component drawn, int32 `[B]`.
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
        """Makes the layer.

        Args:
          subsets: The subsets that `components` stand for, as
            `SubsetProductOfExperts` got them.
          component_draw: `"stratified"`: each component gets floor(B w) or ceil(B w)
            rows, at random (see `stratified_components`); `"contiguous"`: the
            published code's fixed split of a batch without missing modalities.
          seed: Of the layer's own generator, used where a call gives none.
          dtype: Of the computation.
          **kwargs: Of `keras.layers.Layer`.

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

    def call(self, components, present=None, seed=None):
        """See the class."""
        loc, log_scale = components  # [B, S, D]
        if seed is None:
            seed = tf.cast(self.seed_generator.next(), tf.int32)
        component_seed, noise_seed = tf.unstack(
            tf.random.experimental.stateless_split(stateless_seed(seed), 2)
        )
        component = self._draw_component(loc, present, component_seed)  # [B]
        one_hot = tf.one_hot(component, loc.shape[1], dtype=loc.dtype)  # [B, S]
        loc = tf.einsum("bs,bsd->bd", one_hot, loc)
        log_scale = tf.einsum("bs,bsd->bd", one_hot, log_scale)
        noise = standard_normal(tf.shape(loc), noise_seed, loc.dtype)
        return loc + tf.exp(log_scale) * noise, component

    def _draw_component(self, loc, present, seed):
        batch, count = tf.shape(loc)[0], loc.shape[1]
        if self.component_draw == "contiguous":
            if present is not None:
                raise ValueError(
                    "`component_draw='contiguous'` is for batches without missing "
                    "modalities. Use 'stratified'."
                )
            return contiguous_components(batch, count)
        if present is None:
            available = tf.ones([batch, count], tf.bool)
        else:
            mask = membership_mask(present.shape[-1], self.subsets)
            available = available_subsets(mask, present)
        return stratified_components(available, seed, present)

    def compute_output_spec(self, components, present=None, seed=None):
        """z `[B, D]`, and the component, int32 `[B]`."""
        batch, _, latent_dim = components[0].shape
        return (
            keras.KerasTensor((batch, latent_dim), self.compute_dtype),
            keras.KerasTensor((batch,), "int32"),
        )

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "subsets": self.subsets,
            "component_draw": self.component_draw,
            "seed": self.seed,
        }


def standard_normal(shape, seed, dtype):
    """Noise of the reparameterised draw; a function of its own so tests can fix it."""
    return tf.random.stateless_normal(shape, seed, dtype=dtype)
