"""Images as files and text as strings, turned into a model's values in the graph."""

import tensorflow as tf

from export.errors import UsageError
from tf_mopoe.data.texts import ALPHABET, encode_text
from tf_mopoe.distributions.event_likelihoods import EventLikelihood
from tf_mopoe.modality import Modality

CHANNELS = (1, 3)
#: Larger images are not decoded: a small file may hold one that fills the memory.
MOST_PIXELS = 2**24


def check_image(modality: Modality, likelihood: EventLikelihood) -> None:
    """Raises UsageError unless the modality is an image."""
    shape = modality.event_shape
    if len(shape) != 3 or shape[-1] not in CHANNELS or likelihood.integer:
        raise UsageError(
            "image_bytes must name images of event_shape (height, width, 1 or 3), "
            f"of numbers. Received: {modality.name!r} of {shape}."
        )


def check_text(modality: Modality, likelihood: EventLikelihood) -> None:
    """Raises UsageError unless the modality is text in `tf_mopoe.data.texts`' symbols.

    That is one-hot `(length, 71)`, or class indices `(length,)` of 71 classes.
    """
    shape = likelihood.mean_shape
    if len(shape) != 2 or shape[-1] != len(ALPHABET):
        raise UsageError(
            f"text_strings must name text in the {len(ALPHABET)} symbols of "
            f"tf_mopoe.data.texts, event_shape (length, {len(ALPHABET)}). Received: "
            f"{modality.name!r} of {modality.event_shape}."
        )


def decode_text(
    text: tf.Tensor, modality: Modality, likelihood: EventLikelihood
) -> tf.Tensor:
    """Strings `[B]` as the modality's values, cut or padded with blanks."""
    indices = encode_text(text, modality.event_shape[0])
    return indices if likelihood.integer else tf.one_hot(indices, len(ALPHABET))


def decode_images(
    files: tf.Tensor, present: tf.Tensor, event_shape: tuple[int, ...]
) -> tf.Tensor:
    """JPEG or PNG files as float32 images in [0, 1], of the model's size.

    An image of another aspect ratio is cut around its centre first, as
    `tf_mopoe.data.from_image_folders` does.

    Args:
      files: string `[B]`.
      present: bool `[B]`; other rows' files are not looked at.
      event_shape: (height, width, channels).

    Returns:
      float32 `[B, height, width, channels]`; NaN of what is present and no JPEG or PNG
      from its first byte to its last, or has more than 2^24 pixels; zeros where nothing
      is.

    Raises:
      tf.errors.InvalidArgumentError: When run, if a file is damaged in between.
        TensorFlow can't decode one row and pass over another.
    """

    def of_row(row):
        file, here = row
        image = tf.cond(here, lambda: _is_readable(file), lambda: tf.constant(False))
        nothing = tf.where(here, float("nan"), 0.0)
        return tf.cond(
            image,
            lambda: _decoded(file, event_shape),
            lambda: tf.fill(event_shape, nothing),
        )

    return tf.map_fn(
        of_row,
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

    def of_jpeg():
        return tf.cond(jpeg, jpeg_pixels, lambda: inf)

    return tf.cond(png, png_pixels, of_jpeg) <= MOST_PIXELS


def _decoded(file: tf.Tensor, event_shape: tuple[int, ...]) -> tf.Tensor:
    height, width, channels = event_shape
    pixels = tf.io.decode_image(file, channels, expand_animations=False)
    pixels = tf.ensure_shape(pixels, [None, None, channels])
    size = tf.shape(pixels)[:2]
    wanted = tf.constant([height, width], tf.int32)
    ratio = tf.reduce_min(tf.cast(size, tf.float32) / tf.cast(wanted, tf.float32))
    kept = tf.cast(tf.round(tf.cast(wanted, tf.float32) * ratio), tf.int32)
    kept = tf.clip_by_value(kept, 1, size)
    first = (size - kept) // 2
    pixels = tf.slice(pixels, [first[0], first[1], 0], [kept[0], kept[1], channels])
    pixels = tf.cast(pixels, tf.float32) / 255.0
    resized = tf.cond(
        tf.reduce_all(kept == wanted),
        lambda: pixels,  # to the last bit
        lambda: tf.image.resize(pixels, wanted, method="bicubic", antialias=True),
    )
    return tf.ensure_shape(tf.clip_by_value(resized, 0.0, 1.0), event_shape)
