"""What can be saved loads to the same answers from every format, or is refused."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_models import FAMILY, tiny_batch, tiny_modality, tiny_model
from tf_mopoe import Modality, MoPoEVAE


def by_keras(model, path):
    model.save(path / "model.keras")
    return keras.saving.load_model(path / "model.keras")


def by_weights(model, path):
    model.save_weights(path / "model.weights.h5")
    loaded = type(model).from_config(model.get_config())
    loaded.load_weights(path / "model.weights.h5")
    return loaded


def by_clone(model, path):
    cloned = keras.models.clone_model(model)
    cloned.set_weights(model.get_weights())
    return cloned


FORMATS = {
    ".keras": by_keras,
    ".weights.h5": by_weights,
    "clone_model": by_clone,
    "pickle": lambda model, path: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, path: copy.deepcopy(model),
}
OTHER_FORMATS = [format_name for format_name in FORMATS if format_name != ".keras"]


def with_lora():
    dense = keras.layers.Dense(4)
    model = tiny_model([tiny_modality("a", encoder=dense), "b"])
    dense.enable_lora(2)
    return model


def quantized_inside():
    dense = keras.layers.Dense(4)
    model = tiny_model([tiny_modality("a", encoder=dense), "b"])
    dense.quantize("int8")
    return model


def partly_frozen():
    model = tiny_model(options={"a": {"style_dim": 2}})
    model.networks.experts["a"].trainable = False
    model.networks.style_experts["a"].trainable = False
    model.networks.encoders["b"].trainable = False
    model.networks.decoders["a"].layers[-1].trainable = False
    return model


def wholly_frozen():
    model = tiny_model()
    model.trainable = False
    return model


MODELS = {
    **{cls.__name__: lambda cls=cls: tiny_model(cls=cls) for cls in FAMILY},
    "partly frozen": partly_frozen,
    "wholly frozen": wholly_frozen,
    "LoRA": with_lora,
    "quantised inside": quantized_inside,
    "default networks": lambda: MoPoEVAE([Modality("a", (3,)), Modality("b", (4,))], 2),
}


def flags(model):
    return [layer.trainable for layer in model._flatten_layers()]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        *((name, ".keras") for name in MODELS),
        *(("partly frozen", format_name) for format_name in OTHER_FORMATS),
    ],
)
def test_loaded_model_answers_and_freezes_as_before(tmp_path, name, format_name):
    model = MODELS[name]()
    loaded = FORMATS[format_name](model, tmp_path)
    batch = tiny_batch()
    for key, value in model(batch).items():
        np.testing.assert_array_equal(loaded(batch)[key], value)
    assert flags(loaded) == flags(model)


@pytest.mark.integration
@pytest.mark.parametrize("frozen", ["before training", "after training"])
def test_the_optimizer_of_a_partly_frozen_model_is_loaded(tmp_path, frozen):
    model = tiny_model()
    if frozen == "before training":
        model.networks.experts["a"].trainable = False
    model.compile("adam")
    model.train_on_batch(tiny_batch())
    model.networks.experts["a"].trainable = False
    loaded = by_keras(model, tmp_path)
    for mine, theirs in zip(
        model.optimizer.variables, loaded.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    for each in (model, loaded):
        each.train_on_batch(tiny_batch(seed=2))
    for mine, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


class Needs(keras.layers.Layer):
    """A layer whose configuration lacks an argument."""

    def __init__(self, table, **kwargs):
        super().__init__(**kwargs)
        self.size = len(table)

    def call(self, x):
        return x[:, : self.size]

    def get_config(self):
        return super().get_config()


def without_configuration():
    return tiny_model([tiny_modality("a", encoder=Needs([1, 2])), "b"])


@pytest.mark.parametrize("format_name", FORMATS)
def test_what_could_not_be_loaded_is_refused_when_it_is_saved(tmp_path, format_name):
    with pytest.raises(ValueError, match="can't be saved.*Needs.__init__"):
        FORMATS[format_name](without_configuration(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_quantizing_a_model_is_refused():
    with pytest.raises(NotImplementedError, match="could not be saved and loaded"):
        tiny_model().quantize("int8")


def test_an_unknown_class_in_a_file_is_named_in_a_short_message(tmp_path):
    class Mine(keras.layers.Dense):
        pass

    model = tiny_model([tiny_modality("a", encoder=Mine(4)), "b"])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="class 'Mine'.*custom_objects") as caught:
        keras.saving.load_model(tmp_path / "model.keras")
    assert len(str(caught.value)) < 500
    loaded = keras.saving.load_model(
        tmp_path / "model.keras", custom_objects={"Mine": Mine}
    )
    np.testing.assert_array_equal(
        loaded.encode(tiny_batch())["loc"], model.encode(tiny_batch())["loc"]
    )


def test_saving_leaves_python_random_numbers_as_they_were(tmp_path):
    import random

    model = tiny_model()
    random.seed(5)
    expected = random.random()
    random.seed(5)
    model.save(tmp_path / "model.keras")
    assert random.random() == expected


@pytest.mark.integration
def test_an_exported_model_answers_as_the_model_and_marks_rows_with_nan(tmp_path):
    model = tiny_model()
    model.export(tmp_path / "model", verbose=False)
    serve = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    batch = tiny_batch()
    present = np.arange(8) % 2 > 0
    batch["a"][1] = np.nan  # present: this row yields NaN
    batch["a"][2] = np.nan  # missing
    answer = serve(**batch, has_a=tf.constant(present), has_b=tf.constant([True] * 8))
    clean = {**batch, "a": np.nan_to_num(batch["a"]), "present": {"a": present}}
    for name, value in model(clean).items():
        rows = np.arange(8) != 1
        np.testing.assert_allclose(answer[name][rows], value[rows], rtol=1e-5)
        assert np.isnan(answer[name][1]).all()


@pytest.mark.parametrize("arguments", [{"format": "onnx"}, {"input_signature": []}])
def test_other_exports_are_refused(tmp_path, arguments):
    with pytest.raises(ValueError, match="must be 'tf_saved_model'|`export` takes"):
        tiny_model().export(tmp_path / "model", **arguments)
