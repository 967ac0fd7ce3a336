"""The check of integer arguments."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from export.signatures.whole_numbers import check_whole

KINDS = [int, np.int8, np.int64, np.uint8, np.array, tf.constant]


@given(value=st.integers(), least=st.integers(), most=st.integers())
def test_exactly_the_numbers_within_the_limits_are_taken(value, least, most):
    if least <= value <= most:
        assert check_whole("n", value, minimum=least, maximum=most) == value
    else:
        with pytest.raises(ValueError, match=f"`n` must .* Received: {value}"):
            check_whole("n", value, minimum=least, maximum=most)


@pytest.mark.parametrize("kind", KINDS)
def test_any_integer_becomes_an_int_of_python(kind):
    whole = check_whole("n", kind(7), minimum=1)
    assert (whole, type(whole)) == (7, int)


@pytest.mark.parametrize(
    "value",
    [True, np.False_, tf.constant(True), np.array(True), 2.0, np.float32(2)]
    + ["1", b"1", None, [1], np.array([1]), 1 + 0j],
)
def test_other_types_are_refused(value):
    with pytest.raises(TypeError, match="`n` must be an int. Received: "):
        check_whole("n", value, minimum=0)


def test_messages_name_the_limit():
    with pytest.raises(ValueError, match="`n` must be 1 or more. Received: 0."):
        check_whole("n", 0, minimum=1)
    with pytest.raises(ValueError, match="`n` must be 9 or less. Received: 10."):
        check_whole("n", 10, minimum=1, maximum=9)
    with pytest.raises(ValueError, match="`n` must fit into int64. Received: 92"):
        check_whole("n", 2**63, minimum=0, maximum=2**63 - 1)
