"""Networks for 32 x 32 images against NumPy."""

import numpy as np

from tests.nets import numpy_layers as numpy_
from tf_mopoe import nets


def weights_in_pairs(network):
    """Kernel and bias of every layer."""
    weights = numpy_.arrays(numpy_.randomize(network))
    return list(zip(weights[::2], weights[1::2], strict=True))


def test_encoder_is_four_convolutions():
    encoder = nets.svhn_encoder()
    first, second, third, fourth = weights_in_pairs(encoder)
    image = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    x = numpy_.relu(numpy_.conv(image, *first, stride=2, padding=1))
    x = numpy_.relu(numpy_.conv(x, *second, stride=2, padding=1))
    x = numpy_.relu(numpy_.conv(x, *third, stride=2, padding=1))
    x = numpy_.relu(numpy_.conv(x, *fourth, stride=2))
    expected = x.reshape(2, 128)
    np.testing.assert_allclose(encoder(image), expected, rtol=1e-4, atol=1e-4)


def test_decoder_is_four_transposed_convolutions():
    decoder = nets.svhn_decoder(5)
    (kernel, bias), first, second, third, fourth = weights_in_pairs(decoder)
    z = np.random.default_rng(0).normal(size=(2, 5)).astype("float32")
    x = numpy_.relu(z @ kernel + bias).reshape(2, 1, 1, 128)
    x = numpy_.relu(numpy_.transposed_conv(x, *first))
    x = numpy_.relu(numpy_.transposed_conv(x, *second, stride=2, padding=1))
    x = numpy_.relu(numpy_.transposed_conv(x, *third, stride=2, padding=1))
    expected = numpy_.transposed_conv(x, *fourth, stride=2, padding=1)
    np.testing.assert_allclose(decoder(z), expected, rtol=1e-4, atol=1e-4)
