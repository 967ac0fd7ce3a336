"""Whole-network agreement with the published code: 1e-4 in float32, 1e-6 in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import reference
from tests.tiny_models import train_logs
from tf_mopoe import MMJSD, MMVAE, MVAE, Modality, MoPoEVAE, nets
from tf_mopoe.distributions import noise

NAMES = ("m0", "m1", "m2")
METHODS = {"joint_elbo": MoPoEVAE, "poe": MVAE, "moe": MMVAE, "jsd": MMJSD}


def published_model(method):
    shape = (28, 28, 3)
    model = METHODS[method](
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
    )
    for index, name in enumerate(NAMES):
        encoder, decoder = reference.network_weights(index)
        model.networks.encoders[name].set_weights(encoder[:8])
        model.networks.experts[name].set_weights(encoder[8:])
        model.networks.decoders[name].set_weights(decoder)
    return model


@pytest.fixture
def without_noise(monkeypatch):
    monkeypatch.setattr(
        noise,
        "standard_normal",
        lambda shape, seed, dtype: tf.zeros(shape, dtype),
    )


@pytest.fixture(scope="module")
def batch():
    return {name: reference.network_inputs(index) for index, name in enumerate(NAMES)}


@pytest.mark.integration
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
    if method == "jsd":  # there the prior is the last component
        components = tf.roll(components, -1, axis=1)
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


def torch_adam(model, batch, steps, learning_rate=5e-4):
    """Logs of each step, with Adam as PyTorch defines its epsilon, in float64."""
    variables = model.trainable_variables
    first, second = ([np.zeros(v.shape) for v in variables] for _ in range(2))
    logs = []
    for step in range(1, steps + 1):
        model.reset_metrics()
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=batch)
        logs.append({k: float(v) for k, v in model.get_metrics_result().items()})
        for index, gradient in enumerate(tape.gradient(loss, variables)):
            gradient = gradient.numpy()
            first[index] += 0.1 * (gradient - first[index])
            second[index] += 0.001 * (gradient**2 - second[index])
            mean = first[index] / (1 - 0.9**step)
            deviation = np.sqrt(second[index] / (1 - 0.999**step)) + 1e-8
            variables[index].assign_sub(learning_rate * mean / deviation)
    return logs


@pytest.fixture
def float64():
    policy = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


@pytest.mark.integration
@pytest.mark.usefixtures("without_noise", "float64")
@pytest.mark.parametrize("method", METHODS)
def test_every_term_over_four_adam_steps_agrees_in_float64(method, batch):
    numbers, model = reference.load(), published_model(method)
    model.compile("adam")
    logs = torch_adam(model, batch, steps=4)
    prefix = f"network/{method}"
    nll = [[-log[f"{name}_log_likelihood"] for name in NAMES] for log in logs]
    for ours, key in (
        ([log["loss"] for log in logs], "loss_over_adam_steps"),
        ([log["kl_bound"] for log in logs], "joint_divergence_over_adam_steps"),
        (nll, "reconstruction_nll_over_adam_steps"),
    ):
        np.testing.assert_allclose(ours, numbers[f"{prefix}/{key}"], rtol=1e-6)


@pytest.mark.integration
@pytest.mark.usefixtures("without_noise")
@pytest.mark.parametrize(
    "method",
    [
        "joint_elbo",
        *(
            pytest.param(m, marks=pytest.mark.slow)
            for m in METHODS
            if m != "joint_elbo"
        ),
    ],
)
def test_losses_over_four_keras_adam_steps_agree_in_float32(method, batch):
    numbers, model = reference.load(), published_model(method)
    # Keras adds epsilon before the bias correction, PyTorch after it: over these four
    # steps PyTorch's 1e-8 is between 3e-10 and 6e-10 there.
    model.compile(keras.optimizers.Adam(5e-4, epsilon=5e-10))
    logs = [train_logs(model, batch) for _ in range(4)]
    prefix = f"network/{method}"
    np.testing.assert_allclose(
        [log["loss"] for log in logs],
        numbers[f"{prefix}/loss_over_adam_steps"],
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        [[-log[f"{name}_log_likelihood"] for name in NAMES] for log in logs],
        numbers[f"{prefix}/reconstruction_nll_over_adam_steps"],
        rtol=1e-4,
    )
