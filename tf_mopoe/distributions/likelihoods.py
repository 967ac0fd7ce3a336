"""Likelihoods p(x_m | z) by name: from a decoder's output to a distribution."""

from collections.abc import Callable

import tensorflow as tf
from tensorflow_probability import distributions as tfd

#: From decoder output `[..., *event]` and a scale to a distribution over one element.
ElementLikelihood = Callable[[tf.Tensor, float], tfd.Distribution]

#: Every likelihood that `Modality(likelihood=...)` knows; add to it with a new key.
LIKELIHOODS: dict[str, ElementLikelihood] = {
    "normal": lambda loc, scale: tfd.Normal(loc, scale),
    "laplace": lambda loc, scale: tfd.Laplace(loc, scale),
    "bernoulli": lambda logits, _: tfd.Bernoulli(logits=logits, dtype=logits.dtype),
    # One-hot over the last axis. Logits, not `probs`: no log-softmax comes before it.
    "categorical": lambda logits, _: tfd.OneHotCategorical(
        logits=logits, dtype=logits.dtype
    ),
}


def make_likelihood(
    name: str, parameters: tf.Tensor, scale: float, event_ndims: int
) -> tfd.Distribution:
    """Builds p(x | z) with independent elements.

    Args:
      name: A key of `LIKELIHOODS`.
      parameters: Decoder output, `[..., *event_shape]`: locations, or logits.
      scale: Scale of `"normal"` (standard deviation) and `"laplace"`, in units of the
        data; the others have none.
      event_ndims: Number of event dimensions.

    Returns:
      A distribution of batch `[...]` and event `event_shape`; its `log_prob` is in
      nats, summed over the event.
    """
    element = LIKELIHOODS[name](parameters, scale)
    return tfd.Independent(element, event_ndims - element.event_shape.rank)
