"""Reader of TFRecord files of `tf.train.Example`."""

import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from google.protobuf.message import DecodeError

from tf_mopoe.data.checks import check_modalities

# Number of rows in which the names of features are looked up.
_ROWS_FOR_NAMES = 1000
# Maximum number of rows that are parsed at once, and of bytes of their values.
_MAX_ROWS, _MAX_BYTES = 128, 2**24
# Bytes of a record besides its Example: a length (8) and two checksums (4 each).
_FRAME_BYTES = 16


class EncodedImage(NamedTuple):
    """Feature of one image, stored as the bytes of a PNG or JPEG file.

    Attributes:
      shape: Shape (H, W, C) of the image, C 1 or 3; it is read as uint8.

    Example:
      >>> features = {"photo": EncodedImage((28, 28, 3))}
      >>> features["photo"].shape
      (28, 28, 3)
    """

    shape: Sequence[int]


def from_tfrecords(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    features: Mapping[str, tf.io.FixedLenFeature | EncodedImage],
) -> tf.data.Dataset:
    """Reads rows from TFRecord files of `tf.train.Example`, in the order of the files.

    Pass the dataset to `shuffled_batches`, or batch it; images are uint8. The number of
    rows is unknown: pass `steps_per_epoch` to `fit`.

    Args:
      files: Path, pattern ("data/train-*.tfrecord"), or several of either; each file is
        read once, in the order of their names.
      features: Modality name, the key in the Examples, to
        `tf.io.FixedLenFeature(shape, dtype)`, float32 or int64, or to
        `EncodedImage(shape)`. Other keys are not read.

    Returns:
      A dataset of rows: modality name to a value of its shape (float32, int64, or uint8
      for images), zeros where the Example lacks the feature; and `"present"`: modality
      name to bool `[]`, for all modalities.

    Raises:
      FileNotFoundError: If a path or pattern matches no file.
      ValueError: If `features` is not as described, misspells a key of the first 1000
        rows or has none of theirs, or the files are empty.
      TypeError: If `files` is neither a path nor a list of paths, or `features` is not
        a mapping or has other values.
      tf.errors.InvalidArgumentError: While rows are read: if a feature has another
        length or type, an image has another shape or is damaged, or a file is truncated
        or damaged (after the rows before the damage). The message names the modality,
        and the file if TensorFlow reports it.

    Example:
      >>> import tempfile
      >>> from tf_mopoe.data.tfrecord_writer import write_tfrecords
      >>> data = {"image": np.ones([4, 2, 2, 1], np.uint8), "table": np.eye(4)}
      >>> data["table"][1] = np.nan
      >>> files = write_tfrecords(data, tempfile.mkdtemp() + "/train", shards=2)
      >>> table = tf.io.FixedLenFeature([4], tf.float32)
      >>> rows = from_tfrecords(
      ...     files, {"image": EncodedImage((2, 2, 1)), "table": table}
      ... )
      >>> [row["table"].tolist() for row in rows.take(2).as_numpy_iterator()]
      [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
      >>> [bool(row["present"]["table"]) for row in rows]
      [True, False, True, True]
    """
    shapes = _checked_features(features)
    paths = _matching_paths(files)
    _check_names(paths, features)
    images = {name for name, kind in features.items() if isinstance(kind, EncodedImage)}
    parsers = {
        name: tf.io.RaggedFeature(tf.as_dtype(getattr(feature, "dtype", tf.string)))
        for name, feature in features.items()
    }

    def parse(path, serialized):
        values, present = {}, {}
        for name, ragged in tf.io.parse_example(serialized, parsers).items():
            if name in images:
                encoded, present[name] = _dense(ragged, [], name, path)
                values[name] = _decoded(
                    encoded, present[name], shapes[name], name, path
                )
            else:
                values[name], present[name] = _dense(ragged, shapes[name], name, path)
        return {**values, "present": present}

    sizes = tf.constant([tf.io.gfile.stat(path).length for path in paths], tf.int64)
    row_bytes = sum(
        math.prod(shape) * (1 if name in images else 8)
        for name, shape in shapes.items()
    )
    at_once = max(1, min(_MAX_ROWS, _MAX_BYTES // row_bytes))
    batches = tf.data.Dataset.from_tensor_slices((paths, sizes)).flat_map(
        lambda path, size: _batches(path, size, at_once)
    )
    return batches.map(parse, tf.data.AUTOTUNE, deterministic=True).unbatch()


def _matching_paths(files: Any) -> list[str]:
    """Paths of all files that match, sorted."""
    if isinstance(files, (str, os.PathLike)):
        files = [files]
    if isinstance(files, (bytes, Mapping)) or not isinstance(files, Iterable):
        raise _wrong_path(files)
    patterns = list(files)
    if not patterns:
        raise ValueError("`files` must name at least one file. Received: none.")
    paths: set[str] = set()
    for pattern in patterns:
        if not isinstance(pattern, (str, os.PathLike)):
            raise _wrong_path(pattern)
        pattern = os.fspath(pattern)
        if tf.io.gfile.isdir(pattern):
            raise ValueError(
                "`files` must be paths or patterns of files. Received the folder: "
                f"{pattern}. Write e.g. {os.path.join(pattern, '*.tfrecord')!r}."
            )
        exists = tf.io.gfile.exists(pattern)
        matches = [pattern] if exists else tf.io.gfile.glob(pattern)
        if not matches:
            raise FileNotFoundError(f"`files` matches no file: {pattern}")
        paths.update(matches)
    if not any(tf.io.gfile.stat(path).length for path in paths):
        raise ValueError(
            f"`files` must hold records. Received empty files: {sorted(paths)[:3]}."
        )
    return sorted(paths)


def _wrong_path(value: Any) -> TypeError:
    return TypeError(
        f"`files` must be a path or pattern, or a list of them. Received: {value!r}."
    )


def _check_names(paths: list[str], names: Iterable[str]) -> None:
    """Raises ValueError for a feature whose name is probably misspelt."""
    known: set[str] = set()
    records = tf.data.TFRecordDataset(paths).ignore_errors().take(_ROWS_FOR_NAMES)
    for record in records.as_numpy_iterator():
        try:
            example = tf.train.Example.FromString(record)
        except DecodeError:
            continue  # reported when it is read
        known.update(example.features.feature)
    others = known.difference(names)
    for name in known and set(names) - known:
        close = difflib.get_close_matches(name, others, n=1)
        if close or known == others:  # otherwise it may be missing in these rows
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"`features` has {name!r}, which none of the first {_ROWS_FOR_NAMES} "
                f"rows has. They have {sorted(known)}.{hint}"
            )


def _checked_features(features: Any) -> dict[str, list[int]]:
    """Modality name to its shape."""
    check_modalities("features", features, "FixedLenFeature or EncodedImage")
    shapes = {}
    for name, feature in features.items():
        if not isinstance(feature, (tf.io.FixedLenFeature, EncodedImage)):
            raise TypeError(
                f"`features[{name!r}]` must be a tf.io.FixedLenFeature or an "
                f"EncodedImage. Received: {feature!r}."
            )
        try:
            shape = tf.TensorShape(feature.shape)
        except (TypeError, ValueError):
            shape = tf.TensorShape(None)
        if not shape.is_fully_defined() or not math.prod(shape):
            raise ValueError(
                f"`features[{name!r}]` must have a shape of positive sizes. "
                f"Received: {feature.shape!r}."
            )
        if isinstance(feature, EncodedImage):
            if len(shape) != 3 or shape[-1] not in (1, 3):
                raise ValueError(
                    f"`features[{name!r}]` must have shape (H, W, 1 or 3). "
                    f"Received: {feature.shape!r}."
                )
        elif feature.dtype not in (tf.float32, tf.int64) or (
            feature.default_value is not None
        ):
            raise ValueError(
                f"`features[{name!r}]` must be of float32 or int64 (images: "
                "EncodedImage), and without default_value, since an absent feature "
                f"counts as missing. Received: {feature!r}."
            )
        shapes[name] = shape.as_list()
    return shapes


def _batches(path: tf.Tensor, size: tf.Tensor, at_once: int) -> tf.data.Dataset:
    """(path, Examples `[up to at_once]`) of one file.

    Raises an error with the file's name if the records do not add up to its size.
    TensorFlow itself does not name the file, and reads a file that is cut inside the
    length of a record without any error.
    """
    none = tf.data.Dataset.from_tensors((tf.zeros([0], tf.string), False))
    # Opened first: `ignore_errors` would try forever to open a file that is gone.
    opens = tf.data.FixedLengthRecordDataset(path, 1).take(1)
    opened = opens.flat_map(lambda _: none)
    records = tf.data.TFRecordDataset(path).ignore_errors().batch(at_once)
    end = tf.data.Dataset.from_tensors((tf.zeros([0], tf.string), True))

    def count(total, element):
        serialized, at_end = element
        lengths = tf.strings.length(serialized)  # [rows]
        total += tf.reduce_sum(tf.cast(lengths + _FRAME_BYTES, tf.int64))
        complete = ~at_end | (total == size)
        message = (
            "A TFRecord file is truncated, damaged or compressed. Replace it. Path, "
            "number of bytes, number of bytes before the damage:"
        )
        check = tf.debugging.Assert(complete, [message, path, size, total])
        with tf.control_dependencies([check]):
            return total, (path, tf.identity(serialized))

    marked = records.map(lambda serialized: (serialized, False))
    zero = tf.zeros([], tf.int64)
    return opened.concatenate(marked).concatenate(end).scan(zero, count)


def _dense(
    ragged: tf.RaggedTensor, shape: list[int], name: str, path: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Values `[rows, *shape]`, zeros where a row has none; and which rows have some."""
    size = math.prod(shape)
    lengths = ragged.row_lengths()  # [rows]
    present = lengths > 0
    message = (
        f"Modality {name!r} must have {size} values of shape {tuple(shape)} in each "
        "row, or none. File, and numbers received:"
    )
    wrong = tf.boolean_mask(lengths, present & (lengths != size))
    check = tf.debugging.Assert(tf.size(wrong) == 0, [message, path, wrong])
    with tf.control_dependencies([check]):
        values = ragged.to_tensor(shape=[None, size])
    return tf.reshape(values, [-1, *shape]), present


def _decoded(
    encoded: tf.Tensor, present: tf.Tensor, shape: list[int], name: str, path: tf.Tensor
) -> tf.Tensor:
    """Images, uint8 `[rows, H, W, C]`, zeros where a row has none."""

    def decode(file):
        # TensorFlow's message on a damaged image contains the name of the op.
        image = tf.io.decode_image(
            file, expand_animations=False, name=f"modality_{name}"
        )
        message = (
            f"Modality {name!r} must have images of shape {tuple(shape)}. File, and "
            "shape received:"
        )
        fits = tf.reduce_all(tf.equal(tf.shape(image), shape))
        check = tf.debugging.Assert(fits, [message, path, tf.shape(image)])
        with tf.control_dependencies([check]):
            return tf.reshape(image, shape)

    def image_or_zeros(element):
        file, is_present = element
        zeros = tf.zeros(shape, tf.uint8)
        return tf.cond(is_present, lambda: decode(file), lambda: zeros)

    return tf.map_fn(image_or_zeros, (encoded, present), fn_output_signature=tf.uint8)
