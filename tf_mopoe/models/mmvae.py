"""The MMVAE: a mixture of the unimodal experts."""

import keras

from tf_mopoe.models.multimodal_vae import MultimodalVAE


@keras.saving.register_keras_serializable(package="tf_mopoe")
class MMVAE(MultimodalVAE):
    """Mixture-of-experts VAE.

        q(z|X) = (1/n) sum_{m present} q_m(z|x_m),   n modalities present

    See `MultimodalVAE` for arguments (but for `subsets` and `prior_expert`, which are
    fixed), batches and loss. The default objective is the ELBO of Sutter et al.'s
    published code. `objective="dreg"` with `num_samples` is an importance-weighted
    bound as in the paper, but each of the K samples draws its own expert.

    Source: Shi, Siddharth, Paige, Torr, Variational Mixture-of-Experts Autoencoders
    for Multi-Modal Deep Generative Models, NeurIPS 2019.
    """

    FIXED = {"subsets": "singletons", "prior_expert": "none"}

    def __init__(self, modalities, latent_dim, **kwargs):
        """Makes and builds the model.

        Args:
          modalities: See `MultimodalVAE`.
          latent_dim: See `MultimodalVAE`.
          **kwargs: Of `MultimodalVAE`, but for `subsets` and `prior_expert`.

        Raises:
          ValueError, TypeError: If an argument is not as described.
        """
        super().__init__(modalities, latent_dim, **self.with_fixed(kwargs))
