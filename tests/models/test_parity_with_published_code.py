"""Whole-network agreement with the published code, in float32 to 1e-4 relative."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import reference
from tf_mopoe import Modality, MoPoEVAE, nets
from tf_mopoe.layers import mixture_of_experts

NAMES = ("m0", "m1", "m2")
METHODS = {
    "joint_elbo": {"subsets": "nonempty", "prior_expert": "full_set"},
    "moe": {"subsets": "singletons", "prior_expert": "none"},
}


def published_model(method):
    shape = (28, 28, 3)
    model = MoPoEVAE(
        [
            Modality(
                name,
                shape,
                encoder=nets.conv_encoder(shape, features=16),
                decoder=nets.conv_decoder(shape, 16),
                likelihood="laplace",
                likelihood_scale=0.75,
            )
            for name in NAMES
        ],
        latent_dim=16,
        beta=2.5,
        component_draw="contiguous",
        **METHODS[method],
    )
    for index in range(3):
        encoder, decoder = reference.network_weights(index)
        model.encoders[index].set_weights(encoder[:8])
        model.experts[index].set_weights(encoder[8:])
        model.decoders[index].set_weights(decoder)
    return model


@pytest.fixture
def without_noise(monkeypatch):
    monkeypatch.setattr(
        mixture_of_experts,
        "standard_normal",
        lambda shape, seed, dtype: tf.zeros(shape, dtype),
    )


@pytest.fixture(scope="module")
def batch():
    return {name: reference.network_inputs(index) for index, name in enumerate(NAMES)}


@pytest.mark.parametrize("method", METHODS)
def test_experts_and_reconstructions_agree(method, batch):
    numbers, model = reference.load(), published_model(method)
    posterior = model.posterior(batch)
    for index, name in enumerate(NAMES):
        prefix = f"network/{method}/{name}"
        np.testing.assert_allclose(
            posterior.loc[:, index], numbers[f"{prefix}/loc"], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            2 * np.log(posterior.scale[:, index]),
            numbers[f"{prefix}/log_variance"],
            rtol=1e-4,
            atol=1e-5,
        )
    components = posterior.components_distribution.mean()  # [B, S, D]
    split = np.minimum(
        np.arange(14) // (14 // components.shape[1]), components.shape[1] - 1
    )
    images = model.decode(tf.gather(components, split, batch_dims=1))
    for name in NAMES:
        prefix = f"network/{method}/{name}/reconstruction_loc"
        expected = numbers[f"{prefix}_row0"].transpose(1, 2, 0)
        np.testing.assert_allclose(images[name][0], expected, rtol=1e-4, atol=1e-5)
        squares = np.sum(np.square(images[name]), axis=(1, 2, 3))
        np.testing.assert_allclose(
            squares, numbers[f"{prefix}_sum_of_squares_per_row"], rtol=1e-4
        )


@pytest.mark.usefixtures("without_noise")
@pytest.mark.parametrize("method", METHODS)
def test_losses_over_four_adam_steps_agree(method, batch):
    numbers, model = reference.load(), published_model(method)
    model.compile(keras.optimizers.Adam(5e-4, epsilon=5e-10))
    logs = [model.train_on_batch(batch, return_dict=True) for _ in range(4)]
    prefix = f"network/{method}"
    np.testing.assert_allclose(
        [log["loss"] for log in logs],
        numbers[f"{prefix}/loss_over_adam_steps"],
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        [log["kl_bound"] for log in logs],
        numbers[f"{prefix}/joint_divergence_over_adam_steps"],
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        [[-log[f"{name}_log_likelihood"] for name in NAMES] for log in logs],
        numbers[f"{prefix}/reconstruction_nll_over_adam_steps"],
        rtol=1e-4,
    )
