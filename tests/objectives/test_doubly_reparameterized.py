"""DReG: the value and the mean gradient of IWAE, at a smaller variance."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_models import losses_and_terms, tiny_batch, tiny_model
from tf_mopoe import MMJSD, MMVAE, MVAE, MoPoEVAE
from tf_mopoe.objectives import DoublyReparameterized, negative_iwae

#: Gradients per case, each the mean over independent copies of the rows.
DRAWS, COPIES, NUM_SAMPLES = 100, 20, 16


def gradients(cls, objective, beta=1.0, **kwargs):
    """Gradients of the loss under many seeds: of the encoders, of the decoders."""
    model = tiny_model(
        cls=cls,
        objective=objective,
        num_samples=NUM_SAMPLES,
        options={"a": {"style_dim": 1, "beta_style": 1.5}},
        beta_content=0.7 if beta != 1.0 else 1.0,
        beta_style=1.0 if beta != 1.0 else 1 / 1.5,
        **kwargs,
    )
    for (
        expert
    ) in model.networks.experts.values():  # wide, so that no importance weight is huge
        expert.log_variance.bias.assign_add(np.full(2, 1.5))
    rows = {name: np.tile(x, [COPIES, 1]) for name, x in tiny_batch(rows=3).items()}
    flags = np.tile([True, True, False], COPIES)
    batch = model.unpack_batch({**rows, "present": {"b": flags}})
    inference = [
        variable
        for part in (
            *model.networks.encoders.values(),
            *model.networks.experts.values(),
            *model.networks.style_experts.values(),
        )
        for variable in part.trainable_variables
    ]
    generative = [
        variable
        for part in model.networks.decoders.values()
        for variable in part.trainable_variables
    ]

    def one(seed):
        with tf.GradientTape() as tape:
            rows, _ = losses_and_terms(model, batch, seed, beta=beta)
            loss = tf.reduce_mean(rows)
        every = tape.gradient(
            loss, [v.value for v in inference] + [v.value for v in generative]
        )
        flat = [tf.reshape(gradient, [-1]) for gradient in every]
        count = len(inference)
        return tf.concat(flat[:count], 0), tf.concat(flat[count:], 0), loss

    @tf.function
    def every_seed():
        seeds = tf.stack([tf.ones(DRAWS, tf.int32), tf.range(DRAWS)], axis=1)
        floats = (tf.float32, tf.float32, tf.float32)
        return tf.map_fn(one, seeds, fn_output_signature=floats)

    return [value.numpy().astype(np.float64) for value in every_seed()]


@pytest.mark.integration
@pytest.mark.parametrize(
    "cls",
    [
        *(MoPoEVAE, MVAE),
        *(pytest.param(cls, marks=pytest.mark.slow) for cls in (MMVAE, MMJSD)),
    ],
)
def test_dreg_has_the_mean_of_the_iwae_gradient_and_less_variance(cls):
    iwae, dreg = gradients(cls, "iwae"), gradients(cls, "dreg")
    np.testing.assert_allclose(iwae[2], dreg[2], rtol=1e-5)  # the same bound
    # Decoders: the same estimator.
    np.testing.assert_allclose(iwae[1], dreg[1], rtol=1e-3, atol=1e-4)
    difference = iwae[0] - dreg[0]  # [DRAWS, parameters]
    error = difference.std(axis=0) / np.sqrt(DRAWS)
    # About a hundred parameters: five standard errors are 6e-7 each.
    assert np.all(np.abs(difference.mean(axis=0)) < 5 * error + 1e-6)
    # Measured: 0.03 (MoPoE-VAE) to 0.13 (MVAE).
    ratio = dreg[0].var(axis=0).sum() / iwae[0].var(axis=0).sum()
    assert ratio < 0.5, f"variance of DReG over that of IWAE: {ratio:.3f}"


@pytest.mark.integration
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_dreg_has_the_mean_of_the_iwae_gradient_whatever_the_weights(beta):
    """Content and style enter the weights with factors of their own."""
    iwae, dreg = (gradients(MoPoEVAE, name, beta) for name in ("iwae", "dreg"))
    difference = iwae[0] - dreg[0]
    error = difference.std(axis=0) / np.sqrt(DRAWS)
    assert np.all(np.abs(difference.mean(axis=0)) < 5 * error + 1e-6)


def test_path_scales_gradients_by_the_normalised_weights():
    """By hand: d loss / dz_k = -w_k^2 d log w_k / dz_k, w normalised."""
    z = tf.constant([[[0.3]], [[-1.2]], [[0.8]]])  # [K, 1, 1]

    def log_weights(z):
        return -tf.square(z[..., 0]) + 0.5 * z[..., 0]

    estimator = DoublyReparameterized()
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = estimator.loss(log_weights(estimator.path(z)))
    values = log_weights(z).numpy()[:, 0]
    normalised = np.exp(values) / np.exp(values).sum()
    slope = -2 * z.numpy()[:, 0, 0] + 0.5
    np.testing.assert_allclose(
        tape.gradient(loss, z)[:, 0, 0], -(normalised**2) * slope, rtol=1e-5
    )
    np.testing.assert_allclose(loss, negative_iwae(log_weights(z)), rtol=1e-6)


def test_one_sample_is_its_own_weight():
    np.testing.assert_allclose(negative_iwae(tf.constant([[1.5, -2.0]])), [-1.5, 2.0])


def test_bound_is_the_log_of_the_mean_weight():
    weights = np.array([[0.2, 3.0], [0.6, 1.0], [0.1, 0.5]])
    np.testing.assert_allclose(
        negative_iwae(tf.constant(np.log(weights))), -np.log(weights.mean(axis=0))
    )


def test_elbo_of_many_samples_is_the_mean_of_single_ones():
    """Each sample's bound is linear in the log-likelihoods."""
    batch = tiny_batch(rows=2000)
    one, many = tiny_model(), tiny_model(num_samples=8)
    losses = [
        losses_and_terms(model, model.unpack_batch(batch), tf.constant([0, 3]))[
            0
        ].numpy()
        for model in (one, many)
    ]
    difference = losses[0].mean() - losses[1].mean()
    # Common rows, so the noise of z alone: measured below 0.02.
    assert abs(difference) < 5 * losses[0].std() / np.sqrt(2000)
    assert losses[1].std() < losses[0].std()
