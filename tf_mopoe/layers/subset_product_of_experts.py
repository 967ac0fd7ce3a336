"""Posteriors of all subsets at once, as products of the unimodal experts."""

import keras

from tf_mopoe.distributions import DiagonalGaussian
from tf_mopoe.distributions.gaussians import prior_mask, subset_products
from tf_mopoe.distributions.subset_draws import subsets_for_inference
from tf_mopoe.layers.subset_specs import restore_subsets, save_subsets
from tf_mopoe.subsets import (
    SubsetSampler,
    SubsetSpec,
    available_subsets,
    membership_mask,
)


@keras.saving.register_keras_serializable(package="tf_mopoe")
class SubsetProductOfExperts(keras.layers.Layer):
    """Forms q_S, the normalised product of the experts in S, for every subset S.

        lambda_S = sum_{m in S} lambda_m (+ 1 with the prior expert)
        loc_S    = sum_{m in S} lambda_m loc_m / lambda_S,   lambda_m = scale_m^-2

    All products are one matrix product of the `[S, M]` membership mask with the
    experts' precisions; see `tf_mopoe.distributions.gaussians.subset_products`. The
    layer computes in float32 by default, also under mixed precision.

    Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021; Hinton, Training
    products of experts, 2002.

    Example:
      >>> experts = tf.zeros([8, 3, 2]), tf.zeros([8, 3, 2])  # [B, M, D]
      >>> products = SubsetProductOfExperts(prior_expert="none")(experts)
      >>> products.loc.shape
      TensorShape([8, 7, 2])
      >>> np.exp(-2 * products.log_scale[0, :, 0]).round(3).tolist()  # precisions
      [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0]

    Call arguments:
      experts: `DiagonalGaussian` (or a pair) of `loc` and `log_scale`, `[B, M, D]`.
      present: Modalities present in each row, bool `[B, M]`; None if all are. Values
        of missing experts, including NaN, affect neither outputs nor gradients.
      drawn: `DrawnSubsets` to form, if `subsets` is a sampler. By default they are
        drawn from the sampler's own seed, as in inference.

    Returns:
      `DiagonalGaussian` with `loc` and `log_scale` of shape `[B, S, D]`, in the order
      of `membership_mask`. A subset that cannot be formed in a row is N(0, I).
    """

    def __init__(
        self,
        subsets: SubsetSpec = "nonempty",
        *,
        prior_expert: str = "full_set",
        dtype="float32",
        **kwargs,
    ):
        """Initializes the layer.

        Args:
          subsets: Name of a family (see `tf_mopoe.subsets.subset_indices`), list of
            lists of indices, or `SubsetSampler`.
          prior_expert: Products with N(0, I) as one more expert: `"full_set"`, as in
            the published code, `"none"` or `"every_subset"`.
          dtype: Dtype of the computation.
          **kwargs: Keyword arguments of `keras.layers.Layer`.

        Raises:
          ValueError: If `prior_expert` is unknown. `subsets` is checked in the first
            call, when the number of modalities is known.
        """
        super().__init__(dtype=dtype, **kwargs)
        prior_mask(membership_mask(1), prior_expert)
        self.subsets = subsets
        self.prior_expert = prior_expert
        self.built = True

    def call(self, experts, present=None, drawn=None):
        """Runs the layer; see the class for arguments and results."""
        loc, log_scale = experts
        if isinstance(self.subsets, SubsetSampler):
            if drawn is None:
                drawn = subsets_for_inference(self.subsets, loc, present)
            return subset_products(
                loc,
                log_scale,
                drawn.mask,
                with_prior=prior_mask(drawn.mask, self.prior_expert),
                present=present,
                formed=drawn.weights > 0.0,
            )
        mask = membership_mask(loc.shape[-2], self.subsets)  # [S, M]
        return subset_products(
            loc,
            log_scale,
            mask,
            with_prior=prior_mask(mask, self.prior_expert),
            present=present,
            formed=None if present is None else available_subsets(mask, present),
        )

    def compute_output_shape(self, experts_shape, present_shape=None, drawn_shape=None):
        """Returns the shapes `[B, S, D]` of `loc` and `log_scale`."""
        batch, modalities, latent_dim = experts_shape[0]
        if isinstance(self.subsets, SubsetSampler):
            count = self.subsets.num_subsets
        else:
            count = len(membership_mask(modalities, self.subsets))
        shape = (batch, count, latent_dim)
        return DiagonalGaussian(shape, shape)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "subsets": save_subsets(self.subsets),
            "prior_expert": self.prior_expert,
        }

    @classmethod
    def from_config(cls, config):
        """Builds the layer from the dictionary of `get_config`."""
        return super().from_config(restore_subsets(config))
