"""Random experts for tests, and a test of the mean of random draws."""

import numpy as np


def random_experts(*shape: int, seed: int = 0, dtype: str = "float64"):
    """Returns `loc` and `scale` `[..., M, D]` of experts with different products."""
    rng = np.random.default_rng(seed)
    loc, scale = 2 * rng.normal(size=shape), np.exp(0.5 * rng.normal(size=shape))
    return loc.astype(dtype), scale.astype(dtype)


def assert_estimates(draws, expected, *, standard_errors: float = 4.0) -> None:
    """Asserts that `expected` is the mean of independent draws (axis 0), elementwise.

    A correct mean is off by 4 standard errors once in 16 000; the seeds are fixed.
    """
    draws = np.asarray(draws, np.float64)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    deviation = np.abs(draws.mean(axis=0) - expected)
    assert np.all(deviation <= standard_errors * error), deviation / error
