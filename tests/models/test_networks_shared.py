"""Networks belong to one place in one model; a model within a model keeps to itself."""

import copy

import keras
import numpy as np
import pytest

from tests.tiny_models import LATENT_DIM, tiny_batch, tiny_modality, tiny_model
from tf_mopoe import Modality, MoPoEVAE


def sequential(*layers, size=3):
    return keras.Sequential([keras.Input((size,)), *layers])


def test_modalities_with_networks_of_their_own_are_for_one_model():
    modalities = [tiny_modality("a"), tiny_modality("b")]
    MoPoEVAE(modalities, LATENT_DIM)
    with pytest.raises(ValueError, match="encoder of modality 'a'.* already.*deepcopy"):
        MoPoEVAE(modalities, LATENT_DIM)


@pytest.mark.integration
def test_copies_start_from_the_same_weights_and_learn_apart():
    modalities = [tiny_modality("a"), tiny_modality("b")]
    first = MoPoEVAE(modalities, LATENT_DIM)
    second = MoPoEVAE(copy.deepcopy(modalities), LATENT_DIM)
    before = second.networks.encoders["a"].get_weights()
    for mine, theirs in zip(
        first.networks.encoders["a"].get_weights(), before, strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    first.compile("sgd")
    first.fit(tiny_batch(), verbose=0)
    for old, new in zip(
        before, second.networks.encoders["a"].get_weights(), strict=True
    ):
        np.testing.assert_array_equal(old, new)


def test_modalities_without_networks_serve_any_number_of_models():
    modalities = [Modality("a", (3,)), Modality("b", (4,))]
    models = [MoPoEVAE(modalities, LATENT_DIM) for _ in range(2)]
    assert models[0].networks.encoders["a"] is not models[1].networks.encoders["a"]


def test_a_refused_model_leaves_its_networks_free():
    modalities = [tiny_modality("a"), tiny_modality("b")]
    with pytest.raises(ValueError, match="objective"):
        MoPoEVAE(modalities, LATENT_DIM, objective="none")
    MoPoEVAE(modalities, LATENT_DIM)


def test_a_trained_layer_within_another_network_is_found():
    layer = keras.layers.Dense(4)
    MoPoEVAE([tiny_modality("a", encoder=layer), tiny_modality("b")], LATENT_DIM)
    other = sequential(layer, keras.layers.Dense(2))
    with pytest.raises(ValueError, match="part of model"):
        MoPoEVAE([tiny_modality("a", encoder=other), tiny_modality("b")], LATENT_DIM)


def test_a_frozen_network_may_serve_two_models():
    layer = keras.layers.Dense(4, trainable=False)
    for _ in range(2):
        MoPoEVAE([tiny_modality("a", encoder=layer), tiny_modality("b")], LATENT_DIM)


@pytest.mark.parametrize("places", [("encoder", "encoder"), ("encoder", "decoder")])
def test_a_layer_shared_inside_two_networks_is_refused(places):
    shared = keras.layers.Dense(3)
    sizes = {"encoder": 3, "decoder": LATENT_DIM}
    networks = [
        sequential(keras.layers.Dense(4), shared, size=sizes[place]) for place in places
    ]
    if places[0] == places[1]:
        modalities = [
            tiny_modality(name, event_shape=(3,), **{place: network})
            for name, place, network in zip("ab", places, networks)
        ]
    else:
        own = dict(zip(places, networks))
        modalities = [tiny_modality("a", **own), tiny_modality("b")]
    with pytest.raises(ValueError, match="share the layer.*build it twice"):
        MoPoEVAE(modalities, LATENT_DIM)


class Latent(keras.layers.Layer):
    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def call(self, values):
        return self.vae.encode({"a": values})["loc"]


def classifier(latent):
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Dense(2, "softmax")(latent(x)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("form", ["layer", "encode of an Input"])
def test_a_model_around_one_reports_its_own_loss(form):
    vae = tiny_model()
    vae.compile("sgd")
    vae.fit(tiny_batch(), verbose=0)  # its means are not zero
    latents = {
        "layer": Latent(vae),
        "encode of an Input": lambda x: vae.encode({"a": x})["loc"],
    }
    around = classifier(latents[form])
    x, y = tiny_batch()["a"], np.arange(8) % 2
    reported = around.evaluate(x, y, verbose=0, return_dict=True)
    chosen = around.predict(x, verbose=0)[np.arange(8), y]
    assert reported == {"loss": pytest.approx(-np.log(chosen).mean(), rel=1e-5)}
    assert set(around.fit(x, y, verbose=0).history) == {"loss"}
    assert set(vae.fit(tiny_batch(), verbose=0).history) >= {"loss", "kl_bound"}


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_functional_model_around_encode_is_saved_and_loaded(tmp_path):
    vae = tiny_model()
    x = {name: keras.Input((size,), name=name) for name, size in (("a", 3), ("b", 4))}
    both, one = vae.encode(x), vae.encode({"a": x["a"]})
    model = keras.Model(x, [both["loc"], one["scale"]])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    batch = tiny_batch()
    for mine, theirs in zip(model(batch), loaded(batch), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(model(batch)[0], vae.encode(batch)["loc"])


@pytest.mark.parametrize(
    "name",
    ["class", "self", "x-ray", "view.1", "2d", "has_b", "val_a", "présent", ""],
)
def test_names_that_could_not_be_served_are_refused_at_construction(name):
    with pytest.raises(ValueError, match="name"):
        Modality(name, (3,))


@pytest.mark.parametrize("names", [("a", "A"), ("photo", "photo_bytes")])
def test_names_that_would_be_one_to_a_server_are_refused(names):
    with pytest.raises(ValueError, match="could not be served together"):
        MoPoEVAE([Modality(name, (3,)) for name in names], LATENT_DIM)
