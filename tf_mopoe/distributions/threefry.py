"""Threefry-2x32: random words from many keys at once.

TensorFlow's stateless generators take one key a call. Here every row has a key of its
own, so that what is drawn for a row does not depend on the rows beside it.

Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011 (20 rounds).
"""

import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry(
    keys: tf.Tensor, counters: tuple[tf.Tensor, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Two random words for each key and counter.

    Args:
      keys: uint32 `[..., 2]`.
      counters: uint32, both broadcast against `keys[..., 0]`.

    Returns:
      uint32, both of the broadcast shape.
    """
    first, second = keys[..., 0], keys[..., 1]
    parity = tf.bitwise.bitwise_xor(first, second)
    schedule = (first, second, tf.bitwise.bitwise_xor(parity, _word(_PARITY)))
    x, y = counters[0] + schedule[0], counters[1] + schedule[1]
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x += y
            y = tf.bitwise.bitwise_xor(x, _rotated(y, distance))
        x += schedule[(group + 1) % 3]
        y += schedule[(group + 2) % 3] + _word(group + 1)
    return x, y


def _rotated(word: tf.Tensor, distance: int) -> tf.Tensor:
    return tf.bitwise.bitwise_or(
        tf.bitwise.left_shift(word, _word(distance)),
        tf.bitwise.right_shift(word, _word(32 - distance)),
    )


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)
