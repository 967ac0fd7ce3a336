"""One modality: its name and shape, its networks and its likelihood."""

import dataclasses
import math
import operator
import re
from collections.abc import Sequence
from typing import Any

import keras

#: Names that mean something else in a batch or in a serving signature.
RESERVED_NAMES = ("present", "seed")


@keras.saving.register_keras_serializable(package="tf_mopoe")
@dataclasses.dataclass(frozen=True, eq=False)
class Modality:
    """Describes one modality of a `MultimodalVAE`.

    Attributes:
      name: Key of the modality in a batch. Letters, digits, `_`, `.` and `-`, starting
        with a letter or digit; not `present`, `seed` or `has_...`, which batches and
        serving signatures use themselves.
      event_shape: Shape of one observation, without the batch dimension.
      encoder: Any Keras layer or model from `[B, *event_shape]` to features `[B, F]`;
        the model puts the Gaussian's two heads on top. None: one that fits the shape.
      decoder: Any Keras layer or model from `[B, D]` to the likelihood's parameters
        `[B, *event_shape]`. None: one that fits the shape.
      likelihood: `"normal"`, `"laplace"`, `"bernoulli"` (logits; values in [0, 1]) or
        `"categorical"` (logits; one-hot over the last axis).
      likelihood_scale: Scale of `"normal"` and `"laplace"`, in units of the data.
      reconstruction_weight: Factor r of this modality's log-likelihood in the loss.

    Raises:
      ValueError, TypeError: If an argument is not as described.
    """

    name: str
    event_shape: Sequence[int]
    encoder: keras.layers.Layer | None = None
    decoder: keras.layers.Layer | None = None
    likelihood: str = "normal"
    likelihood_scale: float = 1.0
    reconstruction_weight: float = 1.0

    def __post_init__(self):
        if not isinstance(self.name, str) or not re.fullmatch(
            r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name
        ):
            raise ValueError(
                "`name` of a modality must be letters, digits, '_', '.' and '-', "
                f"starting with a letter or digit. Received: {self.name!r}."
            )
        if self.name in RESERVED_NAMES or self.name.startswith("has_"):
            raise ValueError(
                f"{self.name!r} is a reserved name: batches and serving signatures use "
                f"{list(RESERVED_NAMES)} and 'has_...' themselves. Rename the modality."
            )
        try:
            shape = tuple(operator.index(size) for size in self.event_shape)
        except TypeError:
            shape = ()
        if not shape or any(size < 1 for size in shape):
            raise ValueError(
                f"`event_shape` of modality {self.name!r} must be positive sizes, such "
                f"as (28, 28, 3) or (18,). Received: {self.event_shape!r}."
            )
        object.__setattr__(self, "event_shape", shape)
        for field in ("encoder", "decoder"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, keras.layers.Layer):
                raise TypeError(
                    f"`{field}` of modality {self.name!r} must be a Keras layer or "
                    f"model, or None. Received: {value!r}."
                )
        if not (self.likelihood_scale > 0 and math.isfinite(self.likelihood_scale)):
            raise ValueError(
                f"`likelihood_scale` of modality {self.name!r} must be positive. "
                f"Received: {self.likelihood_scale!r}."
            )
        weight = self.reconstruction_weight
        if not (weight >= 0 and math.isfinite(weight)):
            raise ValueError(
                f"`reconstruction_weight` of modality {self.name!r} must be 0 or more. "
                f"Received: {weight!r}."
            )

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
