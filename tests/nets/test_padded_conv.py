"""Convolutions with the same padding on both sides."""

import keras
import numpy as np
import pytest

from tests.nets import numpy_layers as numpy_
from tf_mopoe.nets.padded_conv import padded_conv

#: Kernel, stride, padding, output padding and input size of all published layers.
GEOMETRIES = [
    (4, 2, 1, 0, 8),
    (4, 2, 1, 0, 33),
    (4, 2, 0, 0, 4),
    (4, 1, 0, 0, 1),
    (3, 2, 2, 0, 8),
    (3, 2, 1, 1, 8),
    (1, 1, 0, 0, 5),
]
every_rank = pytest.mark.parametrize("rank", [1, 2])


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def call(layers, x):
    """The output for `x`, with random weights, and these."""
    network = keras.Sequential([keras.Input(x.shape[1:]), *layers])
    numpy_.randomize(network)
    return np.asarray(network(x)), numpy_.arrays(network)


@every_rank
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [g[:3] + g[4:] for g in GEOMETRIES if g[4] >= g[0]],
)
def test_convolution_is_the_sum_over_its_kernel(rank, kernel, stride, padding, size):
    x = normal(2, *[size] * rank, 3)
    layers = padded_conv(5, kernel, stride, padding, rank=rank)
    actual, weights = call(layers, x)
    expected = numpy_.conv(x, *weights, stride, padding)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@every_rank
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding", "size"), GEOMETRIES
)
def test_transposed_convolution_scatters_its_kernel(
    rank, kernel, stride, padding, output_padding, size
):
    x = normal(2, *[size] * rank, 3)
    options = {"transposed": True, "output_padding": output_padding}
    layers = padded_conv(5, kernel, stride, padding, rank=rank, **options)
    actual, weights = call(layers, x)
    expected = numpy_.transposed_conv(x, *weights, stride, padding, output_padding)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@every_rank
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding", "small", "large"),
    [(4, 2, 1, 0, 4, 8), (3, 2, 1, 1, 4, 8), (4, 1, 0, 0, 1, 4), (4, 2, 1, 1, 4, 9)],
)
def test_the_two_convolutions_are_adjoint(
    rank, kernel, stride, padding, output_padding, small, large
):
    down = padded_conv(3, kernel, stride, padding, rank=rank, use_bias=False)
    up = padded_conv(
        2,
        kernel,
        stride,
        padding,
        rank=rank,
        transposed=True,
        output_padding=output_padding,
        use_bias=False,
    )
    x = normal(1, *[large] * rank, 2)
    y = normal(1, *[small] * rank, 3)
    down_x, down_kernel = call(down, x)
    up_y, up_kernel = call(up, y)
    np.testing.assert_array_equal(up_kernel[0], down_kernel[0])
    # <A x, y> = <x, A* y>
    np.testing.assert_allclose(np.sum(down_x * y), np.sum(x * up_y), rtol=1e-4)
