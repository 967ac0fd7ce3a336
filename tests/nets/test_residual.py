"""Residual networks against NumPy, at inference and in training."""

import keras
import numpy as np
import pytest

from tests.nets import numpy_layers as numpy_
from tf_mopoe import nets
from tf_mopoe.nets.residual import residual_block

#: Stride and padding, input shape and whether transposed.
BLOCKS = {
    "image": ((2, 1), (6, 6, 3), False),
    "odd image": ((2, 1), (7, 7, 3), False),
    "image to one pixel": ((2, 0), (4, 4, 3), False),
    "transposed image": ((2, 1), (3, 3, 3), True),
    "image from one pixel": ((1, 0), (1, 1, 3), True),
    "text": ((2, 1), (6, 3), False),
    "transposed text": ((2, 1), (3, 3), True),
}


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def block_in_numpy(block, x, stride, padding, transposed):
    """2 shortcut(x) + 0.3 branch(x), dropout being the identity."""
    resize = numpy_.transposed_conv if transposed else numpy_.conv
    weights = {layer.name: numpy_.arrays(layer) for layer in block.layers}

    def resized(name, value):
        kernel, *bias = weights[name]
        return resize(value, kernel, *bias or [0.0], stride=stride, padding=padding)

    y = numpy_.relu(numpy_.normalized(x, *weights["norm_1"]))
    y = numpy_.conv(y, *weights["conv_1"])
    y = numpy_.relu(numpy_.normalized(y, *weights["norm_2"]))
    shortcut = numpy_.normalized(resized("shortcut_conv", x), *weights["shortcut_norm"])
    return 2.0 * shortcut + 0.3 * resized("conv_2", y)


@pytest.mark.parametrize("case", BLOCKS)
def test_block_is_the_published_formula(case):
    geometry, shape, transposed = BLOCKS[case]
    block = residual_block(shape, 5, *geometry, transposed=transposed)
    numpy_.randomize(block)
    x = normal(2, *shape)
    expected = block_in_numpy(block, x, *geometry, transposed)
    np.testing.assert_allclose(block(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", ["image", "transposed image", "text"])
def test_layers_have_biases_as_published(case):
    geometry, shape, transposed = BLOCKS[case]
    block = residual_block(shape, 5, *geometry, transposed=transposed)
    biased = {layer.name for layer in block.layers if getattr(layer, "use_bias", False)}
    text = {"conv_1", "conv_2"} if len(shape) == 2 else set()
    assert biased == {"shortcut_conv"} | text


IMAGE_DOWN = [(2, 1)] * 3 + [(2, 0)]
IMAGE_UP = [(1, 0)] + [(2, 1)] * 3
TEXT_DOWN = [(2, 1)] * 5 + [(2, 0)]
TEXT_UP = [(1, 0)] + [(2, 1)] * 5


def blocks_of(network):
    return [layer for layer in network.layers if isinstance(layer, keras.Model)]


def outer_weights(network):
    """Weights of the layers that are no blocks."""
    layers = [x for x in network.layers if not isinstance(x, keras.Model) and x.weights]
    return [numpy_.arrays(layer) for layer in layers]


def blocks_in_numpy(network, x, geometries, transposed=False):
    for block, geometry in zip(blocks_of(network), geometries, strict=True):
        x = block_in_numpy(block, x, *geometry, transposed)
    return x


# Values are up to some 100; float32 was seen to lose 3e-5.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def test_image_encoder_is_a_convolution_and_four_blocks():
    network = numpy_.randomize(nets.residual_image_encoder(filters=2))
    image = normal(2, 64, 64, 3)
    [(kernel,)] = outer_weights(network)
    x = numpy_.conv(image, kernel, stride=2, padding=2)
    expected = blocks_in_numpy(network, x, IMAGE_DOWN).reshape(2, 10)
    np.testing.assert_allclose(network(image), expected, **CLOSE)


@pytest.mark.integration
def test_image_decoder_is_a_dense_layer_four_blocks_and_a_convolution():
    network = numpy_.randomize(nets.residual_image_decoder(3, filters=2))
    z = normal(2, 3)
    (kernel, bias), last = outer_weights(network)
    x = (z @ kernel + bias).reshape(2, 1, 1, 10)
    x = blocks_in_numpy(network, x, IMAGE_UP, transposed=True)
    expected = numpy_.transposed_conv(x, *last, stride=2, padding=1, output_padding=1)
    np.testing.assert_allclose(network(z), expected, **CLOSE)


def test_text_encoder_is_a_convolution_and_six_blocks():
    network = numpy_.randomize(nets.residual_text_encoder(7, filters=2))
    text = np.random.default_rng(0).integers(7, size=(2, 256))
    [first] = outer_weights(network)
    x = numpy_.conv(numpy_.one_hot(text, 7), *first, stride=2, padding=1)
    expected = blocks_in_numpy(network, x, TEXT_DOWN).reshape(2, 10)
    np.testing.assert_allclose(network(text), expected, **CLOSE)


def test_text_decoder_is_a_dense_layer_six_blocks_and_a_convolution():
    network = numpy_.randomize(nets.residual_text_decoder(3, 7, filters=2))
    z = normal(2, 3)
    (kernel, bias), last = outer_weights(network)
    x = (z @ kernel + bias)[:, np.newaxis]
    x = blocks_in_numpy(network, x, TEXT_UP, transposed=True)
    expected = numpy_.transposed_conv(x, *last, stride=2, padding=1)
    np.testing.assert_allclose(network(z), expected, **CLOSE)


@pytest.mark.parametrize(("shape", "whole"), [((6, 6, 3), True), ((6, 3), False)])
def test_dropout_drops_channels_of_images_and_elements_of_texts(shape, whole):
    keras.utils.set_random_seed(0)
    block = residual_block(shape, 40, 2, 1)
    # Nothing but the branch, of ones, as it is after the second dropout.
    for layer in block.layers:
        layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    norm = block.get_layer("norm_2")
    norm.set_weights([np.ones(3), np.ones(3), np.zeros(3), np.ones(3)])
    conv = block.get_layer("conv_2")
    kernel = np.zeros(conv.kernel.shape)
    kernel[(1,) * (len(shape) - 1)] = 1 / 3  # meets no padding
    conv.set_weights([kernel, *(np.zeros_like(b) for b in conv.get_weights()[1:])])
    y = np.asarray(block(np.zeros((8, *shape), "float32"), training=True))
    y = y.reshape(8, -1, 40)
    # Inverted dropout: twice the value, or nothing.
    np.testing.assert_allclose(np.unique(np.round(y, 4)), [0.0, 0.6], atol=1e-4)
    assert 0.4 < np.mean(y == 0.0) < 0.6  # 320 or 960 draws, standard error 3 %
    same = np.all((y == 0.0) == (y[:, :1] == 0.0), axis=1)
    assert np.all(same) == whole


def test_normalization_takes_a_tenth_of_the_new_statistics():
    block = residual_block((4, 4, 3), 5, 2, 1)
    x = 2.0 + 3.0 * normal(8, 4, 4, 3)
    block(x, training=True)
    norm = block.get_layer("norm_1")
    flat = x.reshape(-1, 3).astype("float64")
    np.testing.assert_allclose(norm.moving_mean, 0.1 * flat.mean(0), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, 0.9 + 0.1 * flat.var(0), rtol=1e-4)


def test_dropout_is_drawn_from_the_seed_of_keras():
    x = normal(2, 6, 6, 3)

    def output(seed):
        keras.utils.set_random_seed(seed)
        return np.asarray(residual_block((6, 6, 3), 5, 2, 1)(x, training=True))

    first = output(1)
    np.testing.assert_array_equal(output(1), first)
    assert np.any(output(2) != first)
