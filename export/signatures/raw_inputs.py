"""Images as files and text as strings, turned into a model's values in the graph."""

import tensorflow as tf

from export.errors import UsageError
from export.signatures.model_access import Field
from tf_mopoe.data.texts import ALPHABET, encode_text

CHANNELS = (1, 3)
#: Larger images are not decoded: a small file may hold one that fills the memory.
MAX_PIXELS = 2**24


def check_image(field: Field) -> None:
    """Raises UsageError unless the modality is an image."""
    shape = field.event_shape
    if len(shape) != 3 or shape[-1] not in CHANNELS or field.is_integer:
        raise UsageError(
            "image_bytes must name images of event_shape (height, width, 1 or 3), "
            f"of numbers. Received: {field.name!r} of {shape}."
        )


def check_text(field: Field) -> None:
    """Raises UsageError unless the modality is text in `tf_mopoe.data.texts`' symbols.

    That is one-hot `(length, 71)`, or class indices `(length,)` of 71 classes.
    """
    if len(field.mean_shape) != 2 or field.mean_shape[-1] != len(ALPHABET):
        raise UsageError(
            f"text_strings must name text in the {len(ALPHABET)} symbols of "
            f"tf_mopoe.data.texts, event_shape (length, {len(ALPHABET)}). Received: "
            f"{field.name!r} of {field.event_shape}."
        )


def decode_text(text: tf.Tensor, field: Field) -> tf.Tensor:
    """Strings `[B]` as the modality's values, cut or padded with blanks."""
    indices = encode_text(text, field.event_shape[0])
    return indices if field.is_integer else tf.one_hot(indices, len(ALPHABET))


def decode_images(
    files: tf.Tensor, present: tf.Tensor, event_shape: tuple[int, ...]
) -> tf.Tensor:
    """JPEG or PNG files as float32 images in [0, 1], of the model's size.

    An image of another aspect ratio is cut around its centre first, as
    `tf_mopoe.data.from_image_folders` does.

    Args:
      files: Files, string `[B]`.
      present: Flags, bool `[B]`; the files of other rows are ignored.
      event_shape: Shape (height, width, channels).

    Returns:
      float32 `[B, height, width, channels]`; NaN where a present file does not begin
      and end as a JPEG or PNG, or has more than 2^24 pixels; zeros in absent rows.

    Raises:
      tf.errors.InvalidArgumentError: When run, if a file is damaged in its middle.
        TensorFlow can't decode one row and pass over another.

    Example:
      >>> file = tf.io.encode_png(tf.fill([2, 2, 1], tf.constant(255, tf.uint8)))
      >>> decode_images(file[tf.newaxis], tf.constant([True]), (1, 1, 1)).numpy().item()
      1.0
    """

    def decode_row(row):
        file, is_present = row
        is_image = tf.cond(
            is_present, lambda: _is_readable(file), lambda: tf.constant(False)
        )
        return tf.cond(
            is_image,
            lambda: _decoded(file, event_shape),
            lambda: tf.fill(event_shape, tf.where(is_present, float("nan"), 0.0)),
        )

    return tf.map_fn(
        decode_row,
        (files, present),
        fn_output_signature=tf.TensorSpec(event_shape, tf.float32),
        parallel_iterations=1,  # one large image in memory, not ten
    )


def _is_readable(file: tf.Tensor) -> tf.Tensor:
    """Whether a file is whole, by its ends, and not too large to be decoded: bool."""
    size, inf = tf.strings.length(file), tf.constant(float("inf"))

    def last(count):
        return tf.strings.substr(file, tf.maximum(size - count, 0), count)

    png = (tf.strings.substr(file, 0, 4) == b"\x89PNG") & (size > 24)
    png &= last(8) == b"IEND\xaeB`\x82"
    jpeg = (tf.strings.substr(file, 0, 3) == b"\xff\xd8\xff") & (size > 24)
    jpeg &= last(2) == b"\xff\xd9"

    def png_pixels():
        # Width and height, big-endian, after signature and the first chunk's head.
        sides = tf.io.decode_raw(
            tf.strings.substr(file, 16, 8), tf.int32, little_endian=False
        )
        return tf.reduce_prod(tf.where(sides > 0, tf.cast(sides, tf.float32), inf))

    def jpeg_pixels():
        shape = tf.image.extract_jpeg_shape(file)
        return tf.reduce_prod(tf.cast(shape[:2], tf.float32))

    def other_pixels():
        return tf.cond(jpeg, jpeg_pixels, lambda: inf)

    return tf.cond(png, png_pixels, other_pixels) <= MAX_PIXELS


def _decoded(file: tf.Tensor, event_shape: tuple[int, ...]) -> tf.Tensor:
    height, width, channels = event_shape
    pixels = tf.io.decode_image(file, channels, expand_animations=False)
    pixels = tf.ensure_shape(pixels, [None, None, channels])
    size = tf.shape(pixels)[:2]
    target = tf.constant([height, width], tf.int32)
    ratio = tf.reduce_min(tf.cast(size, tf.float32) / tf.cast(target, tf.float32))
    kept = tf.cast(tf.round(tf.cast(target, tf.float32) * ratio), tf.int32)
    kept = tf.clip_by_value(kept, 1, size)
    first = (size - kept) // 2
    pixels = tf.slice(pixels, [first[0], first[1], 0], [kept[0], kept[1], channels])
    pixels = tf.cast(pixels, tf.float32) / 255.0
    resized = tf.cond(
        tf.reduce_all(kept == target),
        lambda: pixels,  # to the last bit
        lambda: tf.image.resize(pixels, target, method="bicubic", antialias=True),
    )
    return tf.ensure_shape(tf.clip_by_value(resized, 0.0, 1.0), event_shape)
