"""The serving contract: names and shapes of every signature's inputs and outputs.

All tensors are named, flat and have the batch first. Every modality is a required
input `<modality>` beside a required flag `has_<modality>` (bool `[B]`); where the flag
is False the values may be anything, zeros by convention. A row with NaN, infinity or
values outside the likelihood's support in a modality that is present is answered with
NaN; no other row of the batch is touched.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tf_mopoe.models import MultimodalVAE
from tf_mopoe.models.batches import Batch

RECONSTRUCT = "serving_default"
ENCODE = "encode"
FLAG_PREFIX = "has_"


class Signature(NamedTuple):
    """One endpoint: a function of the flat inputs, and their specifications."""

    function: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]
    inputs: dict[str, tf.TensorSpec]


def make_signatures(model: MultimodalVAE) -> dict[str, Signature]:
    """The signatures of a model, by name.

    `serving_default` gives every modality's mean from the posterior mean of what is
    present, `encode` the posterior's `loc` and `scale`, `[B, D]`.
    """
    inputs: dict[str, tf.TensorSpec] = {}
    for modality, likelihood in zip(model.modalities, model.likelihoods):
        name, shape = modality.name, (None, *modality.event_shape)
        dtype = tf.int32 if likelihood.integer else tf.float32
        inputs[name] = tf.TensorSpec(shape, dtype, name=name)
        flag = FLAG_PREFIX + name
        inputs[flag] = tf.TensorSpec([None], tf.bool, name=flag)

    def posterior(flat: dict[str, tf.Tensor]):
        return model.posterior_of(_batch(model, flat))

    def reconstruct(flat):
        return _with_nan(flat, model, model.reconstruct(_batch(model, flat)))

    def encode(flat):
        q = posterior(flat)
        return _with_nan(flat, model, {"loc": q.mean(), "scale": q.stddev()})

    return {
        RECONSTRUCT: Signature(reconstruct, inputs),
        ENCODE: Signature(encode, inputs),
    }


def _batch(model: MultimodalVAE, flat: dict[str, tf.Tensor]) -> Batch:
    names = model.modality_names
    nested = {name: flat[name] for name in names}
    for name, likelihood in zip(names, model.likelihoods):
        if likelihood.integer:  # an embedding has no row for what is no class
            known = likelihood.supported(flat[name])
            nested[name] = tf.where(known, flat[name], tf.zeros_like(flat[name]))
    nested["present"] = {name: flat[FLAG_PREFIX + name] for name in names}
    # A server's batch mixes requests: one row's NaN must not fail the others' rows.
    return model.unpack_batch(nested, check_values=False)


def _with_nan(
    flat: dict[str, tf.Tensor], model: MultimodalVAE, outputs: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Answers rows that can't be answered with NaN: a ReLU may have hidden theirs."""
    invalid = tf.zeros_like(flat[FLAG_PREFIX + model.modality_names[0]])  # [B]
    for name, likelihood in zip(model.modality_names, model.likelihoods):
        value = flat[name]
        known = likelihood.supported(value)
        if not likelihood.integer:
            known &= tf.math.is_finite(value)
        valid = tf.reduce_all(known, axis=list(range(1, len(value.shape))))
        invalid |= flat[FLAG_PREFIX + name] & ~valid
    marked = {}
    for name, output in outputs.items():
        rows = tf.reshape(invalid, [-1] + [1] * (len(output.shape) - 1))
        marked[name] = tf.where(rows, tf.constant(float("nan"), output.dtype), output)
    return marked
