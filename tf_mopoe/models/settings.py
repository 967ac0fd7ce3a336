"""Settings of a model that may be changed after it was compiled."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from tf_mopoe.models.arguments import checked_weight


class Setting:
    """A checked attribute whose new value applies from the next step on.

    The steps that `fit` and `evaluate` have compiled contain the old value, so they are
    traced again.
    """

    def __init__(self, check: Callable[[str, Any], Any]):
        """Takes the check, which returns the value or raises an error with the name."""
        self._check = check

    def __set_name__(self, owner: type, name: str) -> None:
        """Stores the attribute's name."""
        self._name = name

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        """The value."""
        if model is None:
            return self
        try:
            return model.__dict__[f"_setting_{self._name}"]
        except KeyError:  # not set yet
            raise AttributeError(self._name) from None

    def __set__(self, model: Any, value: Any) -> None:
        """Checks and keeps the value."""
        model.__dict__[f"_setting_{self._name}"] = self._check(self._name, value)
        model.remake_functions()


class BetaSetting:
    """The weight beta: a number, held in a variable, or a schedule."""

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        """The number or the schedule."""
        if model is None:
            return self
        try:
            return model.__dict__["_beta"]
        except KeyError:  # not set yet
            raise AttributeError("beta") from None

    def __set__(self, model: Any, beta: Any) -> None:
        """Checks and keeps it; only steps with a schedule are traced again."""
        before = model.__dict__.get("_beta")
        if "_beta_variable" not in model.__dict__:
            variable = tf.Variable(0.0, trainable=False, dtype=tf.float64)
            model.__dict__["_beta_variable"] = variable
        if not isinstance(beta, LearningRateSchedule):
            beta = checked_weight("beta", beta)
            model.__dict__["_beta_variable"].assign(beta)
        model.__dict__["_beta"] = beta
        if not (isinstance(beta, float) and isinstance(before, float)):
            model.remake_functions()


def current_beta(model: Any) -> tf.Tensor:
    """Value of beta at the current training step, a scalar of the latents' dtype."""
    if isinstance(model.beta, float):
        return tf.cast(model.__dict__["_beta_variable"], model.latent_dtype)
    # Not 0 if the weights are updated by an optimizer that the model does not know.
    steps = model.noise.losses_at_step
    if getattr(model, "optimizer", None) is not None:
        steps = tf.cast(model.optimizer.iterations, tf.int64) + steps
    return tf.cast(model.beta(steps), model.latent_dtype)
