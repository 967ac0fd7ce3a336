"""What all networks of the published experiments have in common."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.nets import numpy_layers as numpy_
from tf_mopoe import nets

SYMBOLS, LATENT_DIM = 7, 3
SMALL = {
    "svhn_encoder": {},
    "svhn_decoder": {"latent_dim": LATENT_DIM},
    "text_encoder": {"num_symbols": SYMBOLS, "filters": 4},
    "text_decoder": {"latent_dim": 3, "num_symbols": SYMBOLS, "filters": 4},
    "residual_image_encoder": {"filters": 2},
    "residual_image_decoder": {"latent_dim": LATENT_DIM, "filters": 2},
    "residual_text_encoder": {"num_symbols": SYMBOLS, "filters": 2},
    "residual_text_decoder": {"latent_dim": 3, "num_symbols": SYMBOLS, "filters": 2},
}
ENCODERS = [name for name in SMALL if name.endswith("encoder")]
DECODERS = [name for name in SMALL if name.endswith("decoder")]


def make(name):
    return numpy_.randomize(getattr(nets, name)(**SMALL[name], name=name))


def make_increasing(name):
    """With weights that let every output grow with every input, of any sign before."""
    network = make(name)
    for variable in network.weights:
        # Dead units would hide a connection: no bias, no mean is above 0.
        mean = variable.name == "moving_mean"
        variable.assign(np.zeros(variable.shape) if mean else abs(variable.numpy()))
    return network


def values_for(network):
    rng, shape = np.random.default_rng(0), (2, *network.input_shape[1:])
    if network.input_dtype == "int32":
        return rng.integers(SYMBOLS, size=shape)
    return rng.uniform(size=shape).astype("float32")


def after_one_hot(network, x):
    """The network from its first convolution on, for one-hot symbols or an image."""
    layers = network.layers
    if isinstance(layers[0], keras.layers.CategoryEncoding):
        layers = layers[1:]
    for layer in layers:
        x = layer(x)
    return x


@pytest.mark.integration
@pytest.mark.parametrize("name", ENCODERS)
def test_every_element_of_the_input_reaches_every_feature(name):
    network = make_increasing(name)
    shape = network.input_shape[1:]
    shape = (*shape, SYMBOLS) if len(shape) == 1 else shape
    x = tf.constant(np.random.default_rng(0).uniform(size=(1, *shape)), tf.float32)
    features = network.output_shape[-1]
    for feature in (0, features // 2, features - 1):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = after_one_hot(network, x)[:, feature]
        assert np.all(tape.gradient(y, x) > 0.0)


@pytest.mark.parametrize("name", DECODERS)
def test_every_latent_dimension_reaches_every_element_of_the_output(name):
    network = make_increasing(name)
    z = np.ones((1, LATENT_DIM), "float32")
    for moved in np.eye(LATENT_DIM, dtype="float32"):
        assert np.all(network(z + moved) > network(z))


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_ends_linearly(name):
    network = make(name)
    z = 3.0 * np.random.default_rng(0).normal(size=(4, LATENT_DIM))
    y = np.asarray(network(z))
    assert y.min() < 0.0 < y.max()
    last = [layer for layer in network.layers if layer.weights][-1]
    last.set_weights([1e3 * weight for weight in last.get_weights()])
    np.testing.assert_allclose(network(z), 1e3 * y, rtol=1e-3, atol=1e-1)


@pytest.mark.parametrize(
    "name", ["svhn_decoder", "text_encoder", "residual_image_decoder"]
)
def test_network_is_unchanged_by_saving_and_loading(name, tmp_path):
    network = make(name)
    x = values_for(network)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert loaded.name == name
    np.testing.assert_array_equal(loaded(x), network(x))


def conv_count(kernel, before, after, bias=True):
    return kernel * before * after + bias * after


def block_count(kernel, before, after, image):
    """Three normalisations (factor and offset) and three convolutions."""
    norms = 2 * before + 2 * before + 2 * after
    convs = before * before + kernel * before * after  # the branch's
    convs += 0 if image else before + after  # and its biases
    return norms + convs + kernel * before * after + after


def blocks_count(kernel, widths, image):
    return sum(
        block_count(kernel, 128 * before, 128 * after, image)
        for before, after in zip(widths, widths[1:])
    )


COUNTS = {
    "svhn_encoder": (
        conv_count(16, 3, 32)
        + conv_count(16, 32, 64)
        + conv_count(16, 64, 64)
        + conv_count(16, 64, 128),
        231_200,
    ),
    "svhn_decoder": (
        (20 + 1) * 128
        + conv_count(16, 128, 64)
        + conv_count(16, 64, 64)
        + conv_count(16, 64, 32)
        + conv_count(16, 32, 3),
        233_763,
    ),
    "text_encoder": (conv_count(1, 71, 128) + 2 * conv_count(4, 128, 128), 140_544),
    "text_decoder": (
        (20 + 1) * 128 + 2 * conv_count(4, 128, 128) + conv_count(1, 128, 71),
        143_175,
    ),
    "residual_image_encoder": (
        conv_count(9, 3, 128, bias=False) + blocks_count(16, [1, 2, 3, 4, 5], True),
        21_476_992,
    ),
    "residual_image_decoder": (
        (20 + 1) * 640
        + blocks_count(16, [5, 4, 3, 2, 1], True)
        + conv_count(9, 128, 3),
        21_884_163,
    ),
    "residual_text_encoder": (
        conv_count(4, 71, 128) + blocks_count(4, [1, 2, 3, 4, 5, 5, 5], False),
        13_168_768,
    ),
    "residual_text_decoder": (
        (20 + 1) * 640
        + blocks_count(4, [5, 5, 5, 4, 3, 2, 1], False)
        + conv_count(4, 128, 71),
        13_575_879,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_number_of_trainable_parameters_of_the_published_size(name):
    by_hand, total = COUNTS[name]
    options = {"latent_dim": 20} if name in DECODERS else {}
    network = getattr(nets, name)(**options)
    trainable = sum(np.prod(x.shape) for x in network.trainable_variables)
    assert trainable == by_hand == total
