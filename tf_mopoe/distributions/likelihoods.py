"""Likelihoods p(x_m | z) by name: from a decoder's output to a distribution.

To add a likelihood, add a `Likelihood` to `LIKELIHOODS`, here or from outside. Whatever
depends on the kind of a modality follows from its fields: the decoder's output shape,
the checks of values, dtypes and last activations, the fill value of missing rows, and
the default networks. `event_likelihoods` applies it to whole events and to tables.

A likelihood of this library also has its formula, mean and grid of parameters in
`tests/closed_forms.py` and `tests/distributions/test_likelihoods.py`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd

#: Dtypes of whole numbers.
INTEGERS = frozenset(
    [tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64]
)


class Support(NamedTuple):
    """Values at which a likelihood has a density.

    Example:
      >>> even = Support("even numbers", lambda x: x % 2 == 0)
      >>> even.contains(tf.constant([2.0, 3.0])).numpy().tolist()
      [True, False]

    Attributes:
      description: Description of the values, for error messages.
      contains: Function from values `[..., *event_shape]` to bool, broadcast against
        them; None if every finite value is allowed.
      inside: Value in the support. It fills the rows in which a modality is missing.
      other_dtypes: Dtypes that values may have besides the floating ones. By default
        none: integers are more likely images that were not divided by 255.
      counts: Whether the values are counts, of which the default encoder takes
        log(1 + x).
    """

    description: str
    contains: Callable[[tf.Tensor], tf.Tensor] | None = None
    inside: float = 0.0
    other_dtypes: frozenset[tf.DType] = frozenset()
    counts: bool = False


REAL = Support("finite numbers")
POSITIVE = Support("positive numbers", lambda x: x > 0.0, inside=1.0)
UNIT_INTERVAL = Support(
    "numbers in [0, 1]",
    lambda x: (x >= 0.0) & (x <= 1.0),
    other_dtypes=frozenset([tf.bool]),
)
COUNTS = Support(
    "whole numbers from 0",
    lambda x: (x >= 0.0) & (x == tf.floor(x)),
    other_dtypes=INTEGERS | {tf.bool},
    counts=True,
)
ONE_HOT = Support(
    "one-hot (or probabilities) over the last axis",
    lambda x: (
        (x >= 0.0) & (tf.abs(tf.reduce_sum(x, axis=-1, keepdims=True) - 1.0) < 1e-3)
    ),
    other_dtypes=INTEGERS | {tf.bool},
)


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """Map from a decoder's output to p(x_m | z), whose elements are independent.

    Example:
      A Student's t with 10 degrees of freedom, which `Modality(likelihood=...)` then
      takes by its name:

      >>> from tensorflow_probability import distributions as tfd
      >>> student_t_10 = Likelihood(
      ...     lambda loc, scale: tfd.StudentT(10.0, loc, scale), scaled=True
      ... )
      >>> LIKELIHOODS["student_t_10"] = student_t_10
      >>> Modality("weight", [1], likelihood="student_t_10").likelihood
      'student_t_10'
      >>> del LIKELIHOODS["student_t_10"]

    Attributes:
      element: Function from parameters `[..., *event_shape]` and a positive scale,
        broadcast against them, to a distribution over elements. The parameters have
        one more axis of size `num_parameters` if that is not 1.
      support: Values that have a density.
      scaled: Whether `element` uses the scale.
      num_parameters: Number of decoder outputs for each element.
      integer: Whether values are class indices, kept as int32; the decoder's last axis
        then counts the classes.
      mean: Function from the element distribution to its mean.
      parameter_name: Name of what the decoder returns, for error messages.
      activations: Names of Keras activations that `element` applies itself: a decoder
        that ends in one of them is an error.
    """

    element: Callable[..., tfd.Distribution]
    support: Support = REAL
    scaled: bool = False
    num_parameters: int = 1
    integer: bool = False
    mean: Callable[[tfd.Distribution], tf.Tensor] = lambda element: element.mean()
    parameter_name: str = "parameters"
    activations: tuple[str, ...] = ()


def _negative_binomial(log_mean, scale):
    """Distribution of variance mean + scale mean^2.

    Its total_count is 1 / scale, its odds scale * mean.
    """
    scale = tf.convert_to_tensor(scale, log_mean.dtype)
    return tfd.NegativeBinomial(
        total_count=1.0 / scale, logits=log_mean + tf.math.log(scale)
    )


def _zero_inflated_negative_binomial(parameters, scale):
    """Distribution of 0 with probability sigmoid(logit), else a negative binomial."""
    log_mean, zero_logits = tf.unstack(parameters, axis=-1)
    scale = tf.convert_to_tensor(scale, log_mean.dtype)
    return tfd.ZeroInflatedNegativeBinomial(
        total_count=1.0 / scale,
        logits=log_mean + tf.math.log(scale),
        # TFP takes the softmax of (logit, -logit): the sigmoid of twice its argument.
        inflated_loc_logits=0.5 * zero_logits,
    )


_logits = functools.partial(
    Likelihood, parameter_name="logits", activations=("sigmoid", "softmax")
)
_log_means = functools.partial(
    Likelihood,
    support=COUNTS,
    parameter_name="logs of means",
    activations=("exponential", "softplus"),
)

#: Likelihoods by the name that `Modality(likelihood=...)` takes.
LIKELIHOODS: dict[str, Likelihood] = {
    "normal": Likelihood(lambda loc, scale: tfd.Normal(loc, scale), scaled=True),
    "laplace": Likelihood(lambda loc, scale: tfd.Laplace(loc, scale), scaled=True),
    "student_t": Likelihood(
        lambda loc, scale: tfd.StudentT(4.0, loc, scale), scaled=True
    ),
    "bernoulli": _logits(
        lambda logits, _: tfd.Bernoulli(logits=logits, dtype=logits.dtype),
        UNIT_INTERVAL,
    ),
    "continuous_bernoulli": _logits(
        lambda logits, _: tfd.ContinuousBernoulli(logits=logits, dtype=logits.dtype),
        UNIT_INTERVAL,
    ),
    # One-hot over the last axis. Logits, not `probs`: no log-softmax comes before it.
    "categorical": _logits(
        lambda logits, _: tfd.OneHotCategorical(logits=logits, dtype=logits.dtype),
        ONE_HOT,
    ),
    "integer_categorical": _logits(
        lambda logits, _: tfd.Categorical(logits=logits),
        integer=True,
        mean=lambda element: element.probs_parameter(),
    ),
    "poisson": _log_means(lambda log_rate, _: tfd.Poisson(log_rate=log_rate)),
    "negative_binomial": _log_means(_negative_binomial, scaled=True),
    "zero_inflated_negative_binomial": _log_means(
        _zero_inflated_negative_binomial, scaled=True, num_parameters=2
    ),
}
