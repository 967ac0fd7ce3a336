"""Posterior, encoding, imputation, samples, predictions of a model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import closed_forms
from tests.sampling import assert_estimates
from tests.tiny_models import experts_of, tiny_batch, tiny_model
from tf_mopoe import Modality, MoPoEVAE, nets
from tf_mopoe.distributions import MixtureOfProductsOfExperts


def linear_model():
    """Decoders x = A z + b, so that means of images are images of means."""
    options = {
        name: {
            "decoder": keras.Sequential([keras.Input((2,)), keras.layers.Dense(size)])
        }
        for name, size in (("a", 3), ("b", 4))
    }
    return tiny_model(options=options)


def test_posterior_is_the_mixture_of_the_models_experts():
    model = tiny_model(subsets="singletons", prior_expert="none")
    batch = tiny_batch()
    posterior = model.posterior(batch)
    assert isinstance(posterior, MixtureOfProductsOfExperts)
    loc, scale = experts_of(model, batch)
    np.testing.assert_allclose(posterior.loc, loc, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(posterior.scale, scale, rtol=1e-5)
    components = posterior.components_distribution
    np.testing.assert_allclose(components.mean(), loc, rtol=1e-5, atol=1e-6)


def test_posterior_of_one_modality_is_its_expert():
    model = tiny_model()
    batch = tiny_batch()
    loc, scale = experts_of(model, batch)
    for index, name in enumerate("ab"):
        posterior = model.posterior({name: batch[name]})
        # The full set can't be formed, so its prior expert has no part.
        np.testing.assert_allclose(
            posterior.mean(), loc[:, index], rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(posterior.stddev(), scale[:, index], rtol=1e-5)


def test_encode_gives_the_moments_of_the_mixture():
    model = tiny_model()
    batch = tiny_batch(rows=3)
    encoded = model.encode(batch)
    loc, scale = experts_of(model, batch)
    for row in range(3):
        components = closed_forms.subset_posteriors(
            loc[row], scale[row], [(0,), (1,), (0, 1)], "full_set"
        )
        mean, stddev = closed_forms.mixture_moments(*components)
        np.testing.assert_allclose(encoded["loc"][row], mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(encoded["scale"][row], stddev, rtol=1e-4)


def test_predict_decodes_the_posterior_mean():
    model = tiny_model()
    model.compile(run_eagerly=True)
    batch = tiny_batch(rows=5)
    predicted = model.predict(batch, batch_size=2, verbose=0)
    expected = model.decode(model.posterior(batch).mean())
    called = model(batch)
    assert list(predicted) == ["a", "b"]
    for name in "ab":
        assert predicted[name].shape == batch[name].shape
        np.testing.assert_allclose(
            predicted[name], expected[name], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(called[name], expected[name], rtol=1e-5, atol=1e-6)


def test_decode_takes_any_leading_dimensions():
    model = tiny_model()
    z = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32")
    decoded = model.decode(z)
    for name in "ab":
        expected = model.networks.decoders[name](z.reshape(12, 2))
        assert decoded[name].shape == (3, 4, expected.shape[-1])
        np.testing.assert_allclose(
            tf.reshape(decoded[name], expected.shape), expected, rtol=1e-5, atol=1e-6
        )
    assert model.decode(z[0, 0])["a"].shape == (3,)


def test_impute_decodes_draws_of_the_posterior():
    model = tiny_model()
    observed = {"a": tiny_batch(rows=5)["a"]}
    imputed = model.impute(observed, num_samples=4, seed=1)
    assert {name: value.shape for name, value in imputed.items()} == {
        "a": (4, 5, 3),
        "b": (4, 5, 4),
    }
    again, other = (model.impute(observed, num_samples=4, seed=s) for s in (1, 2))
    for name in "ab":
        np.testing.assert_array_equal(imputed[name], again[name])
        assert np.all(np.not_equal(imputed[name], other[name]))
        # K draws of each row differ from one another.
        assert np.all(np.not_equal(imputed[name][0], imputed[name][1]))
    unseeded = [model.impute(observed)["b"] for _ in range(2)]
    assert np.all(np.not_equal(*unseeded))


def test_imputations_of_a_linear_decoder_average_to_the_prediction():
    model = linear_model()
    observed = {"a": tiny_batch(rows=3)["a"]}
    imputed = model.impute(observed, num_samples=5000, seed=1)["b"].numpy()
    encoded = model.encode(observed)
    assert_estimates(imputed, model.decode(encoded["loc"])["b"])
    kernel = model.networks.decoders["b"].layers[-1].kernel.numpy()
    # One modality: a diagonal Gaussian, so variances go through the squared kernel.
    variance = encoded["scale"].numpy() ** 2 @ kernel**2
    assert_estimates((imputed - model.decode(encoded["loc"])["b"]) ** 2, variance)


def test_samples_come_from_the_standard_normal_prior():
    model = linear_model()
    samples = model.sample(5000, seed=1)
    assert {name: value.shape for name, value in samples.items()} == {
        "a": (5000, 3),
        "b": (5000, 4),
    }
    kernels, biases = zip(
        *(d.layers[-1].get_weights() for d in model.networks.decoders.values()),
        strict=True,
    )
    kernel, bias = np.concatenate(kernels, axis=1), np.concatenate(biases)
    x = np.concatenate([samples["a"], samples["b"]], axis=1) - bias
    assert_estimates(x, np.zeros(7))
    # Across modalities too: one z for all of a row.
    assert_estimates(x[:, :, np.newaxis] * x[:, np.newaxis], kernel.T @ kernel)


def test_samples_follow_their_seed():
    model = tiny_model()
    first, again, other = (model.sample(3, seed=s)["a"] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.all(np.not_equal(first, other))
    assert np.all(np.not_equal(model.sample(3)["a"], model.sample(3)["a"]))


@pytest.mark.parametrize("count", [0, -1, 1.5, 2.0, True, "3", None])
def test_counts_that_are_not_whole_numbers_from_1_are_refused(count):
    model = tiny_model()
    error = ValueError if type(count) is int else TypeError
    with pytest.raises(error, match=f"`n` must be a whole .*Received: {count!r}"):
        model.sample(count)
    for method in (model.impute, model.log_likelihood):
        with pytest.raises(error, match=f"`num_samples` must .*Received: {count!r}"):
            method(tiny_batch(), num_samples=count)


@pytest.mark.parametrize("shape", [(4,), (5, 3), (8, 8, 1), (28, 28, 3)], ids=str)
def test_default_networks_fit_the_shape_of_events(shape):
    model = MoPoEVAE([Modality("x", shape), Modality("y", (2,))], latent_dim=3)
    x = np.random.default_rng(0).random((2, *shape)).astype("float32")
    decoded = model({"x": x, "y": np.zeros([2, 2], "float32")})
    assert decoded["x"].shape == (2, *shape)
    assert decoded["y"].shape == (2, 2)
    # The input reaches the output: no dead or disconnected layer.
    other = model({"x": x[::-1].copy(), "y": np.zeros([2, 2], "float32")})
    np.testing.assert_allclose(other["x"], decoded["x"][::-1], rtol=1e-3, atol=1e-4)
    assert np.any(np.not_equal(decoded["x"][0], decoded["x"][1]))


def test_default_networks_are_convolutional_for_images_alone():
    def has_convolutions(network):
        return any("conv" in layer.name.lower() for layer in network.layers)

    for shape, image in (((8, 8, 1), True), ((4,), False), ((5, 3), False)):
        assert has_convolutions(nets.default_encoder(shape)) == image
        assert has_convolutions(nets.default_decoder(shape, 2)) == image


@pytest.mark.parametrize("likelihood", ["normal", "laplace", "student_t", "bernoulli"])
def test_sizes_of_one_are_known_where_batches_are_not(likelihood):
    modality = Modality("image", (8, 8, 1), likelihood=likelihood)
    model = MoPoEVAE([modality], 2)
    decode = tf.function(lambda z: model.decode(z)["image"], autograph=False)
    traced = decode.get_concrete_function(tf.TensorSpec([None, 2]))
    assert traced.output_shapes.as_list() == [None, 8, 8, 1]
