"""Saving and loading: predictions, continued training, own networks, arguments."""

import keras
import numpy as np
import pytest

from tests.tiny_models import tiny_batch, tiny_modality, tiny_model
from tf_mopoe import Modality, MoPoEVAE


@keras.saving.register_keras_serializable(package="tests")
class Scaled(keras.layers.Layer):
    """factor * dense(x), with an argument of its own to save."""

    def __init__(self, units, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.factor = factor
        self.dense = keras.layers.Dense(units)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        return self.factor * self.dense(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "factor": self.factor}


def sequential(inputs, outputs):
    return keras.Sequential(
        [keras.Input((inputs,)), keras.layers.Dense(outputs, "tanh")]
    )


def functional(inputs, outputs):
    x = keras.Input((inputs,))
    hidden = keras.layers.Dense(outputs, "tanh")(x)
    return keras.Model(x, keras.layers.Add()([hidden, keras.layers.Dense(outputs)(x)]))


def custom(inputs, outputs):
    return Scaled(outputs, factor=0.5)


def reload(model, path):
    model.save(path / "model.keras")
    return keras.saving.load_model(path / "model.keras")


def assert_same_predictions(model, loaded, batch):
    for name, value in model(batch).items():
        np.testing.assert_array_equal(loaded(batch)[name], value)
    for moment, value in model.encode({"b": batch["b"]}).items():
        np.testing.assert_array_equal(loaded.encode({"b": batch["b"]})[moment], value)


@pytest.mark.integration
def test_loaded_model_predicts_equally_and_resumes_training(
    tmp_path,
):
    model = tiny_model(beta=2.5)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    x = tiny_batch(rows=16)
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(x, **fit)
    loaded = reload(model, tmp_path)
    assert_same_predictions(model, loaded, x)
    assert loaded.optimizer.iterations == 2
    history, again = (m.fit(x, **fit).history for m in (model, loaded))
    assert history == again
    for left, right in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.integration
@pytest.mark.parametrize("build", [sequential, functional, custom])
def test_networks_of_ones_own_survive_saving(build, tmp_path):
    model = MoPoEVAE(
        [
            Modality("a", (3,), encoder=build(3, 5), decoder=build(2, 3)),
            tiny_modality("b"),
        ],
        latent_dim=2,
    )
    model.compile("sgd", run_eagerly=True)
    batch = tiny_batch()
    model.train_on_batch(batch)
    loaded = reload(model, tmp_path)
    assert_same_predictions(model, loaded, batch)
    assert type(loaded.networks.encoders["a"]) is type(model.networks.encoders["a"])
    if build is custom:
        assert loaded.networks.encoders["a"].factor == 0.5
    assert loaded.count_params() == model.count_params()


def test_every_argument_survives_saving(tmp_path):
    model = tiny_model(
        options={
            "a": {
                "likelihood": "laplace",
                "likelihood_scale": 0.75,
                "reconstruction_weight": 0.25,
                "style_dim": 1,
                "beta_style": 3.0,
            },
            "b": {
                "likelihood": [("student_t", 3), ("normal", 1)],
                "likelihood_scale": "per_element",
                "reconstruction_weight": "dimension",
            },
        },
        beta=2.5,
        beta_content=0.5,
        beta_style=0.2,
        num_samples=3,
        subsets=[["b"], ["a", "b"]],
        prior_expert="every_subset",
        component_draw="contiguous",
        seed=7,
        name="small",
    )
    loaded = reload(model, tmp_path)
    for name in (
        "name", "latent_dim", "beta", "beta_content", "beta_style", "objective",
        "num_samples", "subsets", "prior_expert", "component_draw", "seed",
        "modality_names", "reconstruction_weights",
    ):  # fmt: skip
        assert getattr(loaded, name) == getattr(model, name), name
    assert loaded.loss_weights() == model.loss_weights()
    np.testing.assert_array_equal(loaded.mask, [[False, True], [True, True]])
    for left, right in zip(loaded.modalities, model.modalities, strict=True):
        for name in (
            "name", "event_shape", "likelihood", "likelihood_scale",
            "reconstruction_weight", "style_dim", "beta_style", "num_classes",
        ):  # fmt: skip
            assert getattr(left, name) == getattr(right, name), name
    batch = tiny_batch()
    np.testing.assert_array_equal(
        loaded.compute_loss(x=batch, training=False),
        model.compute_loss(x=batch, training=False),
    )


def test_a_model_is_rebuilt_from_its_config():
    model = tiny_model(beta=2.5)
    again = MoPoEVAE.from_config(model.get_config())
    again.set_weights(model.get_weights())
    assert_same_predictions(model, again, tiny_batch())


def test_networks_in_a_model_get_the_models_own_weights_back(tmp_path):
    """Weights alone, into a model built anew from the same arguments."""
    model, other = tiny_model(seed=0), tiny_model(seed=1)
    model.save_weights(tmp_path / "m.weights.h5")
    other.load_weights(tmp_path / "m.weights.h5")
    assert_same_predictions(model, other, tiny_batch())


def test_mixed_precision_survives_saving(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny_model()
    finally:
        keras.config.set_dtype_policy(before)
    loaded = reload(model, tmp_path)
    assert loaded.dtype_policy.name == "mixed_bfloat16"
    assert loaded.networks.encoders["a"].layers[-1].compute_dtype == "bfloat16"
    assert loaded.networks.experts["a"].compute_dtype == "float32"
    assert_same_predictions(model, loaded, tiny_batch())


def test_own_layers_that_are_not_registered_load_with_custom_objects(tmp_path):
    class Doubled(keras.layers.Layer):
        def call(self, inputs):
            return 2.0 * inputs

    modality = Modality("a", (3,), encoder=Doubled(), decoder=keras.layers.Dense(3))
    model = MoPoEVAE([modality], latent_dim=2, seed=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(
        tmp_path / "model.keras", custom_objects={"Doubled": Doubled}
    )
    batch = {"a": np.ones([2, 3], "float32")}
    np.testing.assert_array_equal(
        loaded.predict(batch, verbose=0)["a"], model.predict(batch, verbose=0)["a"]
    )


def test_network_shared_by_two_modalities_is_refused():
    shared = keras.layers.Dense(4)
    with pytest.raises(ValueError, match="share the layer"):
        MoPoEVAE(
            [Modality("a", (3,), encoder=shared), Modality("b", (3,), encoder=shared)],
            latent_dim=2,
        )
