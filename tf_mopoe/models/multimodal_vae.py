"""The multimodal VAE: experts, subset products, their mixture, and its ELBO."""

import functools
import random
import types
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule
from tensorflow_probability import distributions as tfd

from tf_mopoe.checks import whole_number
from tf_mopoe.distributions import (
    DiagonalGaussian,
    MixtureOfProductsOfExperts,
    kl_to_standard_normal,
    noise,
)
from tf_mopoe.layers import MixtureOfExperts, SubsetProductOfExperts
from tf_mopoe.layers.subset_specs import save_subsets
from tf_mopoe.modality import Modality
from tf_mopoe.models import arguments, bounds, log_likelihood, row_draws
from tf_mopoe.models.batches import Batch
from tf_mopoe.models.bounds import BoundTarget, mean_of_rows, sum_of_scalars
from tf_mopoe.models.keras_model import CheckedModel
from tf_mopoe.models.loss_metrics import LossMetrics
from tf_mopoe.models.networks import MultimodalNetworks
from tf_mopoe.models.posterior_encoder import encode_symbolically
from tf_mopoe.models.replicas import num_replicas, sum_gradients
from tf_mopoe.models.saving import check_loads, frozen_layers, rebuilt
from tf_mopoe.models.settings import BetaSetting, Setting, current_beta
from tf_mopoe.models.step_model import ADJUSTABLE
from tf_mopoe.models.step_noise import StepNoise
from tf_mopoe.objectives.importance_sampling import LogLikelihoodEstimate
from tf_mopoe.objectives.objective import LossWeights
from tf_mopoe.subsets import SubsetSpec


@keras.saving.register_keras_serializable(package="tf_mopoe")
class MultimodalVAE(CheckedModel):
    """A VAE with one latent for several modalities, any of which may be missing.

    Every modality has an encoder, whose features two dense heads turn into a Gaussian
    expert, and a decoder. Subclasses fix which subsets of experts are mixed.

    Batches, in every method: a dictionary of modality name to floating
    `[B, *event_shape]`. A modality may be missing from the whole batch (no key) or in
    some rows (`"present": {name: bool [B]}`); rows with nothing present have the prior
    as their posterior. There are no targets: `y` must be None.

    The loss is, in nats, the mean over rows of

        sum_m r_m (-log p(x_m | z, s_m)) + beta (beta_content sum_S w_S KL(q_S || p)
            + beta_style sum_m beta_style,m KL(q(s_m | x_m) || p)),   z ~ q(z | X)

    or an importance-weighted bound (`objective`). Its terms are metrics: `loss`,
    `<modality>_log_likelihood` and `<modality>_style_kl` (means over the rows in which
    the modality is present; 0 if there was none), `kl_bound`, `beta`.

    Example:
      >>> modalities = [Modality("a", (4,)), Modality("b", (6,))]
      >>> model = MultimodalVAE(modalities, latent_dim=2, subsets="singletons")
      >>> x = {"a": np.zeros([8, 4], "float32")}  # "b" is missing
      >>> model.encode(x)["loc"].shape
      TensorShape([8, 2])
      >>> model.impute(x, num_samples=3, seed=0)["b"].shape
      TensorShape([3, 8, 6])
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        *,
        beta: float | LearningRateSchedule = 1.0,
        beta_content: float = 1.0,
        beta_style: float = 1.0,
        objective: str = "elbo",
        num_samples: int = 1,
        subsets: SubsetSpec | Sequence[Sequence[str]] = "nonempty",
        prior_expert: str = "full_set",
        component_draw: str = "stratified",
        seed: int | None = None,
        **kwargs,
    ):
        """Makes and builds the model.

        Args:
          modalities: At least one `Modality`, with different names.
          latent_dim: Size of the latent, D, at least 1.
          beta: Weight of all divergences, 0 or more; or a
            `keras.optimizers.schedules.LearningRateSchedule`, its value at each
            training step (KL warm-up). `evaluate` uses the value of the last step.
          beta_content: Weight of the shared latent's divergence within that.
          beta_style: Weight of the styles' divergences; each modality has one more.
          objective: `"elbo"`; `"iwae"`, the importance-weighted bound with K samples
            and the true density of the mixture as proposal (Burda et al., ICLR 2016);
            `"dreg"`, the same bound with the doubly reparameterised gradient (Tucker
            et al., ICLR 2019).
          num_samples: K, samples of z for each row in training and `evaluate`; the
            ELBO takes the mean over them.
          subsets: Which subsets' posteriors are mixed; a family's name (see
            `tf_mopoe.subsets.membership_mask`), lists of modality names or indices, or
            a `tf_mopoe.subsets.SubsetSampler` for many modalities.
          prior_expert: Where N(0, I) is one more expert: `"full_set"`, `"none"`,
            `"every_subset"`.
          component_draw: `"stratified"` or `"contiguous"`; see `MixtureOfExperts`.
          seed: Seed of the noise in training, which depends on it and the step's
            number alone: a resumed run continues as if it had not stopped (except for
            dropout, which Keras does not save). None: drawn from Python's generator,
            which `keras.utils.set_random_seed` seeds.
          **kwargs: Keyword arguments of `keras.Model`: `name`, and `dtype`, that of the
            latents (networks follow Keras's global policy, or their own).

        Raises:
          ValueError, TypeError: If an argument is not as described, or an encoder's
            or decoder's output does not fit.
        """
        super().__init__(**kwargs)
        # Keras would round a batch to 16 bits before it is checked: counts above 65504
        # become infinite, class indices others. The networks cast for themselves.
        self.autocast = False
        modalities = arguments.checked_modalities(modalities)
        likelihoods = tuple(arguments.checked_likelihood(m) for m in modalities)
        names = [m.name for m in modalities]
        self.latent_dim = whole_number("latent_dim", latent_dim, minimum=1)
        self.beta = beta
        self.beta_content = beta_content
        self.beta_style = beta_style
        self.objective = objective
        self.num_samples = num_samples
        self.subsets = arguments.subsets_by_index(subsets, names)
        self.prior_expert = prior_expert
        self.component_draw = component_draw
        self.seed = random.randrange(2**31) if seed is None else seed
        # [S, M], None for sampled subsets
        self.mask = arguments.subset_mask(self.subsets, len(names))
        self.reconstruction_weights = types.MappingProxyType(
            arguments.reconstruction_weights(modalities, likelihoods)
        )
        arguments.check_combination(
            objective, component_draw, self.subsets, beta_style, modalities
        )
        # Latent arithmetic is in float32 under every 16-bit policy.
        self.latent_dtype = "float64" if self.variable_dtype == "float64" else "float32"
        dtype = self.latent_dtype
        self.networks = MultimodalNetworks(
            modalities, likelihoods, self.latent_dim, dtype=dtype, name="networks"
        )
        self.subset_product_of_experts = SubsetProductOfExperts(
            self.subsets, prior_expert=prior_expert, dtype=dtype
        )
        self.mixture_of_experts = MixtureOfExperts(
            self.subsets, component_draw=component_draw, dtype=dtype
        )
        # So that `summary` shows their shapes.
        experts = keras.Input((len(names), self.latent_dim), dtype=dtype)
        self.mixture_of_experts(self.subset_product_of_experts([experts, experts]))
        self.modalities = self.networks.modalities
        self.loss_metrics = LossMetrics(names, list(self.networks.style_experts))
        self.noise = StepNoise()
        self.built = True
        arguments.claim_networks(self.modalities, self.name)
        self._made = True

    beta = BetaSetting()
    beta_content = Setting(arguments.checked_weight)
    beta_style = Setting(arguments.checked_weight)
    num_samples = Setting(functools.partial(whole_number, minimum=1))
    seed = Setting(functools.partial(whole_number, maximum=2**31 - 1))

    def call(self, inputs: Mapping[str, Any] | Batch, training: bool = False):
        """Reconstructs every modality from the posterior means of z and the styles.

        Args:
          inputs: A batch, any modalities missing.
          training: Whether networks run in training mode.

        Returns:
          Modality name to the likelihood's mean, `[B, *event_shape]`, of class indices
          the probabilities `[B, *event_shape, C]`.
        """
        batch = self.unpack_batch(inputs)
        encoded = self.networks.encode(batch, training=training)
        styles = self.networks.styles(encoded, batch)
        return self.decode(
            self.mixture(encoded.experts, batch).mean(),
            {name: style.loc for name, style in styles.items()},
            training=training,
        )

    def encode(self, inputs: Mapping[str, Any] | Batch) -> dict[str, tf.Tensor]:
        """Mean and standard deviation of the posterior.

        Args:
          inputs: A batch, any modalities missing.

        Returns:
          `{"loc": [B, D], "scale": [B, D]}`, the mixture's moments; Keras tensors where
          the batch holds some, such as `keras.Input`.
        """
        if any(isinstance(x, keras.KerasTensor) for x in tf.nest.flatten(inputs)):
            return encode_symbolically(self, inputs)
        posterior = self.posterior(inputs)
        return {"loc": posterior.mean(), "scale": posterior.stddev()}

    def posterior(
        self, inputs: Mapping[str, Any] | Batch
    ) -> MixtureOfProductsOfExperts:
        """q(z | X): the mixture over the subsets of what is present in each row.

        Args:
          inputs: A batch, any modalities missing.

        Returns:
          A `tfd.Distribution` of batch `[B]` and event `[D]`.

        Raises:
          TypeError, ValueError: If the batch is not as the class describes.
        """
        batch = self.unpack_batch(inputs)
        return self.mixture(self.networks.encode(batch).experts, batch)

    def mixture(
        self, experts: DiagonalGaussian, batch: Batch
    ) -> MixtureOfProductsOfExperts:
        """q(z | X) of unimodal posteriors `[B, M, D]`; see `posterior`."""
        return MixtureOfProductsOfExperts(
            experts.loc,
            tf.exp(experts.log_scale),
            batch.present,
            subsets=self.subsets,
            prior_expert=self.prior_expert,
        )

    def decode(
        self,
        z: tf.Tensor,
        styles: Mapping[str, tf.Tensor] | None = None,
        *,
        training: bool = False,
    ) -> dict[str, tf.Tensor]:
        """Mean of every modality's likelihood given latents.

        Args:
          z: `[..., D]`.
          styles: Modality name to its style, `[..., D_m]`; 0 where there is none.
          training: Whether networks run in training mode.

        Returns:
          Modality name to `[..., *event_shape]`; see `call`.

        Raises:
          ValueError: If `styles` names a modality without a style.
        """
        styles = self.networks.checked_styles(styles)
        return {
            name: self.networks.mean(name, z, styles.get(name), training=training)
            for name in self.modality_names
        }

    def impute(
        self,
        inputs: Mapping[str, Any] | Batch,
        num_samples: int = 1,
        *,
        seed: int | None = None,
    ) -> dict[str, tf.Tensor]:
        """Every modality given the observed ones: z ~ q(z|X), then the mean of p(x|z).

        Styles are drawn as well: from the encoder's Gaussian where the modality is
        observed, from the prior where it is not.

        Args:
          inputs: A batch, any modalities missing.
          num_samples: Number of draws K of the latents for each row, at least 1.
          seed: Any whole number in the range of int64. The draws of row i depend on it
            and i alone; other seeds, neighbouring ones too, give unrelated draws; a
            served model's `impute` gives the first of them. None: fresh draws.

        Returns:
          Modality name to `[K, B, *event_shape]`; observed modalities too; see `call`.

        Raises:
          TypeError, ValueError: If `num_samples`, `seed` or the batch is not as
            described.
        """
        num_samples = whole_number("num_samples", num_samples, minimum=1)
        batch = self.unpack_batch(inputs)
        seeds = noise.row_seeds(seed, batch.num_rows())
        return row_draws.impute_by_row(self, batch, seeds, num_samples)

    def sample(self, n: int, *, seed: int | None = None) -> dict[str, tf.Tensor]:
        """Every modality from the prior: z, s ~ N(0, I), then the mean of p(x | z, s).

        Args:
          n: Number of draws, at least 1.
          seed: Any whole number in the range of int64; see `impute`. None: fresh draws.

        Returns:
          Modality name to `[n, *event_shape]`; row i of all comes from one z.

        Raises:
          TypeError, ValueError: If `n` or `seed` is not as described.
        """
        n = whole_number("n", n, minimum=1)
        return row_draws.sample_by_row(self, noise.row_seeds(seed, n))

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The loss of a batch, for gradients, and an update of the metrics.

        Args:
          x: A batch; `y` and `y_pred` are not used.
          sample_weight: Optional weights of the rows, `[B]`, finite and 0 or more.
          training: Whether networks run in training mode, with the noise of a step;
            else with the noise of rows that follow those `evaluate` has seen.

        Returns:
          Scalar, nats: the mean over rows; on several replicas this one's part of it.

        Raises:
          TypeError, ValueError: If the batch or the weights are not as described.
        """
        self._clear_losses()  # of networks that this batch does not run
        batch, row_weights = self._checked_loss_inputs(x, sample_weight)
        optimizer = getattr(self, "optimizer", None)
        if training:
            self.noise.count_loss(optimizer)
            seed = self.noise.training_seed(self.seed, optimizer)
        else:
            seed = self.noise.evaluation_seeds(self.seed, batch)
        weights = self.loss_weights(current_beta(self))
        terms = bounds.bound_terms(self, batch, seed, weights, training=training)
        # -ELBO: -log p(X | z, s) + KL(q(z, s | X) || p(z, s)), both weighted, [B]
        losses = tf.add_n(
            [t.objective.loss(t.reconstruction, t.divergence, weights) for t in terms]
        )
        if row_weights is not None:
            losses *= row_weights
        penalty = sum_of_scalars(self.losses, losses.dtype)  # of the user's networks
        mean, part = mean_of_rows(losses, batch.replica)
        loss = mean + penalty
        self.loss_metrics.update(loss, terms[0], weights.beta, batch, row_weights)
        return part + penalty / num_replicas()

    def train_step(self, data):
        """One step on `data`; returns the metrics."""
        batch, row_weights = self._unpack_step(data)
        self._build_optimizer()

        def gradients(batch, row_weights):
            with tf.GradientTape() as tape:
                loss = self.compute_loss(
                    batch, sample_weight=row_weights, training=True
                )
                scaled = self.optimizer.scale_loss(loss)
            return tape.gradient(scaled, self.trainable_variables)

        def update(batch, row_weights):
            self._apply(gradients(batch, row_weights))

        with self.noise.train_step():
            if num_replicas() == 1:
                self._compiled(update)(batch, row_weights)
            else:  # XLA can't compile what replicas do together
                of_replica = self._compiled(gradients)(batch, row_weights)
                self._apply(sum_gradients(of_replica, self.optimizer))
        return self._results()

    def bound_targets(
        self, experts: DiagonalGaussian, batch: Batch, seed: tf.Tensor
    ) -> list[BoundTarget]:
        """Posteriors of the bounds that the loss adds up; a subclass may add some.

        Args:
          experts: Unimodal posteriors `[B, M, D]`.
          batch: A checked batch.
          seed: int32 `[2]` or `[B, 2]`: seed of what is drawn besides z.
        """
        layer = self.subset_product_of_experts
        return [bounds.joint_target(layer, experts, batch, seed)]

    def divergence(self, components: DiagonalGaussian, weights: tf.Tensor) -> tf.Tensor:
        """Sum_S w_S KL(q_S || p), nats `[B]`; an upper bound on KL(q(z | X) || p).

        Args:
          components: Subset posteriors, `[B, S, D]`.
          weights: `[B, S]`.
        """
        return tf.reduce_sum(weights * kl_to_standard_normal(components), axis=-1)

    def loss_weights(self, beta: float | tf.Tensor = 1.0) -> LossWeights:
        """Weights of the loss's terms at a value of beta."""
        with_style = [m for m in self.modalities if m.style_dim]
        styles = {m.name: self.beta_style * m.beta_style for m in with_style}
        return LossWeights(self.reconstruction_weights, beta, self.beta_content, styles)

    def decode_modality(
        self, name: str, z: tf.Tensor, style: tf.Tensor | None = None
    ) -> tf.Tensor:
        """As `decode`, of one modality.

        Args:
          name: Name of the modality.
          z: `[..., D]`.
          style: `[..., D_m]`, for a modality that has a style; 0 by default.

        Raises:
          ValueError: If there is no such modality, or a latent does not fit.
        """
        return self.networks.mean(name, z, style)

    def likelihood(
        self, name: str, z: tf.Tensor, style: tf.Tensor | None = None
    ) -> tfd.Distribution:
        """p(x_m | z, s_m) of one modality: batch `[...]`, event `event_shape`.

        Arguments and errors: see `decode_modality`.
        """
        return self.networks.likelihood(name, z, style)

    def encode_styles(
        self, inputs: Mapping[str, Any] | Batch
    ) -> dict[str, dict[str, tf.Tensor]]:
        """Mean and standard deviation of the modality-specific latents.

        Returns:
          `{name: {"loc": [B, D_m], "scale": [B, D_m]}}` for modalities that have a
          style; those of the prior, 0 and 1, where the modality is missing.
        """
        batch = self.unpack_batch(inputs)
        styles = self.networks.styles(self.networks.encode(batch), batch)
        return {
            name: {"loc": style.loc, "scale": tf.exp(style.log_scale)}
            for name, style in styles.items()
        }

    def subset_posteriors(self, inputs: Mapping[str, Any] | Batch) -> DiagonalGaussian:
        """q_S(z | x_S) of all 2^M - 1 non-empty subsets, whichever the model mixes.

        Returns:
          `loc` and `log_scale` `[B, 2^M - 1, D]`, in the order of `membership_mask`; a
          subset that can't be formed in a row is replaced by N(0, I).

        Raises:
          ValueError: If the model has more than 12 modalities, or the batch is not as
            described.
        """
        count = len(self.modalities)
        arguments.check_few_modalities("The posteriors of all subsets", count)
        batch = self.unpack_batch(inputs)
        products = SubsetProductOfExperts(
            prior_expert=self.prior_expert, dtype=self.latent_dtype
        )
        return products(self.networks.encode(batch).experts, batch.present)

    def log_likelihood(self, inputs, given=None, **options) -> tf.Tensor:
        """The value of `log_likelihood_estimate`, with its options: nats, `[B]`."""
        return self.log_likelihood_estimate(inputs, given, **options).log_likelihood

    def log_likelihood_estimate(
        self,
        inputs: Mapping[str, Any] | Batch,
        given: Sequence[str] | None = None,
        *,
        num_samples: int = 1000,
        proposal: str | Sequence[str] = "mixture",
        seed: int | None = None,
    ) -> LogLikelihoodEstimate:
        """See `tf_mopoe.models.log_likelihood.estimate`."""
        return log_likelihood.estimate(
            self, inputs, given, num_samples=num_samples, proposal=proposal, seed=seed
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the networks that were built, what is frozen.

        Raises a ValueError if the model could not be rebuilt from them.
        """
        check_loads(self)
        frozen = frozen_layers(self)
        serialize = keras.saving.serialize_keras_object
        plain = ("latent_dim", "objective", "prior_expert", "component_draw")
        return {
            **super().get_config(),
            **({"frozen_layers": frozen} if frozen else {}),
            "modalities": [serialize(modality) for modality in self.modalities],
            "subsets": save_subsets(self.subsets),
            **{name: getattr(self, name) for name in (*plain, *ADJUSTABLE)},
            "beta": serialize(self.beta),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects=None):
        """Rebuilds the model from `get_config`'s dictionary."""
        return rebuilt(cls, config, custom_objects)
