"""The base class of models that fix which subsets are mixed."""

from typing import Any

from tf_mopoe.models.multimodal_vae import MultimodalVAE


class FixedFusionVAE(MultimodalVAE):
    """A `MultimodalVAE` that neither takes nor saves `subsets` and `prior_expert`."""

    #: The arguments that a subclass fixes, and their values.
    FIXED: dict[str, Any] = {}

    def __init__(self, modalities, latent_dim, **kwargs):
        """Makes and builds the model.

        Args:
          modalities: See `MultimodalVAE`.
          latent_dim: See `MultimodalVAE`.
          **kwargs: Arguments of `MultimodalVAE` but for `subsets` and `prior_expert`.

        Raises:
          ValueError, TypeError: If an argument is not as described.
        """
        for name, value in self.FIXED.items():
            if name in kwargs:
                raise TypeError(
                    f"{type(self).__name__} has `{name}={value!r}` and takes no other. "
                    "Use MultimodalVAE to choose."
                )
        super().__init__(modalities, latent_dim, **kwargs, **self.FIXED)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the networks that were built."""
        config = super().get_config()
        return {key: value for key, value in config.items() if key not in self.FIXED}
