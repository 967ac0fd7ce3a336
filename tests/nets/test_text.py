"""Networks for words against NumPy, and class indices in every mode of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.nets import numpy_layers as numpy_
from tests.nets.test_svhn import weights_in_pairs
from tf_mopoe import nets

SYMBOLS = 7
WORDS = np.random.default_rng(0).integers(SYMBOLS, size=(3, 8))
MODES = {
    "graph": tf.function,
    "graph of any batch size": lambda network: tf.function(
        network, input_signature=[tf.TensorSpec([None, 8], tf.int32)]
    ),
    "XLA": lambda network: tf.function(network, jit_compile=True),
}


@pytest.fixture(params=["float32", "mixed_float16", "mixed_bfloat16", "float64"])
def policy(request):
    """Sets a policy, and the old one afterwards."""
    old = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(old)


def expected_features(weights, words):
    first, second, third = weights
    x = numpy_.relu(numpy_.conv(numpy_.one_hot(words, SYMBOLS), *first))
    x = numpy_.relu(numpy_.conv(x, *second, stride=2, padding=1))
    return numpy_.relu(numpy_.conv(x, *third, stride=2))[:, 0]


def test_encoder_is_three_convolutions_of_one_hot_symbols():
    encoder = nets.text_encoder(SYMBOLS, filters=6)
    expected = expected_features(weights_in_pairs(encoder), WORDS)
    np.testing.assert_allclose(encoder(WORDS), expected, rtol=1e-4, atol=1e-5)


def test_decoder_is_two_transposed_convolutions_and_one_of_kernel_1():
    decoder = nets.text_decoder(4, SYMBOLS, filters=6)
    (kernel, bias), first, second, last = weights_in_pairs(decoder)
    z = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")
    x = (z @ kernel + bias)[:, np.newaxis]
    x = numpy_.relu(numpy_.transposed_conv(x, *first))
    x = numpy_.relu(numpy_.transposed_conv(x, *second, stride=2, padding=1))
    expected = numpy_.conv(x, *last)
    np.testing.assert_allclose(decoder(z), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_compiled_encoders_read_the_same_symbols(mode):
    encoder = numpy_.randomize(nets.text_encoder(SYMBOLS, filters=6))
    words = tf.constant(WORDS, tf.int32)
    np.testing.assert_allclose(
        MODES[mode](encoder)(words), encoder(words), rtol=1e-5, atol=1e-6
    )


def test_large_alphabets_are_distinguished_under_16_bit_policies(policy, tmp_path):
    # float16 knows no odd number above 2048, bfloat16 none above 256.
    encoder = nets.text_encoder(3000, filters=6)
    words = np.full((2, 8), 2500) + np.array([[0], [1]])
    numpy_.randomize(encoder)
    # Of one weight for each symbol, so that it can be seen which was read.
    kernel = np.random.default_rng(0).uniform(0.5, 1.5, size=(1, 3000, 6))
    encoder.layers[1].set_weights([kernel, np.zeros(6)])
    read = encoder.layers[1](encoder.layers[0](words))
    expected = np.repeat(kernel[0, [2500, 2501], np.newaxis], 8, axis=1)
    np.testing.assert_allclose(np.asarray(read, float), expected, rtol=1e-2)
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(
        np.asarray(loaded(words), float), np.asarray(encoder(words), float)
    )
