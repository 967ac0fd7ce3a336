"""Networks that a modality gets when it brings none."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mopoe import Modality, MoPoEVAE
from tf_mopoe.nets import Log1p, default_decoder, default_encoder


@pytest.fixture
def policy():
    """Sets the policy that a test asks for, and the old one afterwards."""
    old = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(old)


def layer_types(network):
    return [type(layer).__name__ for layer in network.layers]


@pytest.mark.parametrize(
    ("shape", "convolutional"),
    [
        ((28, 28, 3), True),
        ((8, 8, 1), True),
        ((8, 9, 2), True),
        ((7, 8, 3), False),
        ((28, 28), False),
        ((5,), False),
        ((8, 8, 3, 2), False),
    ],
    ids=str,
)
def test_images_get_convolutions_and_all_else_dense_layers(shape, convolutional):
    encoder, decoder = default_encoder(shape), default_decoder(shape, 3)
    assert ("Conv2D" in layer_types(encoder)) == convolutional
    assert ("Conv2DTranspose" in layer_types(decoder)) == convolutional
    features = encoder(np.zeros((2, *shape), "float32"))
    assert features.shape.rank == 2
    assert decoder(np.zeros((2, 3), "float32")).shape == (2, *shape)


@pytest.mark.parametrize(("classes", "size"), [(4, 4), (64, 64), (1000, 64)])
def test_class_indices_are_embedded_in_at_most_64_dimensions(classes, size):
    encoder = default_encoder((2, 3), num_classes=classes)
    assert encoder.layers[0].embeddings.shape == (classes, size)
    x = np.random.default_rng(0).integers(classes, size=(5, 2, 3))
    assert encoder(x).shape == (5, 256)


def test_log1p_takes_the_logarithm_of_its_columns_only():
    x = np.array([[-5.0, 0.0, 1e5, -1.0], [0.5, 7.0, 0.0, -np.e]], "float32")
    expected = x.copy()
    expected[:, 1:3] = np.log1p(x[:, 1:3])
    np.testing.assert_allclose(Log1p([1, 2])(x), expected, rtol=1e-6)
    image = np.stack([x, x], axis=1)
    np.testing.assert_allclose(
        Log1p([1, 2])(image), np.stack([expected, expected], axis=1), rtol=1e-6
    )


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "XLA"])
def test_log1p_has_a_finite_gradient_for_negative_values_elsewhere(compiled):
    layer = Log1p([1])

    @tf.function(jit_compile=compiled)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(layer(x))
        return tape.gradient(y, x)

    x = tf.constant([[-1.0, 0.0], [-8.0, 3.0], [2.0, 1e5]])
    expected = [[1.0, 1.0], [1.0, 0.25], [1.0, 1 / 100_001]]
    np.testing.assert_allclose(gradient(x), expected, rtol=1e-6)


def test_log1p_is_rebuilt_from_its_config():
    layer = Log1p(np.array([0, 2]), dtype="float64", name="counts")
    again = Log1p.from_config(layer.get_config())
    assert (again.columns, again.name) == ([0, 2], "counts")
    x = np.array([[1.0, -2.0, 3.0]])
    np.testing.assert_array_equal(again(x), layer(x))
    assert again(x).dtype == "float64"


@pytest.mark.parametrize(
    ("shape", "likelihood", "columns"),
    [
        ((3,), "poisson", [0, 1, 2]),
        ((3,), "negative_binomial", [0, 1, 2]),
        ((8, 8, 2), "zero_inflated_negative_binomial", [0, 1]),
        ((4,), [("normal", 2), ("poisson", 1), ("bernoulli", 1)], [2]),
        ((3,), "normal", None),
        ((3,), [("normal", 1), ("categorical", 2)], None),
    ],
    ids=str,
)
def test_default_encoder_takes_the_logarithm_of_counts_only(shape, likelihood, columns):
    modality = Modality("x", shape, likelihood=likelihood)
    encoder = MoPoEVAE([modality], 2).networks.encoders["x"]
    logs = [layer for layer in encoder.layers if isinstance(layer, Log1p)]
    assert [layer.columns for layer in logs] == ([] if columns is None else [columns])
    assert not logs or encoder.layers[0] is logs[0]


def counts_model():
    columns = [("normal", 1), ("negative_binomial", 2)]
    return MoPoEVAE(
        [Modality("x", (3,), likelihood=columns)], 2, seed=0, subsets="full"
    )


# Above 65504, the largest number of float16.
COUNTS = {"x": np.array([[-3.0, 1e5, 0.0], [0.5, 2.0, 7e4]], "float32")}


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16"])
def test_large_counts_do_not_overflow_in_16_bits(name, policy):
    policy(name)
    model = counts_model()
    policy("float32")
    plain = counts_model()
    plain.set_weights(model.get_weights())
    encoded, expected = (m.encode(COUNTS) for m in (model, plain))
    # 8 bits of bfloat16: 0.4 % of sums of some 256 features near 1.
    np.testing.assert_allclose(encoded["loc"], expected["loc"], atol=0.1)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x=COUNTS, training=False)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16"])
def test_call_and_predict_do_not_cast_inputs_to_16_bits(name, policy):
    policy(name)
    model = counts_model()
    model.compile("sgd")
    expected = model.call(model.unpack_batch(COUNTS))["x"]
    np.testing.assert_array_equal(model(COUNTS)["x"], expected)
    # A compiled step rounds to 16 bits elsewhere.
    predicted = model.predict(COUNTS, verbose=0)["x"]
    np.testing.assert_allclose(predicted, expected, rtol=0.05, atol=0.05)


def test_float64_models_keep_the_digits_of_a_table_with_counts(policy):
    policy("float64")
    encoder = counts_model().networks.encoders["x"]
    x = np.array([[1.0, 3.0, 0.0]])
    change = encoder.layers[0](x + [[1e-12, 0.0, 0.0]]) - encoder.layers[0](x)
    np.testing.assert_allclose(change, [[1e-12, 0.0, 0.0]], rtol=1e-3)
