"""Noise of a row from its own seed: known words, distribution, independence."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tf_mopoe.distributions import noise
from tf_mopoe.distributions.threefry import threefry

#: Known answers of Threefry-2x32 with 20 rounds, published with Random123.
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    (
        (0x13198A2E, 0x03707344),
        (0x243F6A88, 0x85A308D3),
        (0xC4923A9C, 0x483DF7A0),
    ),
]
SEEDS = st.integers(noise.MIN_SEED, noise.MAX_SEED)


@pytest.mark.parametrize(("key", "counter", "words"), KNOWN)
def test_threefry_gives_the_published_words(key, counter, words):
    keys = tf.constant([key], tf.uint32)
    counters = tuple(tf.constant([word], tf.uint32) for word in counter)
    assert [int(word[0]) for word in threefry(keys, counters)] == list(words)


def mixed(word):
    """SplitMix64's finaliser in Python's integers."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % 2**64
    return word ^ (word >> 31)


def seeds_by_hand(seed, rows, first=0):
    words = [
        mixed((mixed(seed % 2**64) + 0x9E3779B97F4A7C15 * (row + 1)) % 2**64)
        for row in range(first, first + rows)
    ]
    return [word - 2**64 if word >= 2**63 else word for word in words]


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, rows=st.integers(0, 20), first=st.integers(0, 10**12))
def test_row_seeds_are_splitmix64_of_seed_and_place(seed, rows, first):
    expected = seeds_by_hand(seed, rows, first)
    assert noise.row_seeds(seed, rows, first).numpy().tolist() == expected


@pytest.mark.parametrize("seed", [True, 1.0, "1", np.float64(2.0), [1]])
def test_seeds_must_be_whole_numbers(seed):
    with pytest.raises(TypeError, match="`seed` must be a whole number"):
        noise.row_seeds(seed, 3)


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_seeds_beyond_int64_are_refused(seed):
    for make in (lambda: noise.row_seeds(seed, 3), lambda: noise.stateless_seed(seed)):
        with pytest.raises(ValueError, match="`seed` must be a whole number"):
            make()


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, other=SEEDS)
def test_seeds_of_a_batch_keep_all_bits(seed, other):
    same = np.array_equal(noise.stateless_seed(seed), noise.stateless_seed(other))
    assert same == (seed == other)


def normals(seed, rows, draws=1, size=1, dtype=tf.float32):
    pairs = noise.seed_pairs(noise.row_seeds(seed, rows))
    return noise.normal_by_row(pairs, draws, size, dtype).numpy()


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_numbers_by_row_are_standard_normal(dtype):
    drawn = normals(3, 2000, 3, 4, dtype)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    assert drawn.dtype == dtype.as_numpy_dtype


@pytest.mark.parametrize("apart", [1, 2, 2**32, -1])
def test_neighbouring_seeds_share_no_numbers(apart):
    rows = 4000
    first, second = normals(10, rows).ravel(), normals(10 + apart, rows).ravel()
    assert not set(first) & set(second) or len(set(first) & set(second)) < 10
    # Shifted by any few rows, too: seed + row would repeat with a shift.
    for shift in range(-3, 4):
        pairs = first[3:-3], np.roll(second, shift)[3:-3]
        assert abs(np.corrcoef(*pairs)[0, 1]) < 5 / np.sqrt(rows)


def test_rows_draws_and_dimensions_are_uncorrelated():
    drawn = normals(0, 4000, 2, 3).transpose(1, 0, 2).reshape(4000, 6)
    limit = 5 / np.sqrt(4000)
    correlation = np.corrcoef(drawn.T) - np.eye(6)
    assert np.abs(correlation).max() < limit
    assert abs(np.corrcoef(drawn[1:, 0], drawn[:-1, 0])[0, 1]) < limit


@settings(max_examples=30, deadline=None)
@given(
    seed=SEEDS,
    rows=st.integers(1, 6),
    more=st.integers(0, 4),
    draws=st.integers(1, 5),
    size=st.integers(1, 4),
)
def test_numbers_of_a_row_do_not_depend_on_other_rows_or_later_draws(
    seed, rows, more, draws, size
):
    few, many = (
        normals(seed, rows, draws, size),
        normals(seed, rows + more, draws + more, size),
    )
    # The last digit of erfinv depends on where in an array a number is.
    np.testing.assert_allclose(few, many[:draws, :rows], rtol=1e-6, atol=1e-7)


@pytest.mark.integration
def test_xla_draws_the_same_numbers():
    pairs = noise.seed_pairs(noise.row_seeds(5, 7))
    compiled = tf.function(noise.draws_by_row, jit_compile=True, autograph=False)
    mine = noise.draws_by_row(pairs, 3, {"": 5, "style": 2}, tf.float32)
    theirs = compiled(pairs, 3, {"": 5, "style": 2}, tf.float32)
    for x, y in zip(tf.nest.flatten(mine), tf.nest.flatten(theirs), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
