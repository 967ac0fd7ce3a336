"""Likelihood of a whole modality: elements of one kind, or columns of several.

`likelihoods` defines the kinds; here they are fitted to an event's shape.
"""

import abc
import difflib
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tf_mopoe.distributions.likelihoods import INTEGERS, LIKELIHOODS, Likelihood

#: Key of `LIKELIHOODS`, or (key, number of columns) for each block of a table.
LikelihoodSpec = str | Sequence[tuple[str, int]]


class EventLikelihood(abc.ABC):
    """Likelihood p(x_m | z) of events `event_shape`, elements independent given z.

    Attributes:
      event_shape: Shape of the values.
      parameter_shape: Shape of the decoder's output.
      mean_shape: Shape of the mean: `event_shape`, with an axis of classes for class
        indices.
      num_variables: Number of random variables in an event; a one-hot vector is one.
      scaled: Whether a scale is used.
      integer: Whether values are class indices, int32.
      inside: Value in the support, broadcast against `event_shape`.
      other_dtypes: Dtypes that values may have besides the floating ones.
      count_columns: Indices along the last axis whose values are counts.
    """

    event_shape: tuple[int, ...]
    parameter_shape: tuple[int, ...]
    mean_shape: tuple[int, ...]
    num_variables: int
    scaled: bool
    integer: bool
    other_dtypes: frozenset[tf.DType]
    inside: np.ndarray
    count_columns: tuple[int, ...]

    @abc.abstractmethod
    def distribution(
        self, parameters: tf.Tensor, scale: float | tf.Tensor
    ) -> tfd.Distribution:
        """Returns p(x | z), with batch shape `[...]` and event shape `event_shape`.

        Args:
          parameters: Decoder's output, `[..., *parameter_shape]`.
          scale: Positive number, or tensor of shape `event_shape`.
        """

    @abc.abstractmethod
    def mean(self, parameters: tf.Tensor, scale: float | tf.Tensor) -> tf.Tensor:
        """Returns the mean of `distribution`, `[..., *mean_shape]`."""

    @abc.abstractmethod
    def supported(self, x: tf.Tensor) -> tf.Tensor:
        """Returns which elements of `x` are in the support: bool, the shape of `x`."""

    @abc.abstractmethod
    def support_description(self) -> str:
        """Describes the values that are allowed, for error messages."""


def event_likelihood(
    spec: LikelihoodSpec, event_shape: Sequence[int], num_classes: int | None = None
) -> EventLikelihood:
    """Returns the likelihood that `spec` names, for events of one shape.

    Example:
      >>> table = event_likelihood([("normal", 2), ("categorical", 3)], [5])
      >>> table.parameter_shape, table.num_variables
      ((5,), 3)
      >>> table.distribution(tf.zeros([4, 5]), scale=1.0).batch_shape
      TensorShape([4])

    Args:
      spec: Key of `LIKELIHOODS`, or a sequence of (key, number of columns).
      event_shape: Shape of one observation.
      num_classes: Number of classes C, for class indices only.

    Raises:
      ValueError: If a name is unknown, columns do not fit `event_shape`, or
        `num_classes` is missing, or given for a likelihood that does not take it.
    """
    shape = tuple(event_shape)
    if isinstance(spec, str):
        likelihood = _find(spec)
        if likelihood.integer != (num_classes is not None):
            raise ValueError(
                f"`num_classes` must be given for class indices, and only then. "
                f"Received: {num_classes!r} with likelihood {spec!r}."
            )
        return ElementwiseLikelihood(likelihood, shape, num_classes)
    if num_classes is not None:
        raise ValueError("`num_classes` is not for tables of several kinds of column.")
    return TableLikelihood([(_find(name), int(width)) for name, width in spec], shape)


def _find(name: str) -> Likelihood:
    if name not in LIKELIHOODS:
        close = difflib.get_close_matches(str(name), LIKELIHOODS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"`likelihood` must be one of {sorted(LIKELIHOODS)}, or added to "
            f"`tf_mopoe.distributions.LIKELIHOODS`. Received: {name!r}.{hint}"
        )
    return LIKELIHOODS[name]


class ElementwiseLikelihood(EventLikelihood):
    """Likelihood whose elements (or last axes, if one-hot) are all of one kind."""

    def __init__(
        self, likelihood: Likelihood, event_shape: tuple[int, ...], num_classes=None
    ):
        """Fits a likelihood to a shape; see `event_likelihood` for the arguments."""
        self.likelihood = likelihood
        self.event_shape = event_shape
        outputs = num_classes or likelihood.num_parameters
        self.parameter_shape = (
            event_shape
            if outputs == 1 and num_classes is None
            else (*event_shape, outputs)
        )
        self.mean_shape = self.parameter_shape if likelihood.integer else event_shape
        self.scaled, self.integer = likelihood.scaled, likelihood.integer
        element = likelihood.element(tf.zeros(self.parameter_shape), 1.0)
        self._element_ndims = element.event_shape.rank
        self.num_variables = math.prod(element.batch_shape)
        self._num_classes = num_classes
        support = likelihood.support
        self.count_columns = tuple(range(event_shape[-1])) if support.counts else ()
        self.inside = np.array(support.inside)
        self.other_dtypes = (
            INTEGERS | {tf.bool} if likelihood.integer else support.other_dtypes
        )

    def distribution(self, parameters, scale):
        """See `EventLikelihood`."""
        element = self.likelihood.element(parameters, scale)
        return tfd.Independent(element, len(self.event_shape) - self._element_ndims)

    def mean(self, parameters, scale):
        """See `EventLikelihood`."""
        return self.likelihood.mean(self.likelihood.element(parameters, scale))

    def supported(self, x):
        """See `EventLikelihood`."""
        if self._num_classes is not None:
            return (x >= 0) & (x < self._num_classes)
        return _contained(self.likelihood, x)

    def support_description(self):
        """See `EventLikelihood`."""
        if self._num_classes is not None:
            return f"class indices from 0 to {self._num_classes - 1}"
        return self.likelihood.support.description


class TableLikelihood(EventLikelihood):
    """Likelihood of one vector with blocks of columns of several kinds."""

    integer = False

    def __init__(
        self, blocks: Sequence[tuple[Likelihood, int]], event_shape: tuple[int, ...]
    ):
        """Fits (likelihood, number of columns) pairs to a vector's shape.

        Raises:
          ValueError: If the columns do not add up, or are class indices.
        """
        widths = [width for _, width in blocks]
        if (
            len(event_shape) != 1
            or min(widths, default=0) < 1
            or sum(widths) != event_shape[0]
        ):
            raise ValueError(
                f"The columns of a table's `likelihood` must add up to its event_shape "
                f"{event_shape}, a vector's. Received: {widths}."
            )
        if any(likelihood.integer for likelihood, _ in blocks):
            raise ValueError(
                "A table's categories must be one-hot columns, ('categorical', C), not "
                "class indices."
            )
        self.event_shape = self.mean_shape = event_shape
        self._widths = widths
        self._parts = [
            ElementwiseLikelihood(likelihood, (width,)) for likelihood, width in blocks
        ]
        self._sizes = [math.prod(part.parameter_shape) for part in self._parts]
        self.parameter_shape = (sum(self._sizes),)
        self.num_variables = sum(part.num_variables for part in self._parts)
        self.scaled = any(part.scaled for part in self._parts)
        self.inside = np.concatenate(
            [
                np.broadcast_to(part.inside, width)
                for part, width in zip(self._parts, widths)
            ]
        )
        self.other_dtypes = frozenset.intersection(
            *(part.other_dtypes for part in self._parts)
        )
        starts = [sum(widths[:index]) for index in range(len(widths))]
        self.count_columns = tuple(
            start + column
            for start, part in zip(starts, self._parts)
            for column in part.count_columns
        )

    def _split(self, parameters, scale):
        """Yields (likelihood, parameters, scale) of every block."""
        scale = tf.convert_to_tensor(scale, parameters.dtype)
        scales = [scale] * len(self._parts)
        if scale.shape.rank:
            scales = tf.split(scale, self._widths, axis=-1)
        for part, flat, part_scale in zip(
            self._parts, tf.split(parameters, self._sizes, axis=-1), scales
        ):
            shape = tf.concat([tf.shape(flat)[:-1], part.parameter_shape], axis=0)
            yield part, tf.reshape(flat, shape), part_scale

    def distribution(self, parameters, scale):
        """See `EventLikelihood`."""
        return tfd.Blockwise(
            [
                part.distribution(part_parameters, part_scale)
                for part, part_parameters, part_scale in self._split(parameters, scale)
            ]
        )

    def mean(self, parameters, scale):
        """See `EventLikelihood`."""
        means = [part.mean(*rest) for part, *rest in self._split(parameters, scale)]
        return tf.concat(means, axis=-1)

    def supported(self, x):
        """See `EventLikelihood`."""
        columns = tf.split(x, self._widths, axis=-1)
        return tf.concat(
            [part.supported(block) for part, block in zip(self._parts, columns)],
            axis=-1,
        )

    def support_description(self):
        """See `EventLikelihood`."""
        return "; ".join(
            f"{width} columns of {part.support_description()}"
            for part, width in zip(self._parts, self._widths)
        )


def _contained(likelihood: Likelihood, x: tf.Tensor) -> tf.Tensor:
    if likelihood.support.contains is None:
        return tf.ones_like(x, tf.bool)
    return likelihood.support.contains(x) & tf.ones_like(x, tf.bool)
