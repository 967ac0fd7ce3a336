"""The base of all multimodal VAEs: arguments, fusion, configuration."""

import functools
import operator
import random
import types
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from tf_mopoe.checks import whole_number
from tf_mopoe.layers import MixtureOfExperts, SubsetProductOfExperts
from tf_mopoe.layers.subset_specs import restore_subsets, save_subsets
from tf_mopoe.modality import Modality
from tf_mopoe.models.bounds import OBJECTIVES, BoundsMixin
from tf_mopoe.models.inference import InferenceMixin
from tf_mopoe.models.log_likelihood import LogLikelihoodMixin
from tf_mopoe.models.networks import (
    NetworksMixin,
    checked_likelihood,
    checked_modalities,
    claim_networks,
    reconstruction_weights,
)
from tf_mopoe.models.row_draws import RowDrawsMixin
from tf_mopoe.models.saving import (
    SavingMixin,
    check_loads,
    freeze_layers,
    frozen_layers,
    short_error,
)
from tf_mopoe.models.settings import Setting, checked_weight
from tf_mopoe.models.training import RECOMPILED, TrainingMixin
from tf_mopoe.subsets import SubsetSampler, SubsetSpec, membership_mask

#: Above this many modalities the 2^M subsets must be sampled.
MOST_MODALITIES_EXACT = 12
#: Arguments that may be changed after a model was made.
ADJUSTABLE = ("beta", "beta_content", "beta_style", "num_samples", "seed")


@keras.saving.register_keras_serializable(package="tf_mopoe")
class MultimodalVAE(
    SavingMixin,
    TrainingMixin,
    RowDrawsMixin,
    LogLikelihoodMixin,
    InferenceMixin,
    BoundsMixin,
    NetworksMixin,
):
    """A VAE with one latent for several modalities, any of which may be missing.

    Every modality has an encoder, whose features two dense heads turn into a Gaussian
    expert, and a decoder. Subclasses say which subsets of experts are mixed.

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
    """

    _compiling = False
    #: Attributes that are fixed once a model is made.
    FIXED_SETTINGS: tuple[str, ...] = (
        *("modalities", "latent_dim", "objective", "subsets", "prior_expert"),
        *("component_draw", "likelihoods", "mask", "reconstruction_weights"),
        *("latent_dtype", "encoders", "decoders", "experts", "style_experts"),
        *("log_likelihood_scales", "subset_product_of_experts", "mixture_of_experts"),
    )

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
          seed: Of the noise in training. The noise of a step depends on this and the
            step's number alone, so a resumed run goes on as if it had not stopped;
            but for dropout in networks, whose draws Keras does not save.
            None: drawn from Python's generator, which
            `keras.utils.set_random_seed` seeds.
          **kwargs: Of `keras.Model`: `name`; `dtype`, here of the latent arithmetic
            (networks follow Keras's global policy, or the dtype they were built with).

        Raises:
          ValueError, TypeError: If an argument is not as described, or an encoder's
            or decoder's output does not fit.
        """
        super().__init__(**kwargs)
        # Keras would round a batch to 16 bits before it is checked: counts above 65504
        # become infinite, class indices others. The networks cast for themselves.
        self.autocast = False
        self.modalities = checked_modalities(modalities)
        self.likelihoods = tuple(checked_likelihood(m) for m in self.modalities)
        self.latent_dim = whole_number("latent_dim", latent_dim, minimum=1)
        self.__dict__["_beta_variable"] = tf.Variable(0.0, False, dtype=tf.float64)
        self.beta = beta
        self.beta_content = beta_content
        self.beta_style = beta_style
        if objective not in OBJECTIVES:
            raise ValueError(
                f"`objective` must be one of {list(OBJECTIVES)}. "
                f"Received: {objective!r}."
            )
        self.objective = objective
        self.num_samples = num_samples
        self.subsets = self._subsets_by_index(subsets)
        self.prior_expert = prior_expert
        self.component_draw = component_draw
        if component_draw == "contiguous" and (
            objective != "elbo" or isinstance(self.subsets, SubsetSampler)
        ):
            raise ValueError(
                "`component_draw='contiguous'` is for the ELBO of a fixed family of "
                "subsets: it is not random. Use 'stratified'."
            )
        self.seed = random.randrange(2**31) if seed is None else seed
        self.mask = self._membership_mask()  # [S, M], None for sampled subsets
        self.reconstruction_weights = types.MappingProxyType(
            reconstruction_weights(self.modalities, self.likelihoods)
        )
        if self.beta_style != 1.0 and not any(m.style_dim for m in self.modalities):
            raise ValueError(
                "`beta_style` has no effect: no modality has a `style_dim`. "
                f"Received: {beta_style!r}."
            )
        # Latent arithmetic is in float32 under every 16-bit policy.
        self.latent_dtype = "float64" if self.variable_dtype == "float64" else "float32"
        self._build_networks()
        self._build_fusion(component_draw)
        self._build_metrics()
        self.built = True
        claim_networks(self.modalities, self.name)
        self._made = True

    beta_content = Setting(checked_weight)
    beta_style = Setting(checked_weight)
    num_samples = Setting(functools.partial(whole_number, minimum=1))
    seed = Setting(functools.partial(whole_number, maximum=2**31 - 1))

    @property
    def beta(self) -> float | LearningRateSchedule:
        """Weight of all divergences; a new value counts from the next step on."""
        return self._beta

    @beta.setter
    def beta(self, beta):
        before = self.__dict__.get("_beta")
        if not isinstance(beta, LearningRateSchedule):
            beta = checked_weight("beta", beta)
            self._beta_variable.assign(beta)
        self.__dict__["_beta"] = beta
        if not (isinstance(beta, float) and isinstance(before, float)):
            self.remake_functions()

    @property
    def beta_styles(self) -> dict[str, float]:
        """Weight of the divergence of each style, by modality."""
        return {
            m.name: self.beta_style * m.beta_style
            for m in self.modalities
            if m.style_dim
        }

    def __setattr__(self, name, value):
        """Settings of a made model count from the next step on, or are refused."""
        made = self.__dict__.get("_made", False)
        if made and name in self.FIXED_SETTINGS and name in self.__dict__:
            raise AttributeError(
                f"`{name}` is fixed when a model is made: make another one. These may "
                f"be changed: {list(ADJUSTABLE)}."
            )
        super().__setattr__(name, value)
        if made and name in RECOMPILED and not self._compiling:
            self.remake_functions()

    def _membership_mask(self) -> np.ndarray | None:
        count = len(self.modalities)
        if isinstance(self.subsets, SubsetSampler):
            return None
        if self.subsets in ("nonempty", "powerset"):
            self._check_few_modalities(f"`subsets={self.subsets!r}`")
        mask = np.array(membership_mask(count, self.subsets))
        mask.setflags(write=False)
        return mask

    def _check_few_modalities(self, what: str):
        """Raises a ValueError where 2^M subsets would be too many."""
        count = len(self.modalities)
        if count > MOST_MODALITIES_EXACT:
            raise ValueError(
                f"{what} of {count} modalities are too many (more than "
                f"2^{MOST_MODALITIES_EXACT}). Sample some in each step: "
                "`subsets=tf_mopoe.subsets.SubsetSampler(16)`, whose `posterior` mixes "
                "as many."
            )

    def _build_fusion(self, component_draw):
        self.subset_product_of_experts = SubsetProductOfExperts(
            self.subsets, prior_expert=self.prior_expert, dtype=self.latent_dtype
        )
        self.mixture_of_experts = MixtureOfExperts(
            self.subsets, component_draw=component_draw, dtype=self.latent_dtype
        )
        shape = (len(self.modalities), self.latent_dim)
        # So that `summary` shows their shapes.
        experts = [keras.Input(shape, dtype=self.latent_dtype) for _ in range(2)]
        self.mixture_of_experts(self.subset_product_of_experts(experts))

    @property
    def modality_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the modalities, in order."""
        return tuple(modality.name for modality in self.modalities)

    def _subsets_by_index(self, subsets):
        if isinstance(subsets, str):
            return subsets
        if isinstance(subsets, SubsetSampler):
            always = self._subsets_by_index(subsets.always)
            return SubsetSampler(subsets.num_subsets, always, subsets.seed)
        names = list(self.modality_names)
        try:
            listed = [
                [m if isinstance(m, str) else operator.index(m) for m in subset]
                for subset in subsets
                if not isinstance(subset, str)
            ]
            complete = len(listed) == len(subsets)
        except TypeError:
            complete = False
        if not complete:
            raise ValueError(
                "`subsets` must be a family's name or a list of lists of modalities, "
                f"such as [['a'], ['a', 'b']]. Received: {subsets!r}."
            )
        known = {*names, *range(len(names))}
        unknown = {m for subset in listed for m in subset} - known
        if unknown:
            raise ValueError(
                f"`subsets` names unknown modalities {sorted(unknown, key=str)}; this "
                f"model has {names}."
            )
        return [
            [names.index(m) if isinstance(m, str) else m for m in subset]
            for subset in listed
        ]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the networks that were built, what is frozen.

        Raises:
          ValueError: If the model could not be rebuilt from them.
        """
        check_loads(self)
        frozen = frozen_layers(self)
        return {
            **super().get_config(),
            **({"frozen_layers": frozen} if frozen else {}),
            "modalities": [
                keras.saving.serialize_keras_object(modality)
                for modality in self.modalities
            ],
            "latent_dim": self.latent_dim,
            "beta": keras.saving.serialize_keras_object(self.beta),
            "beta_content": self.beta_content,
            "beta_style": self.beta_style,
            "objective": self.objective,
            "num_samples": self.num_samples,
            "subsets": save_subsets(self.subsets),
            "prior_expert": self.prior_expert,
            "component_draw": self.component_draw,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects=None):
        """Rebuilds the model from `get_config`'s dictionary."""
        config = dict(config)
        frozen = config.pop("frozen_layers", None)
        try:
            modalities = [
                keras.saving.deserialize_keras_object(
                    entry, custom_objects=custom_objects
                )
                for entry in config["modalities"]
            ]
        except TypeError as error:  # Keras would put the whole configuration in front
            raise short_error(error) from None
        beta = keras.saving.deserialize_keras_object(
            config["beta"], custom_objects=custom_objects
        )
        if "subsets" in config:
            config = restore_subsets(config)
        model = cls(**{**config, "modalities": modalities, "beta": beta})
        if frozen is not None:
            freeze_layers(model, frozen)
        return model
