"""Subclasses, and training loops of users' own: metrics, noise, schedules, weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_models import LATENT_DIM, tiny_batch, tiny_modality, tiny_model
from tf_mopoe import Modality, MoPoEVAE


class Counts(MoPoEVAE):
    """Counts batches in a metric, and adds a number in evaluation."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.batches = keras.metrics.Sum(name="batches")

    def train_step(self, data):
        results = super().train_step(data)
        self.batches.update_state(1.0)
        return {**results, "batches": self.batches.result()}

    def test_step(self, data):
        return {**self.train_step(data), "extra": 7.0}


@pytest.mark.integration
def test_metrics_of_a_subclass_are_listed_and_reset_in_every_epoch():
    model = tiny_model(cls=Counts)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    history = model.fit(tiny_batch(), batch_size=2, epochs=3, verbose=0).history
    assert history["batches"] == [4.0, 4.0, 4.0]
    assert [metric.name for metric in model.metrics] == ["batches"]
    for _ in range(2):
        as_list = model.evaluate(tiny_batch(), batch_size=2, verbose=0)
        as_dict = model.evaluate(
            tiny_batch(), batch_size=2, verbose=0, return_dict=True
        )
        assert as_dict["batches"] == 4.0
        assert as_list[-2:] == [4.0, 7.0]
        assert len(as_list) == len(as_dict)


def test_a_loop_with_an_optimizer_of_its_own_has_new_noise_and_the_next_beta():
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 4, 1.0)
    model = tiny_model(beta=schedule)
    losses, betas = [], []
    for _ in range(4):
        model.reset_metrics()
        losses.append(float(model.compute_loss(tiny_batch())))
        betas.append(float(model.get_metrics_result()["beta"]))
    assert len(set(losses)) == 4
    assert betas == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.integration
def test_a_loop_with_the_models_optimizer_is_fit():
    batch, results = tiny_batch(), []
    for own in (False, True):
        model = tiny_model()
        model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
        model.optimizer.build(model.trainable_variables)
        for _ in range(3):
            if not own:
                model.train_on_batch(batch)
                continue
            with tf.GradientTape() as tape:
                loss = model.compute_loss(batch)
            gradients = tape.gradient(loss, model.trainable_variables)
            model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        results.append(model.get_weights())
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)


class OwnStep(MoPoEVAE):
    """Trains as Keras's guide to `train_step` has it."""

    def train_step(self, data):
        x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, sample_weight=sample_weight)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return self.get_metrics_result()


@pytest.mark.integration
def test_a_train_step_of_ones_own_gets_the_weights_of_rows():
    weights, results = np.linspace(0.0, 2.0, 8), []
    for cls in (MoPoEVAE, OwnStep):
        model = tiny_model(cls=cls)
        model.compile(keras.optimizers.SGD(0.1))
        history = model.fit(
            tiny_batch(), sample_weight=weights, shuffle=False, epochs=2, verbose=0
        ).history
        results.append((history["loss"], model.get_weights()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    for mine, theirs in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.integration
@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_wrong_weights_of_a_dataset_are_refused(weight, jit_compile):
    model = tiny_model()
    model.compile("sgd", jit_compile=jit_compile)
    weights = np.full(8, weight, "float32")
    dataset = tf.data.Dataset.from_tensors((tiny_batch(), None, weights))
    before = model.get_weights()
    with pytest.raises(ValueError, match="`sample_weight` must be finite"):
        model.fit(dataset, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_weights_of_modalities_in_another_order_are_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    model = MoPoEVAE([Modality(name, (3,)) for name in "xy"], LATENT_DIM)
    model.save_weights(path)
    other = MoPoEVAE([Modality(name, (3,)) for name in "yx"], LATENT_DIM)
    before = other.get_weights()
    with pytest.raises(ValueError, match=r"modalities \['x', 'y'\], in this order"):
        other.load_weights(path)
    for old, new in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_default_networks_do_not_depend_on_keras_image_data_format():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        model = MoPoEVAE([Modality("image", (28, 28, 3))], LATENT_DIM)
    finally:
        keras.config.set_image_data_format(before)
    assert model({"image": np.zeros([2, 28, 28, 3], "f")})["image"].shape == (
        2,
        28,
        28,
        3,
    )


@pytest.mark.parametrize(
    ("z", "style", "message"),
    [
        (np.zeros([2, 3]), None, r"`z` must have shape \[..., 2\]. Received: \(2, 3\)"),
        (np.zeros([2, 2]), np.zeros([2, 1]), r"`style of a` must .*\[..., 3\]"),
    ],
)
def test_latents_of_another_size_are_refused(z, style, message):
    model = tiny_model([tiny_modality("a", style_dim=3), "b"])
    with pytest.raises(ValueError, match=message):
        model.decode_modality("a", z, style)


def test_a_style_for_a_modality_without_one_is_refused():
    with pytest.raises(ValueError, match="Modality 'a' has no style"):
        tiny_model().decode_modality("a", np.zeros([2, 2]), np.zeros([2, 1]))


@pytest.mark.integration
def test_weights_are_loaded_into_a_model_that_was_fitted(tmp_path):
    model = tiny_model()
    model.compile("sgd")
    model.fit(tiny_batch(), verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    before = model.get_weights()
    model.fit(tiny_batch(), verbose=0)
    model.load_weights(tmp_path / "model.weights.h5")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class Crashes(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise RuntimeError("a crash")


@pytest.mark.integration
def test_backup_and_restore_resumes_exactly(tmp_path):
    def fitted(*callbacks):
        model = tiny_model()
        model.compile(keras.optimizers.Adam(0.01))
        options = {"epochs": 4, "shuffle": False, "verbose": 0}
        return model, lambda: model.fit(
            tiny_batch(), callbacks=list(callbacks), **options
        )

    whole, fit = fitted()
    fit()
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(RuntimeError, match="a crash"):
        fitted(backup, Crashes())[1]()
    resumed, fit = fitted(keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    fit()
    for mine, theirs in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)


def test_no_epochs_are_an_empty_history():
    model = tiny_model()
    model.compile("sgd", run_eagerly=True)
    for options in ({"epochs": 0}, {"epochs": 3, "initial_epoch": 3}):
        assert model.fit(tiny_batch(), verbose=0, **options).history == {}


@pytest.mark.parametrize(
    ("likelihood", "activation"),
    [
        ("categorical", "softmax"),
        ("bernoulli", "sigmoid"),
        ("poisson", "exponential"),
        ("negative_binomial", "softplus"),
    ],
)
@pytest.mark.parametrize("form", ["dense", "sequential", "nested", "activation layer"])
def test_decoders_that_apply_the_likelihoods_own_link_are_refused(
    likelihood, activation, form
):
    last = keras.layers.Dense(4, activation=activation)
    forms = {
        "dense": lambda: last,
        "sequential": lambda: keras.Sequential([last, keras.layers.Reshape((4,))]),
        "nested": lambda: keras.Sequential([keras.Sequential([last])]),
        "activation layer": lambda: keras.Sequential(
            [keras.layers.Dense(4), keras.layers.Activation(activation)]
        ),
    }
    with pytest.raises(ValueError, match=f"'a' must return .*but ends in {activation}"):
        tiny_model(
            [
                tiny_modality("a", (4,), likelihood=likelihood, decoder=forms[form]()),
                "b",
            ]
        )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.full(8, -1.0), "must be finite and 0 or more"),
        (np.full(8, np.nan), "must be finite and 0 or more"),
        (tf.fill([8], -1.0), "must be finite and 0 or more"),
        (np.ones(1), "`sample_weight`"),
        (np.ones(7), "`sample_weight`"),
    ],
)
def test_wrong_weights_of_a_loop_of_ones_own_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        tiny_model().compute_loss(tiny_batch(), sample_weight=weights)
