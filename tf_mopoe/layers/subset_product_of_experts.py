"""All subset posteriors at once, as products of the unimodal experts."""

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

    One matrix product of the `[S, M]` membership mask with the experts' precisions;
    see `tf_mopoe.distributions.gaussians.subset_products` for the formula and source.
    Works in float32 also under mixed precision.

    Call arguments:
      experts: `DiagonalGaussian` (or a pair) of `loc` and `log_scale`, `[B, M, D]`.
      present: Optional bool `[B, M]`. What a missing expert holds, NaN included,
        leaves no trace in the output or in gradients.
      drawn: Where `subsets` is a sampler, the `DrawnSubsets` to form; by default those
        of its own seed, as in inference.

    Returns:
      `DiagonalGaussian` with `loc` and `log_scale` of shape `[B, S, D]`, in the order
      of `membership_mask`. A subset that can't be formed in a row stands as N(0, I).
    """

    def __init__(
        self,
        subsets: SubsetSpec = "nonempty",
        *,
        prior_expert: str = "full_set",
        dtype="float32",
        **kwargs,
    ):
        """Makes the layer.

        Args:
          subsets: The name of a family (see `tf_mopoe.subsets.membership_mask`), a list
            of index lists, or a `SubsetSampler`.
          prior_expert: Where N(0, I) is one more expert: `"full_set"` (the published
            code), `"none"` or `"every_subset"`.
          dtype: Of the computation.
          **kwargs: Of `keras.layers.Layer`.

        Raises:
          ValueError: If `prior_expert` is unknown; for `subsets`, when called.
        """
        super().__init__(dtype=dtype, **kwargs)
        prior_mask(membership_mask(1), prior_expert)
        self.subsets = subsets
        self.prior_expert = prior_expert
        self.built = True

    def call(self, experts, present=None, drawn=None):
        """See the class."""
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
        """Shapes `[B, S, D]` of `loc` and `log_scale`."""
        batch, modalities, latent_dim = experts_shape[0]
        if isinstance(self.subsets, SubsetSampler):
            count = self.subsets.num_subsets
        else:
            count = len(membership_mask(modalities, self.subsets))
        shape = (batch, count, latent_dim)
        return DiagonalGaussian(shape, shape)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "subsets": save_subsets(self.subsets),
            "prior_expert": self.prior_expert,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuilds the layer from `get_config`'s dictionary."""
        return super().from_config(restore_subsets(config))
