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
    """What a recipe's module has under the name `RECIPE`.

    Modules of recipes import TensorFlow inside their functions only, so that a wrong
    setting is answered at once.

    Attributes:
      config_class: The configuration with its defaults.
      build_model: From a configuration and the number of training steps in all, which
        schedules need, to an uncompiled model.
      load_data: From a configuration and a split's name to its data.
      num_classes: C, of the labels; None if they are attributes.
      training_rows: From a configuration to what `tf_mopoe.data.shuffled_batches`
        takes; None: the modalities of the training split, in memory.
      augment: From a configuration to its argument of that name, or None.
      resolve: Makes the data if need be, and returns the configuration with their
        name, so that the files they are made of may go; None: the configuration as it
        is will do.
      attributes: Gives the names of the attributes, where labels are flags.
      published: For figures of the report: metric, then whose numbers, then number of
        given modalities to the number, as `by_number_given` has it.
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
