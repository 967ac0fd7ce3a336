"""Likelihoods p(x_m | z) by name: from a decoder's output to a distribution."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd


class Support(NamedTuple):
    """The values that a likelihood gives a density.

    Attributes:
      description: What the values must be, for error messages.
      contains: From values `[..., *event_shape]` to bool, broadcast against them; None
        where every finite value is allowed.
      inside: A value in the support. Rows in which a modality is missing hold it in
        place of what the batch had.
    """

    description: str
    contains: Callable[[tf.Tensor], tf.Tensor] | None = None
    inside: float = 0.0


REAL = Support("finite numbers")
POSITIVE = Support("positive numbers", lambda x: x > 0.0, inside=1.0)
UNIT_INTERVAL = Support("numbers in [0, 1]", lambda x: (x >= 0.0) & (x <= 1.0))
COUNTS = Support("whole numbers from 0", lambda x: (x >= 0.0) & (x == tf.floor(x)))
ONE_HOT = Support(
    "one-hot (or probabilities) over the last axis",
    lambda x: (
        (x >= 0.0) & (tf.abs(tf.reduce_sum(x, axis=-1, keepdims=True) - 1.0) < 1e-3)
    ),
)


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """How a decoder's output becomes p(x_m | z), elements independent given z.

    Attributes:
      element: From parameters `[..., *event_shape]` (one more axis of `num_parameters`
        if that is not 1) and a positive scale, broadcast against them, to a
        distribution over elements.
      support: The values allowed.
      scaled: Whether `element` uses the scale.
      num_parameters: Decoder outputs for each element.
      integer: Whether values are class indices, kept as int32, and the decoder's last
        axis counts the classes.
      mean: From the element distribution to its mean.
    """

    element: Callable[..., tfd.Distribution]
    support: Support = REAL
    scaled: bool = False
    num_parameters: int = 1
    integer: bool = False
    mean: Callable[[tfd.Distribution], tf.Tensor] = lambda element: element.mean()


def _negative_binomial(log_mean, scale):
    """Variance mean + scale * mean^2: total_count 1 / scale, odds scale * mean."""
    scale = tf.convert_to_tensor(scale, log_mean.dtype)
    return tfd.NegativeBinomial(
        total_count=1.0 / scale, logits=log_mean + tf.math.log(scale)
    )


def _zero_inflated_negative_binomial(parameters, scale):
    log_mean, zero_logits = tf.unstack(parameters, axis=-1)
    scale = tf.convert_to_tensor(scale, log_mean.dtype)
    return tfd.ZeroInflatedNegativeBinomial(
        total_count=1.0 / scale,
        logits=log_mean + tf.math.log(scale),
        # TFP takes the softmax of (logit, -logit): the sigmoid of twice its argument.
        inflated_loc_logits=0.5 * zero_logits,
    )


#: Every likelihood that `Modality(likelihood=...)` knows. One more is one more key:
#: LIKELIHOODS["student_t_10"] = Likelihood(
#:     lambda loc, scale: tfd.StudentT(10.0, loc, scale), scaled=True)
LIKELIHOODS: dict[str, Likelihood] = {
    "normal": Likelihood(lambda loc, scale: tfd.Normal(loc, scale), scaled=True),
    "laplace": Likelihood(lambda loc, scale: tfd.Laplace(loc, scale), scaled=True),
    "student_t": Likelihood(
        lambda loc, scale: tfd.StudentT(4.0, loc, scale), scaled=True
    ),
    "bernoulli": Likelihood(
        lambda logits, _: tfd.Bernoulli(logits=logits, dtype=logits.dtype),
        UNIT_INTERVAL,
    ),
    "continuous_bernoulli": Likelihood(
        lambda logits, _: tfd.ContinuousBernoulli(logits=logits, dtype=logits.dtype),
        UNIT_INTERVAL,
    ),
    # One-hot over the last axis. Logits, not `probs`: no log-softmax comes before it.
    "categorical": Likelihood(
        lambda logits, _: tfd.OneHotCategorical(logits=logits, dtype=logits.dtype),
        ONE_HOT,
    ),
    "integer_categorical": Likelihood(
        lambda logits, _: tfd.Categorical(logits=logits),
        integer=True,
        mean=lambda element: element.probs_parameter(),
    ),
    "poisson": Likelihood(lambda log_rate, _: tfd.Poisson(log_rate=log_rate), COUNTS),
    "negative_binomial": Likelihood(_negative_binomial, COUNTS, scaled=True),
    "zero_inflated_negative_binomial": Likelihood(
        _zero_inflated_negative_binomial, COUNTS, scaled=True, num_parameters=2
    ),
}
