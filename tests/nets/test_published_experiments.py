"""The published experiments' models: sizes, weights, and that they learn."""

import keras
import numpy as np
import pytest

from tests.tiny_models import train_logs
from tf_mopoe import Modality, MoPoEVAE, nets

ROWS = 16
LAPLACE = {"likelihood": "laplace", "likelihood_scale": 0.75}


def words_of(num_symbols):
    return {"likelihood": "integer_categorical", "num_classes": num_symbols}


def assert_learns(model, batch, steps, **kwargs):
    """A tenth less of the loss after some steps; noise moves it by a twentieth."""
    model.compile(keras.optimizers.Adam(1e-3), **kwargs)
    history = [train_logs(model, batch)["loss"] for _ in range(steps)]
    assert np.all(np.isfinite(history))
    assert history[-1] < 0.9 * history[0]


def test_polymnist_model_has_the_published_number_of_parameters():
    shape = (28, 28, 3)
    modalities = [
        Modality(
            f"m{index}",
            shape,
            encoder=nets.conv_encoder(shape),
            decoder=nets.conv_decoder(shape, 512),
            **LAPLACE,
        )
        for index in range(5)
    ]
    assert MoPoEVAE(modalities, latent_dim=512).count_params() == 14_056_975


def mnist_svhn_text():
    mnist = (28, 28, 1)
    return MoPoEVAE(
        [
            Modality(
                "mnist",
                mnist,
                encoder=nets.dense_encoder(mnist, hidden=(400,)),
                decoder=nets.dense_decoder(
                    mnist, 20, hidden=(400,), output_activation="sigmoid"
                ),
                reconstruction_weight="dimension",
                **LAPLACE,
            ),
            Modality(
                "svhn",
                (32, 32, 3),
                encoder=nets.svhn_encoder(),
                decoder=nets.svhn_decoder(20),
                reconstruction_weight="dimension",
                **LAPLACE,
            ),
            Modality(
                "text",
                (8,),
                encoder=nets.text_encoder(),
                decoder=nets.text_decoder(20),
                reconstruction_weight="dimension",
                **words_of(71),
            ),
        ],
        latent_dim=20,
        beta=2.5,
        seed=0,
    )


def test_mnist_svhn_text_has_its_published_size_and_weights():
    model = mnist_svhn_text()
    heads = 2 * (400 + 1) * 20 + 2 * 2 * (128 + 1) * 20
    networks = 785 * 400 + 21 * 400 + 401 * 784 + 231_200 + 233_763 + 140_544 + 143_175
    assert model.count_params() == networks + heads
    assert model.reconstruction_weights == {
        "mnist": 3072 / 784,
        "svhn": 1.0,
        "text": 384.0,
    }


@pytest.mark.integration
def test_mnist_svhn_text_learns_a_batch():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    batch = {
        "mnist": (rng.uniform(size=(ROWS, 28, 28, 1)) < 0.1).astype("float32"),
        "svhn": np.tile(rng.uniform(size=(ROWS, 1, 1, 3)), (32, 32, 1)),
        "text": rng.integers(71, size=(ROWS, 8)),
    }
    assert_learns(mnist_svhn_text(), batch, steps=20)


@pytest.mark.slow
def test_celeba_learns_a_batch_with_missing_texts():
    keras.utils.set_random_seed(0)
    # Content 4, styles 4; weights as published, 1/3 and 16; betas 2 and 5.
    model = MoPoEVAE(
        [
            Modality(
                "image",
                (64, 64, 3),
                encoder=nets.residual_image_encoder(filters=8),
                decoder=nets.residual_image_decoder(8, filters=8),
                reconstruction_weight=1 / 3,
                style_dim=4,
                beta_style=2.0,
                **LAPLACE,
            ),
            Modality(
                "text",
                (256,),
                encoder=nets.residual_text_encoder(11, filters=8),
                decoder=nets.residual_text_decoder(8, 11, filters=8),
                reconstruction_weight=16.0,
                style_dim=4,
                beta_style=5.0,
                **words_of(11),
            ),
        ],
        latent_dim=4,
        beta=2.5,
        seed=0,
    )
    rng = np.random.default_rng(0)
    batch = {
        "image": np.tile(rng.uniform(size=(ROWS, 1, 1, 3)), (64, 64, 1)),
        "text": np.tile(rng.integers(11, size=(ROWS, 1)), (1, 256)),
        "present": {"text": np.arange(ROWS) % 4 > 0},
    }
    statistics = [
        variable
        for variable in model.non_trainable_variables
        if variable.name.startswith("moving_")
    ]
    before = [variable.numpy() for variable in statistics]
    # Eager: TensorFlow takes half a minute to compile 40 convolutions' gradients.
    assert_learns(model, batch, steps=3, run_eagerly=True)
    for variable, old in zip(statistics, before):
        assert np.any(variable.numpy() != old), variable.path
