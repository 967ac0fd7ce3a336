"""All subset posteriors at once, as products of the unimodal experts."""

import keras

from tf_mopoe.distributions import DiagonalGaussian
from tf_mopoe.distributions.gaussians import prior_mask, subset_products
from tf_mopoe.subsets import SubsetSpec, available_subsets, membership_mask


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
          subsets: `"nonempty"`, `"powerset"`, `"singletons"`, `"full"` or an explicit
            list of index lists; see `tf_mopoe.subsets.membership_mask`.
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

    def call(self, experts, present=None):
        """See the class."""
        loc, log_scale = experts
        mask = membership_mask(loc.shape[-2], self.subsets)  # [S, M]
        return subset_products(
            loc,
            log_scale,
            mask,
            with_prior=prior_mask(mask, self.prior_expert),
            present=present,
            formed=None if present is None else available_subsets(mask, present),
        )

    def compute_output_shape(self, experts_shape, present_shape=None):
        """Shapes `[B, S, D]` of `loc` and `log_scale`."""
        batch, modalities, latent_dim = experts_shape[0]
        count = len(membership_mask(modalities, self.subsets))
        shape = (batch, count, latent_dim)
        return DiagonalGaussian(shape, shape)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "subsets": self.subsets,
            "prior_expert": self.prior_expert,
        }
