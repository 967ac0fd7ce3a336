"""The MoPoE-VAE: a mixture over all subsets of products of experts."""

import keras

from tf_mopoe.models.multimodal_vae import MultimodalVAE


@keras.saving.register_keras_serializable(package="tf_mopoe")
class MoPoEVAE(MultimodalVAE):
    """Mixture-of-products-of-experts VAE.

        q(z|X) = sum_S w_S q_S(z),   q_S(z) proportional to prod_{m in S} q_m(z|x_m)

    over all non-empty subsets S by default, with w uniform over those that can be
    formed from what is present. See `MultimodalVAE` for arguments, batches and loss.

    Source: Sutter, Daunhawer, Vogt, Generalized Multimodal ELBO, ICLR 2021.

    Example:
      >>> model = MoPoEVAE(
      ...     [Modality("a", event_shape=(4,)), Modality("b", event_shape=(6,))],
      ...     latent_dim=2,
      ... )
      >>> model.compile(optimizer="adam")
      >>> x = {"a": np.zeros([8, 4], "float32"), "b": np.ones([8, 6], "float32")}
      >>> history = model.fit(x, epochs=1, verbose=0)
      >>> model.impute({"a": x["a"]}, num_samples=3)["b"].shape
      TensorShape([3, 8, 6])
    """
