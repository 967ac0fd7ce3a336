"""Writer of TFRecord files of `tf.train.Example`."""

import glob
import os
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.data.missing import mark_missing


def write_tfrecords(
    data: Mapping[str, Any], path: str | os.PathLike[str], *, shards: int = 1
) -> list[str]:
    """Writes arrays as TFRecord files with one `tf.train.Example` for each row.

    uint8 `[N, H, W, 1 or 3]` is stored as PNG, other integers and bools as int64 and
    floats as float32, under the modality's name. A modality that is missing in a row is
    left out of its Example. The files have hidden names until all of them are complete,
    and an error removes them.

    Args:
      data: Modality name to `[N, ...]`, optionally with `"present"` flags, bool `[N]`.
        Rows that are all NaN or masked are missing, too.
      path: Existing folder and prefix of the files' names: "data/train" gives
        `data/train-00000-of-00002.tfrecord` and `...-00001-of-...`. The extension
        ".tfrecord" is dropped.
      shards: Number of files, from 1 to N; rows keep their order across the files.

    Returns:
      Paths of the files, in order.

    Raises:
      ValueError: If `shards` is not from 1 to N, `path` names no file, an integer does
        not fit int64, a modality has no values in a row, or `mark_missing` refuses
        `data`.
      TypeError: If an array does not hold numbers, or a flag is not bool.
      FileNotFoundError: If the folder of `path` does not exist.
      FileExistsError: If such files exist already, with any number of shards.

    Example:
      >>> import tempfile
      >>> path = tempfile.mkdtemp() + "/train"
      >>> files = write_tfrecords({"x": np.arange(4)}, path, shards=2)
      >>> [os.path.basename(file) for file in files]
      ['train-00000-of-00002.tfrecord', 'train-00001-of-00002.tfrecord']
    """
    arrays, present = _checked_data(data)
    rows = len(next(iter(arrays.values())))
    shards = whole_number("shards", shards, minimum=1, maximum=rows)
    files = _checked_targets(path, shards)
    starts = [rows * shard // shards for shard in range(shards + 1)]
    token = uuid.uuid4().hex
    hidden = [
        os.path.join(os.path.dirname(file), f".{os.path.basename(file)}.{token}")
        for file in files
    ]
    made: list[str] = []
    try:
        for shard, file in enumerate(hidden):
            made.append(file)
            with tf.io.TFRecordWriter(file) as writer:
                for row in range(starts[shard], starts[shard + 1]):
                    writer.write(_example(arrays, present, row))
        for source, target in zip(hidden, files):
            tf.io.gfile.rename(source, target)
            made.append(target)
        made.clear()
    finally:
        for file in made:
            if tf.io.gfile.exists(file):
                tf.io.gfile.remove(file)
    return files


def _checked_data(data: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], Any]:
    """Arrays in the dtypes they are stored in, and the flags."""
    arrays = mark_missing(
        {n: np.asarray(x) if isinstance(x, tf.Tensor) else x for n, x in data.items()}
    )
    present = arrays.pop("present", {})
    for name, array in arrays.items():
        if not len(array):
            raise ValueError("`data` must have at least one row. Received: none.")
        if not array[0].size:
            raise ValueError(
                f"Modality {name!r} must have values in each row. Received shape: "
                f"{array.shape}."
            )
        if _is_image(array):
            continue
        if array.dtype.kind == "f":
            arrays[name] = array.astype(np.float32)
            continue
        if array.dtype == np.uint64 and array.max(initial=0) > np.iinfo(np.int64).max:
            raise ValueError(
                f"Modality {name!r} must hold integers that fit int64. Received: "
                f"{array.max()}."
            )
        arrays[name] = array.astype(np.int64)
    return arrays, present


def _is_image(array: np.ndarray) -> bool:
    return array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] in (1, 3)


def _checked_targets(path: Any, shards: int) -> list[str]:
    stem = os.fspath(path).removesuffix(".tfrecord")
    folder, name = os.path.split(stem)
    if not name:
        raise ValueError(
            "`path` must end in the prefix of the files' names, such as 'data/train'. "
            f"Received: {path!r}."
        )
    if "://" not in folder and not os.path.isdir(folder or "."):
        raise FileNotFoundError(
            f"The folder of `path` does not exist: {folder}. Create it."
        )
    existing = tf.io.gfile.glob(f"{glob.escape(stem)}-?????-of-?????.tfrecord")
    if existing:
        raise FileExistsError(
            f"`path` must be new: {len(existing)} of its files exist already, such as "
            f"{min(existing)}. Remove them, or choose another `path`."
        )
    return [f"{stem}-{shard:05d}-of-{shards:05d}.tfrecord" for shard in range(shards)]


def _example(
    arrays: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray], row: int
) -> bytes:
    features = {}
    for name, array in arrays.items():
        if name in present and not present[name][row]:
            continue
        value = array[row]
        if _is_image(array):
            png = tf.io.encode_png(value).numpy()
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[png]))
        elif array.dtype == np.float32:
            floats = tf.train.FloatList(value=value.ravel().tolist())
            feature = tf.train.Feature(float_list=floats)
        else:
            integers = tf.train.Int64List(value=value.ravel().tolist())
            feature = tf.train.Feature(int64_list=integers)
        features[name] = feature
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString()
