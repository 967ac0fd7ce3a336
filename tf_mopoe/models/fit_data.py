"""Checks of the data of `fit`, `evaluate` and `predict`, before Keras sees them.

Keras splits arrays into batches itself, and its errors name no modality. It also drops
the weights of rows if there are no targets, so weights are passed inside the batch,
under a key that no modality can have.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.distributions.event_likelihoods import EventLikelihood
from tf_mopoe.modality import Modality
from tf_mopoe.models.inputs import PRESENT, checked_inputs, checked_weights

#: Key of a batch that holds the weights of its rows; no name of a modality.
WEIGHTS = "sample weights"
NO_BATCHES = "The data must have batches. Received: none."
NO_TARGETS = (
    "`y` is not supported: this model has no targets, its data are the dictionary of "
    "modalities. A label to be learned or imputed is one more modality. "
)


class FitData:
    """Checks data for one model."""

    def __init__(
        self, modalities: Sequence[Modality], likelihoods: Sequence[EventLikelihood]
    ):
        self._modalities, self._likelihoods = modalities, likelihoods
        #: Errors in batches of a generator, which TensorFlow hides.
        self.errors: list[Exception] = []
        self._keys: tuple[list[str], list[str], bool] | None = None

    def checked(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """What Keras takes as `x`: checked arrays with their weights, or a dataset.

        Raises:
          TypeError, ValueError: If something is not as `MultimodalVAE` describes.
        """
        if y is not None:
            raise ValueError(NO_TARGETS + f"Received: {type(y).__name__}.")
        if is_batches(x):
            if sample_weight is not None:
                raise ValueError(
                    "`sample_weight` goes with arrays. A dataset yields the weights "
                    "with its batches: (batch, None, weights)."
                )
            return self._checked_batches(x)
        x = checked_inputs(x, self._modalities, self._likelihoods)
        if sample_weight is not None:
            x[WEIGHTS] = checked_weights(sample_weight, num_rows(x))
        return x

    def _checked_batches(self, x: Any) -> Any:
        if isinstance(x, tf.data.Dataset):
            self.checked_element(x.element_spec)
            if x.cardinality() == 0:
                raise ValueError(NO_BATCHES)
        elif isinstance(x, keras.utils.PyDataset):
            return _CheckedPyDataset(x, self)
        elif hasattr(x, "__next__"):
            return self._checked_generator(x)
        return x  # the step checks every batch

    def _checked_generator(self, batches: Iterator[Any]) -> Iterator[Any]:
        for element in batches:
            yield self.checked_element(element)

    def checked_element(self, element: Any) -> tuple[Any, ...]:
        """One batch of a dataset, or its specification, as (x,), x with its weights.

        Raises:
          TypeError, ValueError: As `checked`; also kept in `errors`.
        """
        try:
            x, y, weights = unpacked(element)
            if not _is_none(y):
                raise ValueError(
                    NO_TARGETS + "Map the dataset to the dictionary alone: "
                    "`dataset.map(lambda x, y: x)`; with weights to (x, None, weights)."
                )
            x = checked_inputs(x, self._modalities, self._likelihoods)
            self._check_keys(x, with_weights=not _is_none(weights))
            if _is_none(weights):
                return (x,)
            return ({**x, WEIGHTS: checked_weights(weights, num_rows(x))},)
        except (TypeError, ValueError) as error:
            self.errors.append(error)
            raise

    def _check_keys(self, x: Mapping[str, Any], *, with_weights: bool) -> None:
        """Raises a ValueError if a batch has other entries than the first one."""
        keys = (sorted(x), sorted(x.get(PRESENT, ())), with_weights)
        self._keys = self._keys or keys
        if keys != self._keys:
            raise ValueError(
                "All batches of a dataset must have the same entries. Where a modality "
                "is missing from a batch, give zeros and the flags `present`. Received "
                f"{_entries(*keys)}, after {_entries(*self._keys)}."
            )


def _entries(names: list[str], flags: list[str], with_weights: bool) -> str:
    weights = ", weights" if with_weights else ""
    return f"{names}{f', flags of {flags}' if flags else ''}{weights}"


class _CheckedPyDataset(keras.utils.PyDataset):
    """A `PyDataset` whose batches are checked."""

    def __init__(self, dataset: keras.utils.PyDataset, data: FitData):
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self._dataset, self._data = dataset, data

    @property
    def num_batches(self):
        """Number of batches; None if it is not known."""
        return self._dataset.num_batches

    def __getitem__(self, index):
        """A checked batch."""
        return self._data.checked_element(self._dataset[index])

    def on_epoch_begin(self):
        """As the dataset's."""
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        """As the dataset's."""
        self._dataset.on_epoch_end()


def with_weights(data: Any) -> Any:
    """Takes weights out of a batch that contains them: (x, None, weights)."""
    x = data[0] if isinstance(data, tuple) else data
    if not (isinstance(x, Mapping) and WEIGHTS in x):
        return data
    batch = {name: value for name, value in x.items() if name != WEIGHTS}
    return batch, None, x[WEIGHTS]


def is_batches(x: Any) -> bool:
    """Whether `x` yields batches, instead of being arrays."""
    kinds = (tf.data.Dataset, tf.distribute.DistributedDataset, keras.utils.PyDataset)
    loader = type(x).__module__.partition(".")[0] == "torch" and hasattr(x, "dataset")
    return isinstance(x, kinds) or hasattr(x, "__next__") or loader


def unpacked(element: Any) -> tuple[Any, Any, Any]:
    """Batch, targets and weights of what a dataset yields."""
    if not isinstance(element, tuple):
        return element, None, None
    if not 1 <= len(element) <= 3:
        raise ValueError(
            "A dataset must yield batches, or (batch, None, weights). Received: tuples "
            f"of {len(element)}."
        )
    return (*element, None, None)[:3]


def _is_none(element: Any) -> bool:
    return element is None or isinstance(element, tf.NoneTensorSpec)


def num_rows(x: Mapping[str, Any]) -> int | None:
    """Number of rows of checked inputs; None where it is not known."""
    return next(value for name, value in x.items() if name != PRESENT).shape[0]


def check_counts(arguments: Mapping[str, Any]) -> None:
    """Raises an error if a batch size or a number of steps is no positive int."""
    for name in ("batch_size", "validation_batch_size"):
        if arguments.get(name) is not None:
            whole_number(name, arguments[name], minimum=1)


def check_some_rows(x: Any) -> None:
    """Raises a ValueError for arrays without rows."""
    if isinstance(x, Mapping) and num_rows(x) == 0:
        raise ValueError("The data must have rows. Received: arrays of 0 rows.")


def no_rows(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Predictions for no rows, `[0, ...]`."""
    return {name: np.zeros([0, *shape], "float32") for name, shape in shapes.items()}


class EpochWatcher(keras.callbacks.Callback):
    """The last callback: remakes the training step if layers were (un)frozen.

    Attributes:
      has_begun: Whether an epoch has begun.
      has_seen_a_batch: Whether a batch has been trained on.
    """

    has_begun = False
    has_seen_a_batch = False

    def on_epoch_begin(self, epoch, logs=None):
        """Notes that an epoch has begun."""
        self.has_begun = True

    def on_train_batch_begin(self, batch, logs=None):
        """Remakes the training step if layers were frozen or unfrozen."""
        self.model.make_train_function()

    def on_train_batch_end(self, batch, logs=None):
        """Notes that a batch was trained on."""
        self.has_seen_a_batch = True


def check_not_legacy(name: str, value: Any) -> None:
    """Raises a TypeError for objects of tf_keras, the Keras 2 beside Keras 3."""
    if type(value).__module__.partition(".")[0] == "tf_keras":
        raise TypeError(
            f"`{name}` must be of Keras 3, the package `keras`. Received: "
            f"{type(value).__name__} of the legacy package `tf_keras`. Import it from "
            "`keras`."
        )


def as_list(callbacks: Any) -> list[Any]:
    """The callbacks, given as None, one or several, as a list."""
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
