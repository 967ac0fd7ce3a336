"""Texts: encoding, decoding, random offsets, errors."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tf_mopoe.data import ALPHABET, decode_text, encode_text
from tf_mopoe.data.texts import redraw_offset


def test_the_alphabet_has_71_different_symbols():
    assert len(ALPHABET) == len(set(ALPHABET)) == 71


def test_text_in_the_alphabet_survives():
    assert decode_text(encode_text([ALPHABET], 71)) == [ALPHABET]
    texts = ["one, two", "#3: 4-5!"]
    assert decode_text(encode_text(texts, 8)) == texts


def test_capitals_become_small_and_all_else_blank_whatever_the_length():
    assert decode_text(encode_text(["Ab\u00e9C", "", "abcdefg"], 5)) == [
        "ab  c",
        "     ",
        "abcde",
    ]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, TypeError, "`text` must be an array of one type.*None"),
        (["a", None], TypeError, "`text` must be an array of one type.*None"),
        (["a", np.nan], TypeError, "`text` must hold strings. Received: nan"),
        (["a", 3], TypeError, "`text` must hold strings. Received: 3"),
        (3, TypeError, "`text` must hold strings. Received: 3"),
        (np.ones(2), TypeError, "`text` must hold strings. Received: 1.0"),
        (tf.constant([1]), TypeError, "`text` must hold strings. Received: <tf.Tensor"),
        ([["a"], ["b", "c"]], ValueError, "`text` .*rows have different lengths"),
        (["a", ["b"]], ValueError, "`text` .*rows have different lengths"),
    ],
)
def test_texts_that_are_no_strings_are_refused(text, error, message):
    with pytest.raises(error, match=message):
        encode_text(text, 4)


@pytest.mark.parametrize(
    "text",
    [
        "ab",
        ["ab"],
        [b"ab"],
        np.array("ab"),
        np.array(["ab"], object),
        tf.constant("ab"),
    ],
)
def test_strings_bytes_and_tensors_are_texts(text):
    assert decode_text(np.reshape(encode_text(text, 3), [1, 3])) == ["ab "]


def test_shape_is_known_in_a_pipeline():
    rows = tf.data.Dataset.from_tensor_slices(["six", "ten"])
    encoded = rows.map(lambda text: encode_text(text, 8))
    assert encoded.element_spec.shape == (8,)
    assert encoded.element_spec.dtype == tf.int32
    assert decode_text(np.stack(list(encoded))) == ["six     ", "ten     "]


def test_every_offset_that_fits_is_as_likely():
    texts = encode_text([" three  "] * 4000, 8)
    moved = decode_text(redraw_offset(texts, tf.constant([1, 2])))
    counts = collections.Counter(moved)
    assert set(counts) == {" " * k + "three" + " " * (3 - k) for k in range(4)}
    # 1000 expected, standard deviation 27.
    assert min(counts.values()) > 860


def test_words_within_a_text_stay_together_and_blank_texts_stay_blank():
    texts = ["a b     ", "  full  ", "abcdefgh", "        "]
    for seed in range(20):
        moved = decode_text(
            redraw_offset(encode_text(texts, 8), tf.constant([seed, 0]))
        )
        assert [text.strip() for text in moved] == [text.strip() for text in texts]
    again = [redraw_offset(encode_text(texts, 8), tf.constant([5, 0])) for _ in "ab"]
    np.testing.assert_array_equal(*again)
