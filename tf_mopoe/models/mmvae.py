"""The MMVAE: a mixture of the unimodal experts."""

import keras

from tf_mopoe.models.fixed_fusion import FixedFusionVAE


@keras.saving.register_keras_serializable(package="tf_mopoe")
class MMVAE(FixedFusionVAE):
    """Mixture-of-experts VAE.

        q(z|X) = (1/n) sum_{m present} q_m(z|x_m),   n modalities present

    See `MultimodalVAE` for arguments (but for `subsets` and `prior_expert`, which are
    fixed), batches and loss. The default objective is the ELBO of Sutter et al.'s
    published code. `objective="dreg"` with `num_samples` is an importance-weighted
    bound as in the paper, but each of the K samples draws its own expert.

    Source: Shi, Siddharth, Paige, Torr, Variational Mixture-of-Experts Autoencoders
    for Multi-Modal Deep Generative Models, NeurIPS 2019.

    Example:
      >>> model = MMVAE([Modality("a", (4,)), Modality("b", (6,))], latent_dim=2)
      >>> model.compile("adam")
      >>> x = {"a": np.zeros([8, 4], "float32"), "b": np.ones([8, 6], "float32")}
      >>> history = model.fit(x, verbose=0)
      >>> model.predict({"b": x["b"]}, verbose=0)["a"].shape
      (8, 4)
    """

    FIXED = {"subsets": "singletons", "prior_expert": "none"}
