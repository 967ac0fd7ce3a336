"""One modality: its name, shape, networks and likelihood."""

import dataclasses
import keyword
import math
import numbers
import operator
import re
from collections.abc import Sequence
from typing import Any

import keras

from tf_mopoe.checks import whole_number

#: Names with another meaning in a batch or in a serving signature.
RESERVED_NAMES = ("present", "seed", "self")
#: Values of `likelihood_scale` that make it a variable of the model.
LEARNED_SCALES = ("per_modality", "per_element")


@keras.saving.register_keras_serializable(package="tf_mopoe")
@dataclasses.dataclass(frozen=True, eq=False)
class Modality:
    """Describes one modality of a `MultimodalVAE`.

    Example:
      >>> image = Modality("image", event_shape=(28, 28, 1), likelihood="bernoulli")
      >>> label = Modality(
      ...     "label", (1,), likelihood="integer_categorical", num_classes=10
      ... )
      >>> table = Modality(
      ...     "table", event_shape=(8,), likelihood=[("normal", 3), ("categorical", 5)]
      ... )

    Attributes:
      name: Key of the modality in a batch. It consists of letters, digits and `_` and
        starts with a letter. Python keywords are not allowed, because the name becomes
        an argument of the served model; neither are `present`, `seed`, `self`,
        `has_...` and `val_...`, which batches, serving signatures and Keras's history
        use.
      event_shape: Shape of one observation, without the batch dimension.
      encoder: Keras layer or model from `[B, *event_shape]` to features `[B, F]`; the
        model adds the heads of the Gaussians. None for one that fits the shape. Rows
        in which the modality is missing pass through it with the value
        `Support.inside`. They do not affect the result, but they count in the
        statistics of a `BatchNormalization`: use `LayerNormalization` instead if
        modalities are missing.
      decoder: Keras layer or model from `[B, D + style_dim]`, the shared latent
        followed by the style, to the likelihood's parameters, `[B, *event_shape]`
        unless `likelihood` says otherwise. None for one that fits the shape.
      likelihood: Key of `tf_mopoe.distributions.LIKELIHOODS`, or for a table of
        several kinds a list of (key, number of columns). The decoder's output is in
        brackets: `"normal"`, `"laplace"`, `"student_t"` with 4 degrees of freedom
        (location); `"bernoulli"`, `"continuous_bernoulli"` (logits; values in [0, 1]);
        `"categorical"` (logits; one-hot over the last axis), `"integer_categorical"`
        (logits `[..., num_classes]`; class indices); for counts `"poisson"`,
        `"negative_binomial"` (log of the mean) and
        `"zero_inflated_negative_binomial"` (`[..., 2]`: log of the mean, logit of the
        extra zeros).
      likelihood_scale: Scale of `"normal"`, `"laplace"` and `"student_t"`, in units of
        the data; overdispersion a of the negative binomials, whose variance is
        mean + a mean^2. Either a number, or learned: `"per_modality"` for one scale of
        all elements, `"per_element"` for one scale of each.
      num_classes: Number of classes C, for `"integer_categorical"` only.
      reconstruction_weight: Weight r of this modality's log-likelihood in the loss.
        `"dimension"` is the number of variables of the model's largest modality
        divided by the number of variables of this one.
      style_dim: Size of the style, a latent of this modality alone; 0 for none.
      beta_style: Weight of the style's divergence in the loss.

    Raises:
      TypeError: If an argument has the wrong type.
      ValueError: If an argument has an invalid value.
    """

    name: str
    event_shape: Sequence[int]
    encoder: keras.layers.Layer | None = None
    decoder: keras.layers.Layer | None = None
    likelihood: str | Sequence[tuple[str, int]] = "normal"
    likelihood_scale: float | str = 1.0
    num_classes: int | None = None
    reconstruction_weight: float | str = 1.0
    style_dim: int = 0
    beta_style: float = 1.0

    def __post_init__(self):
        if (
            not isinstance(self.name, str)
            or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.name)
            or keyword.iskeyword(self.name)
        ):
            raise ValueError(
                "`name` of a modality must start with a letter, consist of letters, "
                "digits and '_', and not be a Python keyword, because it becomes an "
                f"argument of the served model. Received: {self.name!r}."
            )
        if self.name in RESERVED_NAMES or self.name.startswith(("has_", "val_")):
            raise ValueError(
                f"{self.name!r} is a reserved name: batches, serving signatures and "
                f"Keras's history use {list(RESERVED_NAMES)}, 'has_...' and 'val_...'. "
                "Rename the modality."
            )
        try:
            shape = tuple(
                whole_number("event_shape", size, minimum=1)
                for size in self.event_shape
            )
        except (TypeError, ValueError):
            shape = ()
        if not shape:
            raise ValueError(
                f"`event_shape` of modality {self.name!r} must be positive sizes, such "
                f"as (28, 28, 3) or (18,). Received: {self.event_shape!r}."
            )
        object.__setattr__(self, "event_shape", shape)
        for field in ("encoder", "decoder"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, keras.layers.Layer):
                legacy = type(value).__module__.partition(".")[0] == "tf_keras"
                hint = (
                    " It is from the legacy package `tf_keras`: build it with `keras`."
                )
                raise TypeError(
                    f"`{field}` of modality {self.name!r} must be a Keras layer or "
                    f"model, or None. Received: {value!r}.{hint if legacy else ''}"
                )
        self._check_likelihood()
        if self.reconstruction_weight != "dimension":
            self._check_number("reconstruction_weight", "0 or more, or 'dimension'")
        self._check_number("beta_style", "0 or more")
        style_dim = whole_number(
            f"`style_dim` of modality {self.name!r}", self.style_dim
        )
        object.__setattr__(self, "style_dim", style_dim)
        if self.beta_style != 1.0 and not self.style_dim:
            raise ValueError(
                f"`beta_style` of modality {self.name!r} has no effect without a "
                f"`style_dim`. Received: {self.beta_style!r}."
            )

    def _check_likelihood(self):
        if not isinstance(self.likelihood, str):
            try:
                pairs = tuple((str(n), operator.index(w)) for n, w in self.likelihood)
            except (TypeError, ValueError):
                pairs = ()
            if not pairs:
                raise ValueError(
                    f"`likelihood` of modality {self.name!r} must be a name or a list "
                    "of (name, number of columns). "
                    f"Received: {self.likelihood!r}."
                )
            object.__setattr__(self, "likelihood", pairs)
        if not isinstance(self.likelihood_scale, str) or (
            self.likelihood_scale not in LEARNED_SCALES
        ):
            scales = "positive, or one of " + str(list(LEARNED_SCALES))
            self._check_number("likelihood_scale", scales, above_zero=True)
        if self.num_classes is not None:
            field = f"`num_classes` of modality {self.name!r}"
            classes = whole_number(field, self.num_classes, minimum=2)
            object.__setattr__(self, "num_classes", classes)

    def _check_number(self, field: str, expected: str, *, above_zero: bool = False):
        value = getattr(self, field)
        if (
            not isinstance(value, numbers.Real)
            or isinstance(value, bool)
            or not math.isfinite(value)
            or value < 0
            or (above_zero and value == 0)
        ):
            raise ValueError(
                f"`{field}` of modality {self.name!r} must be {expected}. "
                f"Received: {value!r}."
            )
        object.__setattr__(self, field, float(value))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, with serialised networks."""
        config = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        for field in ("encoder", "decoder"):
            config[field] = keras.saving.serialize_keras_object(config[field])
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Modality":
        """Rebuilds the modality from `get_config`'s dictionary."""
        networks = {
            field: keras.saving.deserialize_keras_object(config[field])
            for field in ("encoder", "decoder")
        }
        return cls(**{**config, **networks})
