"""What `export` uses of a `MultimodalVAE` beyond its public methods.

`serving_model` also walks its layers and variables, as those of any Keras model.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from export.signatures.contract import ENCODE, IMPUTE, LOG_LIKELIHOOD, RECONSTRUCT
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.models.row_draws import (
    impute_by_row,
    log_likelihood_by_row,
    sample_by_row,
)
from tf_mopoe.models.serving_inputs import (
    Request,
    Tensors,
    flag_spec,
    read_request,
    value_spec,
    with_nan,
)

__all__ = ["Request", "Tensors", "flag_spec", "read_request", "with_nan"]


class Field(NamedTuple):
    """A modality of a model, as it is served.

    Attributes:
      name, event_shape, style_dim: Attributes of the `Modality`.
      is_integer: Whether the values are class indices.
      mean_shape: Shape of the likelihood's mean for one value.
      spec: Specification of the values, `[B, *event_shape]`.
    """

    name: str
    event_shape: tuple[int, ...]
    style_dim: int
    is_integer: bool
    mean_shape: tuple[int, ...]
    spec: tf.TensorSpec


def fields_of(model: MultimodalVAE) -> list[Field]:
    """The modalities of a model, in order."""
    return [
        Field(
            modality.name,
            tuple(modality.event_shape),
            modality.style_dim,
            likelihood.integer,
            likelihood.mean_shape,
            value_spec(modality, likelihood),
        )
        for modality, likelihood in zip(model.modalities, model.likelihoods)
    ]


def draw_values(
    model: MultimodalVAE, index: int, rows: int, generator: np.random.Generator
) -> np.ndarray:
    """Values `[B, *event_shape]` that the likelihood of a modality allows."""
    likelihood = model.likelihoods[index]
    parameters = tf.zeros([rows, *likelihood.parameter_shape])
    seed = tf.constant(generator.integers(0, 2**31, 2), tf.int32)
    drawn = likelihood.distribution(parameters, 1.0).sample(seed=seed)
    dtype = value_spec(model.modalities[index], likelihood).dtype
    return np.asarray(drawn, dtype.as_numpy_dtype)


def answers_of(
    model: MultimodalVAE, num_samples: int
) -> dict[str, Callable[[Request, tf.Tensor], Tensors]]:
    """Signature name to its function of a request and the seeds of its rows."""

    def encode(request, _):
        return model.encode(request.batch)

    def log_likelihood(request, seeds):
        value = log_likelihood_by_row(model, request.batch, seeds, num_samples)
        outside = tf.constant(-float("inf"), tf.float64)
        return {LOG_LIKELIHOOD: tf.where(request.supported, value, outside)}

    return {
        RECONSTRUCT: lambda request, _: model.call(request.batch),
        ENCODE: encode,
        IMPUTE: lambda request, seeds: impute_by_row(model, request.batch, seeds),
        LOG_LIKELIHOOD: log_likelihood,
    }


def sample(model: MultimodalVAE, seeds: tf.Tensor) -> Tensors:
    """Every modality's mean `[B, ...]`, from one draw of the prior a seed."""
    return sample_by_row(model, seeds)


def decode(
    model: MultimodalVAE, name: str, z: tf.Tensor, style: tf.Tensor | None
) -> tf.Tensor:
    """The mean of one modality, `[B, ...]`."""
    return model.decode_modality(name, z, style)
