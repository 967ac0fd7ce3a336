"""What a recipe is: a configuration, a model and data."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from trainers.config.train_config import TrainConfig

if TYPE_CHECKING:
    from tf_mopoe.models import MultimodalVAE

Split = Literal["train", "validation", "test"]


class LabelledData(NamedTuple):
    """One split: modality name to `[N, *event_shape]`, and the rows' labels.

    Labels are classes, int `[N]`, or flags of several attributes, bool `[N, A]`.
    """

    modalities: Mapping[str, np.ndarray]
    labels: np.ndarray


class Recipe(NamedTuple):
    """What a recipe's module defines as `RECIPE`.

    Modules of recipes import TensorFlow inside their functions only, so that a wrong
    setting is reported immediately.

    Attributes:
      config_class: Class of the configuration, with its defaults.
      build_model: Function from a configuration and the number of all training steps,
        which schedules need, to an uncompiled model.
      load_data: Function from a configuration and a split's name to its data.
      num_classes: C, the number of classes; None if labels are attributes.
      training_rows: Function from a configuration to the first argument of
        `tf_mopoe.data.shuffled_batches`; None: the modalities of the training split,
        in memory.
      augment: Function from a configuration to the `augment` argument of
        `shuffled_batches`, or None.
      resolve: Function that makes the data if need be, and returns the configuration
        with their name, so that their sources may be deleted; None: the configuration
        is complete.
      attributes: Function that returns the names of the attributes, if labels are
        flags.
      published: Published numbers for the report: metric, then source, then number of
        given modalities, as in `by_number_given`.
    """

    config_class: type[TrainConfig]
    build_model: Callable[..., "MultimodalVAE"]
    load_data: Callable[..., LabelledData]
    num_classes: int | None
    training_rows: Callable[..., Any] | None = None
    augment: Callable[..., Any] | None = None
    resolve: Callable[..., Any] | None = None
    attributes: Callable[[], Sequence[str]] | None = None
    published: Mapping[str, Mapping[str, Mapping[str, float]]] = {}
