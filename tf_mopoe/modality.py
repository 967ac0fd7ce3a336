"""One modality: its name and shape, its networks and its likelihood."""

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

#: Names that mean something else in a batch or in a serving signature.
RESERVED_NAMES = ("present", "seed", "self")
#: Values of `likelihood_scale` that make it a variable of the model.
LEARNED_SCALES = ("per_modality", "per_element")


@keras.saving.register_keras_serializable(package="tf_mopoe")
@dataclasses.dataclass(frozen=True, eq=False)
class Modality:
    """Describes one modality of a `MultimodalVAE`.

    Attributes:
      name: Key of the modality in a batch. Letters, digits and `_`, starting with a
        letter; no keyword of Python, since it names an argument of the served model;
        not `present`, `seed`, `self`, `has_...` or `val_...`, which batches, serving
        signatures and Keras's history use themselves.
      event_shape: Shape of one observation, without the batch dimension.
      encoder: Any Keras layer or model from `[B, *event_shape]` to features `[B, F]`;
        the model puts the Gaussians' heads on top. Rows in which the modality is
        missing go through it too, as zeros (`Support.inside`), and change nothing; but
        they count in the statistics of a `BatchNormalization`: take
        `LayerNormalization` where there are holes. None: one that fits the shape.
      decoder: Any Keras layer or model from `[B, D + style_dim]`, the shared latent
        followed by the style, to the likelihood's parameters: `[B, *event_shape]`, or
        as `likelihood` says. None: one that fits the shape.
      likelihood: A key of `tf_mopoe.distributions.LIKELIHOODS`, the decoder's output
        in brackets: `"normal"`, `"laplace"`, `"student_t"` of 4 degrees of freedom
        (location); `"bernoulli"`, `"continuous_bernoulli"` (logits; values in [0, 1]);
        `"categorical"` (logits; one-hot over the last axis), `"integer_categorical"`
        (logits `[..., num_classes]`; class indices); for counts `"poisson"`,
        `"negative_binomial"` (log of the mean) and
        `"zero_inflated_negative_binomial"` (`[..., 2]`: log of the mean, logit of the
        extra zeros). For a table of several kinds a list of (key, number of columns),
        such as `[("normal", 3), ("categorical", 5)]`.
      likelihood_scale: Scale of `"normal"`, `"laplace"` and `"student_t"`, in units of
        the data; overdispersion a of the negative binomials, whose variance is
        mean + a mean^2. A number, or learned: `"per_modality"`, one for all elements,
        or `"per_element"`, one for each.
      num_classes: C, for `"integer_categorical"` alone.
      reconstruction_weight: Factor r of this modality's log-likelihood in the loss; or
        `"dimension"`: the number of variables of the model's largest modality, divided
        by this one's.
      style_dim: Size of this modality's own latent, its style; 0 for none.
      beta_style: Factor of the style's divergence in the loss.

    Raises:
      ValueError, TypeError: If an argument is not as described.
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
                "`name` of a modality must be letters, digits and '_', starting with a "
                "letter, and no keyword of Python: it becomes the name of an argument "
                f"when the model is served. Received: {self.name!r}."
            )
        if self.name in RESERVED_NAMES or self.name.startswith(("has_", "val_")):
            raise ValueError(
                f"{self.name!r} is a reserved name: batches, serving signatures and "
                f"Keras's history use {list(RESERVED_NAMES)}, 'has_...' and 'val_...' "
                "themselves. Rename the modality."
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
                hint = " It is of the legacy package `tf_keras`: build it with `keras`."
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
        """The arguments, networks serialised."""
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
