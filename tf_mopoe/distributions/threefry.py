"""Threefry-2x32, a generator of random words for many keys at once.

TensorFlow's stateless generators take one key per call. Here every row has its own key,
so that the numbers of a row do not depend on the other rows of its batch.

Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011 (20 rounds).
"""

import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry(
    keys: tf.Tensor, counters: tuple[tf.Tensor, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns two random words for each key and counter.

    Args:
      keys: Keys, uint32 `[..., 2]`.
      counters: Two words of the counter, uint32, broadcast against `keys[..., 0]`.

    Returns:
      Two random words, uint32 of the broadcast shape.
    """
    first, second = keys[..., 0], keys[..., 1]
    parity = tf.bitwise.bitwise_xor(first, second)
    schedule = (first, second, tf.bitwise.bitwise_xor(parity, _word(_PARITY)))
    x, y = counters[0] + schedule[0], counters[1] + schedule[1]
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x += y
            y = tf.bitwise.bitwise_xor(x, _rotate_left(y, distance))
        x += schedule[(group + 1) % 3]
        y += schedule[(group + 2) % 3] + _word(group + 1)
    return x, y


def _rotate_left(word: tf.Tensor, distance: int) -> tf.Tensor:
    return tf.bitwise.bitwise_or(
        tf.bitwise.left_shift(word, _word(distance)),
        tf.bitwise.right_shift(word, _word(32 - distance)),
    )


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)
