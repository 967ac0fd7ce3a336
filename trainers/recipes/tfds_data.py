"""Data of recipes that read a TFDS data set, which is made on first use."""

import contextlib
import io
import logging
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from trainers.config.train_config import NonNegative, TrainConfig
from trainers.errors import RunError, UsageError
from trainers.recipes.recipe import LabelledData, Recipe

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_datasets as tfds

#: Maximum number of rows of a split that are loaded for evaluation.
MAX_ROWS = 60_000


class TfdsConfig(TrainConfig):
    """Settings of recipes that read a TFDS data set."""

    data_dir: pathlib.Path = pydantic.Field(
        default_factory=lambda: pathlib.Path.home() / "tensorflow_datasets"
    )
    """Folder of TFDS's data sets."""
    data_set: str | None = None
    """Folder in `data_dir` of an existing data set, whose sources are no longer needed;
    none: named after the sources and their content."""
    memory: NonNegative = 2.0
    """GiB of decoded training rows that may be kept in memory (twice as much for a
    moment, while they are copied); larger data are read from disk in each epoch and
    shuffled within a buffer."""

    @pydantic.field_validator("*", mode="after")
    @classmethod
    def _make_absolute(cls, value: Any) -> Any:
        """Makes paths absolute, so that a run can be resumed from any folder."""
        if isinstance(value, pathlib.Path):
            return value.expanduser().absolute()
        return value


def tfds_recipe(
    config_class: type[TfdsConfig],
    build_model: Callable[..., Any],
    make_builder: Callable[..., "tfds.core.DatasetBuilder"],
    *,
    to_row: Callable[[Any], Any] = lambda row: row,
    **fields: Any,
) -> Recipe:
    """Makes a recipe whose data are a TFDS data set.

    Args:
      config_class: Class of its configuration.
      build_model: Function that builds its model; see `Recipe`.
      make_builder: Function from a configuration to a TFDS builder.
      to_row: Function from an example to modalities and a "label".
      **fields: Other fields of `Recipe`.
    """

    def read_split(config, split):
        builder = prepare(config, make_builder)
        return read(builder, _slice_of(builder, split, config), to_row)

    def load_data(config, split):
        arrays = in_memory(read_split(config, split), MAX_ROWS)
        return LabelledData(arrays, arrays.pop("label"))

    def resolve(config):
        folder = pathlib.Path(prepare(config, make_builder).data_dir)
        return config.model_copy(update={"data_set": _name_of(folder, config)})

    return Recipe(
        config_class,
        build_model,
        load_data,
        training_rows=lambda config: _without_labels(
            read_split(config, "train"), config
        ),
        resolve=resolve,
        **fields,
    )


def prepare(
    config: TfdsConfig, make_builder: Callable[..., "tfds.core.DatasetBuilder"]
) -> "tfds.core.DatasetBuilder":
    """Returns the data set of the configuration, which is made if need be.

    Args:
      config: Configuration; its `data_set` exists, or is that of its builder.
      make_builder: Function from a configuration to a builder.

    Raises:
      UsageError: If files that the settings name are missing or invalid.
      RunError: If the data set can't be made, or is damaged.
    """
    import tensorflow_datasets as tfds
    from absl import logging as absl_logging

    folder = config.data_dir / (config.data_set or "")
    if not (config.data_set and folder.is_dir()):
        absl_logging.set_verbosity(absl_logging.ERROR)  # of configurations TFDS lacks
        with _data_errors():
            builder = make_builder(config)
        folder = pathlib.Path(builder.data_dir)
        if config.data_set not in (None, _name_of(folder, config)):
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
    """Makes the data set, unless another process has made it meanwhile."""
    import tensorflow_datasets as tfds

    folder = pathlib.Path(builder.data_dir)
    name = _name_of(folder, config)
    print(
        f"Making {name} in {config.data_dir}. Sources that no setting gives are "
        "downloaded."
    )
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # logs every attempt
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        with _data_errors(), contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()  # prints the same
    except UsageError:
        raise
    except Exception as error:  # TFDS, TensorFlow and the disk raise their own
        if not folder.is_dir():
            raise RunError(f"{name} could not be made: {error}") from error
        print("Another process has just made it.")


def _name_of(folder: pathlib.Path, config: TfdsConfig) -> str:
    """A data set's path within `data_dir`."""
    return str(folder.relative_to(config.data_dir))


@contextlib.contextmanager
def _data_errors() -> Iterator[None]:
    """Errors in files that the settings name are the user's."""
    from tf_mopoe.data import DataError

    try:
        yield
    except DataError as error:
        raise UsageError(str(error)) from error


def read(
    builder: "tfds.core.DatasetBuilder", split: str, to_row: Callable[[Any], Any]
) -> "tf.data.Dataset":
    """Reads the rows of a split in the order on disk.

    Args:
      builder: Builder of an existing data set.
      split: Split as TFDS names it, with an optional slice.
      to_row: Function from an example to a row.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(try_autocache=False)
    rows = builder.as_dataset(split=split, read_config=config)
    return rows.map(to_row, num_parallel_calls=tf.data.AUTOTUNE)


def in_memory(rows: "tf.data.Dataset", limit: int | None = None) -> dict[str, Any]:
    """Loads rows as arrays `[N, ...]`.

    Args:
      rows: Dictionaries of tensors of known shape; their number is known.
      limit: Maximum number of rows.

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


def _without_labels(rows: "tf.data.Dataset", config: TfdsConfig) -> Any:
    """The modalities: as arrays if they fit in memory, else as a data set."""
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


def _slice_of(
    builder: "tfds.core.DatasetBuilder", split: str, config: TfdsConfig
) -> str:
    """The split, or a slice of "train" if the data set has no split for validation."""
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
