"""Data of recipes that read a TFDS data set, made on first use."""

import contextlib
import io
import logging
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pydantic

from trainers.config.train_config import NotNegative, TrainConfig
from trainers.errors import RunError, UsageError
from trainers.recipes.recipe import LabelledData

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_datasets as tfds

#: Most rows of a split that are loaded for evaluation.
MAX_ROWS = 60_000


class TfdsConfig(TrainConfig):
    """What recipes with a TFDS data set share."""

    data_dir: pathlib.Path = pydantic.Field(
        default_factory=lambda: pathlib.Path.home() / "tensorflow_datasets"
    )
    """Where TFDS keeps its data sets."""
    data_set: str | None = None
    """Folder in `data_dir` of one that is there, whose sources are not needed any more;
    none: named after the sources and their content."""
    memory: NotNegative = 2.0
    """GiB of decoded training rows that may be kept in memory (twice as much for a
    moment, while they are copied); if they take more, they are read from disk in each
    epoch and shuffled within a buffer."""

    @pydantic.field_validator("*", mode="after")
    @classmethod
    def _absolute_paths(cls, value: Any) -> Any:
        """A run's settings mean the same from every folder."""
        if isinstance(value, pathlib.Path):
            return value.expanduser().absolute()
        return value


def prepare(
    config: TfdsConfig, make_builder: Callable[..., "tfds.core.DatasetBuilder"]
) -> "tfds.core.DatasetBuilder":
    """The data set that the configuration names, made if it is not there.

    Args:
      config: Its `data_set` is there already, or is that of `make_builder(config)`.
      make_builder: From a configuration to a builder.

    Raises:
      UsageError: If files that the settings name are not what they should be.
      RunError: If the data set can't be made, or is damaged.
    """
    import tensorflow_datasets as tfds

    folder = config.data_dir / (config.data_set or "")
    if not (config.data_set and folder.is_dir()):
        builder = _called(make_builder, config)
        folder = pathlib.Path(builder.data_dir)
        if config.data_set not in (None, _name(folder, config)):
            raise UsageError(
                f"data_set: there is no {config.data_set} in {config.data_dir}."
            )
        if not folder.is_dir():
            build(config, builder)
    try:
        return tfds.builder_from_directory(str(folder))
    except Exception as error:  # TFDS, protobuf and JSON raise their own
        raise RunError(
            f"{folder} is damaged. Delete it, and run again. ({error})"
        ) from error


def build(config: TfdsConfig, builder: "tfds.core.DatasetBuilder") -> None:
    """Makes the data set; another process may be making it, too."""
    import tensorflow_datasets as tfds

    from tf_mopoe.data import DataError

    folder = pathlib.Path(builder.data_dir)
    name = _name(folder, config)
    print(
        f"Making {name} in {config.data_dir}. What the settings name no "
        "files for is downloaded."
    )
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # says every attempt
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS says the same
            builder.download_and_prepare()
    except DataError as error:
        raise UsageError(str(error)) from error
    except Exception as error:  # TFDS, TensorFlow and the disk raise their own
        if not folder.is_dir():
            raise RunError(f"{name} could not be made: {error}") from error
        print("Another process has just made it.")


def _name(folder: pathlib.Path, config: TfdsConfig) -> str:
    """A data set's folder in `data_dir`, which says what it is made of."""
    return str(folder.relative_to(config.data_dir))


def _called(make_builder, config: TfdsConfig) -> "tfds.core.DatasetBuilder":
    from absl import logging as absl_logging

    from tf_mopoe.data import DataError

    absl_logging.set_verbosity(absl_logging.ERROR)  # TFDS warns of own configurations
    try:
        return make_builder(config)
    except DataError as error:
        raise UsageError(str(error)) from error


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

    Raises:
      RunError: If files of the data set are damaged.
    """
    import tensorflow as tf

    if limit is not None:
        rows = rows.take(limit)
    count = int(rows.cardinality())
    arrays = {
        name: np.empty((count, *spec.shape), spec.dtype.as_numpy_dtype)
        for name, spec in rows.element_spec.items()
    }
    start = 0
    try:
        for batch in rows.batch(512).prefetch(2).as_numpy_iterator():
            for name, values in batch.items():
                arrays[name][start : start + len(values)] = values
            start += len(next(iter(batch.values())))
    except tf.errors.OpError as error:
        raise RunError(
            "the data set can't be read; delete its folder in data_dir, and run again. "
            f"({error.message})"
        ) from error
    return arrays


class Readers(NamedTuple):
    """Fields of a recipe."""

    load_data: Callable[..., LabelledData]
    training_rows: Callable[..., Any]
    resolve: Callable[..., Any]


def readers(
    make_builder: Callable[..., "tfds.core.DatasetBuilder"],
    to_row: Callable[[Any], Any] = lambda row: row,
) -> Readers:
    """`load_data`, `training_rows` and `resolve` of a recipe.

    Args:
      make_builder: From a configuration to a builder.
      to_row: From an example to what the pipeline needs, with a "label".
    """

    def rows(config, split):
        builder = prepare(config, make_builder)
        return read(builder, _slice(builder, split, config), to_row)

    def resolve(config):
        folder = pathlib.Path(prepare(config, make_builder).data_dir)
        return config.model_copy(update={"data_set": _name(folder, config)})

    return Readers(
        lambda config, split: _labelled(rows(config, split)),
        lambda config: _unlabelled(rows(config, "train"), config),
        resolve,
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


def _slice(builder: "tfds.core.DatasetBuilder", split: str, config: TfdsConfig) -> str:
    """The split, or a slice for a data set that has no split for validation."""
    count = getattr(config, "validation", 0)
    if split == "test" or "validation" in builder.info.splits:
        return split
    rows = builder.info.splits["train"].num_examples
    if count >= rows:
        raise UsageError(
            f"validation: must be less than the {rows} rows of the training split. "
            f"Received: {count}."
        )
    return f"train[:-{count}]" if split == "train" else f"train[-{count}:]"
