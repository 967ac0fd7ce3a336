"""Text of a fixed length as indices into an alphabet of 71 symbols."""

import string
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.data.checks import check_not_sparse, plain_array

#: Letters, digits, ASCII punctuation and three kinds of blank.
ALPHABET = string.ascii_lowercase + string.digits + string.punctuation + " \n\t"
BLANK = ALPHABET.index(" ")

#: Number of symbols of the text of `mnist_svhn_text`, and its words.
DIGIT_TEXT_LENGTH = 8
DIGIT_NAMES = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
)

# Index of each byte: capitals as small letters, bytes outside the alphabet as blanks.
_INDEX_OF_BYTE = np.full(256, BLANK, np.int32)
for _index, _symbol in enumerate(ALPHABET):
    _INDEX_OF_BYTE[[ord(_symbol), ord(_symbol.upper())]] = _index


def encode_text(text: Sequence[str] | tf.Tensor, length: int) -> tf.Tensor:
    """Encodes strings as indices into `ALPHABET`, padded with blanks or cut.

    Capitals become small letters, and every byte outside the alphabet a blank.

    Args:
      text: Strings `[...]`: a list, an array or a tensor.
      length: Number of symbols L of each.

    Returns:
      Indices, int32 `[..., L]`.

    Raises:
      TypeError: If `text` holds something other than strings, or `length` is not a
        whole number.
      ValueError: If `length` is less than 1, or lists in `text` differ in length.

    Example:
      >>> decode_text(encode_text(["Two", "longer"], 4))
      ['two ', 'long']
    """
    length = whole_number("length", length, minimum=1)
    text = tf.convert_to_tensor(_checked_texts(text))
    padded = tf.io.decode_raw(text, tf.uint8, fixed_length=length)
    # Padding is byte 0, which is not in the alphabet.
    indices = tf.gather(_INDEX_OF_BYTE, tf.cast(padded, tf.int32))
    return tf.ensure_shape(indices, [*text.shape, length])


def decode_text(indices: np.ndarray | tf.Tensor) -> list[str]:
    """Decodes indices into `ALPHABET` to strings.

    Args:
      indices: Integers `[N, L]` from 0 to 70.

    Returns:
      N strings of length L.

    Raises:
      ValueError, TypeError: If the indices are not as described.

    Example:
      >>> decode_text(np.array([[19, 22, 14]]))
      ['two']
    """
    indices = np.asarray(_checked_array("indices", indices))
    if indices.ndim != 2 or indices.dtype.kind not in "iu":
        raise ValueError(
            "`indices` must be integers [N, L]. Received: "
            f"{indices.dtype} of shape {indices.shape}."
        )
    if indices.size and not 0 <= indices.min() <= indices.max() < len(ALPHABET):
        raise ValueError(
            f"`indices` must be from 0 to {len(ALPHABET) - 1}. Received: from "
            f"{indices.min()} to {indices.max()}."
        )
    return ["".join(ALPHABET[index] for index in row) for row in indices]


def _checked_texts(text):
    """The texts as a tensor or array of strings; raises TypeError if they are not."""
    array = _checked_array("text", text)
    # NumPy turns the numbers of a list with strings, also NaN, into strings.
    items = text if isinstance(text, (list, tuple)) else array
    strings = (str, bytes, tf.Tensor)
    if tf.is_tensor(array):
        wrong = [] if array.dtype == tf.string else [array]
    else:
        items = np.asarray(items, object).flat
        wrong = [item for item in items if not isinstance(item, strings)]
    if wrong:
        raise TypeError(
            f"`text` must hold strings. Received: {wrong[0]!r}. Write a missing text "
            "as an empty string, and mark it in the flags `present`."
        )
    return array


def _checked_array(argument: str, value):
    check_not_sparse(argument, value)
    return value if tf.is_tensor(value) else plain_array(argument, value)


def redraw_offset(text: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Moves each text to a random offset.

    Every offset at which the whole text fits has the same probability.

    Args:
      text: Indices into `ALPHABET`, int32 `[B, L]`, with blanks before and after.
      seed: Seed of the draws, int32 `[2]`.

    Returns:
      Indices, int32 `[B, L]`.
    """
    length = tf.shape(text)[1]
    printed = text != BLANK  # [B, L]
    first = tf.argmax(printed, axis=1, output_type=tf.int32)  # [B]
    last = length - 1 - tf.argmax(printed[:, ::-1], axis=1, output_type=tf.int32)
    free = length - (last - first + 1)  # offsets from 0 to this many
    uniform = tf.random.stateless_uniform(tf.shape(free), seed)
    offset = tf.cast(uniform * tf.cast(free + 1, tf.float32), tf.int32)
    # Only blanks surround the text, so the row may be rotated.
    source = (tf.range(length) + (first - offset)[:, tf.newaxis]) % length
    return tf.gather(text, source, batch_dims=1)
