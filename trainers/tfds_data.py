"""Data of recipes that read a TFDS data set, made on first use."""

import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from trainers.config import TrainConfig
from trainers.errors import UsageError
from trainers.recipe import LabelledData

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_datasets as tfds

#: Most rows of a split that are loaded for evaluation.
MAX_ROWS = 60_000


class TfdsConfig(TrainConfig):
    """What recipes with a TFDS data set share.

    Attributes:
      data_dir: Where TFDS keeps its data sets.
      memory: GiB of decoded training rows that may be kept in memory (three times as
        much for a moment, while they are copied); if they take more, they are read from
        disk in each epoch and shuffled within a buffer.
    """

    data_dir: pathlib.Path = pydantic.Field(
        default_factory=lambda: pathlib.Path.home() / "tensorflow_datasets"
    )
    memory: float = pydantic.Field(default=2.0, ge=0)

    @pydantic.field_validator("*", mode="after")
    @classmethod
    def _absolute_paths(cls, value: Any) -> Any:
        """A run's settings mean the same from every folder."""
        if isinstance(value, pathlib.Path):
            return value.expanduser().absolute()
        return value


def prepare(make_builder: Callable[[], "tfds.core.DatasetBuilder"]):
    """The builder, its data set made if it is not there.

    Raises:
      UsageError: If files that the settings name are not what they should be.
    """
    import tensorflow_datasets as tfds
    from absl import logging

    from tf_mopoe.data import DataError

    logging.set_verbosity(logging.ERROR)  # TFDS warns of every configuration
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        builder = make_builder()
        builder.download_and_prepare()
    except DataError as error:
        raise UsageError(str(error)) from error
    return builder


def read(
    builder: "tfds.core.DatasetBuilder", split: str, to_row: Callable[[Any], Any]
) -> "tf.data.Dataset":
    """Rows of a split in the order on disk.

    Args:
      builder: Of a data set that is there.
      split: As TFDS writes them, slices included.
      to_row: From an example to what the pipeline needs.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(try_autocache=False)
    rows = builder.as_dataset(split=split, read_config=config)
    return rows.map(to_row, num_parallel_calls=tf.data.AUTOTUNE)


def in_memory(rows: "tf.data.Dataset", limit: int | None = None) -> dict[str, Any]:
    """The rows as arrays `[N, ...]`, the first `limit` of them.

    Args:
      rows: Dictionaries of tensors of known shape; their number is known.
      limit: At most so many.
    """
    if limit is not None:
        rows = rows.take(limit)
    count = int(rows.cardinality())
    arrays = {
        name: np.empty((count, *spec.shape), spec.dtype.as_numpy_dtype)
        for name, spec in rows.element_spec.items()
    }
    start = 0
    for batch in rows.batch(512).prefetch(2).as_numpy_iterator():
        for name, values in batch.items():
            arrays[name][start : start + len(values)] = values
        start += len(next(iter(batch.values())))
    return arrays


def readers(
    rows: Callable[..., "tf.data.Dataset"],
) -> tuple[Callable[..., LabelledData], Callable[..., Any]]:
    """`load_data` and `training_rows` of a recipe.

    Args:
      rows: From a configuration and a split to its rows, each with a "label".
    """
    return (
        lambda config, split: _labelled(rows(config, split)),
        lambda config: _unlabelled(rows(config, "train"), config),
    )


def _labelled(rows: "tf.data.Dataset") -> LabelledData:
    """At most `MAX_ROWS` rows and their labels."""
    arrays = in_memory(rows, MAX_ROWS)
    return LabelledData(arrays, arrays.pop("label"))


def _unlabelled(rows: "tf.data.Dataset", config: TfdsConfig) -> Any:
    """The modalities in memory as arrays, if they fit; else as they are read."""
    rows = rows.map(
        lambda row: {name: value for name, value in row.items() if name != "label"}
    )
    row_bytes = sum(
        spec.shape.num_elements() * spec.dtype.size
        for spec in rows.element_spec.values()
    )
    if row_bytes * int(rows.cardinality()) <= config.memory * 2**30:
        return in_memory(rows)
    return rows


def held_out(builder: "tfds.core.DatasetBuilder", split: str, validation: int) -> str:
    """The TFDS slice of a split of a data set that has "train" and "test" only.

    The last `validation` rows of "train" are "validation".

    Raises:
      UsageError: If no row would be left for training.
    """
    rows = builder.info.splits["train"].num_examples
    if validation >= rows:
        raise UsageError(
            f"validation: must be less than the {rows} rows of the training split. "
            f"Received: {validation}."
        )
    if split == "test":
        return split
    return f"train[:-{validation}]" if split == "train" else f"train[-{validation}:]"
