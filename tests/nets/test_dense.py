"""Fully connected networks."""

import numpy as np
import pytest

from tests.nets import numpy_layers as numpy_
from tf_mopoe import nets

Z = np.random.default_rng(0).normal(size=(5, 3))


def test_mnist_encoder_is_one_hidden_layer():
    encoder = nets.dense_encoder((28, 28, 1), hidden=(400,))
    kernel, bias = numpy_.arrays(numpy_.randomize(encoder))
    x = np.random.default_rng(1).uniform(size=(5, 28, 28, 1))
    expected = numpy_.relu(x.reshape(5, 784) @ kernel + bias)
    np.testing.assert_allclose(encoder(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_mnist_decoder_ends_in_the_activation_it_was_given(activation):
    decoder = nets.dense_decoder(
        (28, 28, 1), 3, hidden=(400,), output_activation=activation
    )
    first, bias, last, last_bias = numpy_.arrays(numpy_.randomize(decoder))
    expected = numpy_.relu(Z @ first + bias) @ last + last_bias
    if activation:
        expected = 1 / (1 + np.exp(-expected))
    np.testing.assert_allclose(
        decoder(Z), expected.reshape(5, 28, 28, 1), rtol=1e-4, atol=1e-5
    )


def test_sigmoid_keeps_values_within_0_and_1_and_none_does_not():
    for activation, inside in (("sigmoid", True), (None, False)):
        decoder = nets.dense_decoder((7, 7), 3, output_activation=activation)
        values = np.asarray(numpy_.randomize(decoder)(1e3 * Z))
        assert (values.min() >= 0 and values.max() <= 1) == inside


def test_decoder_is_rebuilt_from_its_config():
    decoder = nets.dense_decoder(
        (4,), 3, activation="tanh", output_activation="sigmoid"
    )
    again = type(decoder).from_config(decoder.get_config())
    again.set_weights(decoder.get_weights())
    np.testing.assert_array_equal(again(Z), decoder(Z))
