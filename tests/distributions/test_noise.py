"""Random numbers: their distribution, and that XLA draws the same."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tf_mopoe.distributions import noise

TYPES = [tf.float32, tf.float64]


@pytest.mark.parametrize("dtype", TYPES)
def test_normals_and_uniforms_have_their_distributions(dtype):
    for seed in range(4):
        pair = tf.constant([seed, 7])
        z = noise.standard_normal([100_000], pair, dtype)
        u = noise.uniform([100_000], pair, dtype)
        assert z.dtype == u.dtype == dtype
        # Eight tests in all: by chance one in a thousand would fail somewhere.
        assert stats.kstest(z.numpy(), "norm").pvalue > 1e-4
        assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("dtype", TYPES)
def test_uniforms_are_never_0_or_1_and_normals_finite(dtype):
    u = noise.uniform([1_000_000], tf.constant([0, 1]), dtype)
    assert 0.0 < tf.reduce_min(u) < 1e-5
    assert 1.0 - 1e-5 < tf.reduce_max(u) < 1.0
    assert np.all(np.isfinite(noise.standard_normal([1_000_000], [0, 1], dtype)))


@pytest.mark.integration
@pytest.mark.parametrize("dtype", TYPES)
def test_xla_draws_the_same_numbers(dtype):
    def draw(seed):
        first, second = noise.split_seed(seed)
        second = noise.fold_in(second, 5)
        return noise.uniform([50], first, dtype), noise.standard_normal(
            [50], second, dtype
        )

    seed = tf.constant([3, 4])
    plain = tf.function(draw)(seed)
    compiled = tf.function(draw, jit_compile=True)(seed)
    np.testing.assert_array_equal(plain[0], compiled[0])
    # The inverse error function is another implementation, good to 5e-6 in float32.
    np.testing.assert_allclose(plain[1], compiled[1], rtol=1e-5, atol=1e-6)


def test_seeds_give_different_and_repeatable_numbers():
    draws = [
        noise.standard_normal([8], seed).numpy().tolist()
        for base in ([0, 1], [0, 2], [1, 1])
        for seed in noise.split_seed(tf.constant(base), 2)
    ]
    assert len({tuple(draw) for draw in draws}) == 6
    again = noise.standard_normal([8], noise.split_seed(tf.constant([0, 1]))[0])
    np.testing.assert_array_equal(draws[0], again)
